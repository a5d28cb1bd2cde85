package approve

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

type charts struct{ asked slipway.Repository }

func (c *charts) PullChart(_ context.Context, r slipway.Repository, _ string) ([]byte, error) {
	c.asked = r
	return []byte("chart"), nil
}

type renderer struct {
	p   Preview
	err error
	req Request
}

func (r *renderer) Preview(_ context.Context, req Request) (Preview, error) {
	r.req = req
	return r.p, r.err
}

func setup() (stage.Env, slipway.PlanStep) {
	prod := slipway.Registry{Host: "registry.slipway.local", Address: "http://127.0.0.1:8080", Prefix: "prod"}
	env := stage.Env{Run: slipway.Run{ID: 42, Actor: "ada"}, Artifacts: []slipway.Artifact{
		{Kind: slipway.ArtifactImage, Service: "delivery", Repository: "registry.slipway.local/drone/delivery", Digest: "sha256:i"},
		{Kind: slipway.ArtifactChart, Service: "delivery", Repository: "registry.slipway.local/drone/charts/delivery", Digest: "sha256:c"},
		{Kind: slipway.ArtifactReport, Service: "delivery"},
	}, Steps: []slipway.Step{
		{Spec: slipway.PlanStep{Kind: slipway.KindTest, Service: "delivery"}, State: slipway.StepSucceeded, Reason: "3 passed"},
	}, Deployments: []slipway.Deployment{{Target: slipway.Target{Service: "delivery", Environment: "qa"}, State: slipway.Verified, Revision: 3}}}
	step := slipway.PlanStep{Key: "approve/delivery@production", Approve: &slipway.ApproveSpec{
		Approvals: slipway.Approvals{Required: 2, NotRequester: true},
		Deploy: slipway.DeploySpec{
			Target:  slipway.Target{Project: "drone", Service: "delivery", Environment: "production"},
			Version: "v1.0.2",
			Image:   slipway.Repository{Registry: prod, Name: "prod/drone/delivery"}, Chart: slipway.Repository{Registry: prod, Name: "prod/drone/charts/delivery"},
		},
	}}
	return env, step
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	env, step := setup()
	ch := &charts{}
	re := &renderer{p: Preview{ValuesDigest: "sha256:v", Base: 4, Old: "kind: ConfigMap\nmetadata: {name: a}\ndata: {x: old}\n", New: "kind: ConfigMap\nmetadata: {name: a}\ndata: {x: new}\n", Unstable: true}}
	r := &Runner{Charts: ch, Renderer: re}
	res, err := r.Run(t.Context(), env, step)
	if err != nil {
		t.Fatal(err)
	}
	want := &slipway.Approval{
		Project: "drone", RunID: 42, Step: step.Key, Service: "delivery", Environment: "production", Version: "v1.0.2", State: slipway.ApprovalWaiting,
		Required: 2, NotRequester: true, Requester: "ada", ImageDigest: "sha256:i", ChartDigest: "sha256:c", ValuesDigest: "sha256:v", BaseRevision: 4,
		Diff:  "--- ConfigMap/a\n+++ ConfigMap/a\n@@ -1,5 +1,5 @@\n data:\n-  x: old\n+  x: new\n kind: ConfigMap\n metadata:\n   name: a\n",
		Notes: []string{"the chart renders differently each time (random values or the current time): the diff is one of many", "tests succeeded: 3 passed", "verified in qa as Helm revision 3"},
	}
	if res.Outcome != slipway.Waiting || !strings.Contains(res.Reason, "2 approvals of delivery v1.0.2 to production") || !reflect.DeepEqual(res.Approval, want) {
		t.Errorf("%s %q\ngot  %+v\nwant %+v", res.Outcome, res.Reason, res.Approval, want)
	}
	if ch.asked.Name != "drone/charts/delivery" || ch.asked.Registry.Address != "http://127.0.0.1:8080" {
		t.Errorf("the chart was pulled from %+v", ch.asked)
	}
	if again, err := r.Run(t.Context(), env, step); err != nil || !reflect.DeepEqual(again, res) {
		t.Errorf("a second time: %+v, %v", again, err)
	}
}

func TestChartSource(t *testing.T) {
	t.Parallel()
	_, step := setup()
	spec := *step.Approve
	if got := chartSource(spec, slipway.Artifact{Repository: "other.example.com/drone/charts/delivery"}); got.Registry != (slipway.Registry{Host: "other.example.com"}) || got.Name != "drone/charts/delivery" {
		t.Errorf("other host: %+v", got)
	}
	spec.Chart = slipway.Repository{Registry: slipway.Registry{Host: "h", Address: "http://a"}, Name: "n"}
	if got := chartSource(spec, slipway.Artifact{Repository: "other/x"}); got != spec.Chart {
		t.Errorf("told: %+v", got)
	}
}

func TestChartThatDoesNotRender(t *testing.T) {
	t.Parallel()
	env, step := setup()
	res, err := (&Runner{Charts: &charts{}, Renderer: &renderer{err: slipway.Errorf(slipway.Invalid, "boom")}}).Run(t.Context(), env, step)
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "boom") {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err = (&Runner{Charts: &charts{}, Renderer: &renderer{err: slipway.Errorf(slipway.Unavailable, "away")}}).Run(t.Context(), env, step); !slipway.Temporary(err) {
		t.Errorf("%v", err)
	}
	env.Artifacts = nil
	if _, err = (&Runner{Charts: &charts{}, Renderer: &renderer{}}).Run(t.Context(), env, step); err == nil {
		t.Error("no image, and no error")
	}
}
