package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// UpdateRef moves a ref from old to new if it still is at old; slipway.Conflict if it is not. The
// zero hash as old means that the ref must not exist yet.
func (r Repo) UpdateRef(ctx context.Context, ref, new, old string) error {
	return r.moveRefs(ctx, []RefChange{{Ref: ref, Old: old, New: new}})
}

// RefChange is a ref that moves or has moved; the zero hash stands for "does not exist".
type RefChange struct {
	Ref, Old, New string
}

// moveRefs makes all of the changes or none.
func (r Repo) moveRefs(ctx context.Context, changes []RefChange) error {
	if len(changes) == 0 {
		return nil
	}
	if len(r.Env) > 0 {
		return errors.New("move refs: a push in quarantine may not")
	}
	var script strings.Builder
	for _, c := range changes {
		if err := slipway.CheckRef(c.Ref); err != nil {
			return err
		}
		if err := checkHashes(c.New, c.Old); err != nil {
			return err
		}
		if c.New == slipway.ZeroHash {
			fmt.Fprintf(&script, "delete %s\x00%s\x00", c.Ref, c.Old)
		} else {
			fmt.Fprintf(&script, "update %s\x00%s\x00%s\x00", c.Ref, c.New, c.Old)
		}
	}
	_, err := r.run(ctx, call{args: []string{"update-ref", "--no-deref", "--stdin", "-z"}, stdin: strings.NewReader(script.String())})
	if err != nil {
		return r.moveError(ctx, changes, err)
	}
	return nil
}

// moveError finds out whether refs did not move because one had moved before.
func (r Repo) moveError(ctx context.Context, changes []RefChange, err error) error {
	if _, ok := exitStatus(err); !ok {
		return err
	}
	for _, c := range changes {
		refs, rerr := r.Refs(ctx, c.Ref)
		if rerr != nil {
			return err
		}
		now := refs[c.Ref]
		if now == "" {
			now = slipway.ZeroHash
		}
		if now != c.Old {
			return slipway.Errorf(slipway.Conflict, "%s is at %s and not, as expected, at %s: it was moved by someone else; look again and repeat",
				c.Ref, slipway.ShortHash(now), slipway.ShortHash(c.Old))
		}
		if c.New != slipway.ZeroHash && !r.exists(ctx, c.New) {
			return slipway.Errorf(slipway.NotFound, "commit %s is not in this repository", c.New)
		}
	}
	return fmt.Errorf("move %s: %w", changes[0].Ref, err)
}

// Merge is the result of merging two commits without a working copy.
type Merge struct {
	Tree      string   // with conflict markers if there are conflicts
	Conflicts []string // paths; empty: a clean merge
}

var errNoTree = errors.New("git merge-tree printed no tree")

// synced has git sync the objects that it makes, which it does not by default: what is made here is nowhere else. What is
// fetched is not synced, as it can be fetched again, and many fetches would hold up what is waited for.
func synced() []string { return []string{"core.fsync=objects,derived-metadata"} }

// MergeTree merges theirs into ours and stores the resulting tree. No ref moves.
func (r Repo) MergeTree(ctx context.Context, ours, theirs string) (Merge, error) {
	if err := checkHashes(ours, theirs); err != nil {
		return Merge{}, err
	}
	out, err := r.runWith(ctx, synced(), call{args: []string{"merge-tree", "--write-tree", "--name-only", "--no-messages", "--allow-unrelated-histories", "-z", ours, theirs}})
	if code, ok := exitStatus(err); err != nil && (!ok || code != 1) {
		return Merge{}, r.missing(ctx, err, ours, theirs)
	}
	parts := splitNUL(out)
	if len(parts) == 0 || checkHash(parts[0]) != nil {
		return Merge{}, fmt.Errorf("merge %s into %s: %w", theirs, ours, r.missing(ctx, cmp.Or(err, errNoTree), ours, theirs))
	}
	return Merge{Tree: parts[0], Conflicts: parts[1:]}, nil
}

// NewCommit is a commit to be made; the committer is the author.
type NewCommit struct {
	Tree    string
	Parents []string
	Message string
	Author  string // name
	Email   string
	Time    time.Time
}

// CommitTree stores a commit and returns its hash: equal input, equal hash. No ref moves.
func (r Repo) CommitTree(ctx context.Context, c NewCommit) (string, error) {
	if err := checkHashes(append([]string{c.Tree}, c.Parents...)...); err != nil {
		return "", err
	}
	args := []string{"-c", "commit.gpgSign=false", "commit-tree", "--no-gpg-sign"}
	for _, p := range c.Parents {
		args = append(args, "-p", p)
	}
	date := fmt.Sprintf("@%d +0000", c.Time.Unix())
	env := []string{
		"GIT_AUTHOR_NAME=" + identity(c.Author, "slipway"), "GIT_AUTHOR_EMAIL=" + identity(c.Email, "slipway@localhost"), "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=" + identity(c.Author, "slipway"), "GIT_COMMITTER_EMAIL=" + identity(c.Email, "slipway@localhost"), "GIT_COMMITTER_DATE=" + date,
	}
	message := strings.ReplaceAll(c.Message, "\x00", "")
	out, err := r.runWith(ctx, synced(), call{args: append(args, c.Tree), env: env, stdin: strings.NewReader(message)})
	return strings.TrimSpace(string(out)), err
}

// identity is s without what may not stand in an author line, or other if nothing is left.
func identity(s, other string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '<' || r == '>' {
			return -1
		}
		return r
	}, s)
	if strings.Trim(s, " .,:;\"'\\") == "" {
		return other
	}
	return s
}
