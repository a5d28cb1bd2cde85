package web_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// text is what a page says, with one space between words.
func (s *site) text(t *testing.T, target string) string {
	t.Helper()
	root := parse(t, s.ask("GET", target, "").Body.String())
	for _, problem := range check(root) {
		t.Errorf("%s: %s", target, problem)
	}
	return strings.Join(strings.Fields(words(root)), " ")
}

func (s *site) says(t *testing.T, target string, want ...string) {
	t.Helper()
	got := s.text(t, target)
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s does not say %q:\n%.3000s", target, w, got)
		}
	}
}

// All of a project that needs a person stands at the top of its board, in the list of projects, and on the page of its
// service.
func TestWhatNeedsAPerson(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.says(t, "/projects/shop",
		"1 unhealthy · 1 run failed · 2 codebases broken · 1 changed outside · 2 waiting for a person",
		"orders main-1a2b3c4 is unhealthy in development", "deployed by run #3",
		"codebase keyed is broken fetch: git.example refuses the deploy key", "codebase fresh waits for a person to enter its deploy key",
		"web was changed outside in development revision 7: Rollback to 2")
	s.says(t, "/projects/shop?needs=1", "web run #14 running main-1a2b3c4")
	s.says(t, "/projects", "shop 4 services · 1 unhealthy", "big 200 services · nothing needs you", "new 0 services")
	s.says(t, "/projects/shop/services/orders", "main-77aa001 ● deploying on its way · #8")
	s.says(t, "/projects/shop/services/web", "changed outside Helm runs revision 7")
	s.says(t, "/projects/shop/services/delivery", "v1.2.0 ! waiting approve or reject")
	body := s.ask("GET", "/projects/shop", "").Body.String()
	for _, want := range []string{`<a href="/projects/shop/services/orders"><b>orders main-1a2b3c4</b> is unhealthy`, `<a href="/projects/shop/codebases#codebase-keyed">`} {
		if !strings.Contains(body, want) {
			t.Errorf("the board has no %s", want)
		}
	}
}

// What runs and is unhealthy says why on the page of its service.
func TestUnhealthyService(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := deployment("web", "qa", "v3", 3, slipway.Unhealthy, s.now)
	d.Reason = "container web of pod web-1 waits: CrashLoopBackOff"
	s.history = append(s.history, d)
	s.says(t, "/projects/shop/services/web", "qa v3 ✗ unhealthy container web of pod web-1 waits: CrashLoopBackOff")
	if got := s.ask("GET", "/projects/shop/services/web", "").Body.String(); !strings.Contains(got, "<title>✗ web unhealthy · shop · Slipway</title>") {
		t.Error("the tab does not say so")
	}
}

// When boards or codebases cannot be read, projects are listed all the same.
func TestProjectsWithoutBoards(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	delete(s.boards, "big")
	if got := s.text(t, "/projects"); !strings.Contains(got, "big mirrors https://git.example/team/big.git") || strings.Contains(got, "big 0 services") || !strings.Contains(got, "shop 4 services") {
		t.Errorf("it says %s", got)
	}
}

// An approval says what it replaces, and leads to what its gates said and to all that they saw.
func TestApprovalLeadsToItsEvidence(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.says(t, "/runs/12", "Replaces v1.1.0, revision 4", "Evidence: test report · findings · SBOM · manifests")
	for _, target := range []string{"/runs/12", "/projects/shop/releases/delivery/v1.2.0"} {
		approval := one(t, parse(t, s.ask("GET", target, "").Body.String()), "approval")
		var hrefs []string
		for n := range approval.Descendants() {
			if href := attr(n, "href"); n.Data == "a" && !strings.HasPrefix(href, "/trace") {
				hrefs = append(hrefs, href)
			}
		}
		if len(hrefs) != 6 || !strings.HasPrefix(hrefs[0], "#gate-") || hrefs[2] != "/runs/12?step=test%2Fdelivery#tests" || hrefs[5] != "/runs/12/manifests?environment=production&service=delivery" {
			t.Errorf("%s: it leads to %v", target, hrefs)
		}
	}
}

// Of many approvals that wait in a run the first few are shown whole, and any other when its step is looked at.
func TestManyApprovals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.change(12, func() {
		d := s.detail(12)
		for i := range 40 {
			a := d.Approvals[0]
			a.ID, a.Service, a.Step, a.Diff = int64(500+i), fmt.Sprintf("more-%02d", i), fmt.Sprintf("approve/more-%02d@production", i), strings.Repeat(diffText, 100)
			d.Approvals = append(d.Approvals, a)
			d.Steps = append(d.Steps, step(slipway.KindApprove, a.Service, "production", slipway.StepWaiting, time.Second))
		}
	})
	s.says(t, "/runs/12", "delivery v1.2.0 waits for a person before production", "more-03 v1.2.0 waits for a person", "36 more wait for a person", "more-39 v1.2.0 before production")
	s.says(t, "/runs/12?step=approve/more-39@production", "more-39 v1.2.0 waits for a person before production", "36 more wait for a person")
	if n := s.ask("GET", "/runs/12", "").Body.Len(); n > 400_000 {
		t.Errorf("the page is %d bytes", n)
	}
}

// A run that went back by itself says at its top what runs now; what was reused says from where; reasons lead to the
// runs that they name; why nothing runs is unfolded.
func TestRunTellsItsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.change(11, func() {
		d := s.detail(11)
		for i := range d.Steps {
			if d.Steps[i].Spec.Kind == slipway.KindRollback {
				d.Steps[i].Spec.Rollback = &slipway.RollbackSpec{Automatic: true, From: slipway.Deployment{Version: "v1.1.1"}, To: slipway.Deployment{Version: "v1.1.0"}}
			}
		}
		s.detail(16).Run.Reason = "batched into run #15"
		reused := s.detail(19)
		reused.Steps[1].ReusedFrom = 3
		idle := s.detail(15)
		idle.Plan.Decisions = []slipway.Decision{{Service: "web", Reason: "skipped: no file under src/web changed"}}
	})
	s.says(t, "/runs/11", "Rolled back by itself: delivery in production runs v1.1.0 again, and it is healthy. v1.1.1 is in quarantine")
	s.says(t, "/runs/19", "build/delivery ✓ succeeded reused from #3")
	s.says(t, "/runs/15", "What runs and why (0 of 1 service)")
	for target, want := range map[string]string{"/runs/16": `batched into <a href="/runs/15">run #15</a>`, "/projects/shop/runs": `batched into <a href="/runs/15">run #15</a>`, "/runs/15": `<details class="decisions" open>`, "/runs/3": `<details class="decisions">`} {
		if !strings.Contains(s.ask("GET", target, "").Body.String(), want) {
			t.Errorf("%s has no %s", target, want)
		}
	}
	s.change(11, func() {
		for i, st := range s.detail(11).Steps {
			if st.Spec.Key == "verify-rollback/delivery@production" {
				s.detail(11).Steps[i].State = slipway.StepFailed
			}
		}
	})
	s.says(t, "/runs/11", "The rollback to v1.1.0 failed: see what delivery runs in production now")
}

// Of a gate that fails the link leads to the findings that it minds, and a failed test's long output is cut with a link to
// the whole.
func TestFailureLeadsToItsEvidence(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.ask("GET", "/runs/17", "").Body.String(); !strings.Contains(got, `href="/runs/17/findings?counts=1&amp;service=orders"`) {
		t.Error("no link to the findings that count")
	}
	s.says(t, "/runs/17/findings?counts=1&service=orders", "that fit, of 25 findings", "all 25")
	r := s.reports[key(5, "test/orders")]
	r.Suites[0].Cases[0].Output = strings.Repeat("a line of a log\n", 4000) + "the assertion"
	if got := s.text(t, "/runs/5?step=build/orders"); !strings.Contains(got, "… 3987 lines …") || !strings.Contains(got, "the assertion all that it wrote") {
		t.Errorf("it says %s", got)
	}
}

// A reason that a waiver let through until it ended says so: that is why it fails today and did not before.
func TestEndedWaiver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	over := slipway.Waiver{ID: 60, Project: "shop", Gate: slipway.GateVulnerabilities, Subject: "CVE-2025-0002 *", Author: "lin", Reason: "no fix yet", Expires: s.now.AddDate(0, 0, -2)}
	back := over
	back.ID, back.Subject, back.Expires, back.Withdrawn = 61, "CVE-2025-0003 *", s.now.AddDate(0, 0, 9), s.now.AddDate(0, 0, -1)
	other := over
	other.ID, other.Subject, other.Service = 62, "CVE-2025-0001 *", "web"
	s.supply.waivers = append(s.supply.waivers, over, back, other)
	s.says(t, "/runs/17", "CVE-2025-0002 lib2 critical, fixed in 1.2.4 /var/lib/dpkg/status more a waiver by lin ended 2026-11-19: no fix yet Waive …", "a waiver by lin was withdrawn 2026-11-20: no fix yet")
	if got := s.text(t, "/runs/17"); strings.Count(got, "a waiver by lin") != 4 { // at the top and in the list
		t.Errorf("it says %.3000s", got)
	}
}

// A page that is not there leads on within its project, one of nobody's project to the start; what does not answer now
// can be asked for again.
func TestErrorLeadsOn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target, want := range map[string]string{
		"/projects/shop/services/nope": "404 Not Found project shop has no service \"nope\" To the board of shop",
		"/projects/nope/pulls/x":       "To the start",
		"/projects/nope":               "To the start",
		"/runs/99":                     "To the start",
	} {
		s.says(t, target, want)
	}
	if got := s.text(t, "/projects/shop/services/nope"); !strings.Contains(got, "Board Runs Pull requests Releases Waivers Codebases") {
		t.Errorf("it says %s", got)
	}
	s.err = slipway.Errorf(slipway.Unavailable, "the database does not answer")
	if got := s.ask("GET", "/projects/shop/runs?state=failed", ""); got.Code != 503 || !strings.Contains(got.Body.String(), `<a href="/projects/shop/runs?state=failed">Try again</a>`) {
		t.Errorf("it is %d: %s", got.Code, got.Body)
	}
}
