package act

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Command is one ref that a push wants to move; ZeroHash creates or deletes.
type Command struct {
	Ref, Old, New string
	Forced        bool   // New does not contain Old
	Actor         string // who moves a mirrored ref, as far as the forge tells; "": not known
}

// Receive decides about a push before any ref moves, and records it: all commands or none. tree
// reads a commit that is perhaps not yet part of the repository. It returns what it recorded, in the
// order of the commands. codebase is the key of what is pushed to.
func (x *Actions) Receive(ctx context.Context, by slipway.User, codebase string, commands []Command, tree func(ctx context.Context, commit string) (Tree, error)) ([]slipway.Push, error) {
	at, err := x.hosted(ctx, codebase)
	if err != nil {
		return nil, err
	}
	if len(commands) > 100 {
		return nil, slipway.Errorf(slipway.Invalid, "this push moves %d refs: at most 100 at once", len(commands))
	}
	for _, c := range commands {
		if err := x.mayMove(ctx, by, at, c, tree); err != nil {
			return nil, err
		}
	}
	pushes := make([]slipway.Push, 0, len(commands))
	for _, c := range commands {
		push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: at.Project, Codebase: at.Name, Ref: c.Ref, Old: c.Old, New: c.New, Actor: by.Name, Time: x.o.Now()})
		if err != nil {
			x.Refused(ctx, pushes)
			return nil, fmt.Errorf("record push of %s: %w", c.Ref, err)
		}
		pushes = append(pushes, push)
	}
	return pushes, nil
}

func (x *Actions) mayMove(ctx context.Context, by slipway.User, at slipway.Codebase, c Command, tree func(context.Context, string) (Tree, error)) error {
	action, err := auth.RefAction(c.Ref, at.DefaultBranch)
	if err != nil {
		return err
	}
	if err := auth.Check(by, action, at.Project); err != nil {
		return err
	}
	if action == auth.PushDefault && c.Old != slipway.ZeroHash && (c.Forced || c.New == slipway.ZeroHash) {
		return slipway.Errorf(slipway.Forbidden, "%s is the default branch: it is never rewritten or deleted; revert with a new commit", at.DefaultBranch)
	}
	if action == auth.PushDefault && c.New != slipway.ZeroHash {
		if err := x.o.Planner.governs(ctx, at, c.New, tree); err != nil {
			return err
		}
		if err := x.maySign(ctx, at, c.Old, c.New, tree, by); err != nil {
			return err
		}
	}
	if c.Ref == "refs/heads/release" && action != auth.PushDefault && c.New != slipway.ZeroHash {
		return slipway.Errorf(slipway.Invalid, "a branch release would stand in the way of the branches release/<service>/<version>: give it another name")
	}
	release, is, err := slipway.ParseReleaseRef(c.Ref)
	if err != nil || !is || c.New == slipway.ZeroHash {
		return err
	}
	return x.mayRelease(ctx, at, release, c.New, tree)
}

// mayRelease refuses a release branch that names no service of the commit, or a version that another
// commit has claimed (D1).
func (x *Actions) mayRelease(ctx context.Context, at slipway.Codebase, r slipway.ReleaseBranch, commit string, tree func(context.Context, string) (Tree, error)) error {
	if at.Linked {
		return slipway.Errorf(slipway.Invalid, "release/%s/%s: %s is delivered from the codebase that links it as a submodule: push the release branch there", r.Service, r.Version.Leaf, at.Title())
	}
	found, problems, err := x.o.Planner.services(ctx, at.Key(), commit, tree)
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		return err
	}
	var names []string
	for _, s := range found.Services {
		names = append(names, s.Name)
	}
	if !slices.Contains(names, r.Service) {
		right, ok, err := x.o.Planner.home(ctx, at, r.Service)
		if err != nil {
			return err
		}
		if ok {
			return slipway.Errorf(slipway.Invalid, "release/%s/%s: service %s is in %s: push the release branch there (%s)", r.Service, r.Version.Leaf, r.Service, right.Title(), x.o.Planner.sourceURL(right))
		}
		return slipway.Errorf(slipway.Invalid, "release/%s/%s: there is no service %q in this commit; it has: %s", r.Service, r.Version.Leaf, r.Service, first(strings.Join(names, ", "), "none"))
	}
	claimed, err := x.o.Deployments.Claim(ctx, at.Project, r.Service, r.Version.Leaf)
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
			said = []string{fmt.Sprintf("%s is stored; its run could not be started now and will be as soon as that works again", push.Ref)}
			x.mu.Lock()
			x.late = append(x.late, push)
			x.mu.Unlock()
		}
		lines = append(lines, said...)
	}
	return lines
}

// Late starts the runs that Moved could not start, because the disk was full for example. Call it
// every so often.
func (x *Actions) Late(ctx context.Context) {
	x.mu.Lock()
	pushes := x.late
	x.late = nil
	x.mu.Unlock()
	x.Moved(ctx, pushes)
}

// accept marks a push as moved and creates its run in the same transaction.
func (x *Actions) accept(ctx context.Context, push slipway.Push) ([]string, error) {
	at, err := x.o.Planner.Codebase(ctx, slipway.CodebaseKey(push.Project, push.Codebase))
	if err != nil {
		return nil, err
	}
	made, why, err := x.begin(ctx, at, push)
	if err != nil {
		return nil, err
	}
	var lines []string
	if branch, ok := strings.CutPrefix(push.Ref, "refs/heads/"); ok && push.New != slipway.ZeroHash {
		if lines, err = x.contained(ctx, at, branch, push.New, push.Actor); err != nil {
			x.o.Log.WarnContext(ctx, "look for merged pull requests", "project", at.Project, "ref", push.Ref, "error", err)
		}
	}
	switch {
	case made.ID == 0:
		return append(lines, why), nil
	case at.GitURL != "": // nobody here pushed and listens
		return lines, nil
	}
	return append(lines, x.explain(ctx, made)...), nil
}

// begin records that a push has moved its ref, with the run that it makes, if any; else with why it makes none. Runs of
// a ref begin in the order of its pushes.
func (x *Actions) begin(ctx context.Context, at slipway.Codebase, push slipway.Push) (slipway.Run, string, error) {
	defer x.lock(fmt.Sprintf("refs %d", crc32.ChecksumIEEE([]byte(at.Key()+" "+push.Ref))%64))()
	run, why, err := x.runOf(ctx, at, push)
	if err != nil {
		return slipway.Run{}, "", err
	}
	if run != nil {
		now, err := x.movedOn(ctx, push)
		if err != nil {
			return slipway.Run{}, "", err
		}
		if now != "" {
			run, why = nil, movedOnTo(push, now)
		}
	}
	made, err := x.o.Pushes.AcceptPush(ctx, push.ID, run, FirstPlan(), why)
	return made, why, err
}

// movedOn is where a ref is now that a later push has moved away from where this one did and that was accepted before
// it; "" when this push is to have its run.
func (x *Actions) movedOn(ctx context.Context, push slipway.Push) (string, error) {
	passed, err := x.o.Pushes.PushPassed(ctx, push)
	if err != nil || !passed {
		return "", err
	}
	now, err := tip(ctx, x.o.Repo(slipway.CodebaseKey(push.Project, push.Codebase)), push.Ref)
	if err != nil || now == push.New {
		return "", err
	}
	return now, nil
}

func movedOnTo(push slipway.Push, now string) string {
	return fmt.Sprintf("%s has moved on to %s since: nothing runs for %s", push.Ref, slipway.ShortHash(now), slipway.ShortHash(push.New))
}

// FirstPlan is the plan every run of a push begins with: the step that makes the real one.
func FirstPlan() slipway.Plan {
	return slipway.Plan{Steps: []slipway.PlanStep{{Key: slipway.StepKey(slipway.KindPlan, "", ""), Kind: slipway.KindPlan,
		Timeout: slipway.Duration(planTimeout), Retries: planRetries}}}
}

// runOf is the run that a push makes, or nil and why it makes none.
func (x *Actions) runOf(ctx context.Context, at slipway.Codebase, push slipway.Push) (*slipway.Run, string, error) {
	branch := strings.TrimPrefix(push.Ref, "refs/heads/")
	switch {
	case push.New == slipway.ZeroHash:
		return nil, fmt.Sprintf("%s is deleted: nothing runs", push.Ref), nil
	case strings.HasPrefix(push.Ref, "refs/tags/"):
		return x.runOfTag(ctx, at, push)
	}
	_, release, _ := slipway.ParseReleaseRef(push.Ref)
	if at.Linked && (release || branch == at.DefaultBranch) {
		return nil, fmt.Sprintf("%s is built and deployed from the codebase that links it as a submodule: nothing runs until that moves to %s", at.Title(), slipway.ShortHash(push.New)), nil
	}
	subject, _, err := x.o.Repo(at.Key()).Subject(ctx, push.New)
	if err != nil {
		subject = "" // the plan step says what is wrong with the commit
	}
	run := &slipway.Run{Project: at.Project, Codebase: at.Name, Event: slipway.BranchPush, Ref: push.Ref, Base: push.Old, Commit: push.New, Title: title(subject), Actor: push.Actor}
	if branch == at.DefaultBranch {
		run.Event = slipway.DefaultPush
	}
	var number int64
	if n, err := fmt.Sscanf(push.Ref, "refs/pull/%d/head", &number); n == 1 && err == nil {
		pull, err := x.o.Pulls.Pull(ctx, at.Key(), number)
		if err != nil {
			return nil, "", err
		}
		if pull.Held != "" && pull.Held == push.New {
			return nil, fmt.Sprintf("pull request %s is of a fork: it runs when a member approves that", pull.Name()), nil
		}
		run.Event, run.Base, run.Title, run.Pull, run.Fork = slipway.PullUpdate, pull.Base, pull.Title, pull.Number, pull.Fork
	}
	if release, is, err := slipway.ParseReleaseRef(push.Ref); is && err == nil {
		run.Event, run.Service, run.Version = slipway.ReleasePush, release.Service, release.Version.Leaf
	} else if is {
		return nil, err.Error(), nil
	}
	return run, "", nil
}

// explain says what a new run will do.
func (x *Actions) explain(ctx context.Context, run slipway.Run) []string {
	lines := []string{"", fmt.Sprintf("run #%d  %s/runs/%d", run.ID, x.o.URL, run.ID)}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	p, err := x.o.Projects.Project(ctx, run.Project)
	var plan slipway.Plan
	if err == nil {
		plan, err = x.o.Planner.Plan(ctx, p, run)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			lines = append(lines, "  "+strings.TrimRight(line, "\n"))
		}
		return append(lines, "")
	}
	shown, rest := slipway.DecisionsInShort(plan.Decisions)
	for _, d := range shown {
		lines = append(lines, "  "+d.String())
	}
	if rest != "" {
		lines = append(lines, "  "+rest)
	}
	if first, err := x.o.Planner.ahead(ctx, run); err == nil && first != 0 {
		lines = append(lines, fmt.Sprintf("  run #%d, which was pushed before, is still being planned: what runs may change with that", first))
	}
	notes, err := x.o.Planner.notes(ctx, run)
	if err != nil {
		x.o.Log.WarnContext(ctx, "look for submodules", "run", run.ID, "error", err)
	}
	for _, note := range notes {
		lines = append(lines, "  "+note)
	}
	return append(lines, "")
}

// Recover compares what was recorded before a crash with the refs as they are now (D21): each open
// push is accepted or refused, and pull requests whose head is in their base branch are merged. Call
// it before anything moves refs. A repository that cannot be read does not hold up the others.
func (x *Actions) Recover(ctx context.Context) error {
	pushes, err := x.o.Pushes.OpenPushes(ctx)
	if err != nil {
		return err
	}
	for _, push := range pushes {
		if err := x.settle(ctx, push); err != nil {
			x.o.Log.ErrorContext(ctx, "recover push; the next start tries again", "project", push.Project, "ref", push.Ref, "error", err)
		}
	}
	projects, err := x.o.Projects.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects {
		if err := x.recoverProject(ctx, p.Name); err != nil {
			x.o.Log.ErrorContext(ctx, "recover pull requests; the next start tries again", "project", p.Name, "error", err)
		}
	}
	return context.Cause(ctx)
}

// settle accepts or refuses a recorded push by where its ref is now.
func (x *Actions) settle(ctx context.Context, push slipway.Push) error {
	repo := x.o.Repo(slipway.CodebaseKey(push.Project, push.Codebase))
	now, err := tip(ctx, repo, push.Ref)
	if err != nil {
		return err
	}
	if now == push.New {
		_, err := x.accept(ctx, push)
		return err
	}
	if now != push.Old && now != slipway.ZeroHash && push.New != slipway.ZeroHash {
		on, err := repo.IsAncestor(ctx, push.New, now)
		if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
			return err
		}
		if on {
			_, err := x.o.Pushes.AcceptPush(ctx, push.ID, nil, slipway.Plan{}, movedOnTo(push, now))
			return err
		}
	}
	return x.o.Pushes.RefusePush(ctx, push.ID, "the server stopped before the ref moved")
}

// recoverProject finds the pull requests of all codebases that were merged and not marked so.
func (x *Actions) recoverProject(ctx context.Context, project string) error {
	open, err := x.o.Pulls.Pulls(ctx, project, slipway.PullOpen)
	if err != nil || len(open) == 0 {
		return err
	}
	all, err := x.o.Planner.all(ctx, project)
	if err != nil {
		return err
	}
	for _, c := range all {
		of := slices.DeleteFunc(slices.Clone(open), func(p slipway.PullRequest) bool { return p.Codebase != c.Name })
		if err := x.recoverPulls(ctx, c, of); err != nil {
			return err
		}
	}
	return nil
}

func (x *Actions) recoverPulls(ctx context.Context, at slipway.Codebase, open []slipway.PullRequest) error {
	if len(open) == 0 {
		return nil
	}
	branches, err := x.o.Repo(at.Key()).Refs(ctx, "refs/heads")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range open {
		commit := branches["refs/heads/"+p.Base]
		if commit == "" || seen[p.Base] {
			continue
		}
		seen[p.Base] = true
		if _, err := x.contained(ctx, at, p.Base, commit, ""); err != nil {
			return err
		}
	}
	return nil
}

// Proposal is a push to refs/for/<base> (AGit flow).
type Proposal struct {
	Project, Codebase, Base, Topic, Title, Head string
}

// Propose opens the pull request that a push to refs/for/<base> asks for, or brings it up to date,
// and records that its ref is about to move from old to the head; Moved or Refused follows. When the
// ref is there already, nothing is recorded and the push has no ID.
func (x *Actions) Propose(ctx context.Context, by slipway.User, in Proposal) (push slipway.Push, lines []string, err error) {
	if err := auth.Check(by, auth.OpenPull, in.Project); err != nil {
		return push, nil, err
	}
	at, err := x.hosted(ctx, slipway.CodebaseKey(in.Project, in.Codebase))
	if err != nil {
		return push, nil, err
	}
	defer x.lock(in.Project)()
	subject, err := x.mayPropose(ctx, at, in)
	if err != nil {
		return push, nil, err
	}
	pull, opened, err := x.o.Pulls.OpenPull(ctx, slipway.PullRequest{Project: in.Project, Codebase: at.Name, Base: in.Base, Topic: in.Topic, Head: in.Head, Author: by.Name, Title: title(first(in.Title, subject, "commit "+slipway.ShortHash(in.Head)))})
	if err != nil {
		return push, nil, err
	}
	push = slipway.Push{Project: in.Project, Codebase: at.Name, Ref: pull.Ref(), New: in.Head, Actor: by.Name, Time: x.o.Now()}
	if push.Old, err = tip(ctx, x.o.Repo(at.Key()), push.Ref); err != nil {
		return push, nil, err
	}
	if push.Old == push.New {
		return push, []string{"", fmt.Sprintf("pull request %s is at %s already: nothing runs", pull.Name(), slipway.ShortHash(in.Head)), ""}, nil
	}
	word := "updated"
	if opened {
		word = "opened"
	}
	lines = []string{"", fmt.Sprintf("pull request %s into %s %s: %s", pull.Name(), pull.Base, word, pull.Title), fmt.Sprintf("merge it when its run has succeeded: slipway merge %s", pull.Name())}
	push, err = x.o.Pushes.RecordPush(ctx, push)
	return push, lines, err
}

// mayPropose checks that there is something to merge, and returns its first line.
func (x *Actions) mayPropose(ctx context.Context, at slipway.Codebase, in Proposal) (subject string, err error) {
	repo := x.o.Repo(at.Key())
	base, err := tip(ctx, repo, "refs/heads/"+in.Base)
	if err != nil {
		return "", err
	}
	if base == slipway.ZeroHash {
		return "", slipway.Errorf(slipway.NotFound, "there is no branch %q to propose to", in.Base)
	}
	contained, err := repo.IsAncestor(ctx, in.Head, base)
	if err != nil {
		return "", err
	}
	if contained {
		return "", slipway.Errorf(slipway.Conflict, "branch %s has commit %s already: there is nothing to merge", in.Base, slipway.ShortHash(in.Head))
	}
	subject, _, err = repo.Subject(ctx, in.Head)
	return subject, err
}

// Refused takes pushes that were recorded and whose refs did not move.
func (x *Actions) Refused(ctx context.Context, pushes []slipway.Push) {
	for _, push := range pushes {
		x.refuse(ctx, push, "git did not move the ref")
	}
}

func (x *Actions) refuse(ctx context.Context, push slipway.Push, why string) {
	if err := x.o.Pushes.RefusePush(ctx, push.ID, why); err != nil {
		x.o.Log.ErrorContext(ctx, "refuse push; the next start tries again", "project", push.Project, "ref", push.Ref, "error", err)
	}
}

// Seen records that refs of a mirrored repository are about to move as its remote's have: Moved or
// Settle follows. codebase is the key of the repository.
func (x *Actions) Seen(ctx context.Context, codebase string, commands []Command) ([]slipway.Push, error) {
	project, name := slipway.SplitCodebase(codebase)
	pushes := make([]slipway.Push, 0, len(commands))
	for _, c := range commands {
		push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: project, Codebase: name, Ref: c.Ref, Old: c.Old, New: c.New, Actor: first(c.Actor, mirrorActor), Time: x.o.Now()})
		if err != nil {
			x.Refused(ctx, pushes)
			return nil, fmt.Errorf("record push of %s: %w", c.Ref, err)
		}
		pushes = append(pushes, push)
	}
	return pushes, nil
}

// mirrorActor is who moves the refs of mirrored repositories.
const mirrorActor = "mirror"

// Settle takes recorded pushes of which it is not known whether their refs moved.
func (x *Actions) Settle(ctx context.Context, pushes []slipway.Push) {
	for _, push := range pushes {
		if err := x.settle(ctx, push); err != nil {
			x.o.Log.ErrorContext(ctx, "settle push; the next start tries again", "project", push.Project, "ref", push.Ref, "error", err)
		}
	}
}
