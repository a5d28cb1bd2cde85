package grype_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/scan"
)

// TestRealScanner runs the real program: SLIPWAY_SCANNER names one that is built already.
func TestRealScanner(t *testing.T) {
	program := os.Getenv("SLIPWAY_SCANNER")
	if program == "" {
		if os.Getenv("SLIPWAY_E2E") == "" {
			t.Skip("needs slipway-scanner, which takes minutes to build: SLIPWAY_E2E=1")
		}
		bins, err := slipwaytest.Build(t.Context(), t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		program = bins.Scanner
	}
	r := real{program: program, image: debian(t)}
	t.Run("update from a mirror", r.mirror)
	t.Run("update from a folder", r.folder)
	t.Run("memory", r.memory)
	t.Run("killed while it scans", r.killed)
	t.Run("several at once", r.several)
	t.Run("bad databases", r.badDatabases)
}

// real is the program with an image to scan.
type real struct{ program, image string }

func (r real) scanner(t *testing.T, opts grype.Options) *grype.Grype {
	t.Helper()
	opts.Program, opts.Temp = r.program, filepath.Join(t.TempDir(), "scans")
	if opts.Database == "" {
		opts.Database = filepath.Join(t.TempDir(), "db")
	}
	g, err := grype.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() }) //nolint:errcheck // the folder goes with the test
	return g
}

// archive builds a database that knows a version of openssl to be vulnerable.
func (r real) archive(t *testing.T, dir, id string) string {
	t.Helper()
	return r.archiveOf(t, dir, id, time.Now())
}

// archiveOf is that of a database that was built at a time.
func (r real) archiveOf(t *testing.T, dir, id string, built time.Time) string {
	t.Helper()
	out := filepath.Join(dir, "db-"+id+".tar.zst")
	advisory := fmt.Sprintf(`{"id":%q,"severity":"critical","package":"openssl","ecosystem":"deb","distro":"debian 12 bookworm","affected":"< 3.0.11-1","fixed":"3.0.11-1"}`, id)
	if err := slipwaytest.VulnerabilityDatabase(t.Context(), r.program, out, built, advisory); err != nil {
		t.Fatal(err)
	}
	return out
}

func listing(t *testing.T, dir, archive string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sha256sum", archive).Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"schemaVersion": "v6.1.9", "path": filepath.Base(archive), "checksum": "sha256:" + string(out[:64])})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "latest.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r real) found(t *testing.T, g *grype.Grype) []string {
	t.Helper()
	rep, err := g.Image(t.Context(), scan.Request{Layout: r.image, Name: "registry.test/shop/web"})
	if err != nil || len(rep.Scan.Problems) > 0 {
		t.Fatalf("%v %q", err, rep.Scan.Problems)
	}
	var ids []string
	for _, f := range rep.Scan.Findings {
		ids = append(ids, f.ID)
	}
	return ids
}

// mirror is brought up to date, answers half an archive, lies about it, and goes away.
func (r real) mirror(t *testing.T) {
	dir := t.TempDir()
	half := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if half && strings.HasSuffix(req.URL.Path, ".zst") {
			data, _ := os.ReadFile(filepath.Join(dir, filepath.Base(req.URL.Path)))
			w.Write(data[:len(data)/2]) //nolint:errcheck // half of it
			return
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(w, req)
	}))
	defer server.Close()
	g := r.scanner(t, grype.Options{})
	update := func(want bool) error {
		t.Helper()
		changed, err := g.Update(t.Context(), server.URL)
		if changed != want {
			t.Errorf("changed: %t, want %t (%v)", changed, want, err)
		}
		return err
	}
	if err := update(false); slipway.ErrorCode(err) != slipway.Unavailable {
		t.Error(err)
	}
	listing(t, dir, r.archive(t, dir, "CVE-1"))
	if err := update(true); err != nil {
		t.Fatal(err)
	}
	if ids := r.found(t, g); len(ids) != 1 || ids[0] != "CVE-1" {
		t.Errorf("%q", ids)
	}
	if err := update(false); err != nil {
		t.Error(err)
	}
	before := g.Database()
	listing(t, dir, r.archive(t, dir, "CVE-2"))
	half = true
	if err := update(false); slipway.ErrorCode(err) != slipway.Unavailable || !strings.Contains(err.Error(), "it did not come in full, or was altered") {
		t.Error(err)
	}
	if after := g.Database(); after != before {
		t.Errorf("%+v, was %+v", after, before)
	}
	half = false
	if err := update(true); err != nil {
		t.Error(err)
	}
	old := t.TempDir()
	listing(t, old, r.archiveOf(t, old, "CVE-0", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)))
	if changed, err := g.Update(t.Context(), old); changed || slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "it was built on 2020-01-01 00:00:00, before the one that is there") {
		t.Errorf("an older database: %t %v", changed, err)
	}
	if ids := r.found(t, g); len(ids) != 1 || ids[0] != "CVE-2" { // the process that waited takes the new one
		t.Errorf("%q", ids)
	}
}

func (r real) folder(t *testing.T) {
	dir := t.TempDir()
	archive := r.archive(t, dir, "CVE-1")
	g := r.scanner(t, grype.Options{})
	for _, step := range []struct {
		from string
		want bool
	}{{archive, true}, {archive, false}, {dir, false}} {
		listing(t, dir, archive)
		if changed, err := g.Update(t.Context(), step.from); err != nil || changed != step.want {
			t.Errorf("%s: %t %v", step.from, changed, err)
		}
	}
}

func (r real) memory(t *testing.T) {
	g := r.scanner(t, grype.Options{Memory: 48 << 20})
	rep, err := g.Image(t.Context(), scan.Request{Layout: r.image, Name: "web"})
	if err != nil || len(rep.Scan.Problems) != 1 || !strings.Contains(rep.Scan.Problems[0], "it may have at most 48 MiB of memory") {
		t.Errorf("%v %q", err, rep.Scan.Problems)
	}
}

// killed: a person or the kernel kills the process in the middle; the image is scanned by another.
func (r real) killed(t *testing.T) {
	g := r.scanner(t, grype.Options{})
	var once sync.Once
	rep, err := g.Image(t.Context(), scan.Request{Layout: r.image, Name: "web", Progress: func(string) {
		once.Do(func() {
			for _, pid := range children(t, r.program) {
				if p, err := os.FindProcess(pid); err == nil {
					p.Kill() //nolint:errcheck // it has ended, then
				}
			}
		})
	}})
	if err != nil || len(rep.Scan.Problems) != 0 || rep.Scan.Packages != 1 {
		t.Errorf("%v %+v", err, rep.Scan)
	}
}

// children are this process's own children that run a program.
func children(t *testing.T, program string) (pids []int) {
	t.Helper()
	want, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		var pid, parent int
		var state string
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent != os.Getpid() {
			continue
		}
		if exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe")); exe == want {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r real) several(t *testing.T) {
	g := r.scanner(t, grype.Options{})
	if _, err := g.Import(t.Context(), r.archive(t, t.TempDir(), "CVE-1"), "", ""); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			rep, err := g.Image(context.WithoutCancel(t.Context()), scan.Request{Layout: r.image, Name: "web"})
			if err != nil || len(rep.Scan.Findings) != 1 || !bytes.Contains(rep.SBOM, []byte("openssl")) {
				t.Errorf("%v %+v", err, rep.Scan)
			}
		})
	}
	all.Wait()
}

func (r real) badDatabases(t *testing.T) {
	g := r.scanner(t, grype.Options{})
	dir := t.TempDir()
	good := r.archive(t, dir, "CVE-1")
	bad := filepath.Join(dir, "bad.tar.zst")
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"half":       func() error { _, err := g.Import(t.Context(), bad, "", ""); return err },
		"missing":    func() error { _, err := g.Import(t.Context(), filepath.Join(dir, "none"), "", ""); return err },
		"checksum":   func() error { _, err := g.Import(t.Context(), good, "sha256:"+strings.Repeat("0", 64), ""); return err },
		"no digest":  func() error { _, err := g.Import(t.Context(), good, "md5:1", ""); return err },
		"plain http": func() error { _, err := g.Update(t.Context(), "http://mirror.test/v6"); return err },
	} {
		if err := do(); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if db := g.Database(); db.Missing == "" {
		t.Errorf("%+v", db)
	}
}

// debian is a layout of a small image with one package.
func debian(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{
		"etc/os-release":      "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
		"var/lib/dpkg/status": "Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.10-1\nMaintainer: x\nDescription: x\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	var img v1.Image
	if img, err = mutate.AppendLayers(empty.Image, layer); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}
