package promote_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/promote"
)

// What Extend does is in the cases of stage/plan/testdata; here is promotion by hand.

func input() promote.Input {
	minutes := slipway.Duration(5 * time.Minute)
	return promote.Input{
		Project: slipway.Project{Name: "shop"},
		Run:     slipway.Run{ID: 9, Event: slipway.ReleasePush},
		Config: slipway.Config{
			Candidates: slipway.Registry{Host: "registry.test"},
			Production: slipway.Registry{Host: "registry.test", Prefix: "prod"},
			Environments: []slipway.Environment{
				{Name: "qa", Trigger: slipway.OnRelease, Cluster: "default", Namespace: "shop-qa", Timeout: minutes},
				{Name: "production", Trigger: slipway.OnRelease, Cluster: "default", Namespace: "shop-production", Timeout: minutes,
					Production: true, Approvals: slipway.Approvals{Required: 1}},
			},
			Limits: slipway.Limits{Retries: 3},
		},
	}
}

func candidate(version string) promote.Candidate {
	return promote.Candidate{Service: slipway.Service{Name: "delivery"}, Version: version, Tag: version,
		ChartVersion: strings.TrimPrefix(version, "v"), Commit: "1a2b3c4d5e6f"}
}

func keys(p slipway.Plan) []string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, s.Key+" <- "+strings.Join(s.Needs, ","))
	}
	return out
}

func TestPlanByHand(t *testing.T) {
	t.Parallel()
	in := input()
	p, err := promote.Plan(in, []promote.Candidate{candidate("v1.0.2")}, in.Config.Environments[1:])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"gate/delivery@production <- ",
		"approve/delivery@production <- gate/delivery@production",
		"retag/delivery@production <- approve/delivery@production",
		"deploy/delivery@production <- retag/delivery@production",
		"verify/delivery@production <- deploy/delivery@production",
	}
	if got := keys(p); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if len(p.Decisions) != 1 || p.Decisions[0].Reason != "runs: promotion of v1.0.2 to production" {
		t.Errorf("decisions: %+v", p.Decisions)
	}
	if got := p.Steps[3].Deploy.Mode; got != slipway.RollbackAutomatic {
		t.Errorf("a service that says nothing of rollbacks has the mode %q", got)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	in := input()
	in.Current = []slipway.Deployment{{Target: slipway.Target{Service: "delivery", Environment: "qa"}, Version: "1.2.0"}}
	in.Quarantined = slipway.Quarantines{"delivery/1.3.0": "verification failed"}
	long := candidate("v1.0.0")
	long.Service.Name = strings.Repeat("x", 54)
	for _, c := range []struct {
		name      string
		candidate promote.Candidate
		code      slipway.Code
		want      string
	}{
		{"older", candidate("v1.1.9"), slipway.Conflict, "delivery v1.1.9 is not deployed to qa: the newer 1.2.0 runs there, and only a rollback goes back (slipway rollback delivery --env qa --to v1.1.9)"},
		{"quarantined", candidate("v1.3.0"), slipway.Conflict, "delivery v1.3.0 is not deployed to qa: v1.3.0 is in quarantine (verification failed); lift that first"},
		{"release name", long, slipway.Invalid, "at most 53 characters"},
	} {
		_, err := promote.Plan(in, []promote.Candidate{c.candidate}, in.Config.Environments)
		if slipway.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s: %s", c.name, err, c.code, c.want)
		}
	}
	for _, version := range []string{"v1.2.0", "v1.2.1", "2.0.0"} {
		if _, err := promote.Plan(in, []promote.Candidate{candidate(version)}, in.Config.Environments); err != nil {
			t.Errorf("%s is not older: %v", version, err)
		}
	}
}

// Extend leaves the plan it is given as it was.
func TestExtendCopies(t *testing.T) {
	t.Parallel()
	in := input()
	in.Config.Services = []slipway.Service{{Name: "delivery"}}
	in.Quarantined = slipway.Quarantines{"delivery/1.3.0": "bad"}
	p := slipway.Plan{
		Decisions: []slipway.Decision{{Service: "delivery", Runs: true, Reason: "runs"}},
		Steps:     []slipway.PlanStep{{Key: "publish/delivery", Service: "delivery", Publish: &slipway.PublishSpec{Tag: "v1.3.0"}}},
	}
	out, err := promote.Extend(p, in)
	if err != nil {
		t.Fatal(err)
	}
	if p.Decisions[0].Reason != "runs" || len(p.Steps) != 1 {
		t.Errorf("the plan was changed: %+v", p)
	}
	if !strings.HasPrefix(out.Decisions[0].Reason, "runs; not deployed to qa: v1.3.0 is in quarantine") || len(out.Steps) != 1 {
		t.Errorf("extended: %+v", out)
	}
}
