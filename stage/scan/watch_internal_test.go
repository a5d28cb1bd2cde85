package scan

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// What cannot be scanned is not tried again every few seconds, and what came into production after the scan of its run is
// looked at within the hour although the database is the same.
func TestWhenProductionIsScannedAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var r rescans
	if !r.wanted("a", now) {
		t.Error("not at the start")
	}
	r.done("a", now, true)
	if r.wanted("a", now.Add(lookEvery)) || !r.wanted("a", now.Add(rescanAgain)) {
		t.Error("after the first failure")
	}
	for range 20 {
		now = now.Add(rescanEvery)
		r.done("a", now, true)
	}
	if r.wanted("a", now.Add(rescanEvery-time.Second)) || !r.wanted("a", now.Add(rescanEvery)) {
		t.Error("after many failures")
	}
	if !r.wanted("b", now) {
		t.Error("another database waits for the pause of the one before")
	}
	r.done("b", now, false)
	if r.wanted("b", now.Add(rescanEvery-time.Second)) || !r.wanted("b", now.Add(rescanEvery)) {
		t.Error("after success")
	}
	r.done("b", now, true)
	if !r.wanted("b", now.Add(rescanAgain)) {
		t.Error("the pause is not forgotten by a success")
	}
}

// mirrored is a database that is brought up to date, or not.
type mirrored struct {
	asked int
	err   error
}

func (*mirrored) Database() slipway.ScanDatabase {
	return slipway.ScanDatabase{Checksum: "a", Missing: "none was brought"}
}

func (m *mirrored) Update(context.Context, string) (bool, error) {
	m.asked++
	return m.err == nil, m.err
}

func (m *mirrored) State(context.Context) (State, error) { return State{Database: m.Database()}, nil }

func (*mirrored) Image(context.Context, Request) (Report, error) { return Report{}, nil }

func (*mirrored) Folder(context.Context, string) (Secrets, error) { return Secrets{}, nil }

// A mirror that could not be reached is asked again soon, one that answered after hours.
func TestWhenAMirrorIsAskedAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	m := &mirrored{err: slipway.Errorf(slipway.Unavailable, "the mirror does not answer")}
	w := &Watch{Rescan: Rescan{Runner: Runner{Scanner: m, Now: func() time.Time { return now }}}, Waits: waits{}, Database: m, Mirror: "https://mirror.test", Log: slog.New(slog.DiscardHandler)}
	for i, step := range []struct {
		after time.Duration
		asked int
	}{{0, 1}, {updateAgain - time.Second, 1}, {time.Second, 2}} {
		now = now.Add(step.after)
		if w.look(t.Context()); m.asked != step.asked {
			t.Errorf("%d: it was asked %d times, want %d", i, m.asked, step.asked)
		}
	}
	m.err = nil
	now = now.Add(updateAgain)
	w.look(t.Context())
	for i, step := range []struct {
		after time.Duration
		asked int
	}{{updateEvery - time.Second, 3}, {time.Second, 4}} {
		now = now.Add(step.after)
		if w.look(t.Context()); m.asked != step.asked {
			t.Errorf("after an answer, %d: it was asked %d times, want %d", i, m.asked, step.asked)
		}
	}
}

// Images of production are looked at where production has them; a configuration that is broken has none.
func TestWhatRunsInProduction(t *testing.T) {
	t.Parallel()
	conf := slipway.Config{Production: slipway.Registry{Host: "registry.test", Prefix: "prod"},
		Environments: []slipway.Environment{{Name: "qa"}, {Name: "production", Production: true}}}
	asked := 0
	w := &Watch{Log: slog.New(slog.DiscardHandler), Policy: func(_ context.Context, project string) (slipway.Config, error) {
		asked++
		if project != "shop" {
			return slipway.Config{}, slipway.Errorf(slipway.Invalid, "slipway.yaml is broken")
		}
		return conf, nil
	}}
	runs := w.inProduction(t.Context())
	for want, d := range map[string]slipway.Deployment{
		"prod/shop/cart": {Target: slipway.Target{Project: "shop", Environment: "production"}, Image: "registry.test/prod/shop/cart"},
		"in qa":          {Target: slipway.Target{Project: "shop", Environment: "qa"}, Image: "registry.test/shop/cart"},
		"in none":        {Target: slipway.Target{Project: "shop", Environment: "gone"}, Image: "registry.test/prod/shop/cart"},
		"broken":         {Target: slipway.Target{Project: "bank", Environment: "production"}, Image: "registry.test/prod/bank/web"},
	} {
		repo, ok := runs(d)
		if ok != (repo.Name == want) || ok && repo.Registry != conf.Production {
			t.Errorf("%s: %+v, %v", want, repo, ok)
		}
	}
	if asked != 2 {
		t.Errorf("the configurations of two projects were read %d times", asked)
	}
}

// waits are the approvals that wait, and the runs that they are of.
type waits struct {
	approvals []slipway.Approval
	runs      map[int64]slipway.RunDetail
}

func (w waits) Approvals(_ context.Context, project string, state slipway.ApprovalState) ([]slipway.Approval, error) {
	if project != "" || state != slipway.ApprovalWaiting {
		return nil, slipway.Errorf(slipway.Internal, "asked for %q of %q", state, project)
	}
	return w.approvals, nil
}

func (w waits) Run(_ context.Context, id int64) (slipway.RunDetail, error) {
	d, ok := w.runs[id]
	if !ok {
		return d, slipway.Errorf(slipway.NotFound, "no run %d", id)
	}
	return d, nil
}

// Images that wait for people are looked at where they wait, each once; those of which another scanner's report speaks are
// left to it.
func TestWhatWaitsForPeople(t *testing.T) {
	t.Parallel()
	const image = "registry.slipway.internal/shop/cart"
	of := func(digest string, scan *slipway.ScanSpec) slipway.RunDetail {
		return slipway.RunDetail{
			Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactChart, Service: "cart", Repository: image, Digest: digest},
				{Kind: slipway.ArtifactImage, Service: "cart", Repository: image, Digest: digest}},
			Steps: []slipway.Step{{Spec: slipway.PlanStep{Kind: slipway.KindScan, Service: "cart", Scan: scan}}},
		}
	}
	asked := func(run int64, digest string) slipway.Approval {
		return slipway.Approval{RunID: run, Project: "shop", Service: "cart", ImageDigest: digest}
	}
	here := slipway.Registry{Host: "registry.slipway.internal", Address: "http://127.0.0.1:1"}
	w := &Watch{Candidates: here, Waits: waits{
		approvals: []slipway.Approval{asked(1, "sha256:1"), asked(1, "sha256:1"), asked(2, "sha256:2"), asked(3, "sha256:other")},
		runs: map[int64]slipway.RunDetail{1: of("sha256:1", &slipway.ScanSpec{}), 2: of("sha256:2", &slipway.ScanSpec{Reports: []string{"trivy.json"}}),
			3: of("sha256:3", nil)},
	}}
	want := []Candidate{{Project: "shop", Repository: slipway.Repository{Registry: here, Name: "shop/cart"}, Digest: "sha256:1"}}
	if list, err := w.awaited(t.Context()); err != nil || !slices.Equal(list, want) {
		t.Errorf("%+v, %v", list, err)
	}
	w.Waits = waits{approvals: []slipway.Approval{asked(9, "sha256:1")}}
	if list, err := w.awaited(t.Context()); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("of a run that is not there: %+v, %v", list, err)
	}
}
