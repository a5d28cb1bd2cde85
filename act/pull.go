package act

import (
	"context"
	"fmt"
	"slices"
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

// Pull returns one pull request: that with a number in a codebase, given by its key. With the key of the main
// codebase, which has none of that number, it is the one of that number which another codebase has.
func (x *Actions) Pull(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error) {
	project, _ := slipway.SplitCodebase(codebase)
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.PullRequest{}, err
	}
	return x.pull(ctx, codebase, number)
}

func (x *Actions) pull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	p, err := x.o.Pulls.Pull(ctx, codebase, number)
	project, name := slipway.SplitCodebase(codebase)
	if name != "" || slipway.ErrorCode(err) != slipway.NotFound {
		return p, err
	}
	others, oerr := x.o.Pulls.PullsOf(ctx, project, number)
	switch {
	case oerr != nil:
		return p, oerr
	case len(others) == 0:
		return p, err
	case len(others) == 1:
		return others[0], nil
	}
	var names []string
	for _, o := range others {
		names = append(names, o.Name())
	}
	return p, slipway.Errorf(slipway.Conflict, "several codebases of %s have a pull request %d: say %s", project, number, strings.Join(names, " or "))
}

// keyOf is the key of a pull request's codebase.
func keyOf(p slipway.PullRequest) string { return slipway.CodebaseKey(p.Project, p.Codebase) }

// ReviewPull approves the head of a pull request that the reviewer looked at, by its whole hash. When the
// pull request is at another one by now, it is a Conflict; its author's word does not count. For one on a
// forge, which is reviewed there, it approves that the held head of a fork runs.
func (x *Actions) ReviewPull(ctx context.Context, by slipway.User, codebase string, number int64, head string) (slipway.PullRequest, error) {
	project, _ := slipway.SplitCodebase(codebase)
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.PullRequest{}, err
	}
	p, err := x.pull(ctx, codebase, number)
	if err == nil && p.Forge && x.o.Held != nil {
		return x.letRun(ctx, by, p, head)
	}
	if err := auth.Check(by, auth.ReviewPull, project); err != nil {
		return slipway.PullRequest{}, err
	}
	if err != nil {
		return p, err
	}
	if p.Author == by.Name {
		return p, slipway.Errorf(slipway.Forbidden, "%s opened pull request %s and may not approve it", by.Name, p.Name())
	}
	if !wholeHash(head) {
		return p, slipway.Errorf(slipway.Invalid, "head %q: say which commit of pull request %s you looked at, by its whole hash (slipway pulls show %s)", head, p.Name(), p.Name())
	}
	return x.o.Pulls.ReviewPull(ctx, keyOf(p), p.Number, head, by.Name)
}

// letRun lets the held head of a fork run, when it is the one that was looked at.
func (x *Actions) letRun(ctx context.Context, by slipway.User, p slipway.PullRequest, head string) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.RetryRun, p.Project); err != nil {
		return p, err
	}
	if p.Held != "" && head != p.Held {
		return p, slipway.Errorf(slipway.Conflict, "pull request %s has moved on: %s waits to run, not %s; look at it again", p.Name(), slipway.ShortHash(p.Held), slipway.ShortHash(head))
	}
	if _, err := x.admit(ctx, p, by.Name); err != nil {
		return p, err
	}
	return x.o.Pulls.Pull(ctx, keyOf(p), p.Number)
}

// wholeHash reports whether s can be the hash of a commit, not shortened: the author of a pull request
// could make another commit with the same beginning.
func wholeHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}

// ClosePull closes an open pull request without merging it.
func (x *Actions) ClosePull(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error) {
	project, _ := slipway.SplitCodebase(codebase)
	if err := auth.Check(by, auth.ClosePull, project); err != nil {
		return slipway.PullRequest{}, err
	}
	defer x.lock(project)() // not while it is merged
	p, err := x.pull(ctx, codebase, number)
	if err != nil {
		return p, err
	}
	return x.o.PullEnds.ClosePull(ctx, keyOf(p), p.Number, by.Name)
}

// mergeTimeout bounds what follows the decision to merge, which goes on when whoever asked hangs up.
const mergeTimeout = time.Minute

// Merge merges a pull request when it may: open, its newest run on its head succeeded, the required
// approvals are there, and the base has no conflicting change (S29, D14). The move of the base branch
// is recorded before it happens, like any push. A head that the base has already is merged as it is.
func (x *Actions) Merge(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error) {
	project, _ := slipway.SplitCodebase(codebase)
	if err := auth.Check(by, auth.Merge, project); err != nil {
		return slipway.PullRequest{}, err
	}
	defer x.lock(project)()
	p, err := x.pull(ctx, codebase, number)
	if slipway.ErrorCode(err) == slipway.NotFound {
		if _, err := x.hosted(ctx, codebase); err != nil {
			return p, err
		}
	}
	if err != nil {
		return p, err
	}
	at, err := x.hosted(ctx, keyOf(p))
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
		return p, slipway.Errorf(slipway.Conflict, "pull request %s is for branch %s, which does not exist any more", p.Name(), p.Base)
	}
	if contained, err := repo.IsAncestor(ctx, p.Head, base); err != nil {
		return p, err
	} else if contained {
		return x.o.PullEnds.MergePull(ctx, keyOf(p), p.Number, p.Head, base, by.Name)
	}
	return x.merge(ctx, by, at, p, base)
}

// merge makes the merge commit and moves the base branch to it.
func (x *Actions) merge(ctx context.Context, by slipway.User, at slipway.Codebase, p slipway.PullRequest, base string) (slipway.PullRequest, error) {
	repo, ref := x.o.Repo(keyOf(p)), "refs/heads/"+p.Base
	commit, err := repo.Merge(ctx, base, p.Head, fmt.Sprintf("Merge pull request %d: %s", p.Number, p.Title), by.Name)
	if err != nil {
		return p, err
	}
	if p.Base == at.DefaultBranch {
		agreed, err := x.agreed(ctx, p)
		if err != nil {
			return p, err
		}
		if err := x.maySign(ctx, at, base, commit, x.o.Planner.Repo(at.Key()).Tree, append(agreed, by)...); err != nil {
			return p, err
		}
	}
	push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: p.Project, Codebase: p.Codebase, Ref: ref, Old: base, New: commit, Actor: by.Name, Time: x.o.Now()})
	if err != nil {
		return p, err
	}
	if err := repo.UpdateRef(ctx, ref, commit, base); err != nil {
		if now, rerr := tip(ctx, repo, ref); rerr != nil || now != commit {
			x.refuse(ctx, push, "the base branch did not move to the merge")
			if slipway.ErrorCode(err) == slipway.Conflict {
				err = slipway.Errorf(slipway.Conflict, "branch %s moved while pull request %s was merged: try again", p.Base, p.Name())
			}
			return p, err
		}
	}
	merged, err := x.o.PullEnds.MergePull(ctx, keyOf(p), p.Number, p.Head, commit, by.Name)
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
			return lines, fmt.Errorf("compare pull request %s of %s: %w", p.Name(), at.Project, err)
		}
		if !in {
			continue
		}
		if _, err := x.o.PullEnds.MergePull(ctx, at.Key(), p.Number, p.Head, commit, actor); err != nil && slipway.ErrorCode(err) != slipway.Conflict {
			return lines, err
		}
		lines = append(lines, fmt.Sprintf("pull request %s is merged by this", p.Name()))
	}
	return lines, nil
}

func (x *Actions) mayMerge(ctx context.Context, by slipway.User, at slipway.Codebase, p slipway.PullRequest) error {
	if p.State != slipway.PullOpen {
		return slipway.Errorf(slipway.Conflict, "pull request %s is %s", p.Name(), p.State)
	}
	runs, err := x.o.Runs.Runs(ctx, slipway.RunFilter{Codebase: keyOf(p), Ref: p.Ref(), Commit: p.Head, Limit: 1})
	if err != nil {
		return err
	}
	switch {
	case len(runs) == 0:
		return slipway.Errorf(slipway.Conflict, "pull request %s has no run for its head %s yet", p.Name(), slipway.ShortHash(p.Head))
	case runs[0].State != slipway.RunSucceeded:
		return slipway.Errorf(slipway.Conflict, "pull request %s may be merged when run #%d has succeeded: it is %s (%s/runs/%d)", p.Name(), runs[0].ID, runs[0].State, x.o.URL, runs[0].ID)
	}
	policy, err := x.o.Planner.PullRequests(ctx, p.Project)
	if err != nil {
		return err
	}
	if len(p.Reviewers) < policy.Approvals {
		return slipway.Errorf(slipway.Conflict, "pull request %s needs %d approvals and has %d (slipway pulls approve %s)", p.Name(), policy.Approvals, len(p.Reviewers), p.Name())
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
		err = slipway.Errorf(slipway.Forbidden, "pull request %s changes what governs deployments (environments, registries, approvals, limits, gates or what counts as a scan in slipway.yaml): an approver must approve it first (slipway pulls approve %s)", p.Name(), p.Name())
	}
	return err
}

// maySign refuses a commit with which the default branch asks less of signatures, unless one of those who want it may
// waive a signature: an admin of the project.
func (x *Actions) maySign(ctx context.Context, at slipway.Codebase, before, after string, open func(context.Context, string) (Tree, error), people ...slipway.User) error {
	if at.Name != "" || slices.ContainsFunc(people, func(u slipway.User) bool { return auth.Check(u, auth.ManageProject, at.Project) == nil }) {
		return nil
	}
	less, err := x.o.Planner.lessSigned(ctx, at.Project, before, after, x.o.Now(), open)
	if err == nil && len(less) > 0 {
		err = slipway.Errorf(slipway.Forbidden, "slipway.yaml of commit %s asks less of signatures: %s; as with a waiver of one, that takes the role %s in project %s: an admin of the project pushes it, or merges or approves a pull request with it (slipway pulls approve)",
			slipway.ShortHash(after), strings.Join(less, "; "), slipway.Admin, at.Project)
	}
	return err
}

// agreed are those who approved of the head of a pull request, with the roles that they have now.
func (x *Actions) agreed(ctx context.Context, p slipway.PullRequest) (out []slipway.User, err error) {
	for _, name := range p.Reviewers {
		u, err := x.o.Member(ctx, name)
		if slipway.ErrorCode(err) == slipway.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}
