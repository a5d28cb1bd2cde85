package store

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// tested makes a run of a service whose tests end like this; words are such as "a:failed".
func (w *world) tested(ref, commit, inputs string, words ...string) slipway.Run {
	w.t.Helper()
	r := w.newRun(ref, commit, steps(p("test/cart")))
	w.finish(r.ID, "test/cart", testResult(inputs, words...))
	return r
}

func testResult(inputs string, words ...string) slipway.Result {
	res := slipway.Result{Outcome: slipway.Succeeded, Inputs: inputs, Report: &slipway.TestReport{Suites: []slipway.TestSuite{{Name: "s"}}}}
	for _, word := range words {
		name, state, _ := strings.Cut(word, ":")
		res.Report.Suites[0].Cases = append(res.Report.Suites[0].Cases, slipway.TestCase{Name: name, Class: "Cart", State: slipway.TestState(state)})
		switch slipway.TestState(state) {
		case slipway.TestFailed:
			res.Report.Failed++
			res.Outcome = slipway.Failed
		case slipway.TestSkipped:
			res.Report.Skipped++
		default:
			res.Report.Passed++
		}
	}
	return res
}

func (w *world) marked(run int64) string {
	w.t.Helper()
	v, err := w.RunTests(w.ctx, run)
	w.ok(err)
	var out []string
	for _, c := range v.Steps[0].Report.Suites[0].Cases {
		word := c.Name
		if c.New {
			word += " new"
		}
		if c.Flaky {
			word += " flaky"
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

func TestReportsAreMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	main, branch := "refs/heads/main", "refs/heads/x"
	for _, step := range []struct {
		ref, commit, inputs string
		words               []string
		want                string
	}{
		{main, commitA, "1", []string{"a:passed", "b:failed"}, "b, a"}, // nothing to compare with
		{main, commitB, "2", []string{"a:failed", "b:failed"}, "a new, b"},
		{branch, commitB, "3", []string{"a:failed", "b:passed", "c:failed"}, "c new, a, b"},
		{branch, commitB, "3", []string{"a:failed", "b:passed", "c:failed"}, "c new, a, b"}, // against main still
		{branch, commitB, "3", []string{"a:passed", "b:passed", "c:failed"}, "c new, a flaky, b"},
		{main, commitB, "4", []string{"a:passed", "b:passed"}, "a flaky, b"},
		{main, commitA, "", []string{"b:passed"}, "b"}, // inputs that are not known: the commit
		{main, commitA, "", []string{"b:failed"}, "b new flaky"},
	} {
		r := w.tested(step.ref, step.commit, step.inputs, step.words...)
		if got := w.marked(r.ID); got != step.want {
			t.Errorf("run #%d: got %q, want %q", r.ID, got, step.want)
		}
	}
}

// A retry of red tests is another report of the same inputs; what it is compared with is not the try before.
func TestARetriedReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tested("refs/heads/main", commitA, "1", "a:passed", "b:passed")
	r := w.tested("refs/heads/main", commitB, "2", "a:failed", "b:failed")
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.finish(r.ID, "test/cart", testResult("2", "a:passed", "b:failed"))
	if got := w.marked(r.ID); got != "b new, a flaky" {
		t.Errorf("got %q", got)
	}
	h, err := w.CaseHistory(w.ctx, slipway.CaseFilter{Project: "shop", Service: "cart", Name: "a"})
	w.ok(err)
	var got []string
	for _, c := range h[0].Results {
		got = append(got, fmt.Sprintf("#%d %s", c.RunID, c.State))
	}
	if strings.Join(got, ", ") != "#2 passed, #2 failed, #1 passed" || !h[0].Flaky || len(h) != 1 {
		t.Errorf("got %v", h)
	}
}

// What a fork's pull request says counts there, and nowhere else.
func TestForksSayNothingAboutOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tested("refs/heads/main", commitA, "1", "a:passed")
	fork := slipway.Run{Project: "shop", Event: slipway.PullUpdate, Ref: "refs/pull/3/head", Base: "main", Commit: commitB, Actor: "eve", Pull: 3, Fork: true}
	forked := func(words ...string) slipway.Run {
		r, err := w.CreateRun(w.ctx, fork, steps(p("test/cart")))
		w.ok(err)
		w.finish(r.ID, "test/cart", testResult("1", words...))
		return r
	}
	if got := w.marked(forked("a:failed").ID); got != "a new flaky" {
		t.Errorf("the fork: %q", got)
	}
	if got := w.marked(w.tested("refs/heads/main", commitA, "1", "a:passed").ID); got != "a" {
		t.Errorf("main: %q", got)
	}
	v, err := w.ServiceTests(w.ctx, "shop", "cart", "", 10)
	w.ok(err)
	if len(v.Past) != 2 || v.Latest.RunID != 3 {
		t.Errorf("%+v", v)
	}
	if v, err = w.ServiceTests(w.ctx, "shop", "cart", "refs/pull/3/head", 10); err != nil || len(v.Past) != 1 {
		t.Errorf("%+v %v", v, err)
	}
}

func TestCoverageOfTheBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	covered := func(ref string, n int) slipway.Run {
		r := w.newRun(ref, commitA, steps(p("test/cart")))
		res := testResult("", "a:passed")
		if n >= 0 {
			res.Report.Coverage = &slipway.Coverage{Covered: n, Total: 100, Files: []slipway.FileCoverage{{Path: "a.go", Covered: n, Total: 100}}}
		}
		w.finish(r.ID, "test/cart", res)
		return r
	}
	base := func(r slipway.Run) string {
		c, err := w.BaseCoverage(w.ctx, r, "cart")
		w.ok(err)
		if c == nil {
			return ""
		}
		return fmt.Sprintf("%.0f", c.Percent())
	}
	first := covered("refs/heads/main", 80)
	covered("refs/heads/main", -1) // a report without coverage says nothing
	branch := covered("refs/heads/x", 70)
	pull, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.PullUpdate, Ref: "refs/pull/1/head", Base: "x", Commit: commitB, Actor: "ada", Pull: 1}, steps(p("test/cart")))
	w.ok(err)
	if got := base(branch) + " " + base(pull) + " " + base(first); got != "80 70 " {
		t.Errorf("got %q", got)
	}
	if next := covered("refs/heads/main", 90); base(next) != "80" {
		t.Errorf("main: %s", base(next))
	}
	v, err := w.RunTests(w.ctx, branch.ID)
	w.ok(err)
	if s := v.Steps[0]; s.Base == nil || s.Base.RunID != 2 || len(s.Report.Coverage.Files) != 1 {
		t.Errorf("%+v", v.Steps)
	}
}

func TestReusedReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.tested("refs/heads/x", commitA, "1", "a:passed")
	r := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
	res := testResult("1", "a:passed")
	res.ReusedFrom = first.ID
	w.finish(r.ID, "test/cart", res)
	next := w.tested("refs/heads/main", commitB, "2", "a:failed")
	if got := w.marked(next.ID); got != "a new" { // compared with the reused one, the only one of main
		t.Errorf("got %q", got)
	}
	v, err := w.ServiceTests(w.ctx, "shop", "cart", "", 0)
	w.ok(err)
	if len(v.Past) != 3 || v.Past[1].ReusedFrom != first.ID || v.Past[0].New != 1 {
		t.Errorf("%+v", v.Past)
	}
	w.code(drop(w.ServiceTests(w.ctx, "shop", "mail", "", 0)), slipway.NotFound)
	w.code(drop(w.CaseHistory(w.ctx, slipway.CaseFilter{Project: "shop", Service: "cart", Name: "nothing"})), slipway.NotFound)
	h, err := w.CaseHistory(w.ctx, slipway.CaseFilter{Project: "shop", Service: "cart", Ref: "refs/heads/main", Name: "Cart.a"})
	w.ok(err)
	if len(h) != 1 || len(h[0].Results) != 2 || h[0].Results[0].State != slipway.TestFailed || h[0].Results[1].ReusedFrom != first.ID {
		t.Errorf("%+v", h)
	}
}

func drop[T any](_ T, err error) error { return err }

// Gates see the marks before the step has ended.
func TestAnnotateTests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tested("refs/heads/main", commitA, "1", "a:passed")
	r := w.newRun("refs/heads/main", commitB, steps(p("test/cart")))
	st, res := w.start(r.ID, "test/cart"), testResult("2", "a:failed")
	w.ok(w.AnnotateTests(w.ctx, st.ID, res))
	if res.Report.New != 1 {
		t.Errorf("%+v", res.Report)
	}
	w.ok(w.AnnotateTests(w.ctx, st.ID, slipway.Result{}))
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, res, nil))
	if got := w.marked(r.ID); got != "a new" {
		t.Errorf("got %q", got)
	}
}

// A service keeps so many reports in short; names of tests go with the last report that has them.
func TestOldTestsAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
	st := w.start(r.ID, "test/cart")
	err := w.write(w.ctx, func(tx *tx) error {
		run, row, err := tx.loadStep(st.ID)
		if err != nil {
			return err
		}
		for i := range keptMain + 5 {
			row.Attempt = i + 1
			if err := tx.saveReport(run, row, testResult("", fmt.Sprintf("t%d:passed", i))); err != nil {
				return err
			}
		}
		return nil
	})
	w.ok(err)
	for table, want := range map[string]int64{"test_totals": keptMain, "test_names": keptMain, "reports": 1} {
		n, _, err := one(w.ctx, w.reader, scanInt, `SELECT count(*) FROM `+table)
		w.ok(err)
		if n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
}

func TestAttachmentsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := w.Attachments()
	digest, size, err := files.Keep(1, strings.NewReader("picture"))
	w.ok(err)
	if again, _, err := files.Keep(1, strings.NewReader("picture")); err != nil || again != digest || size != 7 {
		t.Errorf("%s %d, again %s %v", digest, size, again, err)
	}
	res := testResult("1", "a:passed")
	res.Report.Attachments = []slipway.Attachment{{Name: "a.png", Size: 7, Digest: digest, Case: "a"}}
	r := w.newRun("refs/heads/x", commitA, steps(p("test/cart")))
	w.finish(r.ID, "test/cart", res)
	res.ReusedFrom = r.ID
	second := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
	w.finish(second.ID, "test/cart", res)
	for _, id := range []int64{r.ID, second.ID} {
		a, f, err := w.OpenAttachment(w.ctx, id, digest)
		w.ok(err)
		b, err := io.ReadAll(f)
		w.ok(err)
		w.ok(f.Close())
		if string(b) != "picture" || a.Case != "a" {
			t.Errorf("run #%d: %q %+v", id, b, a)
		}
	}
	open := func(id int64, digest string) error {
		_, f, err := w.OpenAttachment(w.ctx, id, digest)
		if err == nil {
			f.Close()
		}
		return err
	}
	w.code(open(r.ID, strings.Replace(digest, digest[7:9], "zz", 1)), slipway.NotFound)
	_, err = files.Open(1, "../../slipway.db")
	w.code(err, slipway.Invalid)
	_, _, err = files.Keep(2, broken{})
	if err == nil {
		t.Error("a file that breaks off was kept")
	}
	w.ok(files.Delete(1))
	w.code(open(r.ID, digest), slipway.NotFound)
}

func TestOldAttachmentsAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok(w.PruneAttachments(w.ctx, w.clock.now())) // no folder yet
	kept := func(r slipway.Run, reusedFrom int64, release bool) slipway.Run {
		_, _, err := w.Attachments().Keep(r.ID, strings.NewReader("x"))
		w.ok(err)
		res := testResult("1", "a:passed")
		res.ReusedFrom = reusedFrom
		if release {
			res.Release = &slipway.Release{Version: "v1.0.0", ImageDigest: "sha256:i", ChartDigest: "sha256:c"}
		}
		w.finish(r.ID, "test/cart", res)
		return r
	}
	run := func() slipway.Run { return w.newRun("refs/heads/x", commitA, steps(p("test/cart"))) }
	old, reused, released := kept(run(), 0, false), kept(run(), 0, false), kept(run(), 0, true)
	cut := w.clock.add(time.Hour)
	fresh := kept(run(), reused.ID, false)
	w.ok(w.PruneAttachments(w.ctx, cut))
	for _, c := range []struct {
		run  slipway.Run
		kept bool
	}{{old, false}, {reused, true}, {released, true}, {fresh, true}} {
		if got := exists(w.Attachments().folder(c.run.ID)); got != c.kept {
			t.Errorf("attachments of run #%d are there: %t", c.run.ID, got)
		}
	}
}

// broken is a file that cannot be read to its end.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, context.DeadlineExceeded }

// largeReport has n tests.
func largeReport(n int) *slipway.TestReport {
	r := &slipway.TestReport{Passed: n}
	for i := 0; i < n; i += 500 {
		s := slipway.TestSuite{Name: fmt.Sprint("com.example.Suite", i)}
		for j := range 500 {
			s.Cases = append(s.Cases, slipway.TestCase{Class: s.Name, Name: fmt.Sprint("does what it says ", j), State: slipway.TestPassed, Duration: time.Millisecond})
		}
		r.Suites = append(r.Suites, s)
	}
	return r
}

// BenchmarkFinishTests ends a step with a report of 50,000 tests, after twenty such reports; tx-ms is how
// long others cannot write.
func BenchmarkFinishTests(b *testing.B) {
	w := newWorld(b)
	finish := func() time.Duration {
		r := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
		st := w.start(r.ID, "test/cart")
		res := slipway.Result{Outcome: slipway.Succeeded, Report: largeReport(50_000), Inputs: fmt.Sprint(r.ID)}
		report, err := w.prepareStep(w.ctx, st.ID, res)
		w.ok(err)
		begun := time.Now()
		w.ok(w.end(w.ctx, st.ID, st.Attempt, nil, func(t *tx, r *runRow, row *stepRow) error {
			row.report = report
			if err := t.record(r, row, res); err != nil {
				return err
			}
			return t.outcome(r, row, res)
		}))
		return time.Since(begun)
	}
	for range 20 {
		finish()
	}
	var sum time.Duration
	for b.Loop() {
		sum += finish()
	}
	b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), "tx-ms")
}

// A run that reuses a report does not make a test flaky: it went back and forth three times, and its report is old.
func TestReusedReportMakesNothingFlaky(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, word := range []string{"a:passed", "a:failed", "a:passed", "a:failed"} {
		w.tested("refs/heads/main", commitA, fmt.Sprint(i), word)
	}
	for _, from := range []int64{1, 0} {
		r := w.newRun("refs/heads/main", commitB, steps(p("test/cart")))
		res := testResult("9", "a:passed")
		res.ReusedFrom = from
		w.finish(r.ID, "test/cart", res)
		if got, want := w.marked(r.ID), map[bool]string{true: "a", false: "a flaky"}[from != 0]; got != want {
			t.Errorf("reused from %d: %q, want %q", from, got, want)
		}
	}
}
