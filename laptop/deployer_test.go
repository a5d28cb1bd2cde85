package laptop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/source"
	"github.com/slipway-cd/slipway/stage/verify"
	"github.com/slipway-cd/slipway/worktree"
)

// helmStandIn is a Helm release in memory.
type helmStandIn struct {
	mu       sync.Mutex
	history  []deploy.Revision // newest first
	requests []deploy.Request
	removed  bool
}

func (h *helmStandIn) History(context.Context, slipway.Target) ([]deploy.Revision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.history), nil
}

func (h *helmStandIn) Inspect(req deploy.Request) (deploy.Inspection, error) {
	return deploy.Inspection{ChartName: "cart", ValuesDigest: "sha256:" + strings.Repeat("a", 64)}, nil
}

func (h *helmStandIn) add(marks deploy.Marks, description string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.history {
		h.history[i].Status = deploy.StatusSuperseded
	}
	h.history = append([]deploy.Revision{{Number: len(h.history) + 1, Status: deploy.StatusDeployed, Marks: marks, Updated: time.Now(), Description: description}}, h.history...)
}

func (h *helmStandIn) Apply(_ context.Context, req deploy.Request) (deploy.Revision, error) {
	h.requests = append(h.requests, req)
	h.add(req.Marks, req.Description)
	return deploy.Revision{}, nil
}

func (h *helmStandIn) Rollback(_ context.Context, req deploy.RollbackRequest) error {
	h.add(req.Marks, req.Description)
	return nil
}

func (h *helmStandIn) Abandon(context.Context, slipway.Target, int, string) error {
	return errors.New("nothing was interrupted")
}
func (h *helmStandIn) Supersede(context.Context, slipway.Target) error           { return nil }
func (h *helmStandIn) Storage(context.Context, slipway.Target) ([]string, error) { return nil, nil }

func (h *helmStandIn) Uninstall(context.Context, slipway.Target, func(slipway.LogLine)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history, h.removed = nil, true
	return nil
}

func (h *helmStandIn) Deployed(context.Context, slipway.Target) (verify.Release, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return verify.Release{Revision: h.history[0].Number, Manifest: h.history[0].Marks.Version}, nil
}

func (h *helmStandIn) Test(context.Context, slipway.Target, func(slipway.LogLine)) (verify.TestRun, error) {
	return verify.TestRun{}, nil
}

func (h *helmStandIn) Observe(context.Context, slipway.Target) (slipway.ObservedRevision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.history) == 0 {
		return slipway.ObservedRevision{}, nil
	}
	return slipway.ObservedRevision{Number: h.history[0].Number, Description: h.history[0].Description}, nil
}

// clusterStandIn has healthy workloads, but for those of the laptop when it is bad.
type clusterStandIn struct {
	bad      bool
	prepared []deploy.PullSecret
}

func (c *clusterStandIn) Prepared(context.Context, slipway.Target, deploy.PullSecret) bool {
	return false
}

func (c *clusterStandIn) Prepare(_ context.Context, _ slipway.Target, pull deploy.PullSecret) error {
	c.prepared = append(c.prepared, pull)
	return nil
}

func (c *clusterStandIn) Watch(_ context.Context, _ slipway.Target, manifest string, seen func(verify.Observed) bool) error {
	object := verify.Object{Kind: "Deployment", Name: "cart", Phase: verify.Ready}
	if c.bad && strings.HasPrefix(manifest, "laptop-") {
		object.Phase, object.Message = verify.Broken, "it crashes"
	}
	for at := time.Now(); !seen(verify.Observed{Time: at, Objects: []verify.Object{object}}); {
		at = at.Add(time.Minute)
	}
	return nil
}

func (*clusterStandIn) Logs(context.Context, slipway.Target, string, string, bool, int) ([]string, error) {
	return nil, nil
}

func (*clusterStandIn) Events(context.Context, slipway.Target, string, string) ([]string, error) {
	return nil, nil
}

// told is what the steps of a run say. It is safe for concurrent use.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *told) Line(in slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, in.Text)
}

func (l *told) moved(s Step) { l.Printf("%s %s: %s", s.Key, s.State, s.Reason) }

func (l *told) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// laptop is a repository with one service that is deployed to development, and all that takes part.
type laptop struct {
	w       worktree.Tree
	config  slipway.Config
	to      *Destination
	helm    *helmStandIn
	cluster *clusterStandIn
	broken  slipway.StepKind // fails
	told    told
}

const laptopConfig = `version: 1
environments:
  - {name: development, trigger: default-branch}
  - {name: guarded, approvals: {required: 1}}
  - {name: signed, gates: {signatures: {level: fail}}}
  - {name: production, production: true}
`

func newLaptop(t *testing.T) *laptop {
	t.Helper()
	dir, git := slipwaytest.Repository(t)
	for file, text := range map[string]string{
		"slipway.yaml": laptopConfig, "cart/Dockerfile": "FROM scratch AS testrunner\nFROM scratch\nEXPOSE 8080\n", "cart/page.html": "one\n",
		"cart/chart/Chart.yaml":        "apiVersion: v2\nname: cart\nversion: 0.0.0\n",
		"cart/chart/templates/it.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cart\n",
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		slipwaytest.Write(t, dir, file, text)
	}
	git("add", ".")
	git("commit", "-q", "-m", "two")
	l := &laptop{helm: &helmStandIn{}, cluster: &clusterStandIn{}}
	var err error
	if l.w, err = worktree.Open(t.Context(), dir, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	found, problems, err := l.checkouts().Configuration(t.Context())
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	l.config = found
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	env, _ := l.config.Environment("development")
	where, err := laptopRegistry(strings.TrimPrefix(srv.URL, "http://")+"/team", l.config)
	if err != nil {
		t.Fatal(err)
	}
	env.Cluster = "kind-dev"
	l.to = &Destination{Environment: "development", Context: "kind-dev", Namespace: env.Namespace, environment: env, registry: where,
		Version: "laptop-1-abc", chartVersion: "0.0.0-laptop.1.gabc"}
	return l
}

func (l *laptop) checkouts() Checkouts {
	return Checkouts{here: checkout{codebase: slipway.Codebase{Project: "shop", DefaultBranch: hereBranch}, w: l.w}}
}

// run plans and runs with a build that pushes any image.
func (l *laptop) run(t *testing.T, since string) []Step {
	t.Helper()
	p, err := l.checkouts().Plan(t.Context(), Request{Event: slipway.PullUpdate, Base: since, To: l.to}, l.config)
	if err != nil {
		t.Fatal(err)
	}
	done := func(_ context.Context, _ stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		if s.Kind == l.broken {
			return slipway.Result{Outcome: slipway.Failed, Reason: "it is broken"}, nil
		}
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	}
	build := func(ctx context.Context, env stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		res, err := done(ctx, env, s)
		if err != nil || res.Outcome != slipway.Succeeded {
			return res, err
		}
		digest, err := pushAny(s.Build.Image)
		res.Artifacts = []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: s.Service, Repository: s.Build.Image.Ref(), Digest: digest}}
		return res, err
	}
	d := &Deployer{to: l.to, helm: l.helm, cluster: l.cluster, registry: oci.New(nil, oci.Options{})}
	helm := helmchart.New(helmchart.Options{Timeout: 5 * time.Minute})
	runners := d.Runners()
	runners[slipway.KindBuild], runners[slipway.KindTest] = stage.Func(build), stage.Func(done)
	runners[slipway.KindChart] = chart.New(helm, &kubeschema.Library{}, chart.Options{})
	r := &Run{
		Run: slipway.Run{Project: "shop", Commit: l.w.Commit}, Parallel: 2, Now: time.Now, Runners: runners, Moved: l.told.moved,
		LogOf:     func(slipway.PlanStep) stage.Log { return &l.told },
		Workspace: source.NewWorkspaces(t.TempDir(), func(string) (source.Exporter, error) { return l.w.Repo, nil }).For("shop", 1),
	}
	return r.Execute(t.Context(), p.Steps)
}

func pushAny(to *slipway.Repository) (string, error) {
	img, err := random.Image(100, 1)
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	ref, err := name.NewDigest(to.Ref()+"@"+digest.String(), name.Insecure)
	if err != nil {
		return "", err
	}
	return digest.String(), remote.Write(ref, img)
}

// What succeeded gets its names in the registry, is deployed by digest and verified.
func TestLaptopDeploys(t *testing.T) {
	t.Parallel()
	l := newLaptop(t)
	steps := l.run(t, "")
	want := "build/cart succeeded, test/cart succeeded, chart/cart succeeded, publish/cart succeeded, deploy/cart@development succeeded, verify/cart@development succeeded"
	if got := states(steps); got != want {
		t.Fatalf("%s\n%s", got, l.told.String())
	}
	d := steps[5].Deployments[0]
	if d.State != slipway.Verified || d.Version != "laptop-1-abc" || d.Revision != 1 || d.Target.Namespace != "shop-development" || d.Target.Cluster != "kind-dev" {
		t.Errorf("deployment %+v", d)
	}
	req := l.helm.requests[0]
	if !strings.HasPrefix(req.Pin.Image(), l.to.registry.Host+"/team/shop/cart:laptop-1-abc@sha256:") || req.Description != "slipway run: laptop-1-abc: "+req.ChangeCause {
		t.Errorf("%s is deployed as %q", req.Pin.Image(), req.Description)
	}
	digest, err := oci.New(nil, oci.Options{}).Resolve(t.Context(), l.to.image("shop", "cart"), l.to.Version)
	if err != nil || digest != d.ImageDigest {
		t.Errorf("the tag is %s, %v, want %s", digest, err, d.ImageDigest)
	}
	if len(l.cluster.prepared) != 1 || l.cluster.prepared[0].User != "" {
		t.Errorf("pull secrets %+v: nobody gave a login", l.cluster.prepared)
	}
}

// A service of which the chart alone changed is built as well: no image of it is known.
func TestLaptopDeploysAChangedChart(t *testing.T) {
	t.Parallel()
	l := newLaptop(t)
	slipwaytest.Write(t, l.w.Root, "cart/chart/templates/it.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cart\ndata: {a: b}\n")
	head := l.w.Head
	var err error
	if l.w, err = worktree.Open(t.Context(), l.w.Root, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if got := states(l.run(t, head)); !strings.HasPrefix(got, "build/cart succeeded, ") || !strings.HasSuffix(got, "verify/cart@development succeeded") {
		t.Errorf("%s\n%s", got, l.told.String())
	}
}

// Nothing is deployed, nor named in the registry, unless all has succeeded.
func TestLaptopDeploysNothingThatFailed(t *testing.T) {
	t.Parallel()
	for _, kind := range []slipway.StepKind{slipway.KindBuild, slipway.KindTest} {
		l := newLaptop(t)
		l.broken = kind
		steps := l.run(t, "")
		if got := states(steps); !strings.HasSuffix(got, "publish/cart skipped, deploy/cart@development skipped, verify/cart@development skipped") || State(steps) != slipway.RunFailed {
			t.Errorf("%s is broken: %s", kind, got)
		}
		if _, err := oci.New(nil, oci.Options{}).Resolve(t.Context(), l.to.image("shop", "cart"), l.to.Version); slipway.ErrorCode(err) != slipway.NotFound || len(l.helm.requests) > 0 {
			t.Errorf("%s is broken: published or deployed all the same: %v", kind, err)
		}
	}
}

// What is not healthy gives way to what ran before, in whole; nothing of other Helm clients is touched.
func TestLaptopGoesBack(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("b", 63)
	own := deploy.Marks{Intent: "x", Run: "7", Version: "main-1234567", Image: digest, Chart: digest, Values: digest}
	for name, c := range map[string]struct {
		before  []deploy.Marks
		want    string
		newest  string // version of the newest revision at the end, "none" without one
		told    string
		removed bool
	}{
		"to the server's": {[]deploy.Marks{own}, "verify/cart@development failed, rollback/cart@development succeeded, verify-rollback/cart@development succeeded", "main-1234567", "main-1234567 is revision 3 of Helm release cart", false},
		"away":            {nil, "verify/cart@development failed, rollback/cart@development succeeded", "none", "was uninstalled", true},
		"not at all":      {[]deploy.Marks{{}}, "verify/cart@development failed", "laptop-1-abc", "to go back: helm rollback cart 1 --namespace shop-development --kube-context kind-dev", false},
	} {
		l := newLaptop(t)
		l.cluster.bad = true
		for i, m := range c.before {
			l.helm.add(m, fmt.Sprintf("by hand %d", i))
		}
		steps := l.run(t, "")
		newest := "none"
		if len(l.helm.history) > 0 {
			newest = l.helm.history[0].Marks.Version
		}
		if got := states(steps); !strings.HasSuffix(got, c.want) || newest != c.newest || l.helm.removed != c.removed || State(steps) != slipway.RunFailed {
			t.Errorf("%s: %s, newest is %s\n%s", name, got, newest, l.told.String())
		}
		if !strings.Contains(l.told.String(), c.told) {
			t.Errorf("%s: %q is not told:\n%s", name, c.told, l.told.String())
		}
	}
}

// What a server or somebody else has under way is not taken for something interrupted.
func TestLaptopLeavesOthersAtWork(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]deploy.Revision{
		"a server":       {Marks: deploy.Marks{Intent: "x", Run: "12"}, Updated: time.Now()},
		"another laptop": {Marks: deploy.Marks{Intent: "x", Run: "0"}, Updated: time.Now().Add(-time.Minute)},
	} {
		l := newLaptop(t)
		r.Number, r.Status = 1, deploy.StatusPendingUpgrade
		l.helm.history = []deploy.Revision{r}
		steps := l.run(t, "")
		if got := states(steps); !strings.HasSuffix(got, "deploy/cart@development errored, verify/cart@development skipped") || !strings.Contains(steps[4].Reason, "by another Helm client") {
			t.Errorf("%s: %s: %s", name, got, steps[4].Reason)
		}
	}
}

// Environments that people or signatures guard are a server's, also when only the default branch says so.
func TestLaptopRefusesGuardedEnvironments(t *testing.T) {
	t.Parallel()
	l := newLaptop(t)
	refused := func(name, want string) {
		t.Helper()
		_, err := l.checkouts().Destination(t.Context(), l.config, Goal{Environment: name, Kubeconfig: "/nowhere", Context: "x", Registry: "registry.example.com"}, time.Now())
		if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	refused("guarded", "needs 1 approval, so nothing is deployed there from a laptop; push a branch release/<service>/<version>")
	refused("signed", "takes only what a server has signed")
	refused("production", "is production")
	refused("nowhere", "there are: development, guarded, signed, production")
	refused("development", "read kubeconfig /nowhere")
	if _, err := worktree.Git(t.Context(), l.w.Root, "update-ref", "refs/remotes/origin/main", l.w.Head); err != nil {
		t.Fatal(err)
	}
	for i := range l.config.Environments {
		l.config.Environments[i].Production, l.config.Environments[i].Approvals.Required = false, 0
	}
	refused("guarded", "needs 1 approval")
}

func TestLaptopRegistry(t *testing.T) {
	t.Parallel()
	embedded := slipway.Config{Candidates: slipway.Registry{Host: slipway.EmbeddedRegistry}}
	for given, want := range map[string]slipway.Registry{
		"registry.example.com":                          {Host: "registry.example.com"},
		"ghcr.io/our/team":                              {Host: "ghcr.io", Prefix: "our/team"},
		"localhost:5001/x":                              {Host: "localhost:5001", Prefix: "x", Address: "http://localhost:5001"},
		"e2e.slipway.internal/x=http://127.0.0.1:5000/": {Host: "e2e.slipway.internal", Prefix: "x", Address: "http://127.0.0.1:5000"},
		"team/x": {}, "https://ghcr.io": {}, "ghcr.io/Our": {}, "": {},
	} {
		got, err := laptopRegistry(given, embedded)
		if got != want || (err == nil) != (want.Host != "") {
			t.Errorf("%q is %+v, %v, want %+v", given, got, err, want)
		}
	}
	own := slipway.Registry{Host: "registry.example.com", Prefix: "candidates"}
	if got, err := laptopRegistry("", slipway.Config{Candidates: own}); got != own || err != nil {
		t.Errorf("slipway.yaml's is %+v, %v", got, err)
	}
}
