package git

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway/stage/source"
)

// maxWalked is how many commits are read one after the other, before the git command is faster.
const maxWalked = 64

// step is a commit of a walk.
type step struct {
	hash    string
	tree    string
	parents []string
	time    int64 // when it was committed, in Unix seconds
}

// parseCommit reads the header of a commit. One that is not just as git writes it is errOdd.
func parseCommit(hash, content string) (step, error) {
	c := step{hash: hash}
	header, _, _ := strings.Cut(content, "\n\n")
	for i, line := range strings.Split(header, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case i == 0 && key == "tree" && checkHash(value) == nil:
			c.tree = value
		case key == "parent" && i == 1+len(c.parents) && checkHash(value) == nil:
			c.parents = append(c.parents, value)
		case key == "author" && i == 1+len(c.parents):
		case key == "committer" && i == 2+len(c.parents) && c.tree != "":
			at := strings.LastIndex(value, "> ")
			seconds, zone, ok := strings.Cut(value[at+1:], " +")
			if !ok {
				seconds, zone, ok = strings.Cut(value[at+1:], " -")
			}
			t, err := strconv.ParseUint(strings.TrimPrefix(seconds, " "), 10, 33) // git's own index has no room for more
			if at < 0 || !ok || err != nil || len(zone) != 4 || strings.Trim(zone, "0123456789") != "" {
				return c, errOdd
			}
			c.time = int64(t)
			return c, nil
		default:
			return c, errOdd
		}
	}
	return c, errOdd
}

// commits reads commits; "" is one with the empty tree.
func (f *folders) commits(ctx context.Context, hashes ...string) (map[string]step, error) {
	todo := slices.DeleteFunc(slices.Clone(hashes), func(h string) bool { return h == "" })
	found, err := f.rd.objects(ctx, "commit", todo)
	if err != nil {
		return nil, err
	}
	known := make(map[string]step, len(found))
	for hash, content := range found {
		if known[hash], err = parseCommit(hash, content); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// grafted reports whether commits have other parents than they say: in a shallow clone.
func (r Repo) grafted() bool {
	for _, name := range []string{"shallow", "info/grafts"} {
		if _, err := os.Lstat(filepath.Join(r.Dir, name)); !os.IsNotExist(err) {
			return true
		}
	}
	return false
}

// queue is commits to be walked, newest first; of those of one second, those that were found first.
type queue []step

func (q *queue) push(c step) {
	at := len(*q)
	for at > 0 && (*q)[at-1].time < c.time {
		at--
	}
	*q = slices.Insert(*q, at, c)
}

func (q *queue) pop() step {
	c := (*q)[0]
	*q = (*q)[1:]
	return c
}

// recentThrough is Recent, by git log's order.
func (r Repo) recentThrough(ctx context.Context, commit string, limit int) ([]source.Touched, error) {
	f, err := r.reading()
	if err != nil {
		return nil, err
	}
	known, err := f.commits(ctx, commit)
	if err != nil {
		return nil, err
	}
	var (
		todo  queue
		steps []step
		seen  = map[string]bool{commit: true}
	)
	todo.push(known[commit])
	for len(todo) > 0 && len(steps) < limit {
		c := todo.pop()
		steps = append(steps, c)
		if len(steps) > maxWalked {
			return nil, errUnread
		}
		parents, err := f.commits(ctx, c.parents...)
		if err != nil {
			return nil, err
		}
		for _, p := range c.parents {
			known[p] = parents[p]
			if !seen[p] {
				seen[p] = true
				todo.push(parents[p])
			}
		}
	}
	return f.touched(ctx, steps, known)
}

// touched compares each commit that is no merge with its parent.
func (f *folders) touched(ctx context.Context, steps []step, known map[string]step) ([]source.Touched, error) {
	pairs := make([]compared, len(steps))
	for i, c := range steps {
		if len(c.parents) > 1 {
			continue
		}
		pairs[i].is = c.tree
		if len(c.parents) == 1 {
			pairs[i].was = known[c.parents[0]].tree
		}
		if pairs[i].is == pairs[i].was {
			pairs[i] = compared{}
		}
	}
	if err := f.compare(ctx, pairs); err != nil {
		return nil, err
	}
	list := make([]source.Touched, len(steps))
	for i, c := range steps {
		list[i] = source.Touched{Commit: c.hash, Time: time.Unix(c.time, 0).UTC(), Parents: len(c.parents)}
		files, err := f.differences(pairs[i], "", nil)
		if err != nil {
			return nil, err
		}
		for _, d := range files {
			list[i].Files = append(list[i].Files, d.path)
		}
	}
	return list, nil
}

// Colours of a walk for the common ancestors of two commits.
const (
	fromA = 1 << iota
	fromB
	stale // an ancestor of a common one
	common
)

// mergeBaseThrough is MergeBase where the answer is one commit and near: git's own algorithm, as far as it
// does not depend on the order of the walk.
func (r Repo) mergeBaseThrough(ctx context.Context, a, b string) (string, error) {
	f, err := r.reading()
	if err != nil {
		return "", err
	}
	known, err := f.commits(ctx, a, b)
	if err != nil || a == b {
		return a, err
	}
	var (
		todo   queue
		colour = map[string]int{a: fromA, b: fromB}
		found  []string
	)
	todo.push(known[a])
	todo.push(known[b])
	for walked := 0; slices.ContainsFunc(todo, func(c step) bool { return colour[c.hash]&stale == 0 }); walked++ {
		if walked > maxWalked {
			return "", errUnread
		}
		c := todo.pop()
		down := colour[c.hash] & (fromA | fromB | stale)
		if down == fromA|fromB {
			if colour[c.hash]&common == 0 {
				colour[c.hash] |= common
				found = append(found, c.hash)
			}
			down |= stale
		}
		parents, err := f.commits(ctx, c.parents...)
		if err != nil {
			return "", err
		}
		for _, p := range c.parents {
			if colour[p]&down != down {
				colour[p] |= down
				todo.push(parents[p])
			}
		}
	}
	found = slices.DeleteFunc(found, func(hash string) bool { return colour[hash]&stale != 0 })
	if len(found) != 1 {
		return "", errUnread
	}
	return found[0], nil
}

// resolveThrough is Resolve of a ref that is there.
func (r Repo) resolveThrough(ctx context.Context, ref string) (string, error) {
	if !strings.HasPrefix(ref, "refs/") {
		return "", errUnread
	}
	f, err := r.reading()
	if err != nil {
		return "", err
	}
	found, err := f.rd.ask(ctx, []question{{about, ref + "^{commit}"}})
	if err != nil {
		return "", err
	}
	if found[0].kind != "commit" {
		return "", errUnread
	}
	return found[0].hash, nil
}
