package laptop

import (
	"cmp"
	"context"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/worktree"
)

// Push is what a server is told by a push, as a person says it.
type Push struct {
	Since string // branch, tag or commit that was built last; "": where the branch left the default branch
	Event string // push, pull-request or release
	Ref   string // branch, or refs/tags/NAME; "": the current branch
}

// Pushed is what a server would plan if the working tree were pushed.
type Pushed struct {
	Project     string            `json:"project"`
	Event       slipway.EventKind `json:"event"`
	Ref         string            `json:"ref"`
	Commit      string            `json:"commit"`              // HEAD, "" before the first commit
	Uncommitted int               `json:"uncommitted"`         // files that differ from it
	Codebases   []heldCodebase    `json:"codebases,omitempty"` // others that it was made with
	Plan        slipway.Plan      `json:"plan"`
}

// Push asks the server's planner, with stand-ins for what only a server knows.
func (x Checkouts) Push(ctx context.Context, o Push) (Pushed, error) {
	w, project := x.here.w, x.here.codebase.Project
	since := ""
	if o.Since != "" {
		if since = w.Resolve(ctx, o.Since); since == "" {
			return Pushed{}, w.NotHere(o.Since)
		}
	}
	name, tip := w.Upstream(ctx)
	branch := defaultName(ctx, w, name)
	run, err := runOf(w, o, branch)
	if err != nil {
		return Pushed{}, err
	}
	built := since
	switch {
	case run.Event == slipway.DefaultPush:
		built, tip = cmp.Or(since, tip), w.Commit
	case run.Event == slipway.PullUpdate, run.Event == slipway.BranchPush && since != "":
		tip = cmp.Or(since, tip)
	case tip == "": // nothing else governs
		tip = w.Commit
		if run.Event == slipway.BranchPush {
			tip = ""
		}
	}
	w.BringFork(ctx, cmp.Or(since, tip))
	run.Project, run.Codebase = project, x.here.codebase.Name
	planner, pr := x.planner(branch, map[string]string{branch: tip})
	past := &offlineHistory{localHistory: localHistory{built}}
	planner.History = past
	past.policy = planner.Policy
	made, err := planner.Plan(ctx, pr, run)
	if err != nil {
		return Pushed{}, w.Lacking(x.explain(ctx, err))
	}
	return Pushed{Project: project, Event: run.Event, Ref: run.Ref, Commit: w.Head, Uncommitted: w.Changed, Codebases: x.held(), Plan: made}, nil
}

// offlineHistory takes it that what was built last was published.
type offlineHistory struct {
	localHistory
	policy func(ctx context.Context, project string) (slipway.Config, error)
}

// Images is the one of what was built last, whose digest only the server knows.
func (h *offlineHistory) Images(ctx context.Context, project, service string) ([]slipway.Artifact, error) {
	if h.built == "" {
		return nil, nil
	}
	c, err := h.policy(ctx, project)
	if err != nil {
		return nil, err
	}
	where := slipway.Repository{Registry: c.Candidates, Name: c.Candidates.Image(project, service)}
	return []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: service, Repository: where.Ref(), Commit: h.built}}, nil
}

// defaultName is the default branch by its own name. upstream is it as it was found: main, origin/main, or
// a remote whose HEAD names it.
func defaultName(ctx context.Context, w worktree.Tree, upstream string) string {
	switch {
	case upstream == "" && w.Branch == "master":
		return w.Branch
	case upstream == "":
		return "main"
	case upstream == "main" || upstream == "master":
		return upstream
	}
	if _, branch, ok := strings.Cut(upstream, "/"); ok {
		return branch
	}
	head, _ := worktree.Git(ctx, w.Root, "symbolic-ref", "--quiet", "refs/remotes/"+upstream+"/HEAD") // no answer: HEAD names a commit
	return cmp.Or(strings.TrimPrefix(head, "refs/remotes/"+upstream+"/"), "main")
}

// runOf is the run that a push of the working tree would make.
func runOf(w worktree.Tree, o Push, defaultBranch string) (slipway.Run, error) {
	run := slipway.Run{ID: 1, Commit: w.Commit, Title: "the working tree", Actor: "you"}
	run.Ref = cmp.Or(o.Ref, w.Branch)
	if run.Ref == "" && o.Event == "pull-request" {
		run.Ref = "HEAD" // which branch asks does not matter
	}
	if run.Ref == "" {
		return run, slipway.Errorf(slipway.Invalid, "HEAD is on no branch here: say which one would be pushed with --ref BRANCH")
	}
	if !strings.HasPrefix(run.Ref, "refs/") {
		run.Ref = "refs/heads/" + run.Ref
	}
	if err := slipway.CheckRef(run.Ref); err != nil {
		return run, err
	}
	release, is, err := slipway.ParseReleaseRef(run.Ref)
	switch o.Event {
	case "push":
		run.Event = slipway.BranchPush
		if run.Ref == "refs/heads/"+defaultBranch {
			run.Event = slipway.DefaultPush
		}
		if is {
			run.Event = slipway.ReleasePush
		}
	case "pull-request":
		run.Event, run.Ref, run.Base, is = slipway.PullUpdate, "refs/pull/0/head", defaultBranch, false
	case "release":
		run.Event = slipway.ReleasePush
		if !is {
			return run, slipway.Errorf(slipway.Invalid, "%s is no release branch: say --ref release/<service>/<version>", run.Ref)
		}
	default:
		return run, slipway.Errorf(slipway.Invalid, "--event %q: expected push, pull-request or release", o.Event)
	}
	if is {
		if err != nil {
			return run, err
		}
		run.Service, run.Version = release.Service, release.Version.Leaf
	}
	return run, nil
}
