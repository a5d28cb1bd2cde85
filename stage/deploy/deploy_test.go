package deploy

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func (b *bench) run(t *testing.T) slipway.Result {
	t.Helper()
	res, err := b.runner.Run(t.Context(), b.env, b.step)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestFirstInstall(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	res := b.run(t)
	if res.Outcome != slipway.Succeeded || !strings.Contains(res.Reason, "revision 1 of Helm release delivery in drone-production") {
		t.Errorf("%s: %s", res.Outcome, res.Reason)
	}
	want := []string{"journal", "save deploying revision 1", "apply"}
	if !slices.Equal(b.events, want) {
		t.Errorf("happened %q, want %q: intent and deployment are recorded before the act", b.events, want)
	}
	d := res.Deployments[0]
	if d.State != slipway.Deployed || d.Revision != 1 || d.ID != 99 || d.RunID != 42 || d.Step != b.step.Key ||
		d.ImageDigest != imageDigest || d.ChartDigest != chartDigest || d.ValuesDigest != valDigest || d.ChartVersion != "1.0.2" ||
		d.Image != "registry.slipway.local/prod/drone/delivery" || d.Tag != "v1.0.2" {
		t.Errorf("deployment %+v", d)
	}
	if got := b.cluster.pull; got != (PullSecret{Name: "slipway-registry", Registry: "registry.slipway.local", User: "robot-drone-production", Secret: "token"}) {
		t.Errorf("pull secret %+v", got)
	}
	req := b.helm.applied[0]
	wantValues := map[string]any{"reason": "v1.0.2: fix the fleet", "image": map[string]any{
		"registry": "registry.slipway.local", "repository": "prod/drone/delivery", "tag": "v1.0.2", "digest": imageDigest}}
	if !reflect.DeepEqual(req.Literals, wantValues) {
		t.Errorf("literals %v", req.Literals)
	}
	if want := []string{"registry.slipway.local", "candidates.slipway.local"}; !slices.Equal(req.Pin.Hosts, want) {
		t.Errorf("pin hosts %v, want %v", req.Pin.Hosts, want)
	}
	if want := []string{"prod/drone/delivery", "drone/delivery"}; !slices.Equal(req.Pin.Paths, want) {
		t.Errorf("pin paths %v, want %v", req.Pin.Paths, want)
	}
}

func TestValuesFilesInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.step.Deploy.Target.Values = []string{"values-eu.yaml", "values-production.yaml"}
	b.run(t)
	want := []ValuesFile{{Name: "values-production.yaml", Optional: true}, {Name: "values-eu.yaml"}}
	if got := b.helm.applied[0].ValuesFiles; !slices.Equal(got, want) {
		t.Errorf("values files %v, want %v", got, want)
	}
}

// TestAfterCrash runs the step on the worlds that a kill leaves behind: exactly one deployed revision
// of the intent comes out, and nothing pending.
func TestAfterCrash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		world    func(b *bench)
		revision int
		applied  int
	}{
		{"before anything", func(*bench) {}, 1, 1},
		{"during the first install", func(b *bench) { b.helm.begin(StatusPendingInstall, b.marks()) }, 2, 1},
		{"after the first install", func(b *bench) { b.helm.begin(StatusPendingInstall, b.marks()); b.helm.finish() }, 1, 0},
		{"during an upgrade", func(b *bench) {
			b.helm.begin(StatusPendingInstall, Marks{Intent: "before"})
			b.helm.finish()
			b.helm.begin(StatusPendingUpgrade, b.marks())
		}, 3, 1},
		{"between superseding the old and deploying the new", func(b *bench) {
			b.helm.begin(StatusSuperseded, Marks{Intent: "before"})
			b.helm.begin(StatusPendingUpgrade, b.marks())
		}, 3, 1},
		{"after an upgrade", func(b *bench) {
			b.helm.begin(StatusSuperseded, Marks{Intent: "before"})
			b.helm.begin(StatusDeployed, b.marks())
		}, 2, 0},
		{"after an upgrade that left the old one deployed", func(b *bench) {
			b.helm.begin(StatusDeployed, Marks{Intent: "before"})
			b.helm.begin(StatusDeployed, b.marks())
		}, 2, 0},
		{"another run's upgrade was killed and never went on", func(b *bench) {
			b.helm.begin(StatusDeployed, Marks{Intent: "before"})
			b.helm.begin(StatusPendingUpgrade, Marks{Intent: "other", Run: "41"})
		}, 3, 1},
		{"twice during an upgrade", func(b *bench) {
			b.helm.begin(StatusFailed, b.marks())
			b.helm.begin(StatusPendingUpgrade, b.marks())
		}, 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c.world(b)
			res := b.run(t)
			if res.Outcome != slipway.Succeeded || res.Deployments[0].Revision != c.revision || len(b.helm.applied) != c.applied {
				t.Errorf("%s revision %d after %d applies, want revision %d after %d: %v", res.Outcome, res.Deployments[0].Revision, len(b.helm.applied), c.revision, c.applied, b.events)
			}
			deployed := 0
			for _, r := range b.helm.history {
				if r.Status.Moving() {
					t.Errorf("revision %d is still %s", r.Number, r.Status)
				}
				if r.Status == StatusDeployed {
					deployed++
				}
			}
			if deployed != 1 {
				t.Errorf("%d deployed revisions: %+v", deployed, b.helm.history)
			}
		})
	}
}

func TestHelmForgetsToFinish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.helm.apply = func(h *fakeHelm, req Request) error {
		h.begin(StatusPendingUpgrade, req.Marks) // the objects are applied, the record could not be written
		if len(h.applied) > 1 {
			h.finish()
		}
		return nil
	}
	if res := b.run(t); res.Outcome != slipway.Succeeded || res.Deployments[0].Revision != 2 {
		t.Errorf("%+v", res)
	}
	b = newBench(t)
	b.helm.apply = func(h *fakeHelm, req Request) error { h.begin(StatusPendingUpgrade, req.Marks); return nil }
	_, err := b.runner.Run(t.Context(), b.env, b.step)
	if slipway.ErrorCode(err) != slipway.Unavailable {
		t.Errorf("a release that never comes to rest: %v", err)
	}
	if last := b.helm.history[0]; last.Status.Moving() {
		t.Errorf("revision %d is left %s", last.Number, last.Status)
	}
}

func TestForeignOperation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.helm.history = []Revision{{Number: 3, Status: StatusPendingUpgrade, Updated: noon}}
	_, err := b.runner.Run(t.Context(), b.env, b.step)
	if !slipway.Temporary(err) || !strings.Contains(err.Error(), "revision 3 is pending-upgrade by another Helm client") {
		t.Errorf("got %v", err)
	}
	if len(b.deployments.saved) != 0 || len(b.helm.applied) != 0 {
		t.Errorf("it acted: %v", b.events)
	}
}

func TestReplacedOutsideSlipway(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.helm.begin(StatusSuperseded, b.marks())
	b.helm.begin(StatusDeployed, Marks{}).Description = "Upgrade complete"
	res := b.run(t)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "slipway retry 42") || len(b.helm.applied) != 0 {
		t.Errorf("first: %+v", res)
	}
	if res = b.run(t); res.Outcome != slipway.Succeeded || res.Deployments[0].Revision != 3 {
		t.Errorf("retried: %+v", res)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	refuse := slipway.Errorf(slipway.Invalid, "Deployment.apps delivery is invalid: spec.selector: field is immutable")
	away := slipway.Errorf(slipway.Unavailable, "cluster local does not answer")
	begun := func(err error) func(*fakeHelm, Request) error {
		return func(h *fakeHelm, req Request) error { h.begin(StatusFailed, req.Marks); return err }
	}
	for _, c := range []struct {
		name    string
		prepare func(b *bench)
		outcome slipway.Outcome // "" when an error is expected
		code    slipway.Code
		state   slipway.DeploymentState
		saved   []string
	}{
		{"refused before a revision", func(b *bench) { b.helm.apply = func(*fakeHelm, Request) error { return refuse } },
			slipway.Failed, "", slipway.DeployFailed, []string{"deploying"}},
		{"refused half way", func(b *bench) { b.helm.apply = begun(refuse) },
			slipway.Failed, "", slipway.Unhealthy, []string{"deploying"}},
		{"cluster away half way", func(b *bench) { b.helm.apply = begun(away) },
			"", slipway.Unavailable, "", []string{"deploying"}},
		{"cluster away at once", func(b *bench) { b.helm.err = away }, "", slipway.Unavailable, "", nil},
		{"namespace may not be made", func(b *bench) { b.cluster.err = slipway.Errorf(slipway.Forbidden, "no") },
			slipway.Failed, "", "", nil},
		{"chart is gone", func(b *bench) { b.runner.Charts = fakeCharts{slipway.Errorf(slipway.NotFound, "no such chart")} },
			"", slipway.NotFound, "", nil},
		{"unknown trouble half way is recorded", func(b *bench) { b.helm.apply = begun(errors.New("boom")) },
			"", slipway.Internal, "", []string{"deploying", "unhealthy"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c.prepare(b)
			res, err := b.runner.Run(t.Context(), b.env, b.step)
			if c.outcome != "" && err != nil || c.outcome == "" && slipway.ErrorCode(err) != c.code {
				t.Fatalf("error %v, want code %q", err, c.code)
			}
			if res.Outcome != c.outcome {
				t.Errorf("outcome %q, want %q", res.Outcome, c.outcome)
			}
			if c.state != "" && (len(res.Deployments) != 1 || res.Deployments[0].State != c.state || res.Deployments[0].Reason == "") {
				t.Errorf("deployments %+v, want one in state %s with a reason", res.Deployments, c.state)
			}
			var saved []string
			for _, d := range b.deployments.saved {
				saved = append(saved, string(d.State))
			}
			if !slices.Equal(saved, c.saved) {
				t.Errorf("saved %v, want %v", saved, c.saved)
			}
		})
	}
}

func TestCancelledMidway(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{slipway.ErrCancelled, slipway.ErrShutdown} {
		b := newBench(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		b.helm.apply = func(h *fakeHelm, req Request) error {
			h.begin(StatusPendingUpgrade, req.Marks)
			cancel(cause)
			return context.Canceled
		}
		_, err := b.runner.Run(ctx, b.env, b.step)
		if !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
		if b.helm.history[0].Status != StatusFailed {
			t.Errorf("%v leaves revision 1 %s", cause, b.helm.history[0].Status)
		}
		wantSaved := 2
		if cause == slipway.ErrShutdown {
			wantSaved = 1 // another process goes on with it
		}
		if len(b.deployments.saved) != wantSaved {
			t.Errorf("%v: saved %+v", cause, b.deployments.saved)
		}
	}
}

func TestApprovalBinds(t *testing.T) {
	t.Parallel()
	good := slipway.Approval{Service: "delivery", Environment: "production", State: slipway.ApprovalApproved,
		ImageDigest: imageDigest, ChartDigest: chartDigest, ValuesDigest: valDigest, BaseRevision: 4}
	for _, c := range []struct {
		name   string
		change func(a *slipway.Approval)
		want   string // in the reason; "" succeeds
	}{
		{"as approved", func(*slipway.Approval) {}, ""},
		{"image", func(a *slipway.Approval) { a.ImageDigest = "sha256:other" }, "the image changed since the approval: approved was sha256:other, now it is " + imageDigest},
		{"chart", func(a *slipway.Approval) { a.ChartDigest = "sha256:other" }, "the chart changed"},
		{"values", func(a *slipway.Approval) { a.ValuesDigest = "sha256:other" }, "the values changed"},
		{"base", func(a *slipway.Approval) { a.BaseRevision = 3 }, "the Helm revision it replaces changed since the approval: approved was 3, now it is 4; approve again: slipway retry 42"},
		{"base was none", func(a *slipway.Approval) { a.BaseRevision = 0 }, "approved was none, now it is 4"},
		{"of another environment", func(a *slipway.Approval) { a.Environment, a.ImageDigest = "qa", "sha256:other" }, ""},
		{"not approved", func(a *slipway.Approval) { a.State, a.ImageDigest = slipway.ApprovalWaiting, "sha256:other" }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.helm.history = []Revision{{Number: 5, Status: StatusFailed, Marks: Marks{Intent: "x"}}, {Number: 4, Status: StatusDeployed, Marks: Marks{Intent: "y"}}}
			a := good
			c.change(&a)
			b.env.Approvals = []slipway.Approval{a}
			res := b.run(t)
			if c.want == "" {
				if res.Outcome != slipway.Succeeded {
					t.Errorf("%s: %s", res.Outcome, res.Reason)
				}
				return
			}
			if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, c.want) {
				t.Errorf("%s: %s; want %q", res.Outcome, res.Reason, c.want)
			}
			if len(b.helm.applied) != 0 || len(b.deployments.saved) != 0 {
				t.Errorf("it acted: %v", b.events)
			}
		})
	}
}

// Helm's own answer is enough where it says that all is done; where it is not, the history is looked at again.
func TestLooksAgainWhereItMust(t *testing.T) {
	t.Parallel()
	silent := func(h *fakeHelm, req Request) error {
		h.begin(StatusPendingUpgrade, req.Marks)
		h.finish()
		return nil
	}
	for _, c := range []struct {
		name   string
		before []Revision
		apply  func(*fakeHelm, Request) error
		looks  int
	}{
		{"install", nil, nil, 1},
		{"upgrade", []Revision{{Number: 1, Status: StatusDeployed}}, nil, 1},
		{"two are deployed", []Revision{{Number: 2, Status: StatusDeployed}, {Number: 1, Status: StatusDeployed}}, nil, 2},
		{"Helm does not say", nil, silent, 2},
	} {
		b := newBench(t)
		b.helm.history, b.helm.apply = c.before, c.apply
		if res := b.run(t); res.Outcome != slipway.Succeeded || b.helm.looks != c.looks || res.Deployments[0].Revision != len(c.before)+1 {
			t.Errorf("%s: %d looks, want %d; %+v", c.name, b.helm.looks, c.looks, res)
		}
	}
}

// TestApprovalAfterCrash: the revision that an approved deployment replaces is the one from before its
// own interrupted attempt; one that was deployed in between is not.
func TestApprovalAfterCrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.env.Approvals = []slipway.Approval{{Service: "delivery", Environment: "production", State: slipway.ApprovalApproved,
		ImageDigest: imageDigest, ChartDigest: chartDigest, ValuesDigest: valDigest, BaseRevision: 4}}
	if err := b.journal.Put(t.Context(), intentKey, Intent{ID: b.marks().Intent, Base: 4, Expected: 5}); err != nil {
		t.Fatal(err)
	}
	b.helm.history = []Revision{{Number: 5, Status: StatusPendingUpgrade, Marks: b.marks()}, {Number: 4, Status: StatusSuperseded}}
	if res := b.run(t); res.Outcome != slipway.Succeeded {
		t.Errorf("%s: %s", res.Outcome, res.Reason)
	}
	b.helm.history = []Revision{{Number: 7, Status: StatusDeployed, Marks: Marks{Intent: "another run"}}}
	if res := b.run(t); res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "approved was 4, now it is 7") {
		t.Errorf("%s: %s", res.Outcome, res.Reason)
	}
}

func TestMissingArtifact(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.env.Artifacts = b.env.Artifacts[:1]
	if _, err := b.runner.Run(t.Context(), b.env, b.step); err == nil || !strings.Contains(err.Error(), "made no chart") {
		t.Errorf("got %v", err)
	}
}
