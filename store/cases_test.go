package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func (w *world) history(f slipway.CaseFilter) slipway.CaseHistory {
	w.t.Helper()
	f.Project, f.Service = "shop", "cart"
	h, err := w.CaseHistory(w.ctx, f)
	w.ok(err)
	if len(h) != 1 {
		w.t.Fatalf("%d tests: %+v", len(h), h)
	}
	return h[0]
}

// A test that is named with its class is found although the newest report does not have it.
func TestCaseHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, words := range []string{"a:passed", "a:failed", "a:skipped", "a:failed", "b:passed"} {
		res := testResult(fmt.Sprint(i), words)
		res.Report.Suites[0].Cases[0].Duration = time.Duration(i) * 1500 * time.Microsecond
		r := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
		w.finish(r.ID, "test/cart", res)
	}
	for range maxReports { // so that a name alone is not found any more
		w.tested("refs/heads/main", commitA, "x", "b:passed")
	}
	h := w.history(slipway.CaseFilter{Name: "a", Class: "Cart"})
	var got []string
	for _, c := range h.Results {
		got = append(got, fmt.Sprintf("#%d %s %v", c.RunID, c.State, *c.Duration))
	}
	if want := "#4 failed 5ms, #3 skipped 3ms, #2 failed 2ms, #1 passed 0s"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if h.FailingSince == nil || h.FailingSince.RunID != 2 || h.PassedBefore == nil || h.PassedBefore.RunID != 1 || h.Flaky || h.Why != "" {
		t.Errorf("%+v", h)
	}
	for _, f := range []slipway.CaseFilter{{Name: "a"}, {Name: "a", Class: "Other"}, {Name: "a", Suite: "s"}, {Name: "Cart a"}} {
		f.Project, f.Service = "shop", "cart"
		_, err := w.CaseHistory(w.ctx, f)
		w.code(err, slipway.NotFound)
	}
	if b := w.history(slipway.CaseFilter{Name: "Cart b"}); b.FailingSince != nil || len(b.Results) != 1+maxReports {
		t.Errorf("%+v", b)
	}
}

func TestWhyATestIsFlaky(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		inputs, states string
		want           string
	}{
		"the same inputs": {"1 1", "passed failed", "it both passed and failed on the same inputs, in runs #2 and #1"},
		"back and forth":  {"1 2 3 4 5", "passed failed passed failed passed", "it changed 4 times between passed and failed in the last 5 reports of its branch and the default branch"},
		"mended":          {"1 2 3", "passed failed passed", ""},
		"skipped":         {"1 1", "passed skipped", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			states := strings.Fields(c.states)
			for i, in := range strings.Fields(c.inputs) {
				w.tested("refs/heads/main", commitA, in, "a:"+states[i])
			}
			if h := w.history(slipway.CaseFilter{Name: "a"}); h.Why != c.want || h.Flaky != (c.want != "") {
				t.Errorf("%q, want %q", h.Why, c.want)
			}
		})
	}
	w := newWorld(t)
	res := testResult("1", "a:passed")
	res.Report.Suites[0].Cases[0].Reruns = 1
	r := w.newRun("refs/heads/main", commitA, steps(p("test/cart")))
	w.finish(r.ID, "test/cart", res)
	if h := w.history(slipway.CaseFilter{Name: "a"}); h.Why != "it passed after it had failed in run #1" || !h.Results[0].Reran {
		t.Errorf("%+v", h)
	}
}

func TestBaseTests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.tested("refs/heads/main", commitA, "1", "a:passed", "b:failed")
	second := w.tested("refs/heads/main", commitB, "2", "a:passed")
	base, err := w.BaseTests(w.ctx, second.ID, "test/cart")
	w.ok(err)
	if base == nil || base.RunID != first.ID || base.Failed != 1 {
		t.Errorf("%+v", base)
	}
	for _, c := range []struct {
		run  int64
		step string
	}{{first.ID, "test/cart"}, {second.ID, "test/none"}} {
		if base, err := w.BaseTests(w.ctx, c.run, c.step); err != nil || base != nil {
			t.Errorf("%+v: %+v %v", c, base, err)
		}
	}
	w.code(drop(w.BaseTests(w.ctx, 99, "test/cart")), slipway.NotFound)
}

// A duration is read without the others, and what is broken is an error.
func TestDurationsArePacked(t *testing.T) {
	t.Parallel()
	took := make([]time.Duration, 2*tookBlock+5)
	for i := range took {
		took[i] = time.Duration(i*i) * time.Millisecond
	}
	took[7], took[8] = -time.Second, time.Millisecond/2
	packed, err := packTook(took)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, 7, 8, tookBlock - 1, tookBlock, 2 * tookBlock, len(took) - 1} {
		want := max(0, took[i].Round(time.Millisecond))
		if got, err := unpackTook(packed, i); err != nil || got != want {
			t.Errorf("%d: %v %v, want %v", i, got, err, want)
		}
	}
	for name, bad := range map[string][]byte{"short": packed[:len(packed)/2], "empty": nil, "a length": {0xff, 0xff, 0xff, 0x7f}, "no block": append([]byte{2}, 0xff, 0xff)} {
		if _, err := unpackTook(bad, len(took)-1); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	if _, err := unpackTook(packed, len(took)); err == nil {
		t.Error("what is not there is read")
	}
}
