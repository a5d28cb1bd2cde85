package act

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Command is one ref that a push wants to move; ZeroHash creates or deletes.
type Command struct {
	Ref, Old, New string
	Forced        bool // New does not contain Old
}

// Receive decides about a push before any ref moves, and records it: all commands or none. tree
// reads a commit that is perhaps not yet part of the repository. It returns what it recorded, in the
// order of the commands.
func (x *Actions) Receive(ctx context.Context, by slipway.User, project string, commands []Command, tree func(ctx context.Context, commit string) (fs.FS, error)) ([]slipway.Push, error) {
	p, err := x.o.Projects.Project(ctx, project)
	if err != nil {
		return nil, err
	}
	if p.GitURL != "" {
		return nil, slipway.Errorf(slipway.Forbidden, "project %s mirrors %s: push there", project, p.GitURL)
	}
	if len(commands) > 100 {
		return nil, slipway.Errorf(slipway.Invalid, "this push moves %d refs: at most 100 at once", len(commands))
	}
	for _, c := range commands {
		if err := x.mayMove(ctx, by, p, c, tree); err != nil {
			return nil, err
		}
	}
	pushes := make([]slipway.Push, 0, len(commands))
	for _, c := range commands {
		push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: project, Ref: c.Ref, Old: c.Old, New: c.New, Actor: by.Name, Time: x.o.Now()})
		if err != nil {
			return nil, fmt.Errorf("record push of %s: %w", c.Ref, err)
		}
		pushes = append(pushes, push)
	}
	return pushes, nil
}

func (x *Actions) mayMove(ctx context.Context, by slipway.User, p slipway.Project, c Command, tree func(context.Context, string) (fs.FS, error)) error {
	action, err := auth.RefAction(c.Ref, p.DefaultBranch)
	if err != nil {
		return err
	}
	if err := auth.Check(by, action, p.Name); err != nil {
		return err
	}
	if action == auth.PushDefault && c.Old != slipway.ZeroHash && (c.Forced || c.New == slipway.ZeroHash) {
		return slipway.Errorf(slipway.Forbidden, "%s is the default branch: it is never rewritten or deleted; revert with a new commit", p.DefaultBranch)
	}
	release, is, err := slipway.ParseReleaseRef(c.Ref)
	if err != nil || !is || c.New == slipway.ZeroHash {
		return err
	}
	files, err := tree(ctx, c.New)
	if err != nil {
		return fmt.Errorf("read commit %s: %w", slipway.ShortHash(c.New), err)
	}
	return x.mayRelease(ctx, p.Name, release, c.New, files)
}

// mayRelease refuses a release branch that names no service of the commit, or a version that another
// commit has claimed (D1).
func (x *Actions) mayRelease(ctx context.Context, project string, r slipway.ReleaseBranch, commit string, files fs.FS) error {
	services, err := x.o.Planner.services(project, files)
	if err != nil {
		return err
	}
	var names []string
	found := false
	for _, s := range services {
		names = append(names, s.Name)
		found = found || s.Name == r.Service
	}
	if !found {
		return slipway.Errorf(slipway.Invalid, "release/%s/%s: there is no service %q in this commit; it has: %s", r.Service, r.Version.Leaf, r.Service, first(strings.Join(names, ", "), "none"))
	}
	claimed, err := x.o.Deployments.Claim(ctx, project, r.Service, r.Version.Leaf)
	if err != nil {
		return err
	}
	if claimed != "" && claimed != commit {
		return slipway.Errorf(slipway.Conflict, "release/%s/%s: version %s of %s was published from commit %s; choose the next version", r.Service, r.Version.Leaf, r.Version.Leaf, r.Service, slipway.ShortHash(claimed))
	}
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// Moved takes pushes whose refs have moved: each becomes its run, if it makes one. It returns what to
// tell the person who pushed.
func (x *Actions) Moved(ctx context.Context, pushes []slipway.Push) []string {
	var lines []string
	for _, push := range pushes {
		said, err := x.accept(ctx, push)
		if err != nil {
			x.o.Log.ErrorContext(ctx, "accept push", "project", push.Project, "ref", push.Ref, "error", err)
			said = []string{fmt.Sprintf("%s is stored; its run could not be started now and will be when the server has recovered", push.Ref)}
		}
		lines = append(lines, said...)
	}
	return lines
}

// accept marks a push as moved and creates its run in the same transaction.
func (x *Actions) accept(ctx context.Context, push slipway.Push) ([]string, error) {
	p, err := x.o.Projects.Project(ctx, push.Project)
	if err != nil {
		return nil, err
	}
	run, why := x.runOf(ctx, p, push)
	if run == nil {
		_, err := x.o.Pushes.AcceptPush(ctx, push.ID, nil, slipway.Plan{}, why)
		return []string{why}, err
	}
	made, err := x.o.Pushes.AcceptPush(ctx, push.ID, run, FirstPlan(), "")
	if err != nil {
		return nil, err
	}
	return x.explain(ctx, p, made), nil
}

// FirstPlan is the plan every run of a push begins with: the step that makes the real one.
func FirstPlan() slipway.Plan {
	return slipway.Plan{Steps: []slipway.PlanStep{{Key: slipway.StepKey(slipway.KindPlan, "", ""), Kind: slipway.KindPlan,
		Timeout: slipway.Duration(planTimeout), Retries: 3}}}
}

// runOf is the run that a push makes, or nil and why it makes none.
func (x *Actions) runOf(ctx context.Context, p slipway.Project, push slipway.Push) (*slipway.Run, string) {
	name := strings.TrimPrefix(push.Ref, "refs/heads/")
	switch {
	case push.New == slipway.ZeroHash:
		return nil, fmt.Sprintf("%s is deleted: nothing runs", push.Ref)
	case strings.HasPrefix(push.Ref, "refs/tags/"):
		return nil, fmt.Sprintf("tag %s: nothing runs", strings.TrimPrefix(push.Ref, "refs/tags/"))
	}
	title, _, err := x.o.Repo(p.Name).Subject(ctx, push.New)
	if err != nil {
		title = "" // the plan step says what is wrong with the commit
	}
	run := &slipway.Run{Project: p.Name, Event: slipway.BranchPush, Ref: push.Ref, Base: push.Old, Commit: push.New, Title: title, Actor: push.Actor}
	if name == p.DefaultBranch {
		run.Event = slipway.DefaultPush
	}
	if pull, ok := x.pullOf(ctx, push); ok {
		run.Event, run.Base, run.Title, run.Pull = slipway.PullUpdate, pull.Base, pull.Title, pull.Number
	}
	if release, is, err := slipway.ParseReleaseRef(push.Ref); is && err == nil {
		run.Event, run.Service, run.Version = slipway.ReleasePush, release.Service, release.Version.Leaf
	} else if is {
		return nil, err.Error()
	}
	return run, ""
}

// pullOf is the pull request whose head a push moved.
func (x *Actions) pullOf(ctx context.Context, push slipway.Push) (slipway.PullRequest, bool) {
	var number int64
	if n, err := fmt.Sscanf(push.Ref, "refs/pull/%d/head", &number); n != 1 || err != nil {
		return slipway.PullRequest{}, false
	}
	pull, err := x.o.Pulls.Pull(ctx, push.Project, number)
	return pull, err == nil
}

// explain says what a new run will do.
func (x *Actions) explain(ctx context.Context, p slipway.Project, run slipway.Run) []string {
	lines := []string{"", fmt.Sprintf("run #%d  %s/runs/%d", run.ID, x.o.URL, run.ID)}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	plan, err := x.o.Planner.Plan(ctx, p, run)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			lines = append(lines, "  "+strings.TrimRight(line, "\n"))
		}
		return append(lines, "")
	}
	const most = 20
	shown := 0
	for _, d := range plan.Decisions {
		if d.Runs || len(plan.Decisions) <= most {
			lines = append(lines, "  "+strings.TrimPrefix(d.Service+": "+d.Reason, ": "))
			shown++
		}
	}
	if rest := len(plan.Decisions) - shown; rest > 0 {
		lines = append(lines, fmt.Sprintf("  %d more services skipped: no changed file is theirs", rest))
	}
	return append(lines, "")
}

// Recover compares the pushes that were recorded before a crash with the refs as they are now, and
// accepts or refuses each (D21).
func (x *Actions) Recover(ctx context.Context) error {
	pushes, err := x.o.Pushes.OpenPushes(ctx)
	if err != nil {
		return err
	}
	for _, push := range pushes {
		now, err := x.o.Repo(push.Project).Resolve(ctx, push.Ref)
		if slipway.ErrorCode(err) == slipway.NotFound {
			now, err = slipway.ZeroHash, nil
		}
		if err != nil {
			return fmt.Errorf("compare push %d of %s: %w", push.ID, push.Project, err)
		}
		if now != push.New {
			err = x.o.Pushes.RefusePush(ctx, push.ID, "the server stopped before the ref moved")
		} else {
			_, err = x.accept(ctx, push)
		}
		if err != nil {
			return fmt.Errorf("recover push %d of %s: %w", push.ID, push.Project, err)
		}
	}
	return nil
}

// Proposal is a push to refs/for/<base> (AGit flow).
type Proposal struct {
	Project, Base, Topic, Title, Head string
}

// Propose opens the pull request that a push to refs/for/<base> asks for, or brings it up to date,
// and records that its ref is about to move from old to the head; Moved or Refused follows.
func (x *Actions) Propose(ctx context.Context, by slipway.User, in Proposal) (push slipway.Push, lines []string, err error) {
	if err := auth.Check(by, auth.OpenPull, in.Project); err != nil {
		return push, nil, err
	}
	repo := x.o.Repo(in.Project)
	subject, _, err := repo.Subject(ctx, in.Head)
	if err != nil {
		return push, nil, err
	}
	pull, opened, err := x.o.Pulls.OpenPull(ctx, slipway.PullRequest{Project: in.Project, Base: in.Base, Topic: in.Topic, Head: in.Head, Author: by.Name, Title: first(in.Title, subject)})
	if err != nil {
		return push, nil, err
	}
	old, err := repo.Resolve(ctx, pull.Ref())
	if slipway.ErrorCode(err) == slipway.NotFound {
		old, err = slipway.ZeroHash, nil
	}
	if err != nil {
		return push, nil, err
	}
	word := "updated"
	if opened {
		word = "opened"
	}
	lines = []string{"", fmt.Sprintf("pull request %d into %s %s: %s", pull.Number, pull.Base, word, pull.Title), fmt.Sprintf("merge it when its run has succeeded: slipway merge %d", pull.Number)}
	push, err = x.o.Pushes.RecordPush(ctx, slipway.Push{Project: in.Project, Ref: pull.Ref(), Old: old, New: in.Head, Actor: by.Name, Time: x.o.Now()})
	return push, lines, err
}

// Refused takes pushes that were recorded and whose refs did not move.
func (x *Actions) Refused(ctx context.Context, pushes []slipway.Push) {
	for _, push := range pushes {
		if err := x.o.Pushes.RefusePush(ctx, push.ID, "git did not move the ref"); err != nil {
			x.o.Log.ErrorContext(ctx, "refuse push", "project", push.Project, "ref", push.Ref, "error", err)
		}
	}
}

// Seen takes a ref of a mirrored repository that moved elsewhere as a push. When first is set the
// project is new: only its default branch makes a run.
func (x *Actions) Seen(ctx context.Context, p slipway.Project, ref, old, commit string, first bool) error {
	push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: p.Name, Ref: ref, Old: old, New: commit, Actor: "mirror", Time: x.o.Now()})
	if err != nil {
		return err
	}
	if first && ref != "refs/heads/"+p.DefaultBranch {
		_, err := x.o.Pushes.AcceptPush(ctx, push.ID, nil, slipway.Plan{}, "was there when the project was added: nothing runs")
		return err
	}
	_, err = x.accept(ctx, push)
	return err
}
