package act

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// SyncPulls takes over every pull request that the forge has open, and the end of those that it has not
// any more: what webhooks missed. Those that were there before the codebase was connected are taken as
// they are, without a run. Without a token for the API there is nothing to take over.
func (f *Forges) SyncPulls(ctx context.Context, codebase string) error {
	src, err := f.Source(ctx, codebase)
	if err != nil || src.Connection.Credential == "" {
		return err
	}
	ctx, done := f.During(ctx, src)
	defer done()
	err = f.syncPulls(ctx, src)
	if cause := context.Cause(ctx); errors.Is(cause, ErrConnectedAnew) { // what was left of it is no error of a pull request
		return cause
	}
	return err
}

func (f *Forges) syncPulls(ctx context.Context, src Source) error {
	c := src.Connection
	client, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	theirs, err := client.Pulls(ctx)
	f.problem(ctx, c.Key(), "read", err)
	if err != nil {
		return err
	}
	synced, err := f.Pulls.Synced(ctx, c.Key())
	if err != nil {
		return err
	}
	ours, err := f.x.o.Pulls.Pulls(ctx, c.Project, slipway.PullOpen)
	if err != nil {
		return err
	}
	refs, err := f.x.o.Repo(c.Key()).Refs(ctx, "refs/pull")
	if err != nil {
		return err
	}
	gone := map[int64]slipway.PullRequest{}
	for _, p := range ours {
		if p.Forge && p.Codebase == c.Codebase {
			gone[p.Number] = p
		}
	}
	sweep := f.sweep(c.Key())
	defer sweep.end()
	for _, p := range theirs {
		have, known := gone[p.Number]
		delete(gone, p.Number)
		if known && have.Head == p.Head && have.Base == p.Base && have.Title == title(p.Title) && refs[have.Ref()] == p.Head {
			continue
		}
		if !sweep.goOn(ctx, p.Number, func() error { return f.take(ctx, src, p, f.actor(ctx, c, p.Author), !synced) }) {
			return sweep.err()
		}
	}
	for _, number := range slices.Sorted(maps.Keys(gone)) {
		if !sweep.goOn(ctx, number, func() error { return f.gone(ctx, src, client, number) }) {
			return sweep.err()
		}
	}
	if !synced {
		if err := f.synced(ctx, src); err != nil {
			return err
		}
	}
	return sweep.err()
}

// synced keeps that the pull requests are known that were there before the codebase was connected.
func (f *Forges) synced(ctx context.Context, src Source) error {
	if err := f.Confirm(ctx, src); err != nil { // else they may have been a stranger's
		return err
	}
	release, err := f.Acting(ctx, src)
	if err != nil {
		return err
	}
	defer release()
	return f.Pulls.SetSynced(ctx, src.key())
}

// gone takes over what became of a pull request that is not open any more.
func (f *Forges) gone(ctx context.Context, src Source, client Forge, number int64) error {
	p, err := client.Pull(ctx, number)
	if slipway.ErrorCode(err) == slipway.Invalid { // it now has what Slipway does not take, such as an odd base
		f.x.o.Log.WarnContext(ctx, "leave a pull request of the forge as it was", "codebase", src.key(), "pull", number, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	return f.sync(ctx, src, p, mirrorActor)
}

// sync takes over a pull request as the forge's API has it.
func (f *Forges) sync(ctx context.Context, src Source, p slipway.ForgePull, actor string) error {
	return f.take(ctx, src, p, actor, false)
}

// take takes over a pull request; a quiet one makes no run.
func (f *Forges) take(ctx context.Context, src Source, p slipway.ForgePull, actor string, quiet bool) error {
	if p.State != slipway.PullOpen {
		return f.ended(ctx, src, p, actor)
	}
	head, err := f.ownHead(ctx, src, p)
	if err != nil {
		return fmt.Errorf("fetch pull request %d: %w", p.Number, err)
	}
	release, err := f.Acting(ctx, src)
	if err != nil {
		return err
	}
	defer release()
	c := src.Connection
	defer f.x.lock(c.Project)()
	old, err := f.x.o.Pulls.Pull(ctx, c.Key(), p.Number)
	known := err == nil
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return err
	}
	next := slipway.PullRequest{Project: c.Project, Codebase: c.Codebase, Number: p.Number, Title: title(p.Title), Base: p.Base, Topic: p.Topic, Head: head,
		Author: f.actor(ctx, c, p.Author), State: slipway.PullOpen, Link: p.Link, Fork: p.Fork}
	if next.Held, err = f.held(ctx, c, old, next); err != nil {
		return err
	}
	rebased := known && old.State == slipway.PullOpen && old.Base != next.Base && old.Head == head && next.Held == ""
	if _, err := f.Pulls.SaveForgePull(ctx, next); err != nil {
		return err
	}
	moved, err := f.move(ctx, next, actor, quiet)
	if err != nil || moved || quiet {
		return err
	}
	if known && old.State != slipway.PullOpen && next.Held == "" {
		run, ran, err := f.newestRun(ctx, next)
		if err != nil || !ran || !closedWith(run) {
			return err
		}
	} else if !rebased {
		return nil
	}
	_, err = f.x.o.Runs.CreateRun(ctx, pullRun(next, actor), FirstPlan()) // what it is compared with may be another
	return err
}

// closedWith reports whether a run of a pull request was cancelled because that was closed, or is about to be.
func closedWith(r slipway.Run) bool {
	return (r.State == slipway.RunCancelled || !r.State.Final()) && strings.HasSuffix(r.Reason, endReason(r.Pull, slipway.PullClosed))
}

func endReason(number int64, state slipway.PullState) string {
	return fmt.Sprintf("pull request %d is %s", number, state)
}

// ensureRun makes a run for the head of an open pull request that has none, or of which the newest ended when it was closed:
// polling took it for one that was there before the codebase was connected, and the forge says that it is new.
func (f *Forges) ensureRun(ctx context.Context, src Source, number int64, actor string) error {
	release, err := f.Acting(ctx, src)
	if err != nil {
		return err
	}
	defer release()
	c := src.Connection
	defer f.x.lock(c.Project)()
	p, err := f.x.o.Pulls.Pull(ctx, c.Key(), number)
	if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && (p.State != slipway.PullOpen || p.Held != "")) {
		return nil
	}
	if err != nil {
		return err
	}
	if run, ran, err := f.newestRun(ctx, p); err != nil || ran && !closedWith(run) {
		return err
	}
	_, err = f.x.o.Runs.CreateRun(ctx, pullRun(p, actor), FirstPlan())
	return err
}

// ownHead is the commit of an open pull request as git has it, where that is one of the connected repository. It is
// when the forge says that the pull request is of that repository, and that this commit is its head. Else, as for one
// that moves at this moment, the repository is confirmed before and after git is asked once more.
func (f *Forges) ownHead(ctx context.Context, src Source, p slipway.ForgePull) (string, error) {
	head, err := f.head(ctx, src, p)
	if err != nil || !src.Asked() || p.Repository == src.Connection.RepositoryID && head == p.Head {
		return head, err
	}
	if err := f.ofRepository(ctx, src, p); err != nil {
		return "", err
	}
	if head, err = f.head(ctx, src, p); err != nil {
		return "", err
	}
	return head, f.Confirm(ctx, src)
}

// ofRepository confirms that what the forge's API said of a pull request, it said of the connected repository. Where
// it named another one, that stays so, whosever the name is now.
func (f *Forges) ofRepository(ctx context.Context, src Source, p slipway.ForgePull) error {
	if !src.Asked() {
		return nil
	}
	own := p.Repository == src.Connection.RepositoryID
	if err := f.Confirm(ctx, src); err != nil || own || p.Repository == "" {
		return err
	}
	return slipway.Errorf(slipway.Unavailable, "pull request %d is of another repository than the one that is connected (id %s, not %s), whose name this is again: it is asked for once more",
		p.Number, slipway.CleanLine(p.Repository, 40), src.Connection.RepositoryID)
}

// head is the commit of a pull request as git has it. Where the forge only offers a merge of it, that
// holds the head.
func (f *Forges) head(ctx context.Context, src Source, p slipway.ForgePull) (string, error) {
	commit, err := f.FetchPull(ctx, src.key(), p.Number, p.FetchRef)
	if err != nil || !strings.HasSuffix(p.FetchRef, "/merge") || strings.HasPrefix(p.FetchRef, "refs/heads/") {
		return commit, err
	}
	in, err := f.x.o.Repo(src.key()).IsAncestor(ctx, p.Head, commit)
	if err == nil && !in {
		err = slipway.Errorf(slipway.Unavailable, "%s does not hold %s yet", p.FetchRef, slipway.ShortHash(p.Head))
	}
	return p.Head, err
}

// held is the head that waits for a member, "" if it may run: it is of a fork, the connection asks for that,
// and nobody has approved this very commit.
func (f *Forges) held(ctx context.Context, c slipway.Connection, old, next slipway.PullRequest) (string, error) {
	if !next.Fork {
		return "", nil
	}
	d, err := f.Details.CodebaseDetail(ctx, c.Key())
	if err != nil || d.Forks != slipway.ForksApprove {
		return "", err
	}
	if old.Head != next.Head || !old.Fork {
		return next.Head, nil
	}
	if old.State == slipway.PullOpen {
		return old.Held, nil
	}
	// Whoever made it may close it and open it again: that lets nothing run which has not run before.
	_, ran, err := f.newestRun(ctx, next)
	if err != nil || ran {
		return "", err
	}
	return next.Head, nil
}

// newestRun is the newest run of the head of a pull request, if there is one.
func (f *Forges) newestRun(ctx context.Context, p slipway.PullRequest) (slipway.Run, bool, error) {
	runs, err := f.x.o.Runs.Runs(ctx, slipway.RunFilter{Codebase: keyOf(p), Ref: p.Ref(), Commit: p.Head, Limit: 1})
	if err != nil || len(runs) == 0 {
		return slipway.Run{}, false, err
	}
	return runs[0], true, nil
}

// move moves the pull request's ref to its head as a push, and reports whether it had to.
func (f *Forges) move(ctx context.Context, p slipway.PullRequest, actor string, quiet bool) (bool, error) {
	codebase := keyOf(p)
	repo := f.x.o.Repo(codebase)
	old, err := tip(ctx, repo, p.Ref())
	if err != nil || old == p.Head {
		return false, err
	}
	if quiet {
		return true, repo.UpdateRef(ctx, p.Ref(), p.Head, old)
	}
	pushes, err := f.x.Seen(ctx, codebase, []Command{{Ref: p.Ref(), Old: old, New: p.Head, Actor: actor}})
	if err != nil {
		return true, err
	}
	if err := repo.UpdateRef(ctx, p.Ref(), p.Head, old); err != nil {
		f.x.Settle(context.WithoutCancel(ctx), pushes)
		return true, fmt.Errorf("move %s: %w", p.Ref(), err)
	}
	f.x.Moved(context.WithoutCancel(ctx), pushes)
	return true, nil
}

// ended takes over that a pull request was merged or closed; its runs that are under way are cancelled.
func (f *Forges) ended(ctx context.Context, src Source, p slipway.ForgePull, actor string) error {
	c := src.Connection
	if p.Repository != c.RepositoryID {
		if err := f.ofRepository(ctx, src, p); err != nil {
			return err
		}
	}
	release, err := f.Acting(ctx, src)
	if err != nil {
		return err
	}
	defer release()
	defer f.x.lock(c.Project)()
	old, err := f.x.o.Pulls.Pull(ctx, c.Key(), p.Number)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil // it came and went
	}
	if err != nil {
		return err
	}
	if !old.Forge {
		return nil
	}
	next := old
	next.State, next.MergedAs, next.Held, next.Title = p.State, p.MergedAs, "", title(first(p.Title, old.Title))
	if _, err := f.Pulls.SaveForgePull(ctx, next); err != nil {
		return err
	}
	runs, err := f.x.o.Runs.Runs(ctx, slipway.RunFilter{Codebase: c.Key(), Ref: next.Ref(), Limit: 20})
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.State.Final() {
			continue
		}
		if err := f.x.o.Runs.CancelRun(ctx, r.ID, actor, endReason(p.Number, p.State)); err != nil && slipway.ErrorCode(err) != slipway.Conflict {
			return err
		}
	}
	return nil
}

// pullRun is the run of a pull request's head.
func pullRun(p slipway.PullRequest, actor string) slipway.Run {
	return slipway.Run{Project: p.Project, Codebase: p.Codebase, Event: slipway.PullUpdate, Ref: p.Ref(), Base: p.Base, Commit: p.Head, Title: p.Title, Actor: actor, Pull: p.Number, Fork: p.Fork}
}
