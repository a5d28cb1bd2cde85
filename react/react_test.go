package react_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/react"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	commit = "1a2b3c41a2b3c41a2b3c41a2b3c41a2b3c41a2b3"
	url    = "http://slipway.test"
)

// world is a forge and what happened, in memory.
type world struct {
	mu         sync.Mutex
	events     []slipway.Event
	reacted    int64
	sent       map[string]string
	runs       []slipway.RunDetail // newest first
	reports    map[int64]slipway.TestReport
	pulls      map[int64]slipway.PullRequest
	command    *slipway.ForgeCommand
	asks       map[string]bool // of which codebases pull requests were asked; nil: not kept
	problem    string
	statuses   map[string]slipway.CommitStatus
	comments   map[string]slipway.PullComment
	calls      int
	fail       func(what string) error
	changed    chan struct{}
	now        time.Time // moved by what a round waits
	locked     error     // of every comment
	read       int64     // newest event that was read
	unreadable int64     // step whose report is
	gates      []slipway.GateResult
}

func newWorld() *world {
	return &world{sent: map[string]string{}, reports: map[int64]slipway.TestReport{}, pulls: map[int64]slipway.PullRequest{}, statuses: map[string]slipway.CommitStatus{},
		comments: map[string]slipway.PullComment{}, changed: make(chan struct{})}
}

func (w *world) Events(_ context.Context, after int64, f slipway.EventFilter) (out []slipway.Event, _ error) {
	for _, e := range w.events {
		if e.ID > after && e.Project == f.Project && len(out) < f.Limit {
			out = append(out, e)
			w.read = max(w.read, e.ID)
		}
	}
	return out, nil
}

func (w *world) Reacted(context.Context, string) (int64, error) { return w.reacted, nil }

func (w *world) SetReacted(_ context.Context, _ string, event int64) error {
	w.reacted = event
	return nil
}

func (w *world) Sent(_ context.Context, _, name string) (string, error) { return w.sent[name], nil }

func (w *world) SetSent(_ context.Context, _, name, sent string) error {
	w.sent[name] = sent
	return nil
}

func (w *world) Runs(_ context.Context, f slipway.RunFilter) (out []slipway.Run, _ error) {
	for _, d := range w.runs {
		if (f.Codebase == "" || f.Codebase == slipway.CodebaseKey(d.Run.Project, d.Run.Codebase)) && (f.Commit == "" || d.Run.Commit == f.Commit) && (f.Ref == "" || d.Run.Ref == f.Ref) {
			out = append(out, d.Run)
		}
	}
	return out[:min(len(out), f.Limit)], nil
}

func (w *world) Run(_ context.Context, id int64) (slipway.RunDetail, error) {
	for _, d := range w.runs {
		if d.Run.ID == id {
			return d, nil
		}
	}
	return slipway.RunDetail{}, slipway.Errorf(slipway.NotFound, "no run")
}

func (w *world) Report(_ context.Context, step int64) (slipway.TestReport, error) {
	if step == w.unreadable {
		return slipway.TestReport{}, errors.New("decode the report")
	}
	if r, ok := w.reports[step]; ok {
		return r, nil
	}
	return slipway.TestReport{}, slipway.Errorf(slipway.NotFound, "no report")
}

func (w *world) Gates(_ context.Context, f slipway.GateFilter) ([]slipway.GateResult, error) {
	if f.RunID == 0 || f.Project != "shop" {
		return nil, fmt.Errorf("asked for gates of %+v", f)
	}
	return slices.Clone(w.gates), nil
}

func (w *world) Pull(_ context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	if w.asks != nil {
		w.asks[codebase] = true
	}
	if p, ok := w.pulls[number]; ok {
		return p, nil
	}
	return slipway.PullRequest{}, slipway.Errorf(slipway.NotFound, "no pull request")
}

func (w *world) LastCommand(context.Context, string, int64) (slipway.ForgeCommand, bool, error) {
	if w.command == nil {
		return slipway.ForgeCommand{}, false, nil
	}
	return *w.command, true, nil
}

func (w *world) SetStatus(_ context.Context, s slipway.CommitStatus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.fail != nil {
		if err := w.fail(s.Context); err != nil {
			return err
		}
	}
	w.statuses[s.Commit[:7]+" "+s.Context] = s
	return s.Check()
}

func (w *world) Comment(_ context.Context, c slipway.PullComment) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.locked != nil {
		return "", w.locked
	}
	if c.ID == "" {
		c.ID = fmt.Sprint("c", len(w.comments)+1)
	}
	w.comments[c.ID] = c
	return c.ID, c.Check()
}

func (w *world) reactor() *react.Reactor {
	return react.New(react.Options{
		Events: w, Runs: w, Gates: w, URL: url, Watch: func() <-chan struct{} { return w.changed }, Pause: time.Millisecond, Now: func() time.Time { return w.now },
		Connect: func(context.Context, string) (react.Forge, error) { return w, nil },
		Problem: func(_ context.Context, _, problem string) error { w.problem = problem; return nil },
	})
}

// happened adds an event of a run or of a pull request.
func (w *world) happened(run, pull int64) {
	e := slipway.Event{ID: int64(len(w.events) + 1), Project: "shop", RunID: run}
	if pull != 0 {
		e.Data = json.RawMessage(fmt.Sprintf(`{"pull":%d}`, pull))
	}
	w.events = append(w.events, e)
}

func (w *world) round(t *testing.T, r *react.Reactor) time.Duration {
	t.Helper()
	wait, err := r.Round(t.Context(), "shop")
	if (wait != 0) != (err != nil) {
		t.Errorf("wait %s with %v", wait, err)
	}
	w.now = w.now.Add(wait)
	return wait
}

// shown is what the forge shows of a commit.
func (w *world) shown() string {
	var out []string
	for _, s := range w.statuses {
		out = append(out, fmt.Sprintf("%s %s: %s %s", s.Context, s.State, s.Description, strings.TrimPrefix(s.URL, url)))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func step(id int64, key string, state slipway.StepState, reason string) slipway.Step {
	kind, service, _ := strings.Cut(key, "/")
	return slipway.Step{ID: id, Spec: slipway.PlanStep{Key: key, Kind: slipway.StepKind(kind), Service: service}, State: state, Reason: reason}
}

// delivery is a run of pull request 3: cart runs, mail is skipped for a hostile reason.
func delivery(id int64, state slipway.RunState, steps ...slipway.Step) slipway.RunDetail {
	return slipway.RunDetail{
		Run: slipway.Run{ID: id, Project: "shop", Event: slipway.PullUpdate, Ref: "refs/pull/3/head", Commit: commit, Pull: 3, State: state},
		Plan: slipway.Plan{Decisions: []slipway.Decision{{Service: "mail", Reason: "skipped, only `<img src=x>|[a](http://evil.example) @all\x1b[31m` changed"},
			{Service: "cart", Runs: true, Reason: "runs: 1 file changed"}, {Service: "old", Removed: true, Reason: "is gone"}}},
		Steps:     steps,
		Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: "cart", Digest: "sha256:" + strings.Repeat("ab", 32)}},
	}
}

// What a commit's runs come to, in every state.
func TestStatuses(t *testing.T) {
	t.Parallel()
	const skipped = "slipway/mail success: skipped, only `<img src=x>|[a](http://evil.example) @all[31m` changed /runs/1"
	build := func(s slipway.StepState) slipway.Step { return step(1, "build/cart", s, "") }
	for name, c := range map[string]struct {
		runs   []slipway.RunDetail
		report slipway.TestReport
		want   string
	}{
		"under way": {runs: []slipway.RunDetail{delivery(1, slipway.RunRunning, build(slipway.StepSucceeded), step(2, "test/cart", slipway.StepRunning, ""))},
			want: "slipway pending: run #1 is under way /runs/1\nslipway/cart pending: under way /runs/1\n" + skipped},
		"planned": {runs: []slipway.RunDetail{{Run: delivery(1, slipway.RunQueued).Run}}, want: "slipway pending: run #1 is under way /runs/1"},
		"done": {runs: []slipway.RunDetail{delivery(1, slipway.RunSucceeded, build(slipway.StepSucceeded), step(2, "test/cart", slipway.StepSucceeded, ""))}, report: slipway.TestReport{Passed: 12},
			want: "slipway success: 1 service, 1 skipped /runs/1\nslipway/cart success: done, 12 tests passed /runs/1\n" + skipped},
		"red": {runs: []slipway.RunDetail{delivery(1, slipway.RunFailed, build(slipway.StepSucceeded), step(2, "test/cart", slipway.StepFailed, "2 tests failed"))}, report: slipway.TestReport{Passed: 10, Failed: 2},
			want: "slipway failure: test/cart failed: 2 tests failed /runs/1?step=test%2Fcart\nslipway/cart failure: 2 of 12 tests failed /runs/1?step=test%2Fcart\n" + skipped},
		"our trouble": {runs: []slipway.RunDetail{delivery(1, slipway.RunErrored, step(1, "build/cart", slipway.StepErrored, "no BuildKit"))},
			want: "slipway error: build/cart errored: no BuildKit /runs/1?step=build%2Fcart\nslipway/cart error: build errored: no BuildKit /runs/1?step=build%2Fcart\n" + skipped},
		"cancelled": {runs: []slipway.RunDetail{delivery(1, slipway.RunCancelled, build(slipway.StepCancelled))},
			want: "slipway error: cancelled /runs/1\nslipway/cart error: cancelled /runs/1\n" + skipped},
		"no plan": {runs: []slipway.RunDetail{{Run: delivery(1, slipway.RunFailed).Run, Steps: []slipway.Step{step(1, "plan", slipway.StepFailed, "slipway.yaml:3: no")}}},
			want: "slipway failure: plan failed: slipway.yaml:3: no /runs/1?step=plan"},
		"left to another run": {runs: []slipway.RunDetail{{Run: delivery(1, slipway.RunSucceeded).Run, Plan: slipway.Plan{Decisions: []slipway.Decision{{Service: "a", LeftTo: 7, Reason: "skipped, run #7 waits"}, {Service: "b", Reason: "skipped, y"}}}}},
			want: "slipway success: no service is affected; 1 service left to earlier runs, which wait for approvals /runs/1\nslipway/a success: skipped, run #7 waits /runs/7\nslipway/b success: skipped, y /runs/1"},
		"nothing affected": {runs: []slipway.RunDetail{{Run: delivery(1, slipway.RunSucceeded).Run, Plan: slipway.Plan{Decisions: []slipway.Decision{{Service: "a", Reason: "skipped, x"}, {Service: "b", Reason: "skipped, y"}}}}},
			want: "slipway success: no service is affected /runs/1\nslipway/a success: skipped, x /runs/1\nslipway/b success: skipped, y /runs/1"},
		"the worse of two": {runs: []slipway.RunDetail{
			{Run: slipway.Run{ID: 2, Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: commit, State: slipway.RunFailed}, Plan: slipway.Plan{Decisions: []slipway.Decision{{Service: "cart", Runs: true}}}, Steps: []slipway.Step{step(9, "build/cart", slipway.StepFailed, "")}},
			delivery(1, slipway.RunSucceeded, build(slipway.StepSucceeded))},
			want: "slipway failure: build/cart failed /runs/2?step=build%2Fcart\nslipway/cart failure: build failed /runs/2?step=build%2Fcart\n" + skipped},
		"of another codebase": {runs: []slipway.RunDetail{
			{Run: slipway.Run{ID: 2, Project: "shop", Codebase: "web", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: commit, State: slipway.RunFailed}},
			delivery(1, slipway.RunSucceeded, build(slipway.StepSucceeded))},
			want: "slipway success: 1 service, 1 skipped /runs/1\nslipway/cart success: done /runs/1\n" + skipped},
		"the newer of two": {runs: []slipway.RunDetail{delivery(4, slipway.RunSucceeded, build(slipway.StepSucceeded)), delivery(1, slipway.RunFailed, build(slipway.StepFailed))},
			want: strings.ReplaceAll("slipway success: 1 service, 1 skipped /runs/1\nslipway/cart success: done /runs/1\n"+skipped, "/runs/1", "/runs/4")},
	} {
		w := newWorld()
		w.runs = c.runs
		w.reports[2] = c.report
		w.happened(1, 0)
		w.round(t, w.reactor())
		if got := w.shown(); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
		for _, s := range w.statuses {
			if name != "the worse of two" && (s.Pull != 3 || s.Branch != "") {
				t.Errorf("%s: %s is of pull request %d and branch %q", name, s.Context, s.Pull, s.Branch)
			}
		}
	}
}

// The forge of each codebase is told of its own commits and pull requests, and of no other's, though their
// numbers and their events are the same.
func TestEachCodebaseIsToldOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b, c := strings.Repeat("a", 40), strings.Repeat("b", 40), strings.Repeat("c", 40)
	for key, want := range map[string]string{
		"shop":       "ccccccc slipway; shop/pulls/3 at ccccccc",
		"shop/pages": "bbbbbbb slipway; shop/pages/pulls/3 at bbbbbbb",
		"shop/web":   "aaaaaaa slipway; ",
		"shop/none":  "; ",
	} {
		w := newWorld()
		run := func(id, pull int64, codebase, hash string) {
			w.runs = append(w.runs, slipway.RunDetail{Run: slipway.Run{ID: id, Project: "shop", Codebase: codebase, Event: slipway.PullUpdate, Ref: "refs/pull/3/head", Pull: pull, Commit: hash, State: slipway.RunSucceeded}})
			w.happened(id, 0)
		}
		run(1, 0, "web", a)
		run(2, 3, "pages", b)
		run(3, 3, "", c)
		w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, State: slipway.PullOpen, Forge: true, Head: c}
		w.asks = map[string]bool{}
		if wait, err := w.reactor().Round(t.Context(), key); wait != 0 || err != nil || w.reacted != 3 {
			t.Errorf("%s: waits %s, %v; reacted to %d", key, wait, err, w.reacted)
		}
		got := strings.Join(slices.Sorted(maps.Keys(w.statuses)), ", ") + "; "
		for _, text := range w.comments {
			for asked := range w.asks {
				got += fmt.Sprintf("%s/pulls/%d at %s", asked, text.Pull, which(text.Text, a, b, c))
			}
			if text.Marker != "shop" {
				t.Errorf("%s: marked %s", key, text.Marker)
			}
		}
		if got != want {
			t.Errorf("%s is told of %q, want %q", key, got, want)
		}
	}
}

// which of some commits a text shows.
func which(text string, commits ...string) string {
	for _, c := range commits {
		if strings.Contains(text, c[:7]) {
			return c[:7]
		}
	}
	return "none"
}

// An event about a pull request of another codebase is not taken for one about this one's of that number.
func TestEventsNameTheirCodebase(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, State: slipway.PullOpen, Forge: true, Fork: true, Head: commit, Held: commit}
	w.events = append(w.events, slipway.Event{ID: 1, Project: "shop", Data: json.RawMessage(`{"pull":3,"codebase":"web"}`)})
	w.round(t, w.reactor())
	if len(w.statuses) != 0 || w.reacted != 1 {
		t.Errorf("told of %v, reacted to %d", w.statuses, w.reacted)
	}
	w.reacted = 0
	if _, err := w.reactor().Round(t.Context(), "shop/web"); err != nil || len(w.statuses) != 1 {
		t.Errorf("web is told of %v, %v", w.statuses, err)
	}
}

// The comment is made once and changed in place; what strangers wrote stays text.
func TestComment(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, State: slipway.PullOpen, Forge: true, Head: commit}
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunRunning, step(1, "build/cart", slipway.StepRunning, ""))}
	r := w.reactor()
	w.happened(1, 0)
	w.round(t, r)
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""), step(2, "test/cart", slipway.StepSucceeded, ""))}
	w.reports[2] = slipway.TestReport{Passed: 12}
	w.command = &slipway.ForgeCommand{Text: "retry", Author: "ada", Answer: "run #1 is retried"}
	w.happened(1, 3)
	w.round(t, r)
	if len(w.comments) != 1 {
		t.Fatalf("comments %+v", w.comments)
	}
	want := "**Slipway**: [run #1](" + url + "/runs/1) of `1a2b3c4` succeeded.\n\n" +
		"| Service | State | Tests | Image |\n|---|---|---|---|\n" +
		"| `cart` | success | 12 tests passed | `sha256:" + strings.Repeat("ab", 32) + "` |\n" +
		"| `mail` | skipped, only &#96;&#60;img src&#61;x&#62;&#124;&#91;a&#93;(http&#58;\u200c&#47;&#47;evil&#46;example) &#64;\u200call&#91;31m&#96; changed |  |  |\n\n" +
		"`/slipway retry` of ada: run &#35;\u200c1 is retried\n"
	if got := w.comments["c1"]; got.Text != want || got.Marker != "shop" || got.Pull != 3 {
		t.Errorf("comment %+v\n%s\nwant\n%s", got, got.Text, want)
	}
	before := w.calls
	w.happened(1, 3)
	w.round(t, r)
	if w.calls != before {
		t.Errorf("%d calls for what the forge knows", w.calls-before)
	}
}

// What gates fail for, warn of and what a waiver lets through stands in the comment, and what strangers wrote of it
// stays text.
func TestCommentTellsOfGates(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, State: slipway.PullOpen, Forge: true, Head: commit}
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	waiver := &slipway.Waiver{Author: "bob", Reason: "see @all", Expires: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}
	w.gates = []slipway.GateResult{
		{Gate: "tests", Service: "cart", Verdict: slipway.Warn, Summary: "12 passed, 1 flaky", Reasons: []slipway.GateReason{{Verdict: slipway.Warn, Subject: "a/b"}}},
		{Gate: "secrets", Service: "cart", Verdict: slipway.Pass, Summary: "none found"},
		{Gate: "vulnerabilities", Service: "cart", Verdict: slipway.Pass, Summary: "none that count, 1 waived until 2027-02-01",
			Reasons: []slipway.GateReason{{Verdict: slipway.Pass, Subject: "CVE-1 `x`", Waiver: waiver}}},
		{Gate: "manifests", Service: "cart", Environment: "production", Verdict: slipway.Fail, Summary: "1 failure (probes)"},
	}
	r := w.reactor()
	w.happened(1, 3)
	w.round(t, r)
	want := "\n**Gates**\n\n" +
		"- **fail** `manifests` of `cart` for `production`: 1 failure (probes)\n" +
		"- pass `vulnerabilities` of `cart`: none that count, 1 waived until 2027-02-01\n" +
		"  - waived until 2027-02-01 by bob: `CVE-1 ?x?`: see &#64;\u200call\n" +
		"- warn `tests` of `cart`: 12 passed, 1 flaky\n"
	if got := w.comments["c1"].Text; !strings.HasSuffix(got, want) {
		t.Errorf("comment\n%s\nwant at its end\n%s", got, want)
	}
	many := w.gates[2]
	for range 30 {
		many.Reasons = append(many.Reasons, many.Reasons[0])
	}
	w.gates = slices.Repeat([]slipway.GateResult{many}, 30)
	w.happened(1, 3)
	w.round(t, r)
	got := w.comments["c1"].Text
	if n := strings.Count(got, "waived until 2027-02-01 by bob"); n != 20 || strings.Count(got, "- pass") != 20 || !strings.Contains(got, "- all are on [the page of the run]("+url+"/runs/1#gates)") {
		t.Errorf("%d waived reasons:\n%s", n, got)
	}
	w.gates = w.gates[:0]
	w.happened(1, 3)
	w.round(t, r)
	if got := w.comments["c1"].Text; strings.Contains(got, "Gates") {
		t.Errorf("comment %s", got)
	}
}

// A fork's head that waits says so, until it runs.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, State: slipway.PullOpen, Forge: true, Fork: true, Head: commit, Held: commit}
	r := w.reactor()
	w.happened(0, 3)
	w.round(t, r)
	if got, want := w.shown(), "slipway pending: of a fork: runs when a member comments /slipway approve /projects/shop/pulls"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
	if text := w.comments["c1"].Text; !strings.Contains(text, "`/slipway approve 1a2b3c4`") {
		t.Errorf("comment %s", text)
	}
}

// While the forge is in trouble, everything waits, and nothing is told twice.
func TestTroubleOfTheForge(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	r := w.reactor()
	w.happened(1, 0)
	var fails error
	w.fail = func(what string) error {
		if what == "slipway/cart" {
			return fails
		}
		return nil
	}
	fails = later{slipway.Errorf(slipway.Unavailable, "too many requests")}
	if wait := w.round(t, r); wait != 40*time.Second || w.reacted != 0 || w.problem != "" {
		t.Errorf("waits %s at event %d with problem %q", wait, w.reacted, w.problem)
	}
	fails = slipway.Errorf(slipway.Unavailable, "no answer")
	w.round(t, r)
	if first, second := w.round(t, r), w.round(t, r); second <= first || second > 5*time.Minute {
		t.Errorf("waits %s, then %s", first, second)
	}
	fails = nil
	if wait := w.round(t, r); wait != 0 || w.reacted != 1 || w.calls != 1+4+2 {
		t.Errorf("waits %s at event %d after %d calls:\n%s", wait, w.reacted, w.calls, w.shown())
	}
}

// One thing that the forge does not take, such as a status of a commit that is gone, holds up nothing else: it is
// tried every five minutes for an hour and then given up. Until then the cursor waits for it.
func TestRefusedHoldsUpNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, Forge: true, State: slipway.PullOpen, Topic: "feature"}
	r := w.reactor()
	w.happened(1, 3)
	gone := slipway.Errorf(slipway.NotFound, "404 References for commit Not Found")
	tries := 0
	w.fail = func(what string) error {
		if what == "slipway/cart" {
			tries++
			return gone
		}
		return nil
	}
	if wait := w.round(t, r); wait != 5*time.Minute || w.reacted != 0 || w.problem != gone.Error() || len(w.comments) != 1 || !strings.Contains(w.shown(), "slipway/mail success") {
		t.Fatalf("waits %s at event %d with problem %q and %d comments:\n%s", wait, w.reacted, w.problem, len(w.comments), w.shown())
	}
	w.now = w.now.Add(-4 * time.Minute) // what happens meanwhile is told at once, and what was refused not tried again
	w.happened(1, 0)
	if wait := w.round(t, r); wait != 4*time.Minute || tries != 1 {
		t.Errorf("waits %s after %d tries", wait, tries)
	}
	for rounds := 0; w.round(t, r) != 0; rounds++ {
		if rounds > 20 {
			t.Fatal("never given up")
		}
	}
	if tries != 12 || w.reacted != 2 {
		t.Errorf("given up after %d tries at event %d", tries, w.reacted)
	}
	other := w.reactor() // a restart before that tries again, what was told is told once
	w.reacted, tries, w.calls = 0, 0, 0
	if w.round(t, other); tries != 1 || w.calls != 1 {
		t.Errorf("%d calls after a restart", w.calls)
	}
}

// A token that may not set statuses is asked once in five minutes, may still comment, and is asked for as long as
// it takes; with a new one everything is told.
func TestForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, Forge: true, State: slipway.PullOpen, Topic: "feature"}
	r := w.reactor()
	w.happened(1, 3)
	fails := slipway.Errorf(slipway.Forbidden, "the token may not")
	w.fail = func(string) error { return fails }
	for range 20 {
		if wait := w.round(t, r); wait != 5*time.Minute || w.problem != "the token may not" || w.reacted != 0 {
			t.Fatalf("waits %s at event %d with problem %q", wait, w.reacted, w.problem)
		}
	}
	if w.calls != 20+1 || len(w.comments) != 1 {
		t.Errorf("%d calls, %d comments", w.calls, len(w.comments))
	}
	w.fail = nil
	if wait := w.round(t, r); wait != 0 || w.reacted != 1 || w.problem != "" || len(w.statuses) != 3 || w.statuses["1a2b3c4 slipway"].Branch != "feature" {
		t.Errorf("waits %s at event %d with problem %q:\n%s", wait, w.reacted, w.problem, w.shown())
	}
}

// A comment that the token may not write where it may set statuses, as on a pull request that is locked, is given up
// after a day.
func TestLocked(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, Forge: true, State: slipway.PullOpen}
	r := w.reactor()
	w.happened(1, 3)
	w.locked = slipway.Errorf(slipway.Forbidden, "the conversation is locked")
	began := w.now
	for w.round(t, r) != 0 {
		if w.now.Sub(began) > 48*time.Hour {
			t.Fatal("never given up")
		}
	}
	if past := w.now.Sub(began); past != 24*time.Hour || w.reacted != 1 || len(w.statuses) != 3 {
		t.Errorf("given up after %s at event %d", past, w.reacted)
	}
}

// What was refused and is not to be told any more, as its run is gone, is forgotten.
func TestRefusedAndGone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	r := w.reactor()
	w.happened(1, 0)
	w.fail = func(string) error { return slipway.Errorf(slipway.NotFound, "no such commit") }
	if wait := w.round(t, r); wait != 5*time.Minute || w.reacted != 0 {
		t.Fatalf("waits %s at event %d", wait, w.reacted)
	}
	w.runs = nil
	if wait := w.round(t, r); wait != 0 || w.reacted != 1 {
		t.Errorf("waits %s at event %d", wait, w.reacted)
	}
}

type later struct{ error }

func (later) RetryAfter() time.Duration { return 40 * time.Second }
func (l later) Unwrap() error           { return l.error }

// A kill between telling and keeping tells again, the same.
func TestToldAgainAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.happened(1, 0)
	w.round(t, w.reactor())
	shown, calls := w.shown(), w.calls
	w.reacted = 0
	delete(w.sent, "status "+commit+" slipway/cart")
	w.round(t, w.reactor())
	if w.shown() != shown || w.calls != calls+1 {
		t.Errorf("%d calls more:\n%s", w.calls-calls, w.shown())
	}
}

// Follow goes on by itself, and ends with its context.
func TestFollow(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.happened(1, 0)
	told := make(chan struct{}, 10)
	w.fail = func(string) error { told <- struct{}{}; return nil }
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.reactor().Follow(ctx, "shop", nil)
	}()
	for range 3 {
		<-told
	}
	cancel(errors.New("the end"))
	<-ended
}
