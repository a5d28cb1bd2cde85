package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

// seeder fills a data folder with what deliveries would leave there, before a server opens it.
type seeder struct {
	*store.Store
	ctx  context.Context
	dir  string
	jobs map[int64]int
	err  error
}

func (s *seeder) Enqueue(_ context.Context, _ *sql.Tx, step int64, job int, _ slipway.StepKind, _ time.Time) error {
	s.jobs[step] = max(s.jobs[step], job)
	return nil
}

func (*seeder) Wake(time.Time)      {}
func (*seeder) Cancel(int64, error) {}

// seed makes project shop: cart was delivered and its next version waits for production, mail has red
// tests, and somebody chose hostile names.
func seed(ctx context.Context, data string) error {
	s := &seeder{ctx: ctx, dir: data, jobs: map[int64]int{}}
	if err := storetest.Fresh(ctx, filepath.Join(data, "slipway.db")); err != nil {
		return err
	}
	if err := s.open(ctx, data); err != nil {
		return err
	}
	defer s.Close()
	s.project()
	s.merged()
	s.release("v1.0.0", "verified")
	s.release("v1.1.0", "waiting")
	s.red()
	return s.err
}

func (s *seeder) open(ctx context.Context, data string) (err error) {
	s.Store, err = store.Open(ctx, filepath.Join(data, "slipway.db"), store.Options{Queue: s})
	return err
}

func (s *seeder) do(_ any, err error) { s.ok(err) }

func (s *seeder) ok(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *seeder) project() {
	s.do(s.CreateUser(s.ctx, adminName, true, "slipway"))
	s.do(s.CreateProject(s.ctx, slipway.Project{Name: "shop"}, adminName))
	s.do(git.Init(s.ctx, filepath.Join(s.dir, "repos", "shop.git"), "main"))
}

var (
	commitOf = map[string]string{"main": strings.Repeat("a1", 20), "v1.0.0": strings.Repeat("b2", 20), "v1.1.0": strings.Repeat("c3", 20), "red": strings.Repeat("d4", 20)}
	imageOf  = map[string]string{"main-a1a1a1a": digest("1"), "v1.0.0": digest("4"), "v1.1.0": digest("6")}
	chartOf  = map[string]string{"main-a1a1a1a": digest("2"), "v1.0.0": digest("5"), "v1.1.0": digest("7")}
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// step is a step of a plan, by its key.
func planned(key string, needs ...string) slipway.PlanStep {
	kind, rest, _ := strings.Cut(key, "/")
	service, env, _ := strings.Cut(rest, "@")
	return slipway.PlanStep{Key: key, Kind: slipway.StepKind(kind), Service: service, Environment: env, Needs: needs, Timeout: slipway.Duration(time.Minute)}
}

func (s *seeder) run(r slipway.Run, decision string, steps ...slipway.PlanStep) slipway.Run {
	r.Project = "shop"
	out, err := s.CreateRun(s.ctx, r, slipway.Plan{Steps: steps, Decisions: []slipway.Decision{{Service: "cart", Runs: true, Reason: decision}}})
	s.ok(err)
	return out
}

// finish starts a step and ends it.
func (s *seeder) finish(run slipway.Run, key string, res slipway.Result, log ...string) {
	if res.Outcome == "" {
		res.Outcome = slipway.Succeeded
	}
	steps, err := s.Steps(s.ctx, run.ID)
	s.ok(err)
	for _, st := range steps {
		if st.Spec.Key != key || s.err != nil {
			continue
		}
		st, _, err := s.StartStep(s.ctx, st.ID, s.jobs[st.ID], "here")
		s.ok(err)
		w, err := s.Logs().OpenLog(run.ID, st.ID, st.Attempt)
		s.ok(err)
		if s.err != nil {
			return
		}
		for _, text := range log {
			b, err := json.Marshal(slipway.LogLine{Time: time.Now(), Text: text, Group: "[1/2] FROM scratch", Stream: "stdout"})
			s.ok(err)
			s.do(fmt.Fprintf(w, "%s\n", b))
		}
		s.ok(w.Close())
		s.ok(s.FinishStep(s.ctx, st.ID, st.Attempt, res, nil))
	}
}

// artifacts are those of a built, tested and published version: two of them are in no registry.
func artifacts(tag string) []slipway.Artifact {
	return []slipway.Artifact{
		{Kind: slipway.ArtifactReport, Service: "cart", Digest: digest("9"), Path: "/work/report"},
		{Kind: slipway.ArtifactChart, Service: "cart", Digest: chartOf[tag], Path: "/work/cart.tgz"},
		{Kind: slipway.ArtifactImage, Service: "cart", Repository: "registry.slipway.internal/shop/cart", Tag: tag, Digest: imageOf[tag], Size: 1 << 20},
		{Kind: slipway.ArtifactChart, Service: "cart", Repository: "registry.slipway.internal/shop/charts/cart", Tag: tag, Digest: chartOf[tag], Size: 1 << 10},
	}
}

func (s *seeder) merged() {
	r := s.run(slipway.Run{Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commitOf["main"], Actor: "ada", Title: "first \x1b[2J\u202eevil"},
		"runs: 3 of 3 changed files are its own", planned("build/cart"), planned("test/cart"), planned("publish/cart", "build/cart", "test/cart"), planned("deploy/cart@development", "publish/cart"))
	s.finish(r, "build/cart", slipway.Result{}, "COPY . /", "hostile \x1b]0;title\x07 text", "日本語 wide")
	s.finish(r, "test/cart", slipway.Result{Report: &slipway.TestReport{Passed: 12, Suites: []slipway.TestSuite{{Name: "unit"}}},
		Gates: []slipway.GateResult{{Gate: "tests", Verdict: slipway.Pass, Summary: "12 passed"}}})
	s.finish(r, "publish/cart", slipway.Result{Artifacts: artifacts("main-a1a1a1a")})
	s.finish(r, "deploy/cart@development", slipway.Result{Deployments: []slipway.Deployment{s.deployment("main-a1a1a1a", commitOf["main"], "development", 1)}})
}

func (s *seeder) deployment(version, commit, env string, revision int) slipway.Deployment {
	return slipway.Deployment{Target: slipway.Target{Project: "shop", Environment: env, Service: "cart", Cluster: "default", Namespace: "shop-" + env, Release: "cart", Timeout: slipway.Duration(time.Minute)},
		Version: version, Commit: commit, Image: "registry.slipway.internal/shop/cart", Tag: version, ImageDigest: imageOf[version], ChartDigest: chartOf[version], Revision: revision, State: slipway.Verified}
}

func (s *seeder) release(version, state string) {
	commit := commitOf[version]
	r := s.run(slipway.Run{Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/" + version, Commit: commit, Actor: "ada", Service: "cart", Version: version, Title: "Release " + version},
		"runs: the branch release/cart/"+version+" asks for version "+version,
		planned("publish/cart"), planned("deploy/cart@qa", "publish/cart"), planned("approve/cart@production", "deploy/cart@qa"), planned("deploy/cart@production", "approve/cart@production"))
	s.finish(r, "publish/cart", slipway.Result{Artifacts: artifacts(version),
		Release: &slipway.Release{Service: "cart", Version: version, Commit: commit, ImageDigest: imageOf[version], ChartDigest: chartOf[version]}})
	s.finish(r, "deploy/cart@qa", slipway.Result{Deployments: []slipway.Deployment{s.deployment(version, commit, "qa", 2)},
		Gates: []slipway.GateResult{{Gate: "signatures", Environment: "qa", Verdict: slipway.Warn, Summary: "0 of 2 signed",
			Reasons: []slipway.GateReason{{Verdict: slipway.Warn, Subject: "unsigned cart", Message: "no trusted key signed it"}}}}})
	s.finish(r, "approve/cart@production", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: version, Required: 1, ImageDigest: imageOf[version], ChartDigest: chartOf[version],
		ValuesDigest: digest("3"), BaseRevision: 1, Notes: []string{"tests: 12 passed"}, Diff: "apps/v1 Deployment cart\n-  replicas: 1\n+  replicas: 2\n+  note: \x1b[8mhidden\n"}})
	if state != "verified" {
		return
	}
	waiting, err := s.Approvals(s.ctx, "shop", slipway.ApprovalWaiting)
	s.ok(err)
	if s.err != nil {
		return
	}
	s.do(s.Vote(s.ctx, waiting[0].ID, slipway.Vote{User: adminName, Approve: true, Reason: "looks good"}, slipway.Approvals{}))
	s.finish(r, "deploy/cart@production", slipway.Result{Deployments: []slipway.Deployment{s.deployment(version, commit, "production", 1)}})
}

func (s *seeder) red() {
	r := s.run(slipway.Run{Event: slipway.BranchPush, Ref: "refs/heads/feature/mail", Commit: commitOf["red"], Actor: "ada", Title: "mail: 日本語 subjects"},
		"runs: 1 of 1 changed files is its own", planned("build/mail"), planned("test/mail"), planned("publish/mail", "test/mail"))
	s.finish(r, "build/mail", slipway.Result{})
	report := redReport()
	shot, size, err := s.Attachments().Keep(r.ID, strings.NewReader("a picture"))
	s.ok(err)
	report.Attachments = []slipway.Attachment{{Name: "shots/send.png", Size: size, Digest: shot, Case: "TestSend"}}
	s.finish(r, "test/mail", slipway.Result{Outcome: slipway.Failed, Reason: "2 of 14 tests failed: TestSend, TestReceive", Report: report, Gates: redGates()})
}

// redGates has more reasons than are shown, one of them waived, and hostile names.
func redGates() []slipway.GateResult {
	g := slipway.GateResult{Gate: "tests", Verdict: slipway.Fail, Summary: "2 of 14 failed", Reasons: []slipway.GateReason{
		{Verdict: slipway.Fail, Subject: "unit/mail.SendTest.TestSend", Message: "failed: want 1, got \x1b[31m2", Place: "mail.SendTest"},
		{Verdict: slipway.Pass, Subject: "unit/mail.SendTest.TestReceive", Message: "failed", Waiver: &slipway.Waiver{Author: "ada", Reason: "the server \x1b[8mis down", Expires: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)}},
	}}
	for i := range 10 {
		g.Reasons = append(g.Reasons, slipway.GateReason{Verdict: slipway.Warn, Subject: fmt.Sprint("unit/Test", i), Message: "flaky"})
	}
	return []slipway.GateResult{g, {Gate: "coverage", Verdict: slipway.Pass, Summary: "75.0 % covered"}}
}

func redReport() *slipway.TestReport {
	test := func(name string, state slipway.TestState, took time.Duration) slipway.TestCase {
		return slipway.TestCase{Class: "mail.SendTest", Name: name, State: state, Duration: took}
	}
	send, again := test("TestSend", slipway.TestFailed, 20*time.Millisecond), test("TestAgain", slipway.TestPassed, time.Millisecond)
	send.Message, send.Output, again.Reruns = "want 1, got 2", "send_test.go:12: \x1b[31mwant 1, got 2", 1
	return &slipway.TestReport{Passed: 12, Failed: 2, Duration: 1500 * time.Millisecond, Files: []string{"r.xml"},
		Suites: []slipway.TestSuite{{Name: "unit", Cases: []slipway.TestCase{
			test("TestSlow", slipway.TestPassed, 1200*time.Millisecond), again, send, test("TestReceive", slipway.TestFailed, 0)}}},
		Coverage: &slipway.Coverage{Covered: 150, Total: 200, Files: []slipway.FileCoverage{{Path: "mail/unused.go", Total: 10}}},
		Problems: []string{"notes.xml: is a link, which is not followed or opened"}}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	if err := seed(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
}
