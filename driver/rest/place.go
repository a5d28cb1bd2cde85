package rest

import (
	"context"

	"github.com/slipway-cd/slipway"
)

// Place updates the comment that is there: by the id that is known, else by the one that find finds. It
// returns the comment's id, "" if there is none and one is to be made. A comment that somebody removed,
// or an id that belongs to another's, is looked for anew.
func Place(ctx context.Context, c slipway.PullComment, update func(ctx context.Context, id string) error, find func(ctx context.Context, c slipway.PullComment) (string, error)) (string, error) {
	var known error
	if c.ID != "" {
		known = update(ctx, c.ID)
		if code := slipway.ErrorCode(known); code != slipway.NotFound && code != slipway.Forbidden {
			return c.ID, known
		}
	}
	id, err := find(ctx, c)
	if err != nil || id == "" {
		return "", err
	}
	if id == c.ID {
		return id, known
	}
	return id, update(ctx, id)
}

// Head adds a branch, if it is one that Slipway takes.
func Head(heads []slipway.BranchHead, branch, commit string) []slipway.BranchHead {
	if slipway.CheckRef("refs/heads/"+branch) != nil || slipway.CheckHash(commit) != nil {
		return heads
	}
	return append(heads, slipway.BranchHead{Branch: branch, Commit: commit})
}
