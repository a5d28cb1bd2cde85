package rest

import (
	"context"
	"net/url"
	"strconv"

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

// maxListed bounds how many entries of a list are read.
const maxListed = 3000

// Pages calls get with the query of each page, whose size has that name, until it says that there are no
// more.
func Pages(size string, perPage int, get func(url.Values) (bool, error)) error {
	for page := 1; page <= maxListed/perPage; page++ {
		more, err := get(url.Values{size: {strconv.Itoa(perPage)}, "page": {strconv.Itoa(page)}})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// ReadPull is Pull for one that was asked for: why it would be ignored is an error. kind is the forge's word
// for it.
func ReadPull(kind, repository string, p slipway.ForgePull) (slipway.ForgePull, error) {
	n, why, err := Pull(p)
	if err == nil && why != "" {
		err = slipway.Errorf(slipway.Invalid, "%s %d of %s: %s", kind, p.Number, repository, why)
	}
	return n, err
}

// Head adds a branch, if it is one that Slipway takes.
func Head(heads []slipway.BranchHead, branch, commit string) []slipway.BranchHead {
	if slipway.CheckRef("refs/heads/"+branch) != nil || slipway.CheckHash(commit) != nil {
		return heads
	}
	return append(heads, slipway.BranchHead{Branch: branch, Commit: commit})
}
