package scan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// fake is a scanner, a registry, the past and what is deployed.
type fake struct {
	mu       sync.Mutex
	state    State
	images   map[string][]slipway.Finding // by digest
	folder   Secrets
	refused  string // why the registry's image is not fetched
	problem  string
	asked    []string
	kept     map[string]slipway.Scan
	sboms    map[string][]byte
	seen     map[string]bool
	deployed []slipway.Deployment
	stopped  bool // the problem is that the scan came to a bound
}

func newFake() *fake {
	return &fake{
		state:  State{Scanner: "grype 1", Database: slipway.ScanDatabase{Checksum: "db1", Built: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}},
		images: map[string][]slipway.Finding{}, kept: map[string]slipway.Scan{}, sboms: map[string][]byte{}, seen: map[string]bool{},
	}
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

func (f *fake) State(context.Context) (State, error) { return f.state, nil }

func (f *fake) Image(_ context.Context, req Request) (Report, error) {
	f.note("scan %s", req.Digest)
	if f.problem != "" {
		return Report{Scan: slipway.Scan{Scanner: f.state.Scanner, Database: f.state.Database, Problems: []string{f.problem}, Refused: f.stopped}}, nil
	}
	req.Progress("listing packages")
	return Report{SBOM: []byte(`{"spdxVersion":"SPDX-2.3"}`), Scan: slipway.Scan{Scanner: f.state.Scanner, Database: f.state.Database, Packages: 3, Findings: slices.Clone(f.images[req.Digest])}}, nil
}

func (f *fake) Folder(_ context.Context, dir string) (Secrets, error) {
	f.note("search %s", filepath.Base(dir))
	return f.folder, nil
}

func (f *fake) Layout(_ context.Context, repo slipway.Repository, digest, dir string) (string, error) {
	f.note("fetch %s@%s", repo.Ref(), digest)
	if f.refused != "" {
		return "", slipway.Errorf(slipway.Invalid, "%s", f.refused)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		return "", fmt.Errorf("the folder is not empty: %w", err)
	}
	return digest, os.WriteFile(filepath.Join(dir, "index.json"), nil, 0o600)
}

func key(project, digest, database, scanner string) string {
	return strings.Join([]string{project, digest, database, scanner}, "|")
}

func (f *fake) Scan(_ context.Context, project, digest, database, scanner string) (slipway.Scan, bool, error) {
	s, ok := f.kept[key(project, digest, database, scanner)]
	s.Findings = slices.Clone(s.Findings)
	return s, ok, nil
}

func (f *fake) AnyScan(_ context.Context, digest, database, scanner string) (slipway.Scan, bool, error) {
	for k, s := range f.kept {
		if strings.HasSuffix(k, "|"+strings.Join([]string{digest, database, scanner}, "|")) {
			return s, true, nil
		}
	}
	return slipway.Scan{}, false, nil
}

func (f *fake) KeepScan(_ context.Context, project string, scan slipway.Scan, sbom []byte, seen bool) error {
	k := key(project, scan.Digest, scan.Database.Checksum, scan.Scanner)
	f.kept[k], f.sboms[k], f.seen[k] = scan, sbom, f.seen[k] || seen
	return nil
}

func (f *fake) InUse(context.Context) ([]slipway.Deployment, error) { return f.deployed, nil }

func (f *fake) SeenScan(_ context.Context, project, digest string) (out slipway.Scan, ok bool, err error) {
	for k, s := range f.kept {
		if f.seen[k] && strings.HasPrefix(k, project+"|"+digest+"|") && (!ok || s.Database.Checksum > out.Database.Checksum) {
			out, ok = s, true
		}
	}
	return out, ok, nil
}

func (f *fake) SawScan(_ context.Context, project, digest, database, scanner string) error {
	f.seen[key(project, digest, database, scanner)] = true
	return nil
}

func (f *fake) TreeHash(_ context.Context, commit, dir string) (string, error) {
	return "hash-of-" + dir, nil
}

type workspace struct{ dir string }

func (w workspace) Tree(context.Context, string, string) (string, error) {
	return filepath.Join(w.dir, "tree"), nil
}

func (w workspace) Dir(name string) (string, error) {
	dir := filepath.Join(w.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

type logLines struct{ lines []string }

func (l *logLines) Line(line slipway.LogLine) { l.lines = append(l.lines, line.Text) }
func (l *logLines) Printf(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func vuln(id string, s slipway.Severity) slipway.Finding {
	return slipway.Finding{Kind: slipway.FindingVulnerability, ID: id, Severity: s, Package: "openssl", Version: "3.0.10-1", Path: "var/lib/dpkg/status"}
}

var repo = slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/web"}

func (f *fake) runner() Runner {
	return Runner{Scanner: f, Images: f, Past: f, Repo: func(string) Repo { return f }}
}

func run(t *testing.T, r Runner, reports ...string) (slipway.Result, *logLines, string) {
	t.Helper()
	res, log, dir, err := tryRun(t, r, reports...)
	if err != nil {
		t.Fatal(err)
	}
	return res, log, dir
}

func tryRun(t *testing.T, r Runner, reports ...string) (slipway.Result, *logLines, string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "src", "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	log := &logLines{}
	env := stage.Env{
		Run: slipway.Run{ID: 7, Project: "shop"}, Log: log, Workspace: workspace{dir}, Now: func() time.Time { return time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC) },
		Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: "web", Digest: "sha256:web"}},
	}
	step := slipway.PlanStep{Key: "scan/web", Kind: slipway.KindScan, Service: "web", Scan: &slipway.ScanSpec{Image: repo, Source: slipway.Source{Commit: "c1", Dir: "src/web"}, Reports: reports}}
	res, err := r.Run(t.Context(), env, step)
	return res, log, dir, err
}

func TestScan(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-2", slipway.SeverityLow), vuln("CVE-1", slipway.SeverityCritical)}
	f.folder.Findings = []slipway.Finding{{Kind: slipway.FindingSecret, ID: "github-pat", Severity: slipway.SeverityHigh, Path: "deploy/token.yml", Line: 3, Title: "github pat ghp_****"}}
	res, log, dir := run(t, f.runner())
	if res.Outcome != slipway.Succeeded || res.Reason != "3 packages, 1 critical, 1 low; 1 secret" {
		t.Errorf("%s: %s", res.Outcome, res.Reason)
	}
	var ids []string
	for _, x := range res.Scan.Findings {
		ids = append(ids, x.ID+" "+x.Path)
	}
	if !slices.Equal(ids, []string{"CVE-1 var/lib/dpkg/status", "github-pat src/web/deploy/token.yml", "CVE-2 var/lib/dpkg/status"}) {
		t.Errorf("%q", ids)
	}
	a := res.Artifacts[0]
	data, err := os.ReadFile(a.Path)
	if err != nil || a.Kind != slipway.ArtifactSBOM || a.Subject != "sha256:web" || a.Digest != slipway.DigestOf(data) || a.Digest != res.Scan.SBOM {
		t.Errorf("%+v %v", a, err)
	}
	want := []string{
		"scanning registry.test/shop/web@sha256:web", "listing packages", "vulnerability database of 2026-11-20",
		"SEVERITY  FINDING     PACKAGE              FIXED IN  PLACE",
		"critical  CVE-1       openssl 3.0.10-1     -         var/lib/dpkg/status",
		"high      github-pat  github pat ghp_****            src/web/deploy/token.yml:3",
		"low       CVE-2       openssl 3.0.10-1     -         var/lib/dpkg/status",
		"3 packages, 1 critical, 1 low; 1 secret",
	}
	if !slices.Equal(log.lines, want) {
		t.Errorf("log:\n%s", strings.Join(log.lines, "\n"))
	}
	if _, err := os.Stat(filepath.Join(dir, "scan-web", "layout")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the layout is still there")
	}
}

func TestUnchangedImageAndFolderAreReused(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical)}
	first, _, _ := run(t, f.runner())
	asked := len(f.asked)
	second, _, _ := run(t, f.runner())
	if len(f.asked) != asked {
		t.Errorf("asked again: %q", f.asked[asked:])
	}
	if second.Reason != first.Reason+"; the image was scanned before" || len(second.Artifacts) != 1 || second.Artifacts[0].Digest != first.Artifacts[0].Digest || second.Artifacts[0].Path != "" {
		t.Errorf("%+v", second)
	}
	for name, change := range map[string]func(){
		"database": func() { f.state.Database.Checksum = "db2" },
		"scanner":  func() { f.state.Scanner = "grype 2" },
	} {
		asked := len(f.asked)
		change()
		run(t, f.runner())
		if !slices.Contains(f.asked[asked:], "scan sha256:web") {
			t.Errorf("another %s: not scanned again: %q", name, f.asked[asked:])
		}
	}
}

func TestProblemsAreSaidAndNotKept(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.refused = "it has 201 layers; at most 200 are scanned"
	want := "image registry.test/shop/web@sha256:web was not scanned: it has 201 layers; at most 200 are scanned"
	for range 2 {
		res, log, _ := run(t, f.runner())
		if !slices.Equal(res.Scan.Problems, []string{want}) || !slices.Contains(log.lines, want) || res.Reason != "1 part was not looked at" || len(res.Artifacts) != 0 {
			t.Errorf("%+v %s", res.Scan, res.Reason)
		}
	}
	f.refused, f.problem = "", "image was not scanned: a file is torn"
	if res, _, _ := run(t, f.runner()); len(res.Scan.Problems) != 1 {
		t.Errorf("%+v", res.Scan)
	}
	if n := len(f.kept); n != 1 { // the folder's
		t.Errorf("%d scans were kept", n)
	}
}

func TestNoDatabaseIsSaid(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.state.Database = slipway.ScanDatabase{Missing: "no vulnerability database was imported"}
	r := f.runner()
	r.Base = func(context.Context, string, slipway.Repository, string) (Base, error) {
		t.Error("asked for the base image, although nothing can be compared")
		return Base{}, nil
	}
	res, log, _ := run(t, r)
	if res.Scan.Database.Missing == "" || res.Reason != "3 packages, no vulnerability database" || !slices.Contains(log.lines, "no vulnerability can be found: no vulnerability database was imported") {
		t.Errorf("%+v %q %q", res.Scan.Database, res.Reason, log.lines)
	}
}

func TestWhatTheBaseImageHasToo(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical), vuln("CVE-2", slipway.SeverityHigh)}
	f.images["sha256:base"] = []slipway.Finding{vuln("CVE-2", slipway.SeverityHigh)}
	r := f.runner()
	r.Base = func(_ context.Context, project string, of slipway.Repository, digest string) (Base, error) {
		f.note("base of %s %s@%s", project, of.Ref(), digest)
		return Base{"docker.io/library/debian", slipway.Repository{Registry: repo.Registry, Name: "mirror/debian"}, "sha256:base"}, nil
	}
	res, _, _ := run(t, r)
	if res.Scan.Base != "sha256:base" || res.Scan.BaseImage != "docker.io/library/debian" || res.Scan.Findings[0].InBase || !res.Scan.Findings[1].InBase {
		t.Errorf("%+v", res.Scan)
	}
	asked := len(f.asked)
	again, _, _ := run(t, r)
	if !again.Scan.Findings[1].InBase || len(f.asked) != asked {
		t.Errorf("the mark was not kept: %+v %q", again.Scan, f.asked[asked:])
	}
	delete(f.kept, key("shop", "sha256:web", "db1", "grype 1")) // another image of the same base, in another project
	f.kept[key("other", "sha256:base", "db1", "grype 1")] = f.kept[key("shop", "sha256:base", "db1", "grype 1")]
	delete(f.kept, key("shop", "sha256:base", "db1", "grype 1"))
	if run(t, r); slices.Contains(f.asked[asked:], "scan sha256:base") || !slices.Contains(f.asked[asked:], "scan sha256:web") {
		t.Errorf("the base was scanned twice: %q", f.asked)
	}
}

// Images of one base that are scanned at once have it scanned once.
func TestBaseImageIsScannedByOne(t *testing.T) {
	t.Parallel()
	var turns Turns
	first, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := turns.take(t.Context(), "b"); err != nil {
		t.Error(err)
	} else {
		other()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrCancelled)
	if _, err := turns.take(ctx, "a"); !errors.Is(err, slipway.ErrCancelled) {
		t.Errorf("while another has the turn: %v", err)
	}
	second := make(chan func())
	go func() {
		done, _ := turns.take(t.Context(), "a") //nolint:errcheck // the test's context lives
		second <- done
	}()
	first()
	(<-second)()
	if len(turns.busy) != 0 {
		t.Errorf("%d are left", len(turns.busy))
	}
}

func TestBaseImageThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical)}
	f.images["sha256:base"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical)}
	why := errors.New("the base image debian could not be read: no answer")
	r := f.runner()
	r.Base = func(context.Context, string, slipway.Repository, string) (Base, error) {
		f.note("base")
		return Base{"debian", repo, "sha256:base"}, why
	}
	for range 2 { // it is tried each time
		asked := len(f.asked)
		res, log, _ := run(t, r)
		if res.Scan.BaseProblem != why.Error() || res.Scan.Base != "" || res.Scan.Findings[0].InBase || !slices.Contains(log.lines, why.Error()) || !slices.Contains(f.asked[asked:], "base") {
			t.Errorf("%+v %q", res.Scan, log.lines)
		}
	}
	why, f.refused = nil, "it has 201 layers"
	if res, _, _ := run(t, r); !strings.HasPrefix(res.Scan.BaseProblem, "the base image debian could not be read: image ") || !strings.HasSuffix(res.Scan.BaseProblem, "it has 201 layers") {
		t.Errorf("%+v", res.Scan)
	}
	f.refused = ""
	for range 2 {
		if res, _, _ := run(t, r); res.Scan.BaseProblem != "" || !res.Scan.Findings[0].InBase {
			t.Errorf("%+v", res.Scan)
		}
	}
	if n := len(slices.DeleteFunc(f.asked, func(s string) bool { return s != "scan sha256:web" })); n != 1 {
		t.Errorf("the image was scanned %d times", n)
	}
}

func TestReportsTakeThePlaceOfTheScan(t *testing.T) {
	t.Parallel()
	f := newFake()
	data, err := os.ReadFile("testdata/trivy.sarif")
	if err != nil {
		t.Fatal(err)
	}
	r := f.runner()
	res, _, _, err := tryRun(t, r, "missing.sarif")
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "missing.sarif is neither in the service's folder") {
		t.Errorf("%+v %v", res, err)
	}
	work := t.TempDir()
	write(t, filepath.Join(work, "test-results-web", "trivy.sarif"), string(data))
	write(t, filepath.Join(work, "tree", "src", "web", "main.go"), "package main")
	env := stage.Env{Run: slipway.Run{Project: "shop"}, Log: &logLines{}, Workspace: workspace{work},
		Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: "web", Digest: "sha256:web"}}}
	res, err = r.Run(t.Context(), env, slipway.PlanStep{Key: "scan/web", Service: "web", Scan: &slipway.ScanSpec{Image: repo, Source: slipway.Source{Dir: "src/web"}, Reports: []string{"trivy.sarif"}}})
	if err != nil || res.Outcome != slipway.Succeeded || res.Scan.Scanner != "Trivy 0.58.1 (trivy.sarif)" || res.Scan.Digest != "sha256:web" || res.Reason != "1 critical; 1 secret" {
		t.Errorf("%+v %+v %v", res, res.Scan, err)
	}
	if slices.Contains(f.asked, "scan sha256:web") {
		t.Error("the image was scanned too")
	}
}

func deployment(env, digest string) slipway.Deployment {
	return slipway.Deployment{Version: "v1", ImageDigest: digest, Target: slipway.Target{Project: "shop", Service: "web", Environment: env}}
}

func TestRescan(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical)}
	f.deployed = []slipway.Deployment{deployment("us", "sha256:web"), deployment("eu", "sha256:web"), deployment("staging", "sha256:new")}
	run(t, f.runner()) // people saw CVE-1
	r := Rescan{Runner: f.runner(), Deployed: f, Log: &logLines{}, Dir: t.TempDir(), Wanted: func(d slipway.Deployment) (slipway.Repository, bool) {
		return repo, d.Target.Environment != "staging"
	}}
	var told []string
	fail := errors.New("no disk")
	var failing error
	tell := func(found Found) error {
		for _, x := range found.New {
			told = append(told, fmt.Sprintf("%s/%s %s %v %s", found.Project, found.Service, found.Version, found.Environments, x.ID))
		}
		return failing
	}
	rescan := func() error { told = nil; return r.Run(t.Context(), tell) }
	if err := rescan(); err != nil || told != nil {
		t.Errorf("the same database: %q %v", told, err)
	}
	f.state.Database.Checksum = "db2"
	if err := rescan(); err != nil || told != nil {
		t.Errorf("nothing new: %q %v", told, err)
	}
	f.state.Database.Checksum = "db3"
	f.images["sha256:web"] = append(f.images["sha256:web"], vuln("CVE-9", slipway.SeverityCritical), vuln("CVE-8", slipway.SeverityHigh))
	failing = fail
	want := []string{"shop/web v1 [eu us] CVE-9"}
	if err := rescan(); !errors.Is(err, fail) || !slices.Equal(told, want) {
		t.Errorf("%q %v", told, err)
	}
	failing = nil
	asked := len(f.asked)
	if err := rescan(); err != nil || !slices.Equal(told, want) {
		t.Errorf("it is told again, as telling failed: %q %v", told, err)
	}
	if len(f.asked) != asked {
		t.Errorf("scanned again: %q", f.asked[asked:])
	}
	if err := rescan(); err != nil || told != nil {
		t.Errorf("told twice: %q %v", told, err)
	}
	f.state.Database = slipway.ScanDatabase{Missing: "none"}
	if err := rescan(); err != nil || told != nil {
		t.Errorf("without a database: %q %v", told, err)
	}
	f.state.Database = slipway.ScanDatabase{Checksum: "db4"}
	f.refused = "too large"
	if err := rescan(); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}

// An image that ends its scan at a bound costs that once: the next one says so at once, until the database or the
// scanner is another, a day has gone by, or somebody retries the step.
func TestRefusedImagesAreRemembered(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.problem, f.stopped = "image was not scanned: it took longer than 10m", true
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	scanned := func(attempt int) (string, bool) {
		t.Helper()
		asked := len(f.asked)
		env := stage.Env{Log: &logLines{}, Attempt: attempt, Now: func() time.Time { return at }}
		scan, _, _, err := f.runner().image(t.Context(), env, subject{"shop", repo, "sha256:web", t.TempDir(), true}, f.state)
		if err != nil || !scan.Refused || len(scan.Problems) != 1 || scan.Digest != "sha256:web" {
			t.Fatalf("%+v, %v", scan, err)
		}
		return scan.Problems[0], slices.Contains(f.asked[asked:], "scan sha256:web")
	}
	for _, step := range []struct {
		name    string
		change  func()
		attempt int
		again   bool
	}{
		{"the first time", func() {}, 1, true},
		{"the second time", func() {}, 1, false},
		{"a retry", func() {}, 2, true},
		{"another database", func() { f.state.Database.Checksum = "db2" }, 1, true},
		{"another scanner", func() { f.state.Scanner = "grype 2" }, 1, true},
		{"an hour later", func() { at = at.Add(time.Hour) }, 1, false},
		{"a day later", func() { at = at.Add(24 * time.Hour) }, 1, true},
	} {
		step.change()
		said, again := scanned(step.attempt)
		if again != step.again || strings.Contains(said, "that was on 2026-11-21 09:00") == step.again || !strings.HasPrefix(said, f.problem) {
			t.Errorf("%s: scanned %v, said %q", step.name, again, said)
		}
	}
	if n := len(f.kept); n != 3 {
		t.Errorf("%d are kept: a refusal is not a scan of the image", n)
	}
}
