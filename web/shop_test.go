package web_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// What strangers can write into commits, branches, tests and logs.
const (
	script = `<script>alert("pwned")</script>`
	rtl    = "\u202egnp.exe"
	esc    = "\x1b]0;owned\x07\x1b[31mred\x1b[0m"
)

func hex(n int, seed string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(seed)))[:n] }

func sha(seed string) string { return "sha256:" + hex(64, seed) }

// run adds a run that was created some time before now; steps say how long each took.
func (w *world) run(r slipway.Run, age time.Duration, steps ...slipway.Step) *slipway.RunDetail {
	r.Project, r.CreatedAt = "shop", w.now.Add(-age)
	r.StartedAt = r.CreatedAt.Add(300 * time.Millisecond)
	if r.Commit == "" {
		r.Commit = hex(40, fmt.Sprint("c", r.ID))
	}
	if r.Actor == "" {
		r.Actor = "ada"
	}
	d := &slipway.RunDetail{Run: r, Steps: steps}
	ends := map[string]time.Time{}
	for i := range d.Steps {
		s := &d.Steps[i]
		s.RunID, s.ID = r.ID, r.ID*100+int64(i)
		if s.Attempt == 0 {
			continue
		}
		at := r.StartedAt
		for _, n := range s.Spec.Needs {
			if ends[n].After(at) {
				at = ends[n]
			}
		}
		if s.Spec.Kind == slipway.KindRollback && i > 0 {
			at = d.Steps[i-1].FinishedAt
		}
		took := time.Duration(s.Spec.Timeout)
		s.Spec.Timeout, s.StartedAt = 0, at.Add(40*time.Millisecond)
		if s.State.Final() {
			s.FinishedAt = s.StartedAt.Add(took)
			ends[s.Spec.Key] = s.FinishedAt
			if r.State.Final() && s.FinishedAt.After(d.Run.FinishedAt) {
				d.Run.FinishedAt = s.FinishedAt
			}
		}
	}
	w.runs = append(w.runs, d)
	return d
}

// step makes a step; took is kept in the timeout until run places it.
func step(kind slipway.StepKind, service, env string, state slipway.StepState, took time.Duration, needs ...string) slipway.Step {
	s := slipway.Step{State: state, Spec: slipway.PlanStep{Key: slipway.StepKey(kind, service, env), Kind: kind, Service: service, Environment: env, Needs: needs, Timeout: slipway.Duration(took)}}
	if took > 0 {
		s.Attempt = 1
	}
	return s
}

const sec = time.Second

// built are the steps of a service up to its publication.
func built(service string, test slipway.StepState) []slipway.Step {
	after, took := slipway.StepSucceeded, 400*time.Millisecond
	if test != slipway.StepSucceeded {
		after, took = slipway.StepSkipped, 0
		if !test.Final() {
			after = slipway.StepBlocked
		}
	}
	b, t, c := "build/"+service, "test/"+service, "chart/"+service
	return []slipway.Step{
		step(slipway.KindBuild, service, "", slipway.StepSucceeded, 21400*time.Millisecond, "plan"),
		step(slipway.KindTest, service, "", test, 8200*time.Millisecond, b),
		step(slipway.KindChart, service, "", slipway.StepSucceeded, 900*time.Millisecond, "plan"),
		step(slipway.KindPublish, service, "", after, took, b, t, c),
	}
}

func plan() slipway.Step {
	return step(slipway.KindPlan, "", "", slipway.StepSucceeded, 120*time.Millisecond)
}

// delivered are the steps of an environment.
func delivered(service, env string, deploy, verify slipway.StepState, after string) []slipway.Step {
	took := func(s slipway.StepState, d time.Duration) time.Duration {
		if s == slipway.StepBlocked || s == slipway.StepSkipped {
			return 0
		}
		return d
	}
	return []slipway.Step{
		step(slipway.KindDeploy, service, env, deploy, took(deploy, 3100*time.Millisecond), after),
		step(slipway.KindVerify, service, env, verify, took(verify, 14*sec), slipway.StepKey(slipway.KindDeploy, service, env)),
	}
}

func deployment(service, env, version string, run int64, state slipway.DeploymentState, at time.Time) slipway.Deployment {
	return slipway.Deployment{ID: run*10 + int64(len(env)), Target: slipway.Target{Project: "shop", Environment: env, Service: service, Release: service, Namespace: "shop-" + env}, Version: version, RunID: run,
		Step: slipway.StepKey(slipway.KindDeploy, service, env), ImageDigest: sha(service + version), ChartDigest: sha("chart" + service + version),
		Revision: int(run%7) + 1, State: state, CreatedAt: at, UpdatedAt: at}
}

func artifacts(service, version string, run int64) []slipway.Artifact {
	return []slipway.Artifact{
		{Project: "shop", RunID: run, Service: service, Kind: slipway.ArtifactImage, Repository: "registry.slipway.internal/shop/" + service, Tag: version, Digest: sha(service + version)},
		{Project: "shop", RunID: run, Service: service, Kind: slipway.ArtifactChart, Repository: "registry.slipway.internal/shop/charts/" + service, Tag: strings.TrimPrefix(version, "v"), Digest: sha("chart" + service + version)},
		{Project: "shop", RunID: run, Service: service, Kind: slipway.ArtifactProvenance, Repository: "registry.slipway.internal/shop/" + service, Digest: sha("prov" + service + version)},
		{Project: "shop", RunID: run, Service: service, Kind: slipway.ArtifactReport, Path: "test-" + service + "/report.xml", Digest: sha("report" + version)},
	}
}

func (w *world) fill() {
	w.merged()
	w.failedTests()
	w.hostile()
	w.retrying()
	w.released()
	w.waiting()
	w.rolledBack()
	w.running()
	w.gated()
	slices.SortFunc(w.runs, func(a, b *slipway.RunDetail) int { return cmp.Compare(a.Run.ID, b.Run.ID) })
	slices.SortFunc(w.releases, func(a, b slipway.Release) int { return cmp.Compare(b.ID, a.ID) })
	slices.SortFunc(w.history, func(a, b slipway.Deployment) int { return cmp.Compare(b.ID, a.ID) })
	for i := range w.history {
		if d := &w.history[i]; d.Target.Environment == "qa" && d.RunID != 12 {
			d.State = slipway.Replaced
		}
	}
	w.shopBoard()
	w.bigBoard()
	w.boards["new"] = &slipway.Board{Project: "new", Environments: []string{"development", "qa", "production"}}
	w.events = []slipway.Event{{ID: 1, Project: "shop", Kind: "push.received", Message: "push"}}
}

func (w *world) merged() {
	var steps []slipway.Step
	steps = append(steps, plan())
	for _, s := range []string{"delivery", "orders", "web"} {
		steps = append(steps, built(s, slipway.StepSucceeded)...)
		steps = append(steps, delivered(s, "development", slipway.StepSucceeded, slipway.StepSucceeded, "publish/"+s)...)
	}
	d := w.run(slipway.Run{ID: 3, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "The shop: web, orders and delivery", State: slipway.RunSucceeded}, 50*time.Hour, steps...)
	d.Plan.Decisions = []slipway.Decision{{Service: "delivery", Runs: true, Reason: "runs: 14 files changed under src/shipping/delivery"}, {Service: "orders", Runs: true, Reason: "runs: 9 files changed under src/orders"}, {Service: "web", Reason: "skipped: no file under src/web changed, 23 files changed elsewhere"},
		{Service: "search", LeftTo: 2, Reason: "skipped, run #2 of the same code and configuration waits for its approval in production"}}
	d.Artifacts = artifacts("delivery", "main-1a2b3c4", 3)
	for _, s := range []string{"delivery", "orders", "web"} {
		d.Deployments = append(d.Deployments, deployment(s, "development", "main-1a2b3c4", 3, slipway.Verified, d.Run.FinishedAt))
	}
}

func (w *world) failedTests() {
	steps := append([]slipway.Step{plan()}, built("orders", slipway.StepFailed)...)
	steps[2].Reason = "tests failed: 2 of 46: TestTotalWithDiscount, TestCurrency/EUR"
	w.run(slipway.Run{ID: 5, Event: slipway.PullUpdate, Ref: "refs/pull/2/head", Pull: 2, Title: "Discounts for regular customers", Actor: "grace", State: slipway.RunFailed, Reason: "test/orders failed: tests failed: 2 of 46"}, 3*time.Hour, steps...)
	r := slipway.TestReport{Passed: 43, Failed: 2, Skipped: 1, Duration: 1830 * time.Millisecond, Files: []string{"report.xml"}, Problems: []string{"results/coverage.xml: line 1: not a test report (root element <coverage>)"}}
	cases := []slipway.TestCase{
		{Name: "TestTotalWithDiscount", State: slipway.TestFailed, Duration: 12 * time.Millisecond, Message: "Failed", Output: "    total_test.go:41: total of 3 items at 9.99 with 10 %: got 29.97, want 26.97\n    total_test.go:44: the discount was not applied"},
		{Name: "TestCurrency/EUR", State: slipway.TestFailed, Duration: 2 * time.Millisecond, Output: "    currency_test.go:18: " + script + " " + esc + rtl},
		{Name: "TestSlow", State: slipway.TestSkipped, Message: "needs a database"},
	}
	for i := range 43 {
		cases = append(cases, slipway.TestCase{Name: fmt.Sprintf("TestOrder/%02d", i), State: slipway.TestPassed, Duration: time.Duration(i*i) * time.Millisecond})
	}
	r.Suites = []slipway.TestSuite{{Name: "example.com/shop/orders", Cases: cases}}
	w.reports[key(5, "test/orders")] = r
	w.logs[key(5, "test/orders")] = w.lines("tests of orders", "stdout", 60)
	failed := w.run(slipway.Run{ID: 13, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Search faster", State: slipway.RunErrored, Reason: "build/search: no space left on device"}, 2*time.Hour,
		plan(), step(slipway.KindBuild, "search", "", slipway.StepErrored, 3*sec))
	failed.Steps[1].Reason = "no space left on device"
	w.pulls = append(w.pulls,
		slipway.PullRequest{Project: "shop", Number: 3, Title: "Greet customers better", Base: "main", Head: hex(40, "c6"), Author: "ada", State: slipway.PullOpen, Reviewers: []string{"bob"}, CreatedAt: w.now.Add(-time.Hour), UpdatedAt: w.now.Add(-20 * time.Minute)},
		slipway.PullRequest{Project: "shop", Number: 2, Title: "Discounts for regular customers", Base: "main", Head: hex(40, "c5"), Author: "grace", State: slipway.PullOpen, CreatedAt: w.now.Add(-5 * time.Hour), UpdatedAt: w.now.Add(-3 * time.Hour)},
		slipway.PullRequest{Project: "shop", Number: 1, Title: script + rtl, Base: "main", Head: hex(40, "c1"), Author: "ada", State: slipway.PullMerged, UpdatedAt: w.now.Add(-70 * time.Hour)})
	steps = append([]slipway.Step{plan()}, built("web", slipway.StepSucceeded)[:3]...)
	w.run(slipway.Run{ID: 6, Event: slipway.PullUpdate, Ref: "refs/pull/3/head", Pull: 3, Title: "Greet customers better", State: slipway.RunSucceeded}, 20*time.Minute, steps...)
}

func (w *world) lines(group, stream string, n int) []slipway.LogLine {
	at := w.now.Add(-3 * time.Hour)
	out := []slipway.LogLine{{Time: at, Group: group, State: "started", Text: group}}
	for i := range n {
		out = append(out, slipway.LogLine{Time: at.Add(time.Duration(i) * 70 * time.Millisecond), Group: group, Stream: stream, Text: fmt.Sprintf("=== RUN   TestOrder/%02d", i)})
	}
	out = append(out, slipway.LogLine{Time: at.Add(6 * sec), Group: group, Stream: "stderr", Text: "FAIL example.com/shop/orders 1.83s"}, slipway.LogLine{Time: at.Add(6 * sec), Group: group, State: "failed", Text: "exit code 1"})
	return append(out, slipway.LogLine{Time: at.Add(7 * sec), Text: "tests failed: 2 of 46: TestTotalWithDiscount, TestCurrency/EUR"})
}

// hostile is a failed build by somebody who tries everything.
func (w *world) hostile() {
	long := "feature/" + strings.Repeat("a-very-long-branch-name-", 7) + "end"
	steps := []slipway.Step{plan(), step(slipway.KindBuild, "web", "", slipway.StepFailed, 4*sec, "plan"), step(slipway.KindTest, "web", "", slipway.StepSkipped, 0, "build/web")}
	steps[1].Reason = "Dockerfile:7: RUN npm ci " + script + esc
	w.run(slipway.Run{ID: 7, Event: slipway.BranchPush, Ref: "refs/heads/" + long, Title: script + rtl + esc + strings.Repeat(" an endless title", 20), State: slipway.RunFailed, Reason: steps[1].Reason}, 40*time.Minute, steps...)
	at := w.now.Add(-40 * time.Minute)
	line := func(after time.Duration, group, state, stream, text string) {
		w.logs[key(7, "build/web")] = append(w.logs[key(7, "build/web")], slipway.LogLine{Time: at.Add(after), Group: group, State: state, Stream: stream, Text: text})
	}
	from, run := "[build 1/5] FROM docker.io/library/node:22", "[build 4/5] RUN npm ci "+script
	line(0, "[internal] load build definition from Dockerfile", "started", "", "[internal] load build definition from Dockerfile")
	line(20*time.Millisecond, "[internal] load build definition from Dockerfile", "done", "", "0.0s")
	line(30*time.Millisecond, from, "cached", "", from)
	line(40*time.Millisecond, "[build 2/5] WORKDIR /src", "cached", "", "[build 2/5] WORKDIR /src")
	line(50*time.Millisecond, run, "started", "", run)
	line(900*time.Millisecond, run, "", "stdout", esc+" progress \r done \x00\x7f\u0085")
	line(1200*time.Millisecond, run, "", "stderr", "npm error code E404 "+rtl)
	line(1300*time.Millisecond, run, "", "stderr", "npm error 404 Not Found - GET https://registry.npmjs.org/"+strings.Repeat("@scope%2fa-package-that-is-not-there", 6))
	line(1400*time.Millisecond, run, "", "stderr", script)
	line(1500*time.Millisecond, run, "failed", "", "process \"/bin/sh -c npm ci\" did not complete successfully: exit code: 1")
	line(1600*time.Millisecond, "", "", "", "the build of web failed")
}

func (w *world) retrying() {
	steps := append([]slipway.Step{plan()}, built("orders", slipway.StepSucceeded)...)
	steps = append(steps, delivered("orders", "development", slipway.StepRetrying, slipway.StepBlocked, "publish/orders")...)
	d := &steps[5]
	d.Attempt, d.Errors, d.ErrorsSince = 4, 3, w.now.Add(-9*time.Minute)
	d.Reason = "the cluster \"default\" does not answer: dial tcp 127.0.0.1:6443: connect: connection refused; tried again in 16 s"
	w.run(slipway.Run{ID: 8, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Merge pull request 4: Faster totals", State: slipway.RunRunning}, 10*time.Minute, steps...)
}

func release(version string, qa, prod []slipway.Step, approve slipway.StepState, retag slipway.StepState) []slipway.Step {
	steps := append([]slipway.Step{plan()}, built("delivery", slipway.StepSucceeded)...)
	steps = append(steps, qa...)
	took := 0 * sec
	if retag == slipway.StepSucceeded {
		took = 60 * time.Millisecond
	}
	steps = append(steps, step(slipway.KindApprove, "delivery", "production", approve, 6*time.Minute, "verify/delivery@qa"),
		step(slipway.KindRetag, "delivery", "production", retag, took, "approve/delivery@production"))
	return append(steps, prod...)
}

func (w *world) releaseRun(id int64, version string, state slipway.RunState, age time.Duration, steps []slipway.Step) *slipway.RunDetail {
	d := w.run(slipway.Run{ID: id, Event: slipway.ReleasePush, Ref: "refs/heads/release/delivery/" + version, Title: "Greet customers better", Service: "delivery", Version: version, State: state}, age, steps...)
	d.Artifacts = artifacts("delivery", version, id)
	d.Deployments = []slipway.Deployment{deployment("delivery", "qa", version, id, slipway.Verified, d.Run.CreatedAt.Add(50*sec))}
	r := slipway.Release{ID: id, Project: "shop", Service: "delivery", Version: version, Commit: d.Run.Commit, RunID: id, ImageDigest: sha("delivery" + version), ChartDigest: sha("chartdelivery" + version), CreatedAt: d.Run.CreatedAt.Add(33 * sec)}
	w.releases = append([]slipway.Release{r}, w.releases...)
	w.history = append([]slipway.Deployment{d.Deployments[0]}, w.history...)
	d.Events = []slipway.Event{{ID: 1, Time: d.Run.CreatedAt, Message: "run created for release/delivery/" + version, Actor: "ada"}, {ID: 2, Time: d.Run.StartedAt, Message: "plan succeeded: 1 service runs"}}
	return d
}

func approval(d *slipway.RunDetail, state slipway.ApprovalState, diff string, votes ...slipway.Vote) slipway.Approval {
	at := d.Run.CreatedAt.Add(52 * sec)
	a := slipway.Approval{ID: d.Run.ID, Project: "shop", RunID: d.Run.ID, Step: "approve/delivery@production", Service: "delivery", Environment: "production", Version: d.Run.Version, State: state, Required: 1, NotRequester: true, Requester: "ada",
		ImageDigest: sha("delivery" + d.Run.Version), ChartDigest: sha("chartdelivery" + d.Run.Version), BaseRevision: 4, Diff: diff, Notes: []string{"tests: 46 passed, 1 skipped", "verified in qa"}, Votes: votes, CreatedAt: at}
	if len(votes) > 0 {
		a.DecidedAt = votes[0].Time
	}
	return a
}

const diffText = `--- Deployment delivery
+++ Deployment delivery
@@ -14,9 +14,9 @@
   spec:
     containers:
     - name: delivery
-      image: registry.slipway.internal/prod/shop/delivery:v1.1.0@sha256:5c1d
+      image: registry.slipway.internal/prod/shop/delivery:v1.2.0@sha256:9e02
       env:
       - name: TOKEN
-        value: (secret, hash 41f0)
+        value: (secret, hash 77ab)
       - name: NOTE
+        value: "<script>alert(1)</script>"
   replicas: 2
`

func (w *world) released() {
	ok := slipway.StepSucceeded
	for i, version := range []string{"v1.0.0", "v1.1.0"} {
		id := int64(9 + i)
		d := w.releaseRun(id, version, slipway.RunSucceeded, time.Duration(48-24*i)*time.Hour, release(version, delivered("delivery", "qa", ok, ok, "publish/delivery"), delivered("delivery", "production", ok, ok, "retag/delivery@production"), ok, ok))
		d.Approvals = []slipway.Approval{approval(d, slipway.ApprovalApproved, diffText, slipway.Vote{User: "bob", Approve: true, Reason: "the quote in QA is right", Time: d.Run.CreatedAt.Add(7 * time.Minute)})}
		state := slipway.Verified
		if i == 0 {
			state = slipway.Replaced
		}
		prod := deployment("delivery", "production", version, id, state, d.Run.FinishedAt)
		d.Deployments = append(d.Deployments, prod)
		w.history = append([]slipway.Deployment{prod}, w.history...)
		w.logs[key(id, "verify/delivery@production")] = []slipway.LogLine{
			{Time: d.Run.FinishedAt, Group: "Deployment/delivery", State: "started", Text: "0 of 2 replicas are ready"}, {Time: d.Run.FinishedAt.Add(2 * sec), Group: "Deployment/delivery", State: "started", Text: "1 of 2 replicas are ready"},
			{Time: d.Run.FinishedAt.Add(4 * sec), Group: "Deployment/delivery", State: "done", Text: "2 of 2 replicas are ready"}, {Time: d.Run.FinishedAt.Add(4 * sec), Group: "Service/delivery", State: "done", Text: "Ready"},
			{Time: d.Run.FinishedAt.Add(5 * sec), Text: "running the chart's tests: delivery-quote"}, {Time: d.Run.FinishedAt.Add(8 * sec), Group: "Pod/delivery-quote", State: "done", Text: "passed in 3s"},
		}
	}
}

func (w *world) waiting() {
	ok, no := slipway.StepSucceeded, slipway.StepBlocked
	d := w.releaseRun(12, "v1.2.0", slipway.RunWaiting, 26*time.Minute, release("v1.2.0", delivered("delivery", "qa", ok, ok, "publish/delivery"), delivered("delivery", "production", no, no, "retag/delivery@production"), slipway.StepWaiting, no))
	d.Approvals = []slipway.Approval{approval(d, slipway.ApprovalWaiting, diffText)}
}

func (w *world) rolledBack() {
	ok, bad := slipway.StepSucceeded, slipway.StepFailed
	prod := delivered("delivery", "production", ok, bad, "retag/delivery@production")
	prod[1].Reason = "Deployment/delivery: 0 of 2 replicas were ready after 1m0s; container delivery of pod delivery-6c4f9b7d5-x2x7q runs but is not ready"
	prod = append(prod, step(slipway.KindRollback, "delivery", "production", ok, 5*sec), step(slipway.KindVerify, "delivery", "production", ok, 2*sec, "rollback/delivery@production"))
	prod[3].Spec.Key = "verify-rollback/delivery@production"
	d := w.releaseRun(11, "v1.1.1", slipway.RunFailed, 90*time.Minute, release("v1.1.1", delivered("delivery", "qa", ok, ok, "publish/delivery"), prod, ok, ok))
	d.Run.Reason = "verify/delivery@production failed: " + prod[1].Reason
	d.Approvals = []slipway.Approval{approval(d, slipway.ApprovalApproved, diffText, slipway.Vote{User: "bob", Approve: true, Reason: "QA is green", Time: d.Run.CreatedAt.Add(7 * time.Minute)})}
	back := deployment("delivery", "production", "v1.1.1", 11, slipway.RolledBack, d.Run.FinishedAt)
	back.Reason = prod[1].Reason
	d.Deployments = append(d.Deployments, back)
	w.history = append([]slipway.Deployment{back}, w.history...)
	w.releases[0].Quarantined = "rolled back from production by run 11: " + prod[1].Reason
	at := d.Run.CreatedAt.Add(8 * time.Minute)
	w.logs[key(11, "verify/delivery@production")] = []slipway.LogLine{
		{Time: at, Group: "Deployment/delivery", State: "started", Text: "0 of 2 replicas are ready"},
		{Time: at.Add(time.Minute), Group: "Deployment/delivery", State: "failed", Text: "0 of 2 replicas were ready after 1m0s"},
		{Time: at.Add(time.Minute), Group: "Pod/delivery-6c4f9b7d5-x2x7q", State: "failed", Text: prod[1].Reason},
		{Time: at.Add(time.Minute), Group: "Pod/delivery-6c4f9b7d5-x2x7q", Text: "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404 (12 times)"},
		{Time: at.Add(time.Minute), Group: "Pod/delivery-6c4f9b7d5-x2x7q", Text: "last lines of container delivery:"},
		{Time: at.Add(time.Minute), Group: "Pod/delivery-6c4f9b7d5-x2x7q", Stream: "stdout", Text: `level=WARN msg="no such path" path=/nowhere status=404`},
	}
}

func (w *world) running() {
	steps := append([]slipway.Step{plan()}, built("web", slipway.StepRunning)...)
	steps = append(steps, delivered("web", "development", slipway.StepBlocked, slipway.StepBlocked, "publish/web")...)
	w.run(slipway.Run{ID: 14, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Merge pull request 3: Greet customers better", State: slipway.RunRunning}, 48*sec, steps...)
	at := w.now.Add(-24 * sec)
	lines := []slipway.LogLine{{Time: at, Group: "[testrunner 1/2] RUN go vet ./...", State: "cached", Text: "[testrunner 1/2] RUN go vet ./..."}, {Time: at, Group: "tests of web", State: "started", Text: "tests of web"}}
	for i := range 25 {
		lines = append(lines, slipway.LogLine{Time: at.Add(time.Duration(i) * 100 * time.Millisecond), Group: "tests of web", Stream: "stdout", Text: fmt.Sprintf("ok  example.com/shop/web/page%02d 0.0%ds", i, i)})
	}
	w.logs[key(14, "test/web")] = lines
	w.run(slipway.Run{ID: 15, Event: slipway.BranchPush, Ref: "refs/heads/feature/tidy", Title: "Tidy", State: slipway.RunQueued}, 2*sec, step(slipway.KindPlan, "", "", slipway.StepReady, 0))
	w.run(slipway.Run{ID: 16, Event: slipway.BranchPush, Ref: "refs/heads/feature/tidy", Title: "Tidy more", State: slipway.RunCancelled, Reason: "superseded by run 15"}, sec, step(slipway.KindPlan, "", "", slipway.StepCancelled, 0))
}

func (w *world) shopBoard() {
	b := &slipway.Board{Project: "shop", Environments: []string{"development", "qa", "production"}}
	at := func(age time.Duration) time.Time { return w.now.Add(-age) }
	now := func(d slipway.Deployment) *slipway.Deployment { return &d }
	waits := w.detail(12).Approvals[0]
	b.Rows = []slipway.BoardRow{
		{Service: "delivery", LastRun: &w.detail(12).Run, Cells: []slipway.BoardCell{
			{Environment: "development", Current: now(deployment("delivery", "development", "main-1a2b3c4", 3, slipway.Verified, at(49*time.Hour)))},
			{Environment: "qa", Current: now(deployment("delivery", "qa", "v1.2.0", 12, slipway.Verified, at(25*time.Minute)))},
			{Environment: "production", Current: now(deployment("delivery", "production", "v1.1.0", 10, slipway.Verified, at(80*time.Minute))), Approval: &waits},
		}},
		{Service: "orders", LastRun: &w.detail(8).Run, Cells: []slipway.BoardCell{
			{Environment: "development", Current: now(deployment("orders", "development", "main-1a2b3c4", 3, slipway.Unhealthy, at(49*time.Hour))), Pending: now(deployment("orders", "development", "main-77aa001", 8, slipway.Deploying, at(9*time.Minute)))},
			{Environment: "qa"}, {Environment: "production"},
		}},
		{Service: "web", LastRun: &w.detail(14).Run, Cells: []slipway.BoardCell{
			{Environment: "development", Current: now(deployment("web", "development", "main-1a2b3c4", 3, slipway.Verified, at(49*time.Hour)))},
			{Environment: "qa"}, {Environment: "production"},
		}},
	}
	b.Rows = append(b.Rows, slipway.BoardRow{Service: "search", LastRun: &w.detail(13).Run, Cells: []slipway.BoardCell{{Environment: "development"}, {Environment: "qa"}, {Environment: "production"}}})
	b.Rows[1].Cells[0].Current.Reason = "container orders of pod orders-5d8-abc12 waits: CrashLoopBackOff " + script
	b.Rows[2].Cells[0].Outside = &slipway.ObservedRevision{Number: 7, AppVersion: "0.9.0", Description: "Rollback to 2 " + script, Updated: at(4 * time.Minute)}
	w.boards["shop"] = b
}

// bigBoard is a project of 200 services.
func (w *world) bigBoard() {
	b := &slipway.Board{Project: "big", Environments: []string{"development", "qa", "production"}}
	for i := range 200 {
		name := fmt.Sprintf("service-%03d", i)
		row := slipway.BoardRow{Service: name}
		for _, env := range b.Environments {
			d := deployment(name, env, fmt.Sprintf("v1.%d.0", i%9), int64(100+i), slipway.Verified, w.now.Add(-time.Duration(i)*time.Hour))
			row.Cells = append(row.Cells, slipway.BoardCell{Environment: env, Current: &d})
		}
		b.Rows = append(b.Rows, row)
	}
	w.boards["big"] = b
}
