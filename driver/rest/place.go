package rest

import (
	"context"
	"iter"
	"maps"
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

// List asks for a list page by page and yields its entries, at most 3,000 of them. size is the forge's name
// for how many a page has. An error is the last that is yielded.
func List[T any](ctx context.Context, c *Client, size string, perPage int, r Request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for number := 1; number <= maxListed/perPage; number++ {
			one, page := r, []T(nil)
			one.Query, one.Into = url.Values{size: {strconv.Itoa(perPage)}, "page": {strconv.Itoa(number)}}, &page
			maps.Copy(one.Query, r.Query)
			a, err := c.Do(ctx, one)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, entry := range page {
				if !yield(entry, nil) {
					return
				}
			}
			if !a.more() {
				return
			}
		}
	}
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
