package grype

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/scan"
)

// TestMain is also the scanners that behave as the tests need: the name of the program says how.
func TestMain(m *testing.M) {
	if behave, ok := scanners()[filepath.Base(os.Args[0])]; ok {
		pretend(behave)
		return
	}
	goleak.VerifyTestMain(m)
}

// scanner answers one request: the n-th of its process.
type fakeScanner func(req request, n int)

func say(a any) {
	b, _ := json.Marshal(a)
	os.Stdout.Write(append(b, '\n')) //nolint:errcheck // a test reads it
}

func pretend(behave fakeScanner) {
	switch os.Args[1] {
	case "version":
		if filepath.Base(os.Args[0]) == "mute" {
			forever()
		}
		fmt.Println("fake 1")
	case "db":
		fmt.Fprintln(os.Stderr, "import: it is not whole")
		os.Exit(1)
	case "serve":
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for n := 1; lines.Scan(); n++ {
			var req request
			if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
				os.Exit(3)
			}
			behave(req, n)
		}
	}
}

func documents(req request) {
	os.WriteFile(filepath.Join(req.Output, "sbom.spdx.json"), []byte(`{"spdxVersion":"SPDX-2.3"}`), 0o600) //nolint:errcheck // missed by the test
}

func scanners() map[string]fakeScanner {
	good := func(req request, n int) {
		if req.Output != "" {
			documents(req)
		}
		say(answer{Progress: "listing packages"})
		say(answer{Digest: "sha256:x", Packages: n, Distro: "debian 12", Findings: []slipway.Finding{
			{Kind: slipway.FindingVulnerability, ID: "CVE-1", Severity: slipway.SeverityCritical, Link: "https://example.com/"},
			{Kind: "odd", ID: "CVE-2", Severity: "terrible", Link: "javascript:alert(1)"},
		}, Database: database{Checksum: "sha256:db"}})
	}
	return map[string]fakeScanner{
		"good":    good,
		"refuses": func(request, int) { say(answer{Refused: "it has too many layers"}) },
		"broken":  func(request, int) { say(answer{Error: "no space left on device"}) },
		"crashes": func(request, int) { fmt.Fprintln(os.Stderr, "panic: index out of range"); os.Exit(2) },
		"hangs":   func(request, int) { forever() },
		"mute":    good,
		"killed":  func(request, int) { syscall.Kill(os.Getpid(), syscall.SIGKILL) }, //nolint:errcheck // that is all
		"floods": func(request, int) {
			line := `{"progress":"` + strings.Repeat("x", 1<<20) + `"}` + "\n"
			for {
				if _, err := os.Stdout.WriteString(line); err != nil {
					return
				}
			}
		},
		"garbage": func(request, int) { fmt.Println("Segmentation fault"); os.Exit(0) },
		"unpacks": func(request, int) {
			f, err := os.Create(filepath.Join(os.Getenv("TMPDIR"), "layer"))
			if err != nil {
				os.Exit(4)
			}
			f.Truncate(1 << 30) //nolint:errcheck // the test then fails
			forever()
		},
		"second": func(req request, n int) {
			if n == 2 {
				os.Exit(2)
			}
			good(req, n)
		},
		"environment": func(req request, _ int) {
			documents(req)
			env := os.Environ()
			slices.Sort(env)
			var names []string
			for _, e := range env {
				name, _, _ := strings.Cut(e, "=")
				names = append(names, name)
			}
			say(answer{Problems: append(names, "pid "+strconv.Itoa(os.Getpid()))})
		},
	}
}

// program is a scanner that behaves like that.
func program(t *testing.T, behaviour string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), behaviour)
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	return name
}

func newScanner(t *testing.T, behaviour string, opts Options) *Grype {
	t.Helper()
	if behaviour != "" {
		opts.Program = program(t, behaviour)
	}
	opts.Temp = filepath.Join(t.TempDir(), "scans")
	g, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

var web = scan.Request{Layout: "/layout", Name: "registry.test/shop/web", Digest: "sha256:x"}

func TestImage(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "good", Options{})
	var lines []string
	req := web
	req.Progress = func(line string) { lines = append(lines, line) }
	rep, err := g.Image(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Scan.Scanner != "fake 1" || rep.Scan.Packages != 1 || rep.Scan.Distro != "debian 12" || string(rep.SBOM) != `{"spdxVersion":"SPDX-2.3"}` || !slices.Equal(lines, []string{"listing packages"}) {
		t.Errorf("%+v %s %q", rep.Scan, rep.SBOM, lines)
	}
	odd := rep.Scan.Findings[1]
	if odd.Severity != slipway.SeverityUnknown || odd.Kind != slipway.FindingVulnerability || odd.Link != "" {
		t.Errorf("what the scanner may not say: %+v", odd)
	}
	// The process waits for the next image.
	if rep, err = g.Image(t.Context(), web); err != nil || rep.Scan.Packages != 2 {
		t.Errorf("%v, %d requests were answered by the process, want 2", err, rep.Scan.Packages)
	}
}

func TestTroubleIsAProblemOfTheScan(t *testing.T) {
	t.Parallel()
	for behaviour, want := range map[string]string{
		"refuses": "it has too many layers",
		"crashes": "the scanner ended without an answer (exit status 2: panic: index out of range); it may have at most 3072 MiB of memory",
		"hangs":   "it took longer than 300ms",
		"killed":  "the scanner ended without an answer (signal: killed); it may have at most 3072 MiB of memory",
		"floods":  "the scanner's answer is larger than 128 MiB",
		"garbage": "the scanner ended without an answer",
		"unpacks": "it unpacks to more than 1 MiB",
		"":        "the program slipway-scanner is not installed: put it beside slipway, or name it with --scanner",
	} {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			opts := Options{Disk: 1 << 20}
			if behaviour == "hangs" {
				opts.Time = 300 * time.Millisecond
			}
			rep, err := newScanner(t, behaviour, opts).Image(t.Context(), web)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Scan.Refused != (behaviour != "") || len(rep.Scan.Problems) != 1 || !strings.HasPrefix(rep.Scan.Problems[0], "image registry.test/shop/web@sha256:x was not scanned: "+want) {
				t.Errorf("%q", rep.Scan.Problems)
			}
		})
	}
}

func TestTroubleOfTheScannerIsAnError(t *testing.T) {
	t.Parallel()
	_, err := newScanner(t, "broken", Options{}).Image(t.Context(), web)
	if slipway.ErrorCode(err) != slipway.Unavailable || err.Error() != "the scanner: no space left on device" {
		t.Error(err)
	}
	g := newScanner(t, "good", Options{})
	g.opts.Program = filepath.Join(t.TempDir(), "gone")
	if _, err := g.Image(t.Context(), web); slipway.ErrorCode(err) != slipway.Unavailable {
		t.Error(err)
	}
}

func TestDeathOfAUsedProcessIsNotHeldAgainstTheImage(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "second", Options{})
	for range 4 {
		rep, err := g.Image(t.Context(), web)
		if err != nil || rep.Scan.Packages != 1 {
			t.Errorf("%v %+v", err, rep.Scan)
		}
	}
}

func TestEnvironmentIsEmpty(t *testing.T) {
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	rep, err := newScanner(t, "environment", Options{}).Image(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"GOGC", "GOMEMLIMIT", "GOTRACEBACK", "HOME", "LANG", "TMPDIR"}
	got := slices.DeleteFunc(rep.Scan.Problems, func(s string) bool { return s == "PWD" || strings.HasPrefix(s, "pid ") })
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCancelEndsTheProcess(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "hangs", Options{})
	if _, err := g.State(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(slipway.ErrSuperseded) })
	if _, err := g.Image(ctx, web); !errors.Is(err, slipway.ErrSuperseded) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(g.opts.Temp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnIdleProcessIsEnded(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "environment", Options{Spare: time.Millisecond})
	rep, err := g.Image(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimPrefix(rep.Scan.Problems[len(rep.Scan.Problems)-1], "pid "))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the process still runs")
		}
	}
}

func TestManyScansAtOnce(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "good", Options{Processes: 3})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if rep, err := g.Image(t.Context(), web); err != nil || len(rep.Scan.Findings) != 2 {
				t.Errorf("%v %+v", err, rep.Scan)
			}
		})
	}
	all.Wait()
}

func TestState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := newScanner(t, "good", Options{Database: dir})
	state, err := g.State(t.Context())
	if err != nil || state.Scanner != "fake 1" || !strings.HasPrefix(state.Database.Missing, "no vulnerability database was imported") {
		t.Errorf("%+v %v", state, err)
	}
	current := filepath.Join(dir, "current")
	if err := os.Mkdir(current, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(current, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("about.json", `{"built":"2026-11-20T00:00:00Z","checksum":"sha256:1","source":"https://mirror.test","size":4}`)
	write("vulnerability.db", "data")
	if got := g.Database(); got.Missing != "" || got.Checksum != "sha256:1" || got.Source != "https://mirror.test" || got.Built.Day() != 20 {
		t.Errorf("%+v", got)
	}
	write("vulnerability.db", "da")
	if got := g.Database(); got.Missing != "the vulnerability database cannot be read: it has 2 bytes and not 4, as it had when it was imported; import it again" {
		t.Errorf("%+v", got)
	}
}

// Who waits for somebody else's question after the version stops waiting when nobody waits for them.
func TestStateOfASilentProgram(t *testing.T) {
	t.Parallel()
	g := newScanner(t, "mute", Options{})
	ctx, hangUp := context.WithCancelCause(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := g.State(ctx)
		first <- err
	}()
	for len(g.asking) == 0 {
		runtime.Gosched()
	}
	impatient, leave := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	leave(gone)
	if _, err := g.State(impatient); !errors.Is(err, gone) {
		t.Errorf("the second: %v", err)
	}
	select {
	case err := <-first:
		t.Errorf("the first ended before the second: %v", err)
	default:
	}
	hangUp(gone)
	if err := <-first; !errors.Is(err, gone) {
		t.Errorf("the first: %v", err)
	}
}

// forever waits for a signal that does not come. An empty select would end the process where cgo is not there.
func forever() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2)
	<-c
}
