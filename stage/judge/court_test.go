package judge_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/judge"
	"github.com/slipway-cd/slipway/stage/scan"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

// court is a judge over a real store, and a registry in which nothing is signed.
type court struct {
	*store.Store
	t     *testing.T
	ctx   context.Context
	judge *judge.Judge
	log   *courtLog
	now   time.Time
	jobs  *jobs
	yaml  string // slipway.yaml of the default branch
}

// jobs is a queue that nobody works off: it knows the newest job of each step.
type jobs struct {
	mu sync.Mutex
	of map[int64]int
}

func (j *jobs) Enqueue(_ context.Context, _ *sql.Tx, step int64, job int, _ slipway.StepKind, _ time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.of[step] = max(j.of[step], job)
	return nil
}

func (*jobs) Wake(time.Time)      {}
func (*jobs) Cancel(int64, error) {}

// courtLog is a log that is read afterwards.
type courtLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *courtLog) Line(v slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, v.Text)
}

func (l *courtLog) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *courtLog) text() string { return strings.Join(l.lines, "\n") }

// verification is judge.Judge.Verify.
type verification = func(context.Context, judge.Delivered) (slipway.SignatureReport, error)

// unsigned is a registry that has every digest, and nothing that is attached to one.
type unsigned struct{ attest.Registry }

func (unsigned) Intact(context.Context, slipway.Repository, string) error { return nil }

func (unsigned) Referrers(context.Context, slipway.Repository, string) ([]attest.Attachment, error) {
	return nil, nil
}

// away is a registry that does not answer.
type away struct{ unsigned }

func (away) Referrers(context.Context, slipway.Repository, string) ([]attest.Attachment, error) {
	return nil, slipway.Errorf(slipway.Unavailable, "the registry does not answer")
}

func newCourt(t *testing.T) *court {
	t.Helper()
	c := &court{t: t, ctx: t.Context(), log: &courtLog{}, now: time.Now(), jobs: &jobs{of: map[int64]int{}}}
	c.Store = storetest.Open(t, store.Options{Queue: c.jobs})
	_, err := c.CreateProject(c.ctx, slipway.Project{Name: "shop"}, "ada")
	c.ok(err)
	c.judge = &judge.Judge{Policies: c.Store, Findings: c.Store, Earlier: c.Store, Environment: c.environment, Verify: c.verifies(unsigned{}),
		Newer: scan.Newer, Again: chart.Again}
	return c
}

func (c *court) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// verifies is a verification of what is in a registry.
func (c *court) verifies(r attest.Registry) verification {
	v := attest.NewVerifier(r, cosign.Bundles{}, c.Keys, attest.VerifierOptions{})
	return func(ctx context.Context, d judge.Delivered) (slipway.SignatureReport, error) {
		return v.Report(ctx, attest.Subject{Kind: slipway.ArtifactImage, Repository: d.Image, Digest: d.ImageDigest, Attestations: d.Attestations},
			attest.Subject{Kind: slipway.ArtifactChart, Repository: d.Chart, Digest: d.ChartDigest, Attestations: []string{}})
	}
}

// governs puts slipway.yaml on the default branch.
func (c *court) governs(yaml string) { c.yaml = yaml }

// environment is what the default branch says now.
func (c *court) environment(_ context.Context, project, name string) (slipway.Environment, error) {
	conf, problems := config.LoadPolicy(fstest.MapFS{"slipway.yaml": {Data: []byte(c.yaml)}}, config.Options{Project: project})
	if len(problems) > 0 {
		return slipway.Environment{}, slipway.Errorf(slipway.Invalid, "%s", problems[0].Message)
	}
	e, ok := conf.Environment(name)
	if !ok {
		return e, slipway.Errorf(slipway.NotFound, "no environment %s", name)
	}
	return e, nil
}

// lenient gates look at nothing but what a test turns on.
func lenient(change func(g *slipway.Gates)) slipway.Gates {
	off := slipway.LevelOff
	g := slipway.Gates{Tests: off, Secrets: off, Coverage: slipway.CoverageGate{Level: off, MaxDrop: -1}, Database: slipway.DatabaseGate{Missing: off, Old: off},
		Vulnerabilities: slipway.VulnerabilityGate{FailOn: slipway.SeverityNone, WarnOn: slipway.SeverityNone},
		Manifests:       slipway.ManifestGate{Policies: map[string]slipway.Level{"probes": off}}, Signatures: slipway.SignatureGate{Level: off}}
	if change != nil {
		change(&g)
	}
	return g
}

// The digests of cart's version v1.0.0.
var imageDigest, chartDigest = "sha256:" + strings.Repeat("4", 64), "sha256:" + strings.Repeat("5", 64)

// published are the artifacts of a version of cart with that image.
func published(image string) []slipway.Artifact {
	return []slipway.Artifact{
		{Kind: slipway.ArtifactImage, Service: "cart", Repository: "registry.test/shop/cart", Tag: "v1.0.0", Digest: image, Size: 1 << 20},
		{Kind: slipway.ArtifactChart, Service: "cart", Repository: "registry.test/shop/charts/cart", Tag: "v1.0.0", Digest: chartDigest, Size: 1 << 10},
	}
}

// planned is a step of a plan, by its key.
func planned(key string) slipway.PlanStep {
	kind, rest, _ := strings.Cut(key, "/")
	service, env, _ := strings.Cut(rest, "@")
	st := slipway.PlanStep{Key: key, Kind: slipway.StepKind(kind), Service: service, Environment: env, Timeout: slipway.Duration(time.Minute)}
	target := slipway.Target{Project: "shop", Environment: env, Service: service}
	switch st.Kind {
	case slipway.KindGate:
		st.Gate = &slipway.GateSpec{Environment: env, Version: "v1.0.0"}
	case slipway.KindRollback:
		to := slipway.Deployment{ID: 1, Version: "v1.0.0", Image: "registry.test/shop/cart", ImageDigest: imageDigest, Chart: "registry.test/shop/charts/cart", ChartDigest: chartDigest}
		st.Rollback = &slipway.RollbackSpec{Target: target, To: to}
	case slipway.KindDeploy:
		repo := slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/cart"}
		st.Deploy = &slipway.DeploySpec{Target: target, Version: "v1.0.0", Image: repo, Chart: repo}
	}
	return st
}

// plans makes a run whose plan demands gates, nil for one of before there were any.
func (c *court) plans(gates map[string]slipway.Gates, keys ...string) slipway.Run {
	c.t.Helper()
	p := slipway.Plan{Gates: gates}
	for _, key := range keys {
		p.Steps = append(p.Steps, planned(key))
	}
	return c.runs(slipway.DefaultPush, p)
}

// runs makes a run of a plan.
func (c *court) runs(event slipway.EventKind, p slipway.Plan) slipway.Run {
	c.t.Helper()
	r, err := c.CreateRun(c.ctx, slipway.Run{Project: "shop", Event: event, Ref: "refs/heads/main", Commit: strings.Repeat("a1", 20), Actor: "ada"}, p)
	c.ok(err)
	return r
}

// step runs a step through a wrapper as the engine does, and ends it with what comes out.
func (c *court) step(run slipway.Run, key string, r stage.Runner) (slipway.Result, error) {
	c.t.Helper()
	d, err := c.Run(c.ctx, run.ID)
	c.ok(err)
	for _, st := range d.Steps {
		if st.Spec.Key != key {
			continue
		}
		st, _, err := c.StartStep(c.ctx, st.ID, c.jobs.of[st.ID], "here")
		c.ok(err)
		env := stage.Env{Run: d.Run, StepID: st.ID, Attempt: st.Attempt, Log: c.log, Now: func() time.Time { return c.now }, Artifacts: d.Artifacts, Deployments: d.Deployments}
		res, err := r.Run(c.ctx, env, st.Spec)
		if err == nil && res.Outcome != slipway.Waiting {
			c.ok(c.FinishStep(c.ctx, st.ID, st.Attempt, res, nil))
		}
		return res, err
	}
	c.t.Fatalf("no step %s", key)
	return slipway.Result{}, nil
}

// finish ends a step with a result.
func (c *court) finish(run slipway.Run, key string, res slipway.Result) {
	c.t.Helper()
	res.Outcome = slipway.Succeeded
	_, err := c.step(run, key, gives(res))
	c.ok(err)
}

// gives is a runner that has that result.
func gives(res slipway.Result) stage.Runner {
	return stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) { return res, nil })
}

// deploys counts how often it was let through.
func deploys(n *int) stage.Runner {
	return stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
		*n++
		return slipway.Result{Outcome: slipway.Succeeded, Reason: "deployed"}, nil
	})
}

// unread is a runner with nothing to read ahead.
func unread(r stage.Runner) judge.Ahead {
	return func(context.Context, stage.Env, slipway.PlanStep) stage.Runner { return r }
}

func verdicts(gates []slipway.GateResult) string {
	var out []string
	for _, g := range gates {
		out = append(out, strings.TrimSpace(g.Gate+" "+g.Environment)+" "+string(g.Verdict))
	}
	return strings.Join(out, ", ")
}

func (c *court) want(name string, res slipway.Result, err error, outcome slipway.Outcome, gates string, reasons ...string) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	if res.Outcome != outcome || verdicts(res.Gates) != gates {
		c.t.Errorf("%s: %s (%s), gates %q; want %s, gates %q", name, res.Outcome, res.Reason, verdicts(res.Gates), outcome, gates)
	}
	for _, words := range reasons {
		if !strings.Contains(res.Reason, words) {
			c.t.Errorf("%s: reason %q does not say %q", name, res.Reason, words)
		}
	}
}

func critical(id string) slipway.Finding {
	return slipway.Finding{Kind: slipway.FindingVulnerability, ID: id, Severity: slipway.SeverityCritical, Package: "openssl", FixedIn: "3.1"}
}

func scanned(findings ...slipway.Finding) *slipway.Scan {
	return &slipway.Scan{Digest: imageDigest, Scanner: "grype 1", Packages: 7, Findings: findings, ScannedAt: time.Now(), Database: slipway.ScanDatabase{Built: time.Now(), Checksum: "db"}}
}
