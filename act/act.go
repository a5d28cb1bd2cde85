// Package act is what people may ask Slipway for: push, merge, approve, reject, waive, roll back, retry,
// cancel, and keep projects, codebases, users, keys and clusters. Every act names who asks, asks auth whether they
// may, and is done through conditional changes of the store, so that two at once cannot both win. The
// API, the web UI and the git server all go through here; it does nothing by itself: every act
// has somebody who asked.
package act

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Runs is where runs are kept.
type Runs interface {
	CreateRun(ctx context.Context, r slipway.Run, p slipway.Plan) (slipway.Run, error)
	Run(ctx context.Context, id int64) (slipway.RunDetail, error)
	Runs(ctx context.Context, f slipway.RunFilter) ([]slipway.Run, error)
	CancelRun(ctx context.Context, id int64, actor, cause string) error
	// RetryRun runs again what did not succeed, with the steps of these keys whose results are lost.
	RetryRun(ctx context.Context, id int64, actor string, lost ...string) error
}

// Approvals is where approvals are kept.
type Approvals interface {
	Approval(ctx context.Context, id int64) (slipway.Approval, error)
	// Vote counts a vote on a waiting approval; the stricter of the recorded policy and now holds.
	Vote(ctx context.Context, id int64, v slipway.Vote, now slipway.Approvals) (slipway.Approval, error)
}

// Deployments is where deployments and releases are kept.
type Deployments interface {
	// Deployments lists deployments, newest first.
	Deployments(ctx context.Context, f slipway.DeploymentFilter) ([]slipway.Deployment, error)
	// Claim is the commit that has a version of a service, "" when the version is free.
	Claim(ctx context.Context, project, service, version string) (string, error)
	Release(ctx context.Context, project, service, version string) (slipway.Release, error)
	// Releases lists releases, newest first.
	Releases(ctx context.Context, f slipway.ReleaseFilter) ([]slipway.Release, error)
	// Released lists the newest deployment of each release to each environment, of those whose ID is within first and last.
	Released(ctx context.Context, project string, first, last int64) ([]slipway.Deployment, error)
}

// Quarantines is where it is kept which versions must not be deployed.
type Quarantines interface {
	// Quarantined says why a version must not be deployed, "" when it may.
	Quarantined(ctx context.Context, project, service, version string) (string, error)
	// Quarantines says it of all versions of a service, or with "" of all services.
	Quarantines(ctx context.Context, project, service string) (slipway.Quarantines, error)
	LiftQuarantine(ctx context.Context, project, service, version, actor string) error
}

// Pushes is where pushes are recorded: before the refs move (Record), and as moved (Accept) or not
// (Refuse). Accept of an accepted push returns its run again.
type Pushes interface {
	RecordPush(ctx context.Context, p slipway.Push) (slipway.Push, error)
	AcceptPush(ctx context.Context, id int64, run *slipway.Run, plan slipway.Plan, message string) (slipway.Run, error)
	RefusePush(ctx context.Context, id int64, reason string) error
	OpenPushes(ctx context.Context) ([]slipway.Push, error)
	// PushPassed reports whether a push of the same ref that came later was accepted.
	PushPassed(ctx context.Context, p slipway.Push) (bool, error)
}

// Pulls is where pull requests are kept.
type Pulls interface {
	// OpenPull opens a pull request or brings the open one of that author, base and topic up to
	// date; it reports whether it is new.
	OpenPull(ctx context.Context, p slipway.PullRequest) (slipway.PullRequest, bool, error)
	// Pull is the one that has a number in a codebase, given by its key.
	Pull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error)
	// PullsOf are those that have a number in a project.
	PullsOf(ctx context.Context, project string, number int64) ([]slipway.PullRequest, error)
	// Pulls lists those of a project in a state, or all with state "".
	Pulls(ctx context.Context, project string, state slipway.PullState) ([]slipway.PullRequest, error)
	// ReviewPull counts somebody's approval of a head; another head than the pull request's is a Conflict.
	ReviewPull(ctx context.Context, codebase string, number int64, head, reviewer string) (slipway.PullRequest, error)
}

// Held is where heads of forks wait for a member's approval to run.
type Held interface {
	RunHeld(ctx context.Context, codebase string, number int64, head, actor string, run slipway.Run, plan slipway.Plan) (slipway.Run, error)
}

// PullEnds is where it is recorded how pull requests end, by the keys of their codebases.
type PullEnds interface {
	MergePull(ctx context.Context, codebase string, number int64, head, mergedAs, actor string) (slipway.PullRequest, error)
	ClosePull(ctx context.Context, codebase string, number int64, actor string) (slipway.PullRequest, error)
}

// Projects is where projects are kept.
type Projects interface {
	CreateProject(ctx context.Context, p slipway.Project, actor string) (slipway.Project, error)
	Project(ctx context.Context, name string) (slipway.Project, error)
	Projects(ctx context.Context) ([]slipway.Project, error)
}

// Repo is the repository of a codebase.
type Repo interface {
	// Refs returns the refs below the prefixes (whole path parts) with the hashes they hold.
	Refs(ctx context.Context, prefixes ...string) (map[string]string, error)
	// IsAncestor reports whether commit holds all of ancestor; one that is not there is NotFound.
	IsAncestor(ctx context.Context, ancestor, commit string) (bool, error)
	// Subject is the first line of a commit's message, and when it was committed.
	Subject(ctx context.Context, commit string) (string, time.Time, error)
	// Merge makes a merge commit of head into base and returns it; a conflict is a Conflict error
	// that names the paths. No ref moves.
	Merge(ctx context.Context, base, head, message, author string) (string, error)
	// UpdateRef moves a ref from old to new, or fails with a Conflict.
	UpdateRef(ctx context.Context, ref, new, old string) error
}

// Options is what acts are done with.
type Options struct {
	Runs        Runs
	Approvals   Approvals
	Deployments Deployments
	Quarantines Quarantines
	Pushes      Pushes
	Pulls       Pulls
	PullEnds    PullEnds
	Projects    Projects
	Waivers     Waivers
	Codebases   Codebases // nil: no project has further ones
	// Member is a user by name, with the roles of now; NotFound when there is none any more.
	Member func(ctx context.Context, name string) (slipway.User, error)
	// Held lets runs of forks begin that wait for a member; nil: there is no forge.
	Held    Held
	Planner *Planner
	// Repo opens the repository of a codebase, by its key.
	Repo func(codebase string) Repo
	// Create makes the repository of a new codebase, for the codebase as it returns it (its default
	// branch may be for the repository to say). It is nobody's until keep is called, which is when
	// the codebase is recorded; what was made and not kept does not stand in the way of another try.
	Create func(ctx context.Context, c slipway.Codebase) (made slipway.Codebase, keep func() error, err error)
	// Discard puts the repository of a codebase that was removed out of the way; nil: it is left.
	Discard func(c slipway.Codebase) error
	// Kept reports whether a file that a step of a run left in its workspace is still there. Default:
	// every file is.
	Kept func(path string) bool
	// Observer looks at what runs; nil: boards show what Slipway deployed, and nothing else.
	Observer *Observer
	URL      string // of this server, for links in messages
	Log      *slog.Logger
	Now      func() time.Time
}

// Actions does them. Its methods are safe for concurrent use.
type Actions struct {
	o Options

	mu    sync.Mutex
	locks map[string]*sync.Mutex // by project; those of refs share a few
	late  []slipway.Push         // moved, and not recorded as moved yet
}

// New returns actions over o.
func New(o Options) *Actions {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Kept == nil {
		o.Kept = func(string) bool { return true }
	}
	return &Actions{o: o, locks: map[string]*sync.Mutex{}}
}

// lock keeps two acts from working on the pull requests of a project, or on its making, or on the pushes of a
// ref, at once.
func (x *Actions) lock(project string) (unlock func()) {
	x.mu.Lock()
	l := x.locks[project]
	if l == nil {
		l = &sync.Mutex{}
		x.locks[project] = l
	}
	x.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// tip is the hash that a ref holds, the zero hash when it does not exist.
func tip(ctx context.Context, repo Repo, ref string) (string, error) {
	refs, err := repo.Refs(ctx, ref)
	return first(refs[ref], slipway.ZeroHash), err
}

const (
	maxReason = 2000 // bytes
	maxTitle  = 200  // characters
)

func checkReason(s string) (string, error) {
	if s = strings.TrimSpace(s); len(s) > maxReason {
		return s, slipway.Errorf(slipway.Invalid, "the reason has %d characters: at most %d", len(s), maxReason)
	}
	return s, nil
}

// title is the first line of what somebody wrote, cut.
func title(s string) string { return slipway.Clip(s, maxTitle) }

// run returns a run that the user may do a to.
func (x *Actions) run(ctx context.Context, by slipway.User, a auth.Action, id int64) (slipway.RunDetail, error) {
	d, err := x.o.Runs.Run(ctx, id)
	if err == nil {
		err = auth.Check(by, a, d.Run.Project)
	} else if by.Name == "" {
		err = auth.Check(by, a, "")
	}
	if slipway.ErrorCode(err) == slipway.NotFound {
		err = slipway.Errorf(slipway.NotFound, "run #%d does not exist, or you have no role in its project", id)
	}
	if err != nil {
		return slipway.RunDetail{}, err
	}
	return d, nil
}
