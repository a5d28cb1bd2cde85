package act

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Pulls lists a project's pull requests, newest first.
func (x *Actions) Pulls(ctx context.Context, by slipway.User, project string) ([]slipway.PullRequest, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
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

// ReviewPull approves the current head of a pull request; its author's word does not count.
func (x *Actions) ReviewPull(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.ReviewPull, project); err != nil {
		return slipway.PullRequest{}, err
	}
	p, err := x.o.Pulls.Pull(ctx, project, number)
	if err != nil {
		return p, err
	}
	if p.Author == by.Name {
		return p, slipway.Errorf(slipway.Forbidden, "%s opened pull request %d and may not approve it", by.Name, number)
	}
	return x.o.Pulls.ReviewPull(ctx, project, number, p.Head, by.Name)
}

// Merge merges a pull request when it may: open, its newest run on its head succeeded, the required
// approvals are there, and the base has no conflicting change (S29, D14). The move of the base branch
// is recorded before it happens, like any push.
func (x *Actions) Merge(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error) {
	if err := auth.Check(by, auth.Merge, project); err != nil {
		return slipway.PullRequest{}, err
	}
	p, err := x.o.Pulls.Pull(ctx, project, number)
	if err != nil {
		return p, err
	}
	if err := x.mayMerge(ctx, p); err != nil {
		return p, err
	}
	repo, ref := x.o.Repo(project), "refs/heads/"+p.Base
	base, err := repo.Resolve(ctx, ref)
	if err != nil {
		return p, err
	}
	message := fmt.Sprintf("Merge pull request %d: %s", p.Number, p.Title)
	commit, err := repo.Merge(ctx, base, p.Head, message, by.Name)
	if err != nil {
		return p, err
	}
	push, err := x.o.Pushes.RecordPush(ctx, slipway.Push{Project: project, Ref: ref, Old: base, New: commit, Actor: by.Name, Time: x.o.Now()})
	if err != nil {
		return p, err
	}
	if err := repo.UpdateRef(ctx, ref, commit, base); err != nil {
		if rerr := x.o.Pushes.RefusePush(ctx, push.ID, "the base branch moved during the merge"); rerr != nil {
			return p, rerr
		}
		return p, slipway.Errorf(slipway.Conflict, "branch %s moved while pull request %d was merged: try again", p.Base, number)
	}
	if p, err = x.o.Pulls.MergePull(ctx, project, number, p.Head, commit, by.Name); err != nil {
		return p, err
	}
	_, err = x.accept(ctx, push)
	return p, err
}

func (x *Actions) mayMerge(ctx context.Context, p slipway.PullRequest) error {
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
	return nil
}
