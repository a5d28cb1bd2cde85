package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// rollbackBench stands after v1.0.2 (revision 3) replaced the verified v1.0.1 (revision 2).
func rollbackBench(t *testing.T) (*bench, *Rollback, slipway.PlanStep) {
	b := newBench(t)
	target := b.step.Deploy.Target
	to := slipway.Deployment{ID: 7, Target: target, Version: "v1.0.1", Revision: 2, State: slipway.Verified,
		Image: "registry.slipway.local/prod/drone/delivery", Tag: "v1.0.1", ImageDigest: "sha256:" + strings.Repeat("a", 64),
		Chart: "registry.slipway.local/prod/drone/charts/delivery", ChartDigest: "sha256:" + strings.Repeat("b", 64), ValuesDigest: valDigest, RunID: 30}
	from := slipway.Deployment{ID: 8, Target: target, Version: "v1.0.2", Revision: 3, State: slipway.Unhealthy, RunID: 42}
	b.helm.history = []Revision{
		{Number: 3, Status: StatusDeployed, Marks: Marks{Intent: "of v1.0.2"}},
		{Number: 2, Status: StatusSuperseded, Marks: Marks{Intent: "of v1.0.1", Image: digestMark(to.ImageDigest), Chart: digestMark(to.ChartDigest), Values: digestMark(valDigest)}},
	}
	step := slipway.PlanStep{Key: "rollback/delivery@production", Kind: slipway.KindRollback, Rollback: &slipway.RollbackSpec{
		Target: target, From: from, To: to, Reason: "verification failed: not ready", Automatic: true}}
	return b, &Rollback{Runner: b.runner, Restore: b.helm}, step
}

func TestRollbackByHelm(t *testing.T) {
	t.Parallel()
	b, r, step := rollbackBench(t)
	res, err := r.Run(t.Context(), b.env, step)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"journal", "save deploying revision 4", "rollback to 2"}; !slices.Equal(b.events, want) {
		t.Errorf("happened %q, want %q", b.events, want)
	}
	if res.Outcome != slipway.Succeeded || res.Quarantine != "delivery/v1.0.2" || !strings.Contains(res.Reason, "verification failed: not ready") || len(res.Deployments) != 2 {
		t.Fatalf("%+v", res)
	}
	from, to := res.Deployments[0], res.Deployments[1]
	if from.ID != 8 || from.State != slipway.RolledBack || to.ID != 99 || to.State != slipway.Deployed || to.Version != "v1.0.1" || to.Revision != 4 || to.RunID != 42 {
		t.Errorf("from %+v\nto %+v", from, to)
	}
	b.events = nil // killed before the result was recorded: run again
	if res, err = r.Run(t.Context(), b.env, step); err != nil || res.Outcome != slipway.Succeeded || !slices.Equal(b.events, []string{"save deploying revision 4"}) || len(b.helm.history) != 3 || res.Deployments[1].ID != 99 {
		t.Errorf("again: %+v, %v; happened %q", res, err, b.events)
	}
}

func TestRollbackByDigests(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *bench){
		"Helm dropped the revision":              func(b *bench) { b.helm.history = b.helm.history[:1] },
		"the revision is not what was recorded":  func(b *bench) { b.helm.history[1].Marks.Image = "other" },
		"the revision failed and was never live": func(b *bench) { b.helm.history[1].Status = StatusFailed },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, r, step := rollbackBench(t)
			change(b)
			res, err := r.Run(t.Context(), b.env, step)
			if err != nil || res.Outcome != slipway.Succeeded || len(b.helm.applied) != 1 {
				t.Fatalf("%+v, %v", res, err)
			}
			req, to := b.helm.applied[0], res.Deployments[1]
			if req.Pin.Digest != step.Rollback.To.ImageDigest || req.Pin.Tag != "v1.0.1" || to.Version != "v1.0.1" || to.ImageDigest != step.Rollback.To.ImageDigest || to.Revision != 4 {
				t.Errorf("request %+v\ndeployment %+v", req.Pin, to)
			}
		})
	}
}

func TestRollbackInterrupted(t *testing.T) {
	t.Parallel()
	b, r, step := rollbackBench(t)
	b.helm.history[0].Status = StatusPendingUpgrade // the bad version was killed while it was deployed
	res, err := r.Run(t.Context(), b.env, step)
	if err != nil || res.Outcome != slipway.Succeeded || b.helm.history[0].Number != 4 || b.helm.history[1].Status != StatusFailed {
		t.Errorf("%+v, %v, %+v", res, err, b.helm.history)
	}
}

func TestRollbackOfFirstInstall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		change  func(b *bench)
		outcome slipway.Outcome
		reason  string
		gone    bool
	}{
		{"is uninstalled", func(*bench) {}, slipway.Succeeded, "was uninstalled", true},
		{"owns storage", func(b *bench) { b.helm.storage = []string{"PersistentVolumeClaim/data"} }, slipway.Failed, "owns storage (PersistentVolumeClaim/data)", false},
		{"was made by hand", func(b *bench) { b.helm.history[0].Marks = Marks{} }, slipway.Failed, "made outside Slipway", false},
		{"was made from a laptop", func(b *bench) { b.helm.history[0].Marks.Run = "0" }, slipway.Failed, "made outside Slipway", false},
		{"is gone already", func(b *bench) { b.helm.history = nil }, slipway.Succeeded, "there is no Helm release", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b, r, step := rollbackBench(t)
			step.Rollback.To = slipway.Deployment{}
			b.helm.history = b.helm.history[:1]
			c.change(b)
			res, err := r.Run(t.Context(), b.env, step)
			if err != nil || res.Outcome != c.outcome || !strings.Contains(res.Reason, c.reason) || (b.helm.uninstal == 1) != c.gone {
				t.Errorf("%+v, %v", res, err)
			}
			if c.outcome == slipway.Succeeded && (res.Quarantine != "delivery/v1.0.2" || res.Deployments[0].State != slipway.RolledBack) {
				t.Errorf("%+v", res)
			}
			if c.outcome == slipway.Failed && res.Quarantine != "" {
				t.Errorf("%+v", res)
			}
		})
	}
}
