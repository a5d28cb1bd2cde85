package act

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Pulls lists a project's pull requests, newest first.
func (x *Actions) Pulls(ctx context.Context, by slipway.User, project string) ([]slipway.PullRequest, error) {
	if err := x.mayView(ctx, by, project); err != nil {
		return nil, err
	}
	return x.o.Pulls.Pulls(ctx, project, "")
}

// Pull returns one pull request.
func (x *Actions) Pull(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.PullRequest{}, err
	}
	return x.o.Pulls.Pull(ctx, project, number)
}

// ReviewPull approves the head of a pull request that the reviewer looked at, by its whole hash. When the
// pull request is at another one by now, it is a Conflict; its author's word does not count. For one on a
// forge, which is reviewed there, it approves that the held head of a fork runs.
func (x *Actions) ReviewPull(ctx context.Context, by slipway.User, project string, number int64, head string) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.PullRequest{}, err
	}
	p, err := x.o.Pulls.Pull(ctx, project, number)
	if err == nil && p.Forge && x.o.Held != nil {
		if err := auth.Check(by, auth.RetryRun, project); err != nil {
			return p, err
		}
		if p.Held != "" && head != p.Held {
			return p, slipway.Errorf(slipway.Conflict, "pull request %d has moved on: %s waits to run, not %s; look at it again", number, slipway.ShortHash(p.Held), slipway.ShortHash(head))
		}
		if _, err := x.admit(ctx, p, by.Name); err != nil {
			return p, err
		}
		return x.o.Pulls.Pull(ctx, project, number)
	}
	if err := auth.Check(by, auth.ReviewPull, project); err != nil {
		return slipway.PullRequest{}, err
	}
	if err != nil {
		return p, err
	}
	if p.Author == by.Name {
		return p, slipway.Errorf(slipway.Forbidden, "%s opened pull request %d and may not approve it", by.Name, number)
	}
	if !wholeHash(head) {
		return p, slipway.Errorf(slipway.Invalid, "head %q: say which commit of pull request %d you looked at, by its whole hash (slipway pulls show %d)", head, number, number)
	}
	return x.o.Pulls.ReviewPull(ctx, project, number, head, by.Name)
}

// wholeHash reports whether s can be the hash of a commit, not shortened: the author of a pull request
// could make another commit with the same beginning.
func wholeHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}

// ClosePull closes an open pull request without merging it.
func (x *Actions) ClosePull(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.ClosePull, project); err != nil {
		return slipway.PullRequest{}, err
	}
	defer x.lock(project)() // not while it is merged
	return x.o.PullEnds.ClosePull(ctx, project, number, by.Name)
}

// mergeTimeout bounds what follows the decision to merge, which goes on when whoever asked hangs up.
const mergeTimeout = time.Minute

// Merge merges a pull request when it may: open, its newest run on its head succeeded, the required
// approvals are there, and the base has no conflicting change (S29, D14). The move of the base branch
// is recorded before it happens, like any push. A head that the base has already is merged as it is.
func (x *Actions) Merge(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.Merge, project); err != nil {
		return slipway.PullRequest{}, err
	}
	defer x.lock(project)()
	p, err := x.o.Pulls.Pull(ctx, project, number)
	if slipway.ErrorCode(err) == slipway.NotFound {
		if _, err := x.hosted(ctx, project); err != nil {
			return p, err
		}
	}
	if err != nil {
		return p, err
	}
	at, err := x.hosted(ctx, slipway.CodebaseKey(project, p.Codebase))
	if err != nil {
		return p, err
	}
	if err := x.mayMerge(ctx, by, at, p); err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mergeTimeout)
	defer cancel()
	repo := x.o.Repo(at.Key())
	base, err := tip(ctx, repo, "refs/heads/"+p.Base)
	if err != nil {
		return p, err
	}
	if base == slipway.ZeroHash {
		return p, slipway.Errorf(slipway.Conflict, "pull request %d is for branch %s, which does not exist any more", number, p.Base)
	}
	if contained, err := repo.IsAncestor(ctx, p.Head, base); err != nil {
		return p, err
	} else if contained {
		return x.o.PullEnds.MergePull(ctx, project, number, p.Head, base, by.Name)
	}
	return x.merge(ctx, by, p, base)
}

// merge makes the merge commit and moves the base branch to it.
func (x *Actions) merge(ctx context.Context, by slipway.User, p slipway.PullRequest, base string) (slipway.PullRequest, error) {
	repo, ref := x.o.Repo(slipway.CodebaseKey(p.Project, p.Codebase)), "refs/heads/"+p.Base
	commit, err := repo.Merge(ctx, base, p.Head, fmt.Sprintf("Merge pull request %d: %s", p.Number, p.Title), by.Name)
	if err != nil {
		return p, err
	}
	push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: p.Project, Codebase: p.Codebase, Ref: ref, Old: base, New: commit, Actor: by.Name, Time: x.o.Now()})
	if err != nil {
		return p, err
	}
	if err := repo.UpdateRef(ctx, ref, commit, base); err != nil {
		if now, rerr := tip(ctx, repo, ref); rerr != nil || now != commit {
			x.refuse(ctx, push, "the base branch did not move to the merge")
			if slipway.ErrorCode(err) == slipway.Conflict {
				err = slipway.Errorf(slipway.Conflict, "branch %s moved while pull request %d was merged: try again", p.Base, p.Number)
			}
			return p, err
		}
	}
	merged, err := x.o.PullEnds.MergePull(ctx, p.Project, p.Number, p.Head, commit, by.Name)
	x.Moved(ctx, []slipway.Push{push})
	return merged, err
}

// hosted refuses acts that move refs of a mirrored repository.
func (x *Actions) hosted(ctx context.Context, codebase string) (slipway.Codebase, error) {
	c, err := x.o.Planner.Codebase(ctx, codebase)
	if err == nil && c.GitURL != "" {
		what := "project " + c.Project
		if c.Name != "" {
			what = c.Title() + " of " + c.Project
		}
		err = slipway.Errorf(slipway.Forbidden, "%s mirrors %s: push and merge there", what, c.GitURL)
	}
	return c, err
}

// mayOpen refuses pull requests where they would be numbered as those of the project's forge are.
func (x *Actions) mayOpen(ctx context.Context, in Proposal) (slipway.Codebase, error) {
	c, err := x.hosted(ctx, slipway.CodebaseKey(in.Project, in.Codebase))
	if err != nil || c.Name == "" {
		return c, err
	}
	p, err := x.o.Projects.Project(ctx, in.Project)
	if err == nil && p.GitURL != "" {
		err = slipway.Errorf(slipway.Forbidden, "pull requests of project %s are those of %s: codebase %s, which is hosted here, has none; push a branch, and merge it yourself", in.Project, p.GitURL, c.Name)
	}
	return c, err
}

// contained marks the open pull requests whose head a branch now holds as merged, whoever moved the
// branch, and says so.
func (x *Actions) contained(ctx context.Context, at slipway.Codebase, branch, commit, actor string) ([]string, error) {
	open, err := x.o.Pulls.Pulls(ctx, at.Project, slipway.PullOpen)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, p := range open {
		if p.Base != branch || p.Codebase != at.Name {
			continue
		}
		in, err := x.o.Repo(at.Key()).IsAncestor(ctx, p.Head, commit)
		if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
			return lines, fmt.Errorf("compare pull request %d of %s: %w", p.Number, at.Project, err)
		}
		if !in {
			continue
		}
		if _, err := x.o.PullEnds.MergePull(ctx, at.Project, p.Number, p.Head, commit, actor); err != nil && slipway.ErrorCode(err) != slipway.Conflict {
			return lines, err
		}
		lines = append(lines, fmt.Sprintf("pull request %d is merged by this", p.Number))
	}
	return lines, nil
}

func (x *Actions) mayMerge(ctx context.Context, by slipway.User, at slipway.Codebase, p slipway.PullRequest) error {
	if p.State != slipway.PullOpen {
		return slipway.Errorf(slipway.Conflict, "pull request %d is %s", p.Number, p.State)
	}
	runs, err := x.o.Runs.Runs(ctx, slipway.RunFilter{Project: p.Project, Ref: p.Ref(), Commit: p.Head, Limit: 1})
	if err != nil {
		return err
	}
	switch {
	case len(runs) == 0:
		return slipway.Errorf(slipway.Conflict, "pull request %d has no run for its head %s yet", p.Number, slipway.ShortHash(p.Head))
	case runs[0].State != slipway.RunSucceeded:
		return slipway.Errorf(slipway.Conflict, "pull request %d may be merged when run #%d has succeeded: it is %s (%s/runs/%d)", p.Number, runs[0].ID, runs[0].State, x.o.URL, runs[0].ID)
	}
	policy, err := x.o.Planner.PullRequests(ctx, p.Project)
	if err != nil {
		return err
	}
	if len(p.Reviewers) < policy.Approvals {
		return slipway.Errorf(slipway.Conflict, "pull request %d needs %d approvals and has %d (slipway pulls approve %d)", p.Number, policy.Approvals, len(p.Reviewers), p.Number)
	}
	return x.mayGovern(ctx, by, at, p)
}

// mayGovern keeps one person from changing alone what governs deployments: a pull request that does
// needs the approval of somebody who may push to the default branch, unless that person merges it.
func (x *Actions) mayGovern(ctx context.Context, by slipway.User, at slipway.Codebase, p slipway.PullRequest) error {
	if p.Base != at.DefaultBranch || len(p.Reviewers) > 0 || auth.Check(by, auth.PushDefault, p.Project) == nil {
		return nil
	}
	base, err := tip(ctx, x.o.Repo(at.Key()), "refs/heads/"+p.Base)
	if err != nil {
		return err
	}
	changes, err := x.o.Planner.changesPolicy(ctx, at, base, p.Head)
	if err == nil && changes {
		err = slipway.Errorf(slipway.Forbidden, "pull request %d changes what governs deployments (environments, registries, approvals or limits in slipway.yaml): an approver must approve it first (slipway pulls approve %d)", p.Number, p.Number)
	}
	return err
}
