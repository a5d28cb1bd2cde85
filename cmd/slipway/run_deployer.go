package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

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

// deployer deploys from the laptop with the stages of the server, and without its records.
type deployer struct {
	to       *destination
	helm     helmHere
	cluster  clusterHere
	registry *oci.Client
}

func newDeployer(to *destination, rehearse helm.Rehearse) *deployer {
	clusters := oneCluster(to.kubeconfig)
	registry := oci.New(oci.DockerCredentials, oci.Options{})
	return &deployer{to: to, helm: helm.New(clusters, rehearse), cluster: kube.New(clusters), registry: registry}
}

// runners do the steps that deliver adds, and those that lead back.
func (d *deployer) runners() map[slipway.StepKind]stage.Runner {
	patient := lockless{d.helm}
	deploying := &deploy.Runner{Helm: patient, Charts: d.registry, Cluster: d.cluster, Robots: pullers{d.to.registry.Host}, Deployments: &localDeployments{}}
	return map[slipway.StepKind]stage.Runner{
		slipway.KindPublish:  &publish.Runner{Registry: d.registry},
		slipway.KindDeploy:   withWayBack(deploying, d.wayBack),
		slipway.KindVerify:   withWayBack(&verify.Runner{Helm: d.helm, Cluster: d.cluster}, d.wayBack),
		slipway.KindRollback: &deploy.Rollback{Runner: deploying, Restore: d.helm},
	}
}

// wayBack plans the way from a failed deployment to what ran before it, as Helm has it: which of its
// revisions were verified is known to a server only, so that the verification comes afterwards.
func (d *deployer) wayBack(ctx context.Context, env stage.Env, target slipway.Target, failed slipway.Deployment, reason string) (*slipway.Plan, error) {
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
	back := rollback.Plan(rollback.Input{Target: target, From: failed, To: to, Reason: firstLine(reason), Automatic: true})
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

// localDeployments are those of one run. It is safe for concurrent use.
type localDeployments struct {
	mu   sync.Mutex
	list []slipway.Deployment
}

// Save inserts the deployment of a step, or brings it up to date.
func (l *localDeployments) Save(_ context.Context, d slipway.Deployment) (slipway.Deployment, error) {
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

// credentials are a person's own, for the registry that is deployed from and no other: BuildKit asks for them.
func (to *destination) credentials(ctx context.Context, _, host string) (user, password string) {
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

// announce says what will be deployed where, and what is there now.
func (c *cli) announce(ctx context.Context, d *deployer, p localPlan) error {
	to := d.to
	c.out.line("\ndeploys to %s when everything has succeeded:", c.out.bold(to.Environment))
	rows := [][]string{
		{"  cluster", printable(to.Context), printable(to.Server)},
		{"  namespace", to.Namespace, ""},
		{"  registry", printable(to.Registry), "gets the images as they are built"},
	}
	for _, s := range p.plan.Steps {
		if s.Deploy == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, observeTimeout)
		now, err := d.helm.Observe(ctx, s.Deploy.Target)
		cancel()
		if err != nil {
			return ofSurroundings(fmt.Errorf("look at Helm release %s in %s: %w", s.Deploy.Target.Release, to.Namespace, err))
		}
		there := "there is nothing of it yet"
		if now.Number > 0 {
			there = fmt.Sprintf("replaces revision %d: %s", now.Number, printable(clip(now.Description, 100)))
		}
		rows = append(rows, []string{"  " + c.out.bold(s.Service), s.Deploy.Version, there})
	}
	c.out.table(nil, rows)
	c.out.line("  %s", c.out.dim("not asked: what gates say of scans and signatures, which a server has"))
	return nil
}

// confirm asks on the terminal. No answer is no.
func confirm(ctx context.Context, in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // the end of the input is no answer
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(out)
		return false, context.Cause(ctx)
	}
}

// isTerminal reports whether somebody may be asked there.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
