package test_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/test"
)

// container writes files into the results folder and answers.
type container struct {
	files map[string]string
	res   test.Result
	err   error
	got   *test.Request
}

func (c *container) RunTests(_ context.Context, req test.Request, _ stage.Log) (test.Result, error) {
	c.got = &req
	for name, body := range c.files {
		p := filepath.Join(req.Output, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return test.Result{}, err
		}
		if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
			return test.Result{}, err
		}
	}
	return c.res, c.err
}

type workspace struct{ dir string }

func (w workspace) Tree(context.Context, string, string) (string, error) { return "/tree", nil }
func (w workspace) Dir(name string) (string, error) {
	dir := filepath.Join(w.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

type log struct{ text strings.Builder }

func (l *log) Line(line slipway.LogLine)         { l.text.WriteString(line.Text + "\n") }
func (l *log) Printf(format string, args ...any) { fmt.Fprintf(&l.text, format+"\n", args...) }

func run(t *testing.T, ctx context.Context, c *container) (slipway.Result, error) {
	t.Helper()
	env := stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}, Log: &log{}, Workspace: workspace{t.TempDir()}, Now: func() time.Time { return time.Unix(1, 0) }}
	return test.Runner{Container: c}.Run(ctx, env, step())
}

func step() slipway.PlanStep {
	return slipway.PlanStep{Key: "test/cart", Service: "cart", Timeout: slipway.Duration(5 * time.Minute), Test: &slipway.TestSpec{
		Source: slipway.Source{Commit: "abc", Dir: "cart"}, Dockerfile: "Dockerfile", Stage: "testrunner", Results: "TestResults", Trust: slipway.TrustBranch,
	}}
}

const (
	green = `<testsuite name="s"><testcase name="TestA"/><testcase name="TestB"><skipped/></testcase></testsuite>`
	red   = `<testsuite name="s"><testcase name="TestA"/><testcase name="TestX"><failure message="no"/></testcase><testcase name="TestY"><error/></testcase></testsuite>`
)

func TestOutcomes(t *testing.T) {
	t.Parallel()
	many := "<testsuite>"
	for i := range 9 {
		many += fmt.Sprintf(`<testcase name="T%d"><failure/></testcase>`, i)
	}
	many += "</testsuite>"
	for _, c := range []struct {
		name    string
		c       container
		outcome slipway.Outcome
		reason  string
	}{
		{"green", container{files: map[string]string{"r.xml": green}}, slipway.Succeeded, "1 passed, 1 skipped"},
		{"no report", container{res: test.Result{Results: "/src/TestResults"}}, slipway.Succeeded, "exit code 0; no result files found in /src/TestResults"},
		{"red", container{files: map[string]string{"r.xml": red}, res: test.Result{ExitCode: 1}}, slipway.Failed, "tests failed: 2 of 3: TestX, TestY"},
		{"red, and killed", container{files: map[string]string{"r.xml": red}, res: test.Result{ExitCode: 137}}, slipway.Failed, "tests failed: 2 of 3: TestX, TestY; exit code 137 is that of a crash"},
		{"red, and exit code 0", container{files: map[string]string{"r.xml": red}}, slipway.Failed, "tests failed: 2 of 3: TestX, TestY"},
		{"many", container{files: map[string]string{"r.xml": many}}, slipway.Failed, "tests failed: 9 of 9: T0, T1, T2, T3, T4, ..."},
		{"exit code only", container{res: test.Result{ExitCode: 2, Results: "/src/TestResults"}}, slipway.Failed, "tests failed: exit code 2, no report found in /src/TestResults"},
		{"exit code against a green report", container{files: map[string]string{"r.xml": green}, res: test.Result{ExitCode: 2}}, slipway.Failed,
			"tests failed: exit code 2, although none of 2 tests is reported as failed"},
		{"build", container{res: test.Result{BuildFailure: &test.BuildFailure{File: "Dockerfile", Line: 4, Message: "RUN go vet exited with 1"}}}, slipway.Failed,
			"build of stage testrunner failed at cart/Dockerfile:4: RUN go vet exited with 1"},
		{"build, somewhere", container{res: test.Result{BuildFailure: &test.BuildFailure{Message: "no such stage"}}}, slipway.Failed, "build of stage testrunner failed: no such stage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := run(t, t.Context(), &c.c)
			if err != nil || got.Outcome != c.outcome || got.Reason != c.reason {
				t.Errorf("got %s %q, %v\nwant %s %q", got.Outcome, got.Reason, err, c.outcome, c.reason)
			}
			if got.Report != nil && got.Report.ExitCode != c.c.res.ExitCode {
				t.Errorf("exit code %d", got.Report.ExitCode)
			}
			if (got.Report != nil) != (c.c.res.BuildFailure == nil) {
				t.Errorf("report %+v", got.Report)
			}
		})
	}
}

func TestErrorsAndTimeout(t *testing.T) {
	t.Parallel()
	trouble := slipway.Errorf(slipway.Unavailable, "no BuildKit")
	if _, err := run(t, t.Context(), &container{err: trouble}); !slipway.Temporary(err) || err.Error() != "test cart: no BuildKit" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrTimeout)
	got, err := run(t, ctx, &container{err: slipway.ErrTimeout})
	if err != nil || got.Outcome != slipway.Failed || got.Reason != "tests timed out after 5m0s" {
		t.Errorf("got %+v, %v", got, err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	cancel(slipway.ErrShutdown)
	if _, err := run(t, ctx, &container{err: slipway.ErrShutdown}); !errors.Is(err, slipway.ErrShutdown) {
		t.Errorf("got %v", err)
	}
}

func TestRecordsResultFiles(t *testing.T) {
	t.Parallel()
	c := &container{files: map[string]string{"sub/r.xml": green, "notes.txt": "x"}, res: test.Result{Duration: 3 * time.Second, Problems: []string{"link.xml: is a link"}, Notes: []string{"film.webm: too large"}}}
	got, err := run(t, t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Artifacts) != 1 {
		t.Fatalf("artifacts %+v", got.Artifacts)
	}
	a := got.Artifacts[0]
	if a.Path != "test-results-cart/sub/r.xml" || a.Kind != slipway.ArtifactReport || a.Size != int64(len(green)) || !strings.HasPrefix(a.Digest, "sha256:") || len(a.Digest) != 71 || a.Commit != "abc" {
		t.Errorf("artifact %+v", a)
	}
	if got.Report.Duration != 3*time.Second || strings.Join(got.Report.Files, " ") != "sub/r.xml" || strings.Join(got.Report.Problems, " ") != "link.xml: is a link" || strings.Join(got.Report.Notes, " ") != "film.webm: too large" {
		t.Errorf("report %+v", got.Report)
	}
	if c.got.Dir != "/tree/cart" || c.got.Limits.Files != 10_000 || c.got.Limits.Bytes != 64<<20 {
		t.Errorf("request %+v", c.got)
	}
}

// What was left out and cannot hold results is in nobody's way; a file may hold them whatever its name is.
func TestWhatMayHoldResults(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{ // a file, a link
		"a.xml": {true, true}, "a.TRX": {true, true}, "go.json": {true, false}, "latest": {true, false}, "cover.out": {true, false},
		"film.webm": {false, false}, "shots/A.PNG": {false, false}, "report/index.html": {false, false}, "trace.zip": {false, false},
	} {
		if got := [2]bool{test.MayHold(name, true), test.MayHold(name, false)}; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What an interrupted attempt left is not read as the result of the next.
func TestEmptiesTheFolder(t *testing.T) {
	t.Parallel()
	ws := workspace{t.TempDir()}
	env := stage.Env{Log: &log{}, Workspace: ws}
	first := &container{files: map[string]string{"old/r.xml": red}}
	if _, err := (test.Runner{Container: first}).Run(t.Context(), env, step()); err != nil {
		t.Fatal(err)
	}
	got, err := test.Runner{Container: &container{files: map[string]string{"r.xml": green}}}.Run(t.Context(), env, step())
	if err != nil || got.Outcome != slipway.Succeeded || got.Report.Failed != 0 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestStaysInTheTree(t *testing.T) {
	t.Parallel()
	s := step()
	s.Test.Source.Dir = "../x"
	env := stage.Env{Log: &log{}, Workspace: workspace{t.TempDir()}}
	c := &container{}
	if _, err := (test.Runner{Container: c}).Run(t.Context(), env, s); slipway.ErrorCode(err) != slipway.Invalid || c.got != nil {
		t.Errorf("got %v", err)
	}
	s = step()
	s.Test.Dockerfile = "/etc/passwd"
	if got, err := (test.Runner{Container: c}).Run(t.Context(), env, s); err != nil || got.Outcome != slipway.Failed || c.got != nil {
		t.Errorf("got %+v %v", got, err)
	}
	if _, err := (test.Runner{Container: c}).Run(t.Context(), env, slipway.PlanStep{}); slipway.ErrorCode(err) != slipway.Internal {
		t.Errorf("got %v", err)
	}
}
