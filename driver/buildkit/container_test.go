//go:build linux

package buildkit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/test"
)

func (w *world) testRequest(t testing.TB, dockerfile string, files map[string]string) test.Request {
	t.Helper()
	all := map[string]string{"Dockerfile": dockerfile}
	for k, v := range files {
		all[k] = v
	}
	return test.Request{
		Project: "shop", Service: "cart", Dir: tree(t, all), Dockerfile: "Dockerfile", Stage: "testrunner", Epoch: 1_700_000_000,
		Trust: slipway.TrustBranch, Results: "TestResults", Output: t.TempDir(), Limits: test.Limits{Files: 10, Bytes: 1 << 20},
	}
}

func (w *world) runTests(t testing.TB, req test.Request) (test.Result, *testLog) {
	t.Helper()
	log := newLog(t)
	res, err := w.RunTests(w.ctx, req, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.all())
	}
	return res, log
}

func results(t testing.TB, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			body, readErr := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			found, err = append(found, rel+"="+strings.TrimSpace(string(body))), readErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, " ")
}

const runner = "FROM busybox:1.36 AS build\nWORKDIR /src\nCOPY . .\nFROM build AS testrunner\nUSER 1234:1234\nENV GREETING=hello\nENTRYPOINT [\"sh\", \"/src/run.sh\"]\nCMD [\"arg\"]\nFROM busybox:1.36\n"

func TestRunTests(t *testing.T) {
	w := lodging(t)
	t.Run("passes", func(t *testing.T) {
		req := w.testRequest(t, runner, map[string]string{"run.sh": `
echo "$GREETING $1 as $(id -u) in $PWD to $SLIPWAY_TEST_RESULTS"
echo problem >&2
mkdir TestResults/sub && echo one > TestResults/a.xml && echo two > $SLIPWAY_TEST_RESULTS/sub/b.xml
printf 'no newline'`})
		res, log := w.runTests(t, req)
		if res.ExitCode != 0 || res.BuildFailure != nil || res.Results != "/src/TestResults" || len(res.Problems) != 0 || res.Duration <= 0 {
			t.Errorf("%+v", res)
		}
		if got := results(t, req.Output); got != "a.xml=one sub/b.xml=two" {
			t.Errorf("results %s", got)
		}
		for _, want := range []string{"|stdout| hello arg as 1234 in /src to /src/TestResults", "|stderr| problem", "|stdout| no newline"} {
			if !strings.Contains(log.all(), want) {
				t.Errorf("no %q in\n%s", want, log.all())
			}
		}
		begin := time.Now()
		_, log = w.runTests(t, req)
		t.Logf("again, all cached: %s", time.Since(begin))
		if !log.has("hello arg") {
			t.Error("the tests were not run again")
		}
	})
	t.Run("fails, with its results", func(t *testing.T) {
		req := w.testRequest(t, runner, map[string]string{"run.sh": "echo bad > TestResults/a.xml; exit 7"})
		res, _ := w.runTests(t, req)
		if res.ExitCode != 7 || results(t, req.Output) != "a.xml=bad" {
			t.Errorf("%+v %s", res, results(t, req.Output))
		}
	})
	t.Run("does not build", func(t *testing.T) {
		res, _ := w.runTests(t, w.testRequest(t, "FROM busybox:1.36 AS testrunner\nRUN exit 4\nENTRYPOINT [\"true\"]\n", nil))
		if res.BuildFailure == nil || *res.BuildFailure != (test.BuildFailure{File: "Dockerfile", Line: 2, Message: "RUN exit 4 exited with 4"}) {
			t.Errorf("%+v", res.BuildFailure)
		}
	})
	t.Run("has nothing to run", func(t *testing.T) {
		res, _ := w.runTests(t, w.testRequest(t, "FROM scratch AS testrunner\nCOPY . /\n", nil))
		if res.BuildFailure == nil || res.BuildFailure.Message != "it has neither ENTRYPOINT nor CMD to run" {
			t.Errorf("%+v", res.BuildFailure)
		}
	})
	t.Run("has an entrypoint that is not there", func(t *testing.T) {
		log := newLog(t)
		res, err := w.RunTests(w.ctx, w.testRequest(t, "FROM busybox:1.36 AS testrunner\nENTRYPOINT [\"/nothere\"]\n", nil), log)
		if err != nil || (res.ExitCode == 0 && res.BuildFailure == nil) {
			t.Errorf("%+v %v", res, err)
		}
	})
	t.Run("names its own folder", func(t *testing.T) {
		req := w.testRequest(t, runner, map[string]string{"run.sh": "echo x > /out/put/r.xml"})
		req.Results = "/out/put"
		res, log := w.runTests(t, req)
		if res.ExitCode != 0 || results(t, req.Output) != "r.xml=x" {
			t.Errorf("%+v %s\n%s", res, results(t, req.Output), log.all())
		}
	})
	t.Run("hides files behind links and too many files", func(t *testing.T) {
		req := w.testRequest(t, runner, map[string]string{"run.sh": `cd TestResults
ln -s /etc/passwd link.xml; ln -s .. a-link; mkfifo pipe.xml
i=0; while [ $i -lt 30 ]; do echo $i > f$i.txt; i=$((i+1)); done
exit 1`})
		res, _ := w.runTests(t, req)
		got := results(t, req.Output)
		if strings.Contains(got, "root:") || strings.Contains(got, "link") || strings.Count(got, "=") != 10 {
			t.Errorf("results %s", got)
		}
		if all := strings.Join(res.Problems, "; "); !strings.Contains(all, "more than 10 files") {
			t.Errorf("problems %s", all)
		}
		if notes := strings.Join(res.Notes, "; "); notes != "a-link: is a link or a special file, left out" {
			t.Errorf("notes %s", notes)
		}
	})
	t.Run("writes too much", func(t *testing.T) {
		req := w.testRequest(t, runner, map[string]string{"run.sh": "dd if=/dev/zero of=TestResults/big bs=1M count=3; dd if=/dev/zero of=TestResults/film.webm bs=1M count=3; dd if=/dev/zero of=TestResults/small bs=1k count=900"})
		res, _ := w.runTests(t, req)
		info, err := os.Stat(filepath.Join(req.Output, "small"))
		if err != nil || info.Size() != 900<<10 {
			t.Errorf("%v %v", info, err)
		}
		if len(res.Problems) != 1 || !strings.HasPrefix(res.Problems[0], "big: 3.1 MB would exceed the 1.0 MB") {
			t.Errorf("problems %q", res.Problems)
		}
		if len(res.Notes) != 1 || !strings.HasPrefix(res.Notes[0], "film.webm: 3.1 MB would exceed the 1.0 MB") {
			t.Errorf("notes %q", res.Notes)
		}
	})
}

// Tests that print without end do not fill a disk, and run to their end.
func TestRunTestsIsCut(t *testing.T) {
	w := lodging(t)
	req := w.testRequest(t, runner, map[string]string{"run.sh": "head -c 60000000 /dev/zero | tr '\\0' x | fold -w 5000; echo the end; echo ok > TestResults/a.xml"})
	res, log := w.runTests(t, req)
	if res.ExitCode != 0 || results(t, req.Output) != "a.xml=ok" || log.has("the end") {
		t.Errorf("%+v %s", res, results(t, req.Output))
	}
	bytes := 0
	n := log.count(func(l slipway.LogLine) bool {
		bytes += len(l.Text)
		return strings.HasPrefix(l.Text, "the output is cut here")
	})
	if n != 1 || bytes > maxOutput {
		t.Errorf("cut %d times after %d bytes", n, bytes)
	}
}

func TestRunTestsIsCancelled(t *testing.T) {
	w := lodging(t)
	sleeps := nap()
	req := w.testRequest(t, runner, map[string]string{"run.sh": "echo sleeping; sleep " + sleeps})
	ctx, cancel := context.WithCancelCause(w.ctx)
	log := newLog(t)
	done := make(chan error, 1)
	go func() {
		_, err := w.RunTests(ctx, req, log)
		done <- err
	}()
	log.wait(w.ctx, "sleeping")
	if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) > 0 }) {
		t.Fatal("nothing runs")
	}
	begin := time.Now()
	cancel(slipway.ErrTimeout)
	if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) == 0 }) {
		t.Error("the process is still there")
	}
	t.Logf("process gone %s after the cancel", time.Since(begin))
	if err := <-done; !errors.Is(err, slipway.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	t.Logf("RunTests returned %s after the cancel", time.Since(begin))
}
