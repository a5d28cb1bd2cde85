package store

import (
	"fmt"
	"testing"

	"github.com/slipway-cd/slipway"
)

// publish records n releases of services a and b in turn, v1.0.0 and on.
func (w *world) publish(n int) {
	w.t.Helper()
	r := w.newRun("refs/heads/main", commitA, steps(p("publish/a")))
	w.ok(w.write(w.ctx, func(t *tx) error {
		run, err := t.loadRun(r.ID)
		if err != nil {
			return err
		}
		st := &stepRow{}
		st.Spec.Key = "publish/a"
		for i := range n {
			v := slipway.Release{Service: string("ab"[i%2]), Version: fmt.Sprintf("v1.0.%d", i), ImageDigest: fmt.Sprintf("sha256:%d", i), ChartDigest: "sha256:c"}
			if err := t.saveRelease(run, st, v); err != nil {
				return err
			}
		}
		return nil
	}))
}

func (w *world) releases(f slipway.ReleaseFilter) []slipway.Release {
	w.t.Helper()
	all, err := w.Releases(w.ctx, f)
	w.ok(err)
	return all
}

func (w *world) released(first, last int64) []slipway.Deployment {
	w.t.Helper()
	all, err := w.Released(w.ctx, "shop", first, last)
	w.ok(err)
	return all
}

// However many releases there are, pages of them are all of them, and what is in quarantine is never left out.
func TestReleasesArePaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(1_203)
	w.ok(w.Quarantine(w.ctx, "shop", "a", "1.0.0", "leaks", "ada"))
	seen := map[string]bool{}
	var sizes []int
	f := slipway.ReleaseFilter{Project: "shop", Limit: 9_999}
	for {
		page := w.releases(f)
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			if f.Before != 0 && r.ID >= f.Before {
				t.Fatalf("release %d comes after %d", r.ID, f.Before)
			}
			seen[r.Version], f.Before = true, r.ID
		}
		sizes = append(sizes, len(page))
	}
	if got := fmt.Sprint(len(seen), sizes); got != "1203 [500 500 203]" {
		t.Errorf("the pages have %s", got)
	}
	for name, c := range map[string]struct {
		f    slipway.ReleaseFilter
		want string
	}{
		"the newest":    {slipway.ReleaseFilter{}, "100 v1.0.1202"},
		"of a service":  {slipway.ReleaseFilter{Service: "b", Limit: 3}, "3 v1.0.1201"},
		"named":         {slipway.ReleaseFilter{Named: "b", Limit: 2}, "2 v1.0.1201"},
		"named %":       {slipway.ReleaseFilter{Named: "%"}, "0 "},
		"one version":   {slipway.ReleaseFilter{Version: "1.0.7"}, "1 v1.0.7"},
		"in quarantine": {slipway.ReleaseFilter{Quarantined: true, Limit: 1}, "1 v1.0.0"},
		"elsewhere":     {slipway.ReleaseFilter{Project: "other"}, "0 "},
	} {
		if c.f.Project == "" {
			c.f.Project = "shop"
		}
		got, first := w.releases(c.f), ""
		if len(got) > 0 {
			first = got[0].Version
		}
		if got := fmt.Sprint(len(got), " ", first); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Where a release was brought is known however much was deployed since.
func TestReleasedWhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(3)
	r := w.newRun("refs/heads/main", commitA, steps(p("deploy/a@qa")))
	n := 0
	deploy := func(environment, version, image string) {
		n++
		w.do(w.SaveDeployment(w.ctx, slipway.Deployment{RunID: r.ID, Step: fmt.Sprint("deploy/a@qa ", n), State: slipway.Deployed, Version: version, ImageDigest: image,
			Target: slipway.Target{Project: "shop", Environment: environment, Service: "a", Cluster: "default", Namespace: "shop-" + environment, Release: "a"}}))
	}
	deploy("qa", "v1.0.0", "sha256:0")
	deploy("production", "v1.0.0", "sha256:0")
	deploy("qa", "main-1a2b3c4", "sha256:0") // the same image under another version
	for range 600 {
		deploy("qa", "v1.0.2", "sha256:2")
	}
	newest := w.released(1, 3)
	got := ""
	for _, d := range newest {
		got += fmt.Sprintf("%s %s %d; ", d.Version, d.Target.Environment, d.ID)
	}
	if want := "v1.0.2 qa 603; v1.0.0 production 2; v1.0.0 qa 1; "; got != want {
		t.Errorf("they are %s, want %s", got, want)
	}
	if some := w.released(2, 2); len(some) != 0 {
		t.Errorf("of release 2: %+v", some)
	}
}

// A trace that leaves something out says so.
func TestTraceSaysThatThereIsMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range traceRuns + 1 {
		tr, err := w.Trace(w.ctx, "shop", w.newRun("refs/heads/main", commitA, steps(p("build/a"))).Commit)
		w.ok(err)
		if more := i == traceRuns; tr.More != more || len(tr.Runs) != min(i+1, traceRuns) {
			t.Errorf("of %d runs it has %d, more: %t", i+1, len(tr.Runs), tr.More)
		}
	}
}
