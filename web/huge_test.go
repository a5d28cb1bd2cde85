package web_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Names that people, or their programs, give.
func hostileNames() []string {
	return []string{"plain", script, rtl, esc, "שלום-עולם", "مرحبا بالعالم", "👩‍👩‍👧‍👦-🚀-deploy", "日本語のブランチ", strings.Repeat("a-very-long-name-", 12)[:200], strings.Repeat("x", 200), `"><img src=x onerror=alert(1)>`, "a b\tc", "{{.}}"}
}

// Numbers of the runs of the project huge.
const (
	hugeFirst = 100_001
	hugeRuns  = 10_000
	hugeWide  = hugeFirst + hugeRuns     // of 500 services at once
	hugeTests = hugeFirst + hugeRuns + 1 // with 50,000 tests and 5,000 findings
)

// huge adds a project of 500 services and 10,000 runs whose branches, titles, tests and findings have names of
// every kind.
func (w *world) huge() {
	names := hostileNames()
	name := func(i int) string { return names[i%len(names)] }
	states := []slipway.RunState{slipway.RunSucceeded, slipway.RunFailed, slipway.RunSucceeded, slipway.RunCancelled, slipway.RunErrored}
	for i := range hugeRuns {
		r := slipway.Run{ID: int64(hugeFirst + i), Project: "huge", Event: slipway.BranchPush, Ref: "refs/heads/" + name(i), Commit: hex(40, fmt.Sprint("h", i)), Title: name(i + 3), Actor: "ada",
			State: states[i%len(states)], CreatedAt: w.now.Add(-time.Duration(hugeRuns-i) * time.Minute)}
		r.FinishedAt = r.CreatedAt.Add(40 * sec)
		if r.State != slipway.RunSucceeded {
			r.Reason = "build/" + name(i+5) + ": " + name(i+7)
		}
		w.runs = append(w.runs, &slipway.RunDetail{Run: r, Steps: []slipway.Step{plan()}})
	}
	w.hugeBoard()
	w.wideRun()
	w.hugeEvidence(name)
}

func (w *world) hugeBoard() {
	b := &slipway.Board{Project: "huge", Environments: []string{"development", "qa", "staging", "production"}}
	for i := range 500 {
		service := fmt.Sprintf("team-%02d-service-%03d", i%25, i)
		if i%50 == 7 {
			service += strings.Repeat("-long", 8)
		}
		row := slipway.BoardRow{Service: service, LastRun: &slipway.Run{ID: int64(hugeFirst + i), Project: "huge", Event: slipway.BranchPush, State: slipway.RunSucceeded}}
		for e, env := range b.Environments {
			version := fmt.Sprintf("v1.%d.%d", i%9, e)
			if i%60 == 3 {
				version = hostileNames()[8]
			}
			d := deployment(service, env, version, int64(hugeFirst+i), slipway.Verified, w.now.Add(-time.Duration(i)*time.Hour))
			d.Target.Project = "huge"
			c := slipway.BoardCell{Environment: env, Current: &d}
			switch {
			case i%100 == 11 && e == 3:
				d.State, d.Reason = slipway.Unhealthy, "container of pod waits: "+script
			case i%97 == 5 && e == 3:
				c.Approval = &slipway.Approval{ID: int64(i), Project: "huge", RunID: int64(hugeFirst + i), Service: service, Environment: env, Version: "v2.0.0", State: slipway.ApprovalWaiting, Required: 1, Requester: "ada", CreatedAt: w.now.Add(-time.Hour)}
			}
			row.Cells = append(row.Cells, c)
		}
		b.Rows = append(b.Rows, row)
	}
	slices.SortFunc(b.Rows, func(a, c slipway.BoardRow) int { return strings.Compare(a.Service, c.Service) })
	w.boards["huge"] = b
}

// wideRun is the first run of a repository: every service is built and deployed.
func (w *world) wideRun() {
	ok := slipway.StepSucceeded
	steps := []slipway.Step{plan()}
	for i := range 500 {
		service := fmt.Sprintf("service-%03d", i)
		test := ok
		if i == 250 {
			test = slipway.StepFailed
		}
		steps = append(steps, built(service, test)...)
		steps = append(steps, delivered(service, "development", ok, ok, "publish/"+service)...)
	}
	d := w.run(slipway.Run{ID: hugeWide, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Everything at once", State: slipway.RunFailed, Reason: "test/service-250 failed"}, time.Hour, steps...)
	d.Run.Project = "huge"
	for i := range 500 {
		d.Plan.Decisions = append(d.Plan.Decisions, slipway.Decision{Service: fmt.Sprintf("service-%03d", i), Runs: true, Reason: "runs: it is new"})
	}
}

func (w *world) hugeEvidence(name func(int) string) {
	steps := append([]slipway.Step{plan()}, supplied("orders", "development", slipway.StepSucceeded, slipway.StepSucceeded)...)
	d := w.run(slipway.Run{ID: hugeTests, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Many tests", State: slipway.RunSucceeded}, time.Hour, steps...)
	d.Run.Project = "huge"
	r := slipway.TestReport{Passed: 48_000, Failed: 2_000, Duration: 90 * sec}
	suite := slipway.TestSuite{Name: "all"}
	for i := range 50_000 {
		c := slipway.TestCase{Name: fmt.Sprintf("Test%s/%05d", name(i), i), State: slipway.TestPassed, Duration: time.Duration(i%300) * time.Millisecond}
		if i%25 == 0 {
			c.State, c.Message, c.Output = slipway.TestFailed, "want 1, got 2 "+name(i), strings.Repeat("a line of what it says "+name(i)+"\n", 12)
		}
		suite.Cases = append(suite.Cases, c)
	}
	r.Suites = []slipway.TestSuite{suite}
	w.reports[key(hugeTests, "test/orders")] = r
	scan := slipway.Scan{Image: "registry.slipway.internal/huge/orders", Digest: sha("huge"), Scanner: "grype 0.101", Packages: 900, ScannedAt: w.now}
	for i := range 5_000 {
		f := finding(i)
		f.Title, f.Package = name(i), name(i+4)
		scan.Findings = append(scan.Findings, f)
	}
	w.scans[key(hugeTests, "orders")] = scan
	var reasons []slipway.GateReason
	for i := range 2_000 {
		reasons = append(reasons, slipway.GateReason{Verdict: slipway.Fail, Subject: fmt.Sprintf("CVE-2025-%04d %s", i, name(i)), Message: "critical " + name(i+2), Place: "/var/" + name(i+1)})
	}
	for _, gate := range slipway.GateNames() {
		w.supply.said[hugeTests] = append(w.supply.said[hugeTests], said(hugeTests, slipway.KindGate, "orders", "development", gate, slipway.Warn, "many: "+name(len(gate)), reasons...))
	}
	w.hugeReleases(name)
}

func (w *world) hugeReleases(name func(int) string) {
	for i := range 2_000 {
		w.releases = append(w.releases, slipway.Release{ID: int64(hugeFirst + 2_000 - i), Project: "huge", Service: fmt.Sprintf("team-%02d-service-%03d", i%25, i%500), Version: fmt.Sprintf("v1.%d.%d", i/500, i%4), Commit: hex(40, fmt.Sprint("hr", i)),
			RunID: int64(hugeFirst + i), ImageDigest: sha(fmt.Sprint("hi", i)), ChartDigest: sha(fmt.Sprint("hc", i)), CreatedAt: w.now.Add(-time.Duration(i) * time.Hour)})
		if i < 600 {
			w.pulls = append(w.pulls, slipway.PullRequest{Project: "huge", Number: int64(i + 1), Title: name(i), Base: "main", Head: hex(40, fmt.Sprint("hp", i)), Author: "ann", State: slipway.PullOpen, UpdatedAt: w.now})
			w.supply.waivers = append(w.supply.waivers, slipway.Waiver{ID: int64(i + 1000), Project: "huge", Gate: "vulnerabilities", Subject: fmt.Sprintf("CVE-2025-%04d %s", i, name(i)), Author: "lin", Reason: name(i + 1), Expires: w.now.AddDate(0, 0, i%300+1)})
		}
	}
}
