package web_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// world is what the pages show in these tests: it stands in for everything that the UI calls.
type world struct {
	now time.Time

	mu        sync.Mutex
	runs      []*slipway.RunDetail // oldest first
	boards    map[string]*slipway.Board
	releases  []slipway.Release
	pulls     []slipway.PullRequest
	history   []slipway.Deployment
	reports   map[string]slipway.TestReport
	logs      map[string][]slipway.LogLine
	events    []slipway.Event
	changed   chan struct{}
	codes     map[string]bool // one-time codes not used yet
	asked     []string        // what the buttons did
	err       error           // what every read answers with, when set
	forbidden bool            // every button
	full      bool            // no more streams
	ended     atomic.Bool     // every session
	left      chan struct{}   // a stream was left
	supply                    // what gates said and saw
}

const session = "a-session"

func newWorld(now time.Time) *world {
	w := &world{
		now: now, left: make(chan struct{}, 1000), boards: map[string]*slipway.Board{}, reports: map[string]slipway.TestReport{}, logs: map[string][]slipway.LogLine{},
		changed: make(chan struct{}), codes: map[string]bool{"one-time": true},
	}
	w.fill()
	return w
}

// options wires the world to the UI.
func (w *world) options() web.Options {
	return web.Options{Reads: w, Lists: w, Deliveries: w, Pulls: w, Evidence: w, Images: w, Waivers: w, Codebases: w, Tests: w, Streams: w, Identity: w,
		May: func(by slipway.User, _, _ string) bool { return by.Name != "eve" }}
}

// happen records an event and tells everybody who watches.
func (w *world) happen(run int64, kind, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(slipway.Event{Project: "shop", RunID: run, Kind: kind, Message: message, Time: w.now})
}

func (w *world) tell(e slipway.Event) {
	e.ID = int64(len(w.events) + 1)
	w.events = append(w.events, e)
	close(w.changed)
	w.changed = make(chan struct{})
}

// happenIn tells who watches a project that something happened.
func (w *world) happenIn(project string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(slipway.Event{Project: project, Kind: "step.changed", Time: w.now})
}

// change changes the world and tells that run about it.
func (w *world) change(run int64, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	w.tell(slipway.Event{Project: "shop", RunID: run, Kind: "step.changed"})
}

func (w *world) Board(_ context.Context, by slipway.User, project string) (slipway.Board, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return slipway.Board{}, w.err
	}
	b, ok := w.boards[project]
	if !ok {
		return slipway.Board{}, slipway.Errorf(slipway.NotFound, "project %q does not exist, or you have no role in it", project)
	}
	return *b, nil
}

func (w *world) Runs(_ context.Context, _ slipway.User, f slipway.RunFilter) ([]slipway.Run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.Limit = cmp.Or(f.Limit, 50); w.err != nil {
		return nil, w.err
	}
	var out []slipway.Run
	for _, d := range slices.Backward(w.runs) {
		r := d.Run
		of := f.Service == "" || r.Service == f.Service || slices.ContainsFunc(d.Steps, func(s slipway.Step) bool { return s.Spec.Service == f.Service })
		if of && (f.Project == "" || r.Project == f.Project) && (f.State == "" || r.State == f.State) && strings.HasPrefix(r.Commit, f.Commit) && (f.Before == 0 || r.ID < f.Before) {
			out = append(out, r)
		}
		if len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

func (w *world) Run(_ context.Context, _ slipway.User, id int64) (slipway.RunDetail, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return slipway.RunDetail{}, w.err
	}
	d := w.detail(id)
	if d == nil {
		return slipway.RunDetail{}, slipway.Errorf(slipway.NotFound, "run #%d does not exist, or you have no role in its project", id)
	}
	out := *d
	out.Steps = slices.Clone(d.Steps)
	return out, nil
}

func (w *world) detail(id int64) *slipway.RunDetail {
	for _, d := range w.runs {
		if d.Run.ID == id {
			return d
		}
	}
	return nil
}

func (w *world) Trace(_ context.Context, _ slipway.User, project, query string) (slipway.Trace, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if query == "main" && project == "" {
		return slipway.Trace{}, slipway.Errorf(slipway.Conflict, "%q is in more than one project: big, shop; choose one", query)
	}
	if query == "main" && project == "shop" {
		return slipway.Trace{Query: query, Matched: []string{"branch"}, Project: "shop"}, nil
	}
	t := slipway.Trace{Query: query, Matched: []string{"image", "tag"}, Project: "shop"}
	for _, d := range w.runs {
		if d.Run.Service == "delivery" && (query == d.Run.Version || slices.ContainsFunc(d.Artifacts, func(a slipway.Artifact) bool { return a.Digest == query })) {
			t.Runs, t.Artifacts, t.Deployments, t.Approvals = append(t.Runs, d.Run), append(t.Artifacts, d.Artifacts...), append(t.Deployments, d.Deployments...), append(t.Approvals, d.Approvals...)
			t.Commits = append(t.Commits, d.Run.Commit)
		}
	}
	for _, r := range w.releases {
		if r.ImageDigest == query || r.Version == query {
			t.Releases = append(t.Releases, r)
		}
	}
	if len(t.Runs) == 0 {
		return slipway.Trace{}, slipway.Errorf(slipway.NotFound, "%q is no commit, branch, tag, digest, version, run, revision or image that Slipway knows", query)
	}
	return t, nil
}

func key(run int64, step string) string { return fmt.Sprintf("%d/%s", run, step) }

func (w *world) Report(_ context.Context, _ slipway.User, run int64, step string) (slipway.TestReport, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.reports[key(run, step)]
	if !ok {
		return r, slipway.Errorf(slipway.NotFound, "no report")
	}
	return r, nil
}

func (w *world) Projects(context.Context, slipway.User) ([]slipway.Project, error) {
	return []slipway.Project{{Name: "shop", DefaultBranch: "main"}, {Name: "big", DefaultBranch: "trunk", GitURL: "https://git.example/team/big.git"}, {Name: "new", DefaultBranch: "main"}}, nil
}

func (w *world) Pulls(_ context.Context, _ slipway.User, project string) ([]slipway.PullRequest, error) {
	var out []slipway.PullRequest
	for _, p := range w.pulls {
		if p.Project == project {
			out = append(out, p)
		}
	}
	return out, nil
}

func (w *world) Releases(_ context.Context, _ slipway.User, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []slipway.Release
	for _, r := range w.releases {
		fits := r.Project == f.Project && (f.Service == "" || r.Service == f.Service) && strings.Contains(r.Service, f.Named) && (f.Version == "" || r.Version == f.Version)
		if fits && (!f.Quarantined || r.Quarantined != "") && (f.Before == 0 || r.ID < f.Before) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b slipway.Release) int { return cmp.Compare(b.ID, a.ID) })
	if f.Quarantined {
		return out, nil
	}
	return out[:min(len(out), cmp.Or(f.Limit, 100), slipway.MostReleases)], nil
}

func (w *world) History(_ context.Context, _ slipway.User, project, environment, service string) ([]slipway.Deployment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []slipway.Deployment
	for _, d := range w.history {
		if d.Target.Project == project && d.Target.Environment == environment && d.Target.Service == service {
			out = append(out, d)
		}
	}
	return out, nil
}

// did records what a button does.
func (w *world) did(by slipway.User, format string, args ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forbidden {
		return slipway.Errorf(slipway.Forbidden, "%s is a viewer of shop: that takes an approver", by.Name)
	}
	w.asked = append(w.asked, by.Name+" "+fmt.Sprintf(format, args...))
	return nil
}

func (w *world) Vote(_ context.Context, by slipway.User, approval int64, approve bool, reason string) (slipway.Approval, error) {
	if reason == "" {
		return slipway.Approval{}, slipway.Errorf(slipway.Invalid, "say why: a reason is kept with the decision")
	}
	return slipway.Approval{RunID: 12}, w.did(by, "votes %v on %d: %s", approve, approval, reason)
}

func (w *world) CancelRun(_ context.Context, by slipway.User, run int64, reason string) (slipway.Run, error) {
	return slipway.Run{ID: run}, w.did(by, "cancels %d: %s", run, reason)
}

func (w *world) RetryRun(_ context.Context, by slipway.User, run int64) (slipway.Run, error) {
	return slipway.Run{ID: run}, w.did(by, "retries %d", run)
}

func (w *world) Rollback(_ context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error) {
	return slipway.Run{ID: 9}, w.did(by, "rolls back %s in %s to %s: %s", r.Service, r.Environment, r.To, r.Reason)
}

func (w *world) LiftQuarantine(_ context.Context, by slipway.User, _, service, version string) (slipway.Release, error) {
	return slipway.Release{}, w.did(by, "lifts %s %s", service, version)
}

func called(codebase string, number int64) string {
	_, name := slipway.SplitCodebase(codebase)
	return slipway.PullName(name, number)
}

func (w *world) Merge(_ context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error) {
	return slipway.PullRequest{}, w.did(by, "merges %s", called(codebase, number))
}

func (w *world) ReviewPull(_ context.Context, by slipway.User, codebase string, number int64, head string) (slipway.PullRequest, error) {
	return slipway.PullRequest{}, w.did(by, "approves %s at %s", called(codebase, number), head)
}

func (w *world) ClosePull(_ context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error) {
	return slipway.PullRequest{}, w.did(by, "closes %s", called(codebase, number))
}

func (w *world) Enter(slipway.User) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if w.full {
		return nil, slipway.Errorf(slipway.TooMany, "too many streams: close some pages")
	}
	return func() { w.left <- struct{}{} }, nil
}

func (w *world) Log(ctx context.Context, _ slipway.User, run int64, step string, follow bool, line func(slipway.LogLine) error) error {
	for read := 0; ; {
		w.mu.Lock()
		lines, changed, broken := w.logs[key(run, step)], w.changed, w.err
		d, over := w.detail(run), true
		if d != nil {
			for _, s := range d.Steps {
				over = over && (s.Spec.Key != step || s.State.Final() || s.State == slipway.StepWaiting)
			}
		}
		w.mu.Unlock()
		if broken != nil {
			return broken
		}
		for ; read < len(lines); read++ {
			if err := line(lines[read]); err != nil {
				return err
			}
		}
		if over || !follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *world) Events(_ context.Context, _ slipway.User, project string, after int64) ([]slipway.Event, int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := int64(len(w.events))
	if w.err != nil {
		return nil, 0, w.err
	}
	if project != "" && w.boards[project] == nil {
		return nil, after, slipway.Errorf(slipway.NotFound, "project %q does not exist, or you have no role in it", project)
	}
	if after >= last {
		return nil, last, nil
	}
	return slices.Clone(w.events[after:]), last, nil
}

func (w *world) Changed() (<-chan struct{}, func()) {
	out, done := make(chan struct{}, 1), make(chan struct{})
	var once sync.Once
	w.mu.Lock()
	changed := w.changed
	w.mu.Unlock()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			w.mu.Lock()
			changed = w.changed
			w.mu.Unlock()
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { once.Do(func() { close(done) }) }
}

// Identify knows the session, and by name the viewer eve.
func (w *world) Identify(r *http.Request) (slipway.User, error) {
	c, err := r.Cookie(web.SessionCookie)
	switch {
	case err != nil, w.ended.Load():
		return slipway.User{}, nil
	case c.Value == session:
		return slipway.User{Name: "bob"}, nil
	case c.Value == "eve":
		return slipway.User{Name: "eve"}, nil
	case c.Value == "broken":
		return slipway.User{}, w.err
	case c.Value == "down":
		return slipway.User{}, slipway.Errorf(slipway.Unavailable, "the database does not answer")
	}
	return slipway.User{}, slipway.Errorf(slipway.Unauthorized, "the session has ended")
}

func (w *world) SignIn(_ context.Context, token, code string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case code != "" && w.codes[code]:
		delete(w.codes, code)
		return session, nil
	case code != "":
		return "", slipway.Errorf(slipway.Unauthorized, "this link was used, or its time is over: ask for a new one")
	case strings.HasPrefix(token, "slw_"):
		return session, nil
	}
	return "", slipway.Errorf(slipway.Unauthorized, "this is not a token of Slipway")
}

func (w *world) SignOut(context.Context, string) error { return nil }

// Project has codebases that are connected in every way, and broken in some.
func (w *world) Project(_ context.Context, _ slipway.User, project string) (slipway.ProjectDetail, error) {
	if w.boards[project] == nil {
		return slipway.ProjectDetail{}, slipway.Errorf(slipway.NotFound, "project %q does not exist, or you have no role in it", project)
	}
	d := slipway.ProjectDetail{Project: slipway.Project{Name: project, DefaultBranch: "main"}, CodebaseDetail: slipway.CodebaseDetail{Codebase: slipway.Codebase{Project: project, DefaultBranch: "main"}}}
	if project != "shop" {
		return d, nil
	}
	key := func(name string) *slipway.DeployKey {
		return &slipway.DeployKey{Codebase: "shop/" + name, Public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + hex(40, name) + " slipway", Hosts: "git.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDEx", Accepted: true, CreatedAt: w.now.Add(-48 * time.Hour)}
	}
	of := func(name, url string) slipway.CodebaseDetail {
		return slipway.CodebaseDetail{Codebase: slipway.Codebase{Project: "shop", Name: name, DefaultBranch: "main", GitURL: url}, Poll: &slipway.Poll{Time: w.now.Add(-40 * time.Second)}}
	}
	good := of("pages", "https://git.example/team/pages.git")
	good.Connection, good.Link, good.HookURL, good.Forks = &slipway.Connection{Project: "shop", Codebase: "pages", Forge: slipway.Gitea, Repository: "team/pages", Credential: "c", HookIDs: []string{"1"}}, "https://git.example/team/pages", "https://slipway.example/hooks/shop/pages", slipway.ForksApprove
	good.Health = &slipway.ForgeHealth{Delivered: w.now.Add(-3 * time.Minute), Waiting: 2}
	bad := of("search", "https://git.example/team/search.git")
	shared := *good.Connection
	shared.Codebase, shared.Shared, shared.HookIDs = "search", true, nil
	bad.Connection, bad.HookURL, bad.Poll.Problem = &shared, "https://slipway.example/hooks/shop/search", "git.example answers 401 "+script
	bad.Health = &slipway.ForgeHealth{Problems: []slipway.ForgeProblem{{Area: "write", Message: "it refuses commit statuses: 403 " + esc}}, Since: w.now.Add(-2 * time.Hour), Behind: 7}
	keyed := of("keyed", "ssh://git@git.example/team/keyed.git")
	keyed.DeployKey = key("keyed")
	keyed.DeployKey.Problem, keyed.Poll.Problem = "git.example refuses the deploy key", "git.example refuses the deploy key"
	fresh := of("fresh", "ssh://git@git.example/team/fresh.git")
	fresh.DeployKey, fresh.Poll = key("fresh"), &slipway.Poll{Since: w.now.Add(-5 * time.Second)}
	fresh.DeployKey.Accepted = false
	d.Codebases = []slipway.CodebaseDetail{fresh, keyed, of("mirror", "https://git.example/open/mirror.git"), good, bad}
	return d, nil
}
