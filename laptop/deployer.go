package laptop

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helm"
	"github.com/slipway-cd/slipway/driver/kube"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/publish"
	"github.com/slipway-cd/slipway/stage/rollback"
	"github.com/slipway-cd/slipway/stage/verify"
)

// helmHere is what a run on the laptop needs of Helm.
type helmHere interface {
	deploy.Helm
	deploy.Restorer
	verify.Helm
	Observe(ctx context.Context, t slipway.Target) (slipway.ObservedRevision, error)
}

// clusterHere is what it needs of the cluster.
type clusterHere interface {
	deploy.Cluster
	verify.Cluster
}

// Deployer deploys from the laptop with the stages of the server, and without its records.
type Deployer struct {
	to       *Destination
	helm     helmHere
	cluster  clusterHere
	registry *oci.Client
}

// NewDeployer connects with nothing yet; rehearse renders charts away from this process.
func NewDeployer(to *Destination, rehearse helm.Rehearse) *Deployer {
	clusters := kube.OneCluster(to.kubeconfig)
	registry := oci.New(oci.DockerCredentials, oci.Options{})
	return &Deployer{to: to, helm: helm.New(clusters, rehearse), cluster: kube.New(clusters), registry: registry}
}

// Runners do the steps that deliver adds, and those that lead back.
func (d *Deployer) Runners() map[slipway.StepKind]stage.Runner {
	patient := lockless{d.helm}
	deploying := &deploy.Runner{Helm: patient, Charts: d.registry, Cluster: d.cluster, Robots: pullers{d.to.registry.Host}, Deployments: &deployments{}}
	return map[slipway.StepKind]stage.Runner{
		slipway.KindPublish:  &publish.Runner{Registry: d.registry},
		slipway.KindDeploy:   rollback.After(deploying, d.wayBack),
		slipway.KindVerify:   rollback.After(&verify.Runner{Helm: d.helm, Cluster: d.cluster}, d.wayBack),
		slipway.KindRollback: &deploy.Rollback{Runner: deploying, Restore: d.helm},
	}
}

// wayBack plans the way from a failed deployment to what ran before it, as Helm has it: which of its
// revisions were verified is known to a server only, so that the verification comes afterwards.
func (d *Deployer) wayBack(ctx context.Context, env stage.Env, target slipway.Target, failed slipway.Deployment, reason string) (*slipway.Plan, error) {
	history, err := d.helm.History(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("look at Helm release %s in %s: %w", target.Release, target.Namespace, err)
	}
	to, foreign := ranBefore(history, target, failed.Revision)
	if foreign != nil {
		env.Log.Printf("not rolled back: what ran before, revision %d, was made outside Slipway (%s); to go back: helm rollback %s %d --namespace %s --kube-context %s",
			foreign.Number, foreign.Description, target.Release, foreign.Number, target.Namespace, d.to.Context)
		return nil, nil
	}
	back := rollback.Plan(rollback.Input{Target: target, From: failed, To: to, Reason: slipway.FirstLine(reason), Automatic: true})
	return &back, nil
}

// ranBefore is the deployment that was there before a revision: the zero value for none, and the revision
// itself when Slipway did not make it.
func ranBefore(newestFirst []deploy.Revision, target slipway.Target, revision int) (slipway.Deployment, *deploy.Revision) {
	for _, r := range newestFirst {
		if r.Number >= revision || r.Status != deploy.StatusDeployed && r.Status != deploy.StatusSuperseded {
			continue
		}
		if r.Marks.Intent == "" {
			return slipway.Deployment{}, &r
		}
		// The marks hold all of a digest but its end, which is enough to know the revision again.
		return slipway.Deployment{
			ID: int64(r.Number), Target: target, Revision: r.Number, State: slipway.Deployed, Version: r.Marks.Version, Commit: r.Marks.Commit,
			ImageDigest: "sha256:" + r.Marks.Image, ChartDigest: "sha256:" + r.Marks.Chart, ValuesDigest: "sha256:" + r.Marks.Values,
		}, nil
	}
	return slipway.Deployment{}, nil
}

// lockless is Helm for somebody without the lock of a target: what a server has under way is waited for as what
// any other client of Helm has.
type lockless struct{ deploy.Helm }

// History takes the marks off revisions that a server has under way.
func (l lockless) History(ctx context.Context, t slipway.Target) ([]deploy.Revision, error) {
	list, err := l.Helm.History(ctx, t)
	for i := range list {
		if r := &list[i]; r.Status.Moving() && r.Marks.OfServer() {
			r.Marks = deploy.Marks{}
		}
	}
	return list, err
}

// pullers is with what the cluster pulls from the registry of a destination.
type pullers struct{ host string }

// PullToken is SLIPWAY_REGISTRY_PULL_USER and SLIPWAY_REGISTRY_PULL_PASSWORD, as on a server. A person's own
// login never goes into a cluster.
func (p pullers) PullToken(_ context.Context, registry, _, _ string) (user, secret string, err error) {
	if registry != p.host {
		return "", "", nil
	}
	return os.Getenv("SLIPWAY_REGISTRY_PULL_USER"), os.Getenv("SLIPWAY_REGISTRY_PULL_PASSWORD"), nil
}

// deployments are those of one run. It is safe for concurrent use.
type deployments struct {
	mu   sync.Mutex
	list []slipway.Deployment
}

// Save inserts the deployment of a step, or brings it up to date.
func (l *deployments) Save(_ context.Context, d slipway.Deployment) (slipway.Deployment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, have := range l.list {
		if have.Step == d.Step {
			d.ID = have.ID
			l.list[i] = d
			return d, nil
		}
	}
	d.ID = int64(len(l.list) + 1)
	l.list = append(l.list, d)
	return d, nil
}

// Credentials are a person's own, for the registry that is deployed from and no other: BuildKit asks for them.
func (to *Destination) Credentials(ctx context.Context, _, host string) (user, password string) {
	own := to.registry.Host
	_, at, elsewhere := strings.Cut(to.registry.Address, "://")
	if host != own && (!elsewhere || host != at) {
		return "", ""
	}
	user, password, err := oci.DockerCredentials(ctx, own)
	if err != nil {
		return "", "" // the registry says what it misses
	}
	return user, password
}

const observeTimeout = 30 * time.Second

// Observe is what there is of a target now, revision 0 for nothing.
func (d *Deployer) Observe(ctx context.Context, t slipway.Target) (slipway.ObservedRevision, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	return d.helm.Observe(ctx, t)
}
