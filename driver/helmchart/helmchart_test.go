package helmchart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/chart"
)

var _ chart.Helm = (*Helm)(nil)

// TestMain is also the process that Options.Process starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve-charts" {
		if err := Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience is for what has another bound, or none: a busy machine gets there too.
const patience = 5 * time.Minute

func process(t testing.TB) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe, "serve-charts"}
}

var created = time.Date(2026, 5, 4, 3, 2, 1, 500, time.FixedZone("x", 7200))

func standardChart(t testing.TB, h *Helm, port int) chart.Chart {
	t.Helper()
	c, err := h.Standard("delivery", port)
	if err != nil {
		t.Fatal(err)
	}
	c, problems, err := h.Stamp(c, "1.0.2", map[string]string{"org.opencontainers.image.revision": "c0ffee"})
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	return c
}

func render(values map[string]any) chart.Render {
	if values == nil {
		values = map[string]any{}
	}
	if values["image"] == nil {
		values["image"] = map[string]any{"registry": "registry.test", "repository": "shop/delivery", "tag": "v1.0.2"}
	}
	return chart.Render{Release: "delivery", Namespace: "shop-qa", Values: values, KubeVersion: "v1.36.3"}
}

func files(m map[string]string) chart.Chart {
	c := chart.Chart{Name: "web", Files: []chart.File{{Path: "Chart.yaml", Data: []byte("apiVersion: v2\nname: web\nversion: 0.1.0\n")}}}
	for name, text := range m {
		c.Files = append(c.Files, chart.File{Path: name, Data: []byte(text)})
	}
	slices.SortFunc(c.Files, func(a, b chart.File) int { return strings.Compare(a.Path, b.Path) })
	return c
}

func TestPackageIsReproducibleAndHelmReadsIt(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	c := standardChart(t, h, 8080)
	one, err := h.Package(c, created)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(c.Files)
	two, err := h.Package(c, created.UTC())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("the order of files or the time zone changes the package")
	}
	later, err := h.Package(c, created.Add(time.Hour))
	if err != nil || bytes.Equal(one, later) {
		t.Errorf("the time is not in the package: %v", err)
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	md := loaded.Metadata
	if md.Name != "delivery" || md.Version != "1.0.2" || md.AppVersion != "1.0.2" || md.Annotations["org.opencontainers.image.revision"] != "c0ffee" {
		t.Errorf("metadata %+v", md)
	}
	z, err := gzip.NewReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("gzip header %+v", z.Header)
	}
	r := tar.NewReader(z)
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !head.ModTime.Equal(created.Truncate(time.Second)) || head.Mode != 0o644 || head.Uid != 0 || head.Uname != "" || len(head.PAXRecords) > 0 {
			t.Errorf("%s: %+v", head.Name, head)
		}
	}
}

func TestStampNeverChangesItsArgument(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	c := files(map[string]string{"values.yaml": "a: 1\n"})
	before := string(c.Files[0].Data)
	out, problems, err := h.Stamp(c, "2.0.0", nil)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if string(c.Files[0].Data) != before {
		t.Error("Chart.yaml of the argument changed")
	}
	if !strings.Contains(string(out.Files[0].Data), "version: 2.0.0") {
		t.Errorf("%s", out.Files[0].Data)
	}
}

func TestStandardChartWithEverything(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	c := standardChart(t, h, 80)
	got, err := h.Check(t.Context(), c, []chart.Render{render(map[string]any{
		"image":    map[string]any{"registry": "registry.test", "repository": "shop/delivery", "digest": "sha256:" + strings.Repeat("0", 64)},
		"reason":   "release v1.0.2 by ann",
		"config":   map[string]any{"LEVEL": "debug", "N": 3},
		"env":      map[string]any{"B": "2", "A": 1, "C": true},
		"extraEnv": []any{map[string]any{"name": "P", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "s", "key": "k"}}}},
		"envFrom":  []any{map[string]any{"secretRef": map[string]any{"name": "s"}}},
		"command":  []any{"/app"}, "args": []any{"-v"},
		"probes":         map[string]any{"path": "/healthz", "startupSeconds": 120},
		"ingress":        map[string]any{"host": "shop.test", "className": "nginx", "tlsSecret": "tls", "annotations": map[string]any{"a/b": "c"}},
		"podAnnotations": map[string]any{"a/b": "c"}, "podLabels": map[string]any{"team": "x"},
		"volumes":      []any{map[string]any{"name": "data", "emptyDir": map[string]any{}}},
		"volumeMounts": []any{map[string]any{"name": "data", "mountPath": "/data"}},
		"nodeSelector": map[string]any{"a": "b"}, "tolerations": []any{map[string]any{"operator": "Exists"}},
		"affinity": map[string]any{"nodeAffinity": map[string]any{}},
		"tests":    map[string]any{"command": []any{"/app", "selftest"}},
	})})
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0].Problems) > 0 || len(got[0].Unstable) > 0 {
		t.Fatalf("%+v %v", got[0].Problems, got[0].Unstable)
	}
	var kinds []string
	for _, o := range got[0].Objects {
		kinds = append(kinds, strings.TrimSpace(o.Fields["kind"].(string)+" "+o.Hook))
	}
	if want := []string{"ServiceAccount", "ConfigMap", "Service", "Deployment", "Ingress", "Pod test"}; !slices.Equal(kinds, want) {
		t.Errorf("objects %q, want %q", kinds, want)
	}
	text := fmt.Sprint(got[0].Objects[3].Fields)
	for _, want := range []string{"kubernetes.io/change-cause:release v1.0.2 by ann", "registry.test/shop/delivery@sha256:0000",
		"checksum/config:", "ip_unprivileged_port_start", "path:/healthz", "runAsUser:65532", "slipway-registry", "secretRef"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestStandardChartRefusesUnknownValues(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	got, err := h.Check(t.Context(), standardChart(t, h, 0), []chart.Render{render(map[string]any{"replica": 3})})
	if err != nil {
		t.Fatal(err)
	}
	if p := got[0].Problems; len(p) != 1 || p[0].Message != "values: additional properties 'replica' not allowed" {
		t.Errorf("%+v", p)
	}
}

func TestLoadRefusesWhatLeavesTheFolder(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	dir := filepath.Join(tree, "chart")
	must(t, os.MkdirAll(filepath.Join(dir, "templates"), 0o755))
	must(t, os.WriteFile(filepath.Join(tree, "secret"), []byte("outside"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: web\nversion: 0.1.0\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "real.yaml"), []byte("a: 1\n"), 0o644))
	must(t, os.Symlink("real.yaml", filepath.Join(dir, "values.yaml")))
	must(t, os.Symlink("../../secret", filepath.Join(dir, "templates", "out.yaml")))
	must(t, os.Symlink("/etc/hostname", filepath.Join(dir, "abs")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(t, os.Symlink(".", filepath.Join(dir, "loop")))
	must(t, os.WriteFile(filepath.Join(dir, `back\slash`), nil, 0o644))
	c, problems, err := New(Options{Timeout: patience}).Load(t.Context(), dir, []string{"../secret"})
	must(t, err)
	var got []string
	for _, p := range problems {
		got = append(got, p.Text("chart"))
	}
	slices.Sort(got)
	want := []string{
		"chart/abs: is a link that leaves the chart folder or leads nowhere: put the file itself here",
		"chart/dangling: is a link that leaves the chart folder or leads nowhere: put the file itself here",
		"chart/loop: is a link to a folder or a special file: only files, and links to files of the chart, are packaged",
		"chart/templates/out.yaml: is a link that leaves the chart folder or leads nowhere: put the file itself here",
		`file name "back\\slash" has a backslash`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	for _, f := range c.Files {
		if strings.Contains(string(f.Data), "outside") {
			t.Errorf("%s was read from outside", f.Path)
		}
	}
	if !c.Has("values.yaml") {
		t.Error("a link inside the folder is not read")
	}
}

func TestLoadIsBounded(t *testing.T) {
	t.Parallel()
	chartYAML := []byte("apiVersion: v2\nname: web\nversion: 0.1.0\n")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, z.Close())
	cases := map[string]map[string][]byte{
		"large":     {"big": make([]byte, 64<<10)},
		"many":      {"1": nil, "2": nil, "3": nil, "4": nil, "5": nil, "6": nil, "7": nil, "8": nil, "9": nil, "10": nil},
		"tar bomb":  {"charts/x.tgz": bomb.Bytes()},
		"not a tgz": {"charts/x.tgz": []byte("hello")},
	}
	for name, more := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			more["Chart.yaml"] = chartYAML
			for file, data := range more {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755))
				must(t, os.WriteFile(filepath.Join(dir, file), data, 0o644))
			}
			_, problems, err := New(Options{MaxFiles: 10, MaxBytes: 32 << 10}).Load(t.Context(), dir, nil)
			if err != nil || len(problems) == 0 {
				t.Errorf("%v %v", problems, err)
			}
		})
	}
}

func TestIgnoredFilesAreNotRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n", ".helmignore": "*.bak\nnode_modules/\nvalues-*.yaml\n",
		"a.bak": "x", "node_modules/b": "x", "templates/.c.swp": "x", "templates/d.yaml": "", "values-qa.yaml": "a: 1", "values-x.yaml": "a: 1",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644))
	}
	c, problems, err := New(Options{Timeout: patience}).Load(t.Context(), dir, []string{"values-qa.yaml", "values-none.yaml"})
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	var got []string
	for _, f := range c.Files {
		got = append(got, f.Path)
	}
	if want := []string{".helmignore", "Chart.yaml", "templates/d.yaml", "values-qa.yaml"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestHostileTemplates runs only in a process of its own: each of them would take all memory here.
func TestHostileTemplates(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ template, want string }{
		"endless output":  {`{{ range 1000000000000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}`, "takes more memory"},
		"endless silence": {`{{ range 1000000000000 }}{{ end }}`, "takes longer than 1s"},
		"doubling":        {`{{ $s := "x" }}{{ range 60 }}{{ $s = cat $s $s }}{{ end }}`, "takes more memory"},
		"until":           {`{{ range until 2000000000 }}x{{ end }}`, "makes more than a million"},
		"repeat":          {`{{ repeat 2000000000 "xxxx" }}`, "makes more than a million"},
		"seq":             {`{{ seq 1 2000000000 }}`, "takes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := patience
			if name == "endless silence" {
				timeout = time.Second
			}
			h := New(Options{Process: process(t), Timeout: timeout})
			got, err := h.Check(t.Context(), files(map[string]string{"templates/a.yaml": c.template}), []chart.Render{render(nil)})
			if err != nil {
				t.Fatal(err)
			}
			if p := got[0].Problems; !slices.ContainsFunc(p, func(p chart.Problem) bool {
				return p.Severity == chart.Error && strings.Contains(p.Message, c.want)
			}) {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestProcessSaysTheSame(t *testing.T) {
	t.Parallel()
	c := files(map[string]string{"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {n: 12345678901234567890, r: {{ randAlpha 5 }}}\n"})
	in, err := New(Options{Timeout: patience}).Check(t.Context(), c, []chart.Render{render(nil), render(nil)})
	must(t, err)
	out, err := New(Options{Process: process(t), Timeout: patience}).Check(t.Context(), c, []chart.Render{render(nil), render(nil)})
	must(t, err)
	for i := range in {
		for _, r := range [][]chart.Rendered{in, out} {
			r[i].Objects[0].Fields["data"].(map[string]any)["r"] = ""
		}
		if a, b := fmt.Sprintf("%#v", in[i]), fmt.Sprintf("%#v", out[i]); a != b {
			t.Errorf("here  %s\nthere %s", a, b)
		}
	}
}

func TestProcessIsKept(t *testing.T) {
	t.Parallel()
	h := New(Options{Process: process(t), Timeout: patience})
	t.Cleanup(h.Close)
	temp := t.TempDir()
	h.opts.Temp = temp
	good := files(map[string]string{"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"})
	check := func(c chart.Chart, want int) int {
		t.Helper()
		got, err := h.Check(t.Context(), c, []chart.Render{render(nil)})
		if err != nil || len(got[0].Objects) != want {
			t.Fatalf("%+v %v", got, err)
		}
		w, ok := h.spare.Take()
		if !ok {
			return 0
		}
		h.spare.Keep(w)
		return w.Cmd.Process.Pid
	}
	first := check(good, 1)
	if second := check(good, 1); first == 0 || second != first {
		t.Errorf("process %d answered first, then %d", first, second)
	}
	if left := check(files(map[string]string{"templates/a.yaml": `{{ range 1000000000000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}`}), 0); left != 0 {
		t.Error("a process that ran out of memory was kept")
	}
	third := check(good, 1)
	must(t, syscall.Kill(third, syscall.SIGKILL))
	if fourth := check(good, 1); fourth == 0 || fourth == third {
		t.Errorf("process %d was killed; %d answered", third, fourth)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left of the checks: %v, %v", left, err)
	}
	w, _ := h.spare.Take()
	h.spare.Keep(w)
	h.Close()
	if w.Cmd.ProcessState == nil {
		t.Error("Close leaves the process behind")
	}
}

func TestCancelEndsTheProcess(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("a user said so")
	h := New(Options{Process: process(t), Now: func() time.Time { // called before the process starts
		timer := time.AfterFunc(300*time.Millisecond, func() { cancel(why) })
		t.Cleanup(func() { timer.Stop() })
		return time.Now()
	}})
	_, err := h.Check(ctx, files(map[string]string{"templates/a.yaml": `{{ range 1000000000000 }}{{ end }}`}), []chart.Render{render(nil)})
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestBrokenProcessIsAnError(t *testing.T) {
	t.Parallel()
	h := New(Options{Process: []string{"/nonexistent/slipway"}})
	if _, err := h.Check(t.Context(), files(nil), []chart.Render{render(nil)}); err == nil {
		t.Error("no error")
	}
}

func TestRehearse(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	tgz, err := h.Package(standardChart(t, h, 8080), created)
	must(t, err)
	must(t, h.Rehearse(t.Context(), tgz, render(nil)))
	for what, c := range map[string]struct{ template, want string }{
		"what the deployment tells better": {`{{ fail "no" }}`, ""},
		"install":                          {`{{ if .Release.IsInstall }}{{ range 1000000000000 }}{{ end }}{{ end }}`, ""},
		"upgrade":                          {`{{ if and .Release.IsUpgrade (eq .Release.Revision 8) }}{{ range 1000000000000 }}{{ end }}{{ end }}`, "takes longer than 1s"},
		"memory":                           {`{{ range 1000000000000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}`, "takes more memory"},
	} {
		o := Options{Process: process(t), Timeout: patience}
		if what == "upgrade" {
			o.Timeout = time.Second
		}
		h := New(o)
		t.Cleanup(h.Close)
		tgz, err := h.Package(files(map[string]string{"templates/a.yaml": c.template}), created)
		must(t, err)
		r := render(nil)
		r.Upgraded = 7
		err = h.Rehearse(t.Context(), tgz, r)
		if c.want == "" && err != nil || c.want != "" && (slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if err := h.Rehearse(t.Context(), []byte("not a package"), render(nil)); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("not a package: %v", err)
	}
}

// FuzzTemplateProblem: whatever an error of the engine looks like, there is a message.
func FuzzTemplateProblem(f *testing.F) {
	f.Add("web/templates/a.yaml:3:4\n  executing \"web/templates/a.yaml\" at <.x.y>:\n    nil pointer")
	f.Add("parse error at (web/templates/a.yaml:2): function \"y\" not defined")
	f.Fuzz(func(t *testing.T, text string) {
		p := templateProblem(chart.Chart{Name: "web"}, text)
		if strings.ContainsRune(p.Message, '\n') || p.Line < 0 {
			t.Errorf("%+v", p)
		}
	})
}

func BenchmarkCheckStandard(b *testing.B) {
	for name, h := range map[string]*Helm{"goroutine": New(Options{}), "process": New(Options{Process: process(b)})} {
		b.Run(name, func(b *testing.B) {
			c := standardChart(b, h, 8080)
			for b.Loop() {
				if _, err := h.Check(b.Context(), c, []chart.Render{render(nil), render(nil)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLibrary is what Helm itself takes for the same: lint once, render twice.
func BenchmarkLibrary(b *testing.B) {
	h := New(Options{})
	c := standardChart(b, h, 8080)
	dir := b.TempDir()
	must(b, writeFiles(dir, c.Files))
	vals := render(nil).Values
	for b.Loop() {
		if l := lint.RunAll(dir, vals, "shop-qa"); l.HighestSeverity > support.InfoSev {
			b.Fatal(l.Messages)
		}
		for range 2 {
			loaded, err := loader.Load(dir)
			must(b, err)
			top, err := util.ToRenderValues(loaded, vals, common.ReleaseOptions{Name: "delivery"}, nil)
			must(b, err)
			_, err = engine.Engine{}.RenderWithContext(b.Context(), loaded, top)
			must(b, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
