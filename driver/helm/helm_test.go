package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/kube"
	kubefake "helm.sh/helm/v4/pkg/kube/fake"
	"helm.sh/helm/v4/pkg/release"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/approve"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/deploy"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	digestC = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
)

// pack makes a chart package of files.
func pack(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: "delivery/" + name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func chartFiles() map[string]string {
	return map[string]string{
		"Chart.yaml":     "apiVersion: v2\nname: delivery\nversion: 1.0.2\nappVersion: 1.0.2\n",
		"values.yaml":    "image: {repository: x, tag: latest}\ngreeting: hello\nreplicas: 1\n",
		"values-qa.yaml": "greeting: hello qa\nreplicas: 2\n",
		"values-eu.yaml": "greeting: hello eu\n",
		"templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n" +
			"data: {greeting: '{{ .Values.greeting }}', replicas: '{{ .Values.replicas }}'}\n",
		"templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: '{{ .Release.Name }}'}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: delivery}}
  template:
    metadata: {labels: {app: delivery}}
    spec:
      containers:
      - name: app
        image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
`,
	}
}

// world is what outlives a process: the cluster's storage. Its faults end or disturb the process.
type world struct {
	mem *driver.Memory
	mu  sync.Mutex
	// left counts the operations until the process is dead: none after that takes effect. Negative:
	// it lives.
	left int
	fail func(op, key string) error // a single operation that fails
	ops  []string
}

func newWorld() *world {
	m := driver.NewMemory()
	m.SetNamespace("drone-qa")
	m.SetLogger(slog.DiscardHandler)
	return &world{mem: m, left: -1}
}

var errDead = slipway.Errorf(slipway.Unavailable, "the process is dead")

func (w *world) step(op, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops = append(w.ops, op+" "+key)
	if w.left == 0 {
		return errDead
	}
	if w.left > 0 {
		w.left--
	}
	if w.fail != nil {
		return w.fail(op, key)
	}
	return nil
}

// faulty is Helm's memory driver with the world's faults. It stores copies, as a real one does.
type faulty struct {
	*driver.Memory
	w *world
}

func copied(r release.Releaser) release.Releaser {
	rel, ok := r.(*relv1.Release)
	if !ok {
		return r
	}
	out := *rel
	info := *rel.Info
	out.Info, out.Labels = &info, maps.Clone(rel.Labels)
	return &out
}

func (f faulty) Create(key string, r release.Releaser) error {
	if err := f.w.step("create", key); err != nil {
		return err
	}
	return f.Memory.Create(key, copied(r))
}

func (f faulty) Update(key string, r release.Releaser) error {
	if err := f.w.step("update", key); err != nil {
		return err
	}
	return f.Memory.Update(key, copied(r))
}

func (f faulty) Query(l map[string]string) ([]release.Releaser, error) {
	if err := f.w.step("query", l["status"]); err != nil {
		return nil, err
	}
	list, err := f.Memory.Query(l)
	out := make([]release.Releaser, len(list))
	for i, r := range list {
		out[i] = copied(r)
	}
	return out, err
}

type faultyKube struct {
	kubefake.PrintingKubeClient
	w *world
}

func (f *faultyKube) IsReachable() error { return f.w.step("reach", "") }

func (f *faultyKube) Create(l kube.ResourceList, o ...kube.ClientCreateOption) (*kube.Result, error) {
	if err := f.w.step("apply", ""); err != nil {
		return nil, err
	}
	return f.PrintingKubeClient.Create(l, o...)
}

func (f *faultyKube) Update(a, b kube.ResourceList, o ...kube.ClientUpdateOption) (*kube.Result, error) {
	if err := f.w.step("apply", ""); err != nil {
		return &kube.Result{}, err
	}
	return f.PrintingKubeClient.Update(a, b, o...)
}

// client returns a client whose cluster is the world.
func (w *world) client() *Client {
	c := New(nil, nil)
	c.connect = func(ctx context.Context, t slipway.Target, _ func(slipway.LogLine)) (*operation, error) {
		op := newOperation(ctx, faulty{w.mem, w}, &faultyKube{kubefake.PrintingKubeClient{Out: io.Discard}, w})
		op.cfg.Capabilities = common.DefaultCapabilities.Copy()
		return op, nil
	}
	return c
}

func qa() slipway.Target {
	return slipway.Target{Project: "drone", Environment: "qa", Service: "delivery", Cluster: "local",
		Namespace: "drone-qa", Release: "delivery", HistoryMax: 10, Timeout: slipway.Duration(time.Minute)}
}

func registry() slipway.Registry { return slipway.Registry{Host: "registry.slipway.local"} }

func desired(run int64, digest string) deploy.Desired {
	return deploy.Desired{Run: run, Step: "deploy/delivery@qa", Target: qa(), Version: "v1.0.2", Commit: "c0ffee", Tag: "v1.0.2",
		Image: slipway.Repository{Registry: registry(), Name: "drone/delivery"}, ImageDigest: digest,
		Chart: slipway.Repository{Registry: registry(), Name: "drone/charts/delivery"}, ChartDigest: digestC, Reason: "v1.0.2: why"}
}

func TestInstallUpgradeRollbackUninstall(t *testing.T) {
	t.Parallel()
	w := newWorld()
	c := w.client()
	ctx := t.Context()
	req := deploy.NewRequest(desired(1, digestA), pack(t, chartFiles()))
	req.Marks.Intent = "first"
	if _, err := c.Apply(ctx, req); err != nil {
		t.Fatal(err)
	}
	req = deploy.NewRequest(desired(2, digestB), pack(t, chartFiles()))
	req.Marks.Intent = "second"
	if _, err := c.Apply(ctx, req); err != nil {
		t.Fatal(err)
	}
	if err := c.Rollback(ctx, deploy.RollbackRequest{Target: qa(), Revision: 1, Marks: deploy.Marks{Intent: "back", Image: "m"}, Description: "slipway run 3: back"}); err != nil {
		t.Fatal(err)
	}
	history, err := c.History(ctx, qa())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range history {
		got = append(got, fmt.Sprintf("%d %s %s %s: %s", r.Number, r.Status, r.Marks.Intent, r.Chart, r.Description))
	}
	want := []string{
		"3 deployed back delivery-1.0.2: slipway run 3: back",
		"2 superseded second delivery-1.0.2: slipway run 2: v1.0.2: v1.0.2: why",
		"1 superseded first delivery-1.0.2: slipway run 1: v1.0.2: v1.0.2: why",
	}
	if !slices.Equal(got, want) {
		t.Errorf("history\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	rel, err := c.Deployed(ctx, qa())
	if err != nil || rel.Revision != 3 || !strings.Contains(rel.Manifest, "image: registry.slipway.local/drone/delivery:v1.0.2@"+digestA) {
		t.Errorf("deployed %+v, %v", rel, err)
	}
	if !strings.Contains(rel.Manifest, "greeting: 'hello qa'") && !strings.Contains(rel.Manifest, "greeting: hello qa") {
		t.Errorf("the environment's values file was not used:\n%s", rel.Manifest)
	}
	if err := c.Uninstall(ctx, qa(), discard); err != nil {
		t.Fatal(err)
	}
	if history, err = c.History(ctx, qa()); err != nil || len(history) != 0 {
		t.Errorf("after uninstall: %v, %v", history, err)
	}
	if _, err := c.Deployed(ctx, qa()); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("deployed after uninstall: %v", err)
	}
}

// What cannot be rehearsed is not rendered: not to deploy it, and not to show it.
func TestRehearsed(t *testing.T) {
	t.Parallel()
	w := newWorld()
	c := w.client()
	var asked []chart.Render
	c.rehearse = func(_ context.Context, tgz []byte, r chart.Render) error {
		asked = append(asked, r)
		if len(asked) != 2 {
			return nil
		}
		return slipway.Errorf(slipway.Invalid, "rendering takes longer than 30s")
	}
	for i, ok := range []bool{true, false, true} {
		req := deploy.NewRequest(desired(int64(i), digestA), pack(t, chartFiles()))
		if _, err := c.Apply(t.Context(), req); (err == nil) != ok || !ok && (slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "longer than 30s")) {
			t.Errorf("apply %d: %v", i, err)
		}
	}
	history, err := c.History(t.Context(), qa())
	if err != nil || len(history) != 2 {
		t.Errorf("%d revisions, %v", len(history), err)
	}
	for i, want := range []int{0, 1, 1} {
		if r := asked[i]; r.Upgraded != want || r.Release != "delivery" || r.Namespace != "drone-qa" || r.Values["image"] == nil || r.KubeVersion == "" {
			t.Errorf("rehearsal %d of %+v", i, r)
		}
	}
}

func TestHistoryIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for i := range int64(6) {
		d := desired(i, digestA)
		d.Target.HistoryMax = 3
		if _, err := w.client().Apply(t.Context(), deploy.NewRequest(d, pack(t, chartFiles()))); err != nil {
			t.Fatal(err)
		}
	}
	if history, err := w.client().History(t.Context(), qa()); err != nil || len(history) != 3 || history[0].Number != 6 {
		t.Errorf("%+v, %v", history, err)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	c := New(nil, nil)
	inspect := func(change func(files map[string]string, d *deploy.Desired)) (deploy.Inspection, error) {
		files, d := chartFiles(), desired(1, digestA)
		change(files, &d)
		return c.Inspect(deploy.NewRequest(d, pack(t, files)))
	}
	base, err := inspect(func(map[string]string, *deploy.Desired) {})
	if err != nil || base.ChartVersion != "1.0.2" || !strings.HasPrefix(base.ValuesDigest, "sha256:") {
		t.Fatalf("%+v, %v", base, err)
	}
	for name, c := range map[string]struct {
		change func(files map[string]string, d *deploy.Desired)
		same   bool
	}{
		"another reason": {func(_ map[string]string, d *deploy.Desired) { d.Reason = "because" }, true},
		"another run":    {func(_ map[string]string, d *deploy.Desired) { d.Run = 9 }, true},
		"spelled differently": {func(f map[string]string, _ *deploy.Desired) {
			f["values-qa.yaml"] = "replicas: 2\n\ngreeting: \"hello qa\"\n"
		}, true},
		"another environment file": {func(f map[string]string, _ *deploy.Desired) { f["values-qa.yaml"] = "replicas: 3\n" }, false},
		"another default":          {func(f map[string]string, _ *deploy.Desired) { f["values.yaml"] += "new: 1\n" }, false},
		"another digest":           {func(_ map[string]string, d *deploy.Desired) { d.ImageDigest = digestB }, false},
		"a further file":           {func(_ map[string]string, d *deploy.Desired) { d.Target.Values = []string{"values-eu.yaml"} }, false},
	} {
		in, err := inspect(c.change)
		if err != nil || (in.ValuesDigest == base.ValuesDigest) != c.same {
			t.Errorf("%s: digest %s, before %s, %v", name, in.ValuesDigest, base.ValuesDigest, err)
		}
	}
	for name, c := range map[string]struct {
		change func(files map[string]string, d *deploy.Desired)
		want   string
	}{
		"no such file": {func(_ map[string]string, d *deploy.Desired) { d.Target.Values = []string{"values-us.yaml"} }, "has no values file values-us.yaml"},
		"not YAML":     {func(f map[string]string, _ *deploy.Desired) { f["values-qa.yaml"] = "a: [" }, "values file values-qa.yaml"},
		"no chart":     {func(f map[string]string, _ *deploy.Desired) { delete(f, "Chart.yaml") }, "does not load"},
		"a library":    {func(f map[string]string, _ *deploy.Desired) { f["Chart.yaml"] += "type: library\n" }, "is a library"},
	} {
		if _, err := inspect(c.change); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	w := newWorld()
	files := chartFiles()
	spec := slipway.DeploySpec{Target: qa(), Version: "v1.0.3", Commit: "beef", Tag: "v1.0.3", Reason: "v1.0.3: why",
		Image: slipway.Repository{Registry: registry(), Name: "drone/delivery"}, Chart: slipway.Repository{Registry: registry(), Name: "drone/charts/delivery"}}
	preview := func() approve.Preview {
		p, err := w.client().Preview(t.Context(), approve.Request{Run: 2, Spec: spec,
			Image: slipway.Artifact{Digest: digestB, Repository: "registry.slipway.local/drone/delivery"}, ChartDigest: digestC, Package: pack(t, files)})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := preview(); p.Base != 0 || p.Old != "" || p.Unstable || !strings.Contains(p.New, "delivery:v1.0.3@"+digestB) {
		t.Errorf("first install: %+v", p)
	}
	if list, _ := w.client().History(t.Context(), qa()); len(list) != 0 {
		t.Errorf("a preview stored %+v", list)
	}
	req := deploy.NewRequest(desired(1, digestA), pack(t, files))
	req.Marks.Intent = "x"
	if _, err := w.client().Apply(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	files["templates/config.yaml"] += "---\napiVersion: v1\nkind: Secret\nmetadata: {name: random}\nstringData: {password: '{{ randAlphaNum 20 }}'}\n"
	p := preview()
	if p.Base != 1 || !p.Unstable || !strings.Contains(p.Old, digestA) || strings.Contains(p.New, digestA) || len(p.Notes) != 0 {
		t.Errorf("upgrade: %+v", p)
	}
	d := desired(2, digestB)
	d.Version, d.Tag, d.Commit, d.Reason = spec.Version, spec.Tag, spec.Commit, spec.Reason
	if in, err := w.client().Inspect(deploy.NewRequest(d, pack(t, files))); err != nil || in.ValuesDigest != p.ValuesDigest {
		t.Errorf("the deployment's values digest is %s, the approval's %s (%v)", in.ValuesDigest, p.ValuesDigest, err)
	}
	// A revision that is left pending does not stop the preview.
	w.fail = func(op, _ string) error {
		if op == "apply" {
			w.left = 0
			return errDead
		}
		return nil
	}
	req.Marks.Intent = "y"
	if _, err := w.client().Apply(t.Context(), req); err == nil {
		t.Fatal("the process should have died")
	}
	w.left, w.fail = -1, nil
	if p := preview(); p.Base != 1 {
		t.Errorf("with a pending revision: %+v", p)
	}
}

// killed runs a deployment step again and again, each time in a process that dies after one more
// operation on the cluster, and then once in one that lives.
func TestKilledAtEachOperation(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 1, 2} { // deployments before this one
		for left := 0; ; left++ {
			w := newWorld()
			e := newEnv(t, w)
			for i := range before {
				if res, err := e.deploy(int64(i+1), digestA); err != nil || res.Outcome != slipway.Succeeded {
					t.Fatalf("%+v, %v", res, err)
				}
			}
			w.left = left
			_, err := e.deploy(50, digestB)
			lived := w.left > 0
			if err == nil && !lived && left < 3 {
				t.Fatalf("%d before, killed after %d: no error", before, left)
			}
			w.left = -1
			res, err := e.deploy(50, digestB)
			if err != nil || res.Outcome != slipway.Succeeded {
				t.Fatalf("%d before, killed after %d: again: %+v, %v", before, left, res, err)
			}
			history, err := w.client().History(t.Context(), qa())
			if err != nil {
				t.Fatal(err)
			}
			deployed := 0
			for _, r := range history {
				if r.Status.Moving() {
					t.Errorf("%d before, killed after %d: revision %d is %s", before, left, r.Number, r.Status)
				}
				if r.Status == deploy.StatusDeployed {
					deployed++
				}
			}
			if deployed != 1 || history[0].Status != deploy.StatusDeployed || history[0].Marks.Run != "50" || history[0].Number != res.Deployments[0].Revision {
				t.Errorf("%d before, killed after %d: %+v", before, left, history)
			}
			if again, err := e.deploy(50, digestB); err != nil || again.Deployments[0].Revision != res.Deployments[0].Revision {
				t.Errorf("%d before, killed after %d: a third time: %+v, %v", before, left, again, err)
			}
			if lived {
				t.Logf("%d before: killed after each of %d operations", before, left)
				break
			}
			if left > 60 {
				t.Fatal("the deployment does not end")
			}
		}
	}
}

// TestOneOperationFails lets single writes fail while the process lives on.
func TestOneOperationFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, op, key string }{
		{"the last record of an install", "update", "sh.helm.release.v1.delivery.v1"},
		{"the superseding of the old revision", "update", "sh.helm.release.v1.delivery.v1"},
		{"the last record of an upgrade", "update", "sh.helm.release.v1.delivery.v2"},
	} {
		w := newWorld()
		e := newEnv(t, w)
		if c.name != "the last record of an install" {
			if _, err := e.deploy(1, digestA); err != nil {
				t.Fatal(err)
			}
		}
		failed := false
		w.fail = func(op, key string) error {
			if !failed && op == c.op && key == c.key {
				failed = true
				return errors.New("etcdserver: request timed out")
			}
			return nil
		}
		res, err := e.deploy(50, digestB)
		if err != nil { // an attempt may fail; the next must not
			res, err = e.deploy(50, digestB)
		}
		if !failed || err != nil || (res.Outcome != slipway.Succeeded) {
			if res, err = e.deploy(50, digestB); err != nil || res.Outcome != slipway.Succeeded {
				t.Fatalf("%s: failed %v: %+v, %v", c.name, failed, res, err)
			}
		}
		history, _ := w.client().History(t.Context(), qa())
		deployed := 0
		for _, r := range history {
			if r.Status == deploy.StatusDeployed {
				deployed++
			}
			if r.Status.Moving() {
				t.Errorf("%s: revision %d is %s", c.name, r.Number, r.Status)
			}
		}
		if deployed != 1 {
			t.Errorf("%s: %d deployed: %+v", c.name, deployed, history)
		}
	}
}

// env is a deploy.Runner over a world, with a journal and records that outlive the process.
type env struct {
	t       *testing.T
	w       *world
	pkg     []byte
	journal map[string][]byte
	saved   map[string]slipway.Deployment
}

func newEnv(t *testing.T, w *world) *env {
	return &env{t: t, w: w, pkg: pack(t, chartFiles()), journal: map[string][]byte{}, saved: map[string]slipway.Deployment{}}
}

func (e *env) deploy(run int64, digest string) (slipway.Result, error) {
	r := &deploy.Runner{Helm: e.w.client(), Charts: e, Cluster: e, Robots: e, Deployments: e}
	d := desired(run, digest)
	return r.Run(e.t.Context(), stage.Env{
		Run: slipway.Run{ID: run}, Log: nolog{}, Journal: runJournal{e, run}, Now: time.Now,
		Artifacts: []slipway.Artifact{
			{Kind: slipway.ArtifactImage, Service: "delivery", Digest: digest, Repository: "registry.slipway.local/drone/delivery"},
			{Kind: slipway.ArtifactChart, Service: "delivery", Digest: digestC, Repository: "registry.slipway.local/drone/charts/delivery"},
		},
	}, slipway.PlanStep{Key: d.Step, Deploy: &slipway.DeploySpec{Target: d.Target, Version: d.Version, Commit: d.Commit,
		Image: d.Image, Tag: d.Tag, Chart: d.Chart, Reason: d.Reason}})
}

func (e *env) PullChart(context.Context, slipway.Repository, string) ([]byte, error) {
	return e.pkg, nil
}

func (e *env) Prepare(context.Context, slipway.Target, deploy.PullSecret) error { return nil }

func (e *env) Prepared(context.Context, slipway.Target, deploy.PullSecret) bool { return true }

func (e *env) PullToken(context.Context, string, string, string) (string, string, error) {
	return "r", "t", nil
}

func (e *env) Save(_ context.Context, d slipway.Deployment) (slipway.Deployment, error) {
	key := fmt.Sprint(d.RunID, d.Step)
	d.ID = int64(len(e.saved) + 1)
	if have, ok := e.saved[key]; ok {
		d.ID = have.ID
	}
	e.saved[key] = d
	return d, nil
}

type runJournal struct {
	e   *env
	run int64
}

func (j runJournal) Put(_ context.Context, key string, v any) error {
	b, err := json.Marshal(v)
	j.e.journal[fmt.Sprint(j.run, key)] = b
	return err
}

func (j runJournal) Get(_ context.Context, key string, v any) (bool, error) {
	b, ok := j.e.journal[fmt.Sprint(j.run, key)]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

type nolog struct{}

func (nolog) Line(slipway.LogLine)  {}
func (nolog) Printf(string, ...any) {}
