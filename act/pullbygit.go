package act

import (
	"context"

	"github.com/slipway-cd/slipway"
)

// pullByGit is a pull request of a codebase that is fetched with a deploy key alone: title, base and state as the
// newest delivery says, the head as git has it. Whatever the deliveries say, it counts as a fork's unless git
// itself has its head in a branch of this repository: who may push one is trusted, who may send a webhook
// is not. No statuses and no comment follow.
func (f *Forges) pullByGit(ctx context.Context, src Source, b batch) (p slipway.ForgePull, ignore string, err error) {
	c, opened := src.Connection, false
	for _, r := range b.all {
		opened = opened || r.Delivery.Event == slipway.PullEventOpened
		if next := r.Delivery.Pull; !next.UpdatedAt.Before(p.UpdatedAt) {
			p = *next
		}
	}
	old, err := f.x.o.Pulls.Pull(ctx, c.Key(), b.pull)
	known := err == nil
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return p, "", err
	}
	if p.State != slipway.PullOpen {
		return p, "", nil
	}
	if known && old.State != slipway.PullOpen && !opened { // it came late
		return p, "nothing follows: the pull request is " + string(old.State), nil
	}
	if p.Fork {
		return p, "", nil
	}
	if err := f.Poll(ctx, c, nil); err != nil {
		return p, "", err
	}
	head, err := f.head(ctx, src, p)
	if err != nil {
		return p, "", err
	}
	own, err := f.ownBranch(ctx, c, p.Topic, head)
	p.Fork = !own
	return p, "", err
}

// ownBranch reports whether a branch of the repository holds a commit.
func (f *Forges) ownBranch(ctx context.Context, c slipway.Connection, branch, commit string) (bool, error) {
	if branch == "" || slipway.CheckRef("refs/heads/"+branch) != nil {
		return false, nil
	}
	repo := f.x.o.Repo(c.Key())
	at, err := tip(ctx, repo, "refs/heads/"+branch)
	if err != nil || at == slipway.ZeroHash {
		return false, err
	}
	return repo.IsAncestor(ctx, commit, at)
}
