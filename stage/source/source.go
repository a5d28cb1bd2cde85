// Package source answers what is different about a commit: which files, since what was built before
// (D4), and which commit is the newest that touched a service (D15). It also keeps the checked-out
// trees that the steps of a run share.
//
// It compares trees and nothing else: what a forge says in a payload does not matter. It does not
// know which files matter to which service, and does not decide what runs; both is stage/plan's.
package source

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// FileChange is a path that differs between two trees, and how.
type FileChange struct {
	Path    string
	Added   bool
	Deleted bool
	Plain   bool // a file before and after, or only before or after: no link, no submodule
}

// Repo is the repository that is asked. Commits are full hashes. A commit that the repository does
// not have is slipway.NotFound.
type Repo interface {
	// ChangedFiles returns the paths that differ between the trees of two commits, deleted ones
	// included; base "" is the empty tree.
	ChangedFiles(ctx context.Context, base, head string) ([]string, error)
	// MergeBase returns the best common ancestor, "" if there is none.
	MergeBase(ctx context.Context, a, b string) (string, error)
	// Newest returns the newest commit in the history of commit that touched one of the included
	// paths and not only excluded ones, "" if there is none.
	Newest(ctx context.Context, commit string, include, exclude []string) (string, time.Time, error)
	// Touching returns the newest commits in the history of commit, at most limit, that touched one of the included
	// paths and not only excluded ones, with those of their files; with none where they are not known.
	Touching(ctx context.Context, commit string, include, exclude []string, limit int) ([]Touched, error)
	// Recent returns the newest commits up to one, itself first, at most limit.
	Recent(ctx context.Context, commit string, limit int) ([]Touched, error)
}

// Touched is a commit and the files that it changed.
type Touched struct {
	Commit  string
	Time    time.Time // when it was committed
	Parents int
	Files   []string // none for a merge
}

// Input is the event whose changes are asked for.
type Input struct {
	Event  slipway.EventKind
	Commit string
	// Before is the last commit of the branch that was built; "" or the zero hash for a new branch.
	Before string
	// Earlier are further ones that some of its services were built at.
	Earlier []string
	// BaseTip is the tip of the branch that a pull request is to be merged into.
	BaseTip string
	// DefaultTip is the tip of the default branch; "" if it does not exist yet.
	DefaultTip string
}

// Difference is what is different about a commit from one that was built before.
type Difference struct {
	Base string // the commit that was built before
	// Fork says that Base is where the commit left another branch; it may have been built on its own besides.
	Fork  bool
	Files []string // that differ, deleted ones included
}

// Changes compares the commit of an event with what was built before. A pull request is compared with
// where it left its base branch; the default branch with what was last built of it; another branch with
// what was last built of it and with where it left the default branch, so that what came from there by a
// merge or a rebase is not taken for its own. None means that nothing was built before.
func Changes(ctx context.Context, repo Repo, in Input) ([]Difference, error) {
	var out []Difference
	compare := func(base string, fork bool) error {
		files, err := repo.ChangedFiles(ctx, base, in.Commit)
		if err != nil {
			return fmt.Errorf("compare %s with %s: %w", slipway.ShortHash(in.Commit), slipway.ShortHash(base), err)
		}
		out = append(out, Difference{Base: base, Fork: fork, Files: files})
		return nil
	}
	for _, before := range append([]string{in.Before}, in.Earlier...) {
		if before == "" || before == slipway.ZeroHash || in.Event == slipway.PullUpdate {
			continue
		}
		if err := compare(before, false); err != nil && !pruned(ctx, repo, in.Commit, err) {
			return nil, err
		}
	}
	tip := in.DefaultTip
	if in.Event == slipway.PullUpdate {
		tip = in.BaseTip
	}
	if in.Event == slipway.DefaultPush { // it left no other
		return out, nil
	}
	from, err := fork(ctx, repo, tip, in.Commit)
	if err != nil {
		return nil, fmt.Errorf("find what to compare %s with: %w", slipway.ShortHash(in.Commit), err)
	}
	if from == "" {
		return out, nil
	}
	if i := slices.IndexFunc(out, func(d Difference) bool { return d.Base == from }); i >= 0 {
		out[i].Fork = true
		return out, nil
	}
	return out, compare(from, true)
}

// pruned reports whether the comparison failed because what was built is no longer there: it was
// force-pushed away, and pruned since.
func pruned(ctx context.Context, repo Repo, commit string, err error) bool {
	if slipway.ErrorCode(err) != slipway.NotFound {
		return false
	}
	_, err = repo.MergeBase(ctx, commit, commit)
	return err == nil
}

// fork is where a branch left another one.
func fork(ctx context.Context, repo Repo, tip, commit string) (string, error) {
	if tip == "" || tip == slipway.ZeroHash {
		return "", nil
	}
	return repo.MergeBase(ctx, tip, commit)
}

// Revision is the newest commit that touched what a service is made of.
type Revision struct {
	Commit string
	Time   time.Time // when it was committed
}

// Set is the files that are in one of Include and in none of Exclude, folders and files without wildcards, and
// that are not Unseen, which may be nil. Unseen is asked by one goroutine at a time for each of the inputs.
type Set struct {
	Include, Exclude []string
	Unseen           func(file string) bool
}

// Revisions returns the newest commit, up to the one that is given, that touched each of the inputs: sets
// of files, under names of the caller's. Inputs that nothing touched are left out. Most are found in the
// newest commits, which are listed once; for the others history is searched, a few at a time.
func Revisions(ctx context.Context, repo Repo, commit string, inputs map[string][]Set) (map[string]Revision, error) {
	recent, err := repo.Recent(ctx, commit, RecentCommits)
	if err != nil {
		return nil, fmt.Errorf("list the commits up to %s: %w", slipway.ShortHash(commit), err)
	}
	recent = straight(recent)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		found = make(map[string]Revision, len(inputs))
		wg    sync.WaitGroup
		slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	for name, sets := range inputs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rev, err := revision(ctx, repo, commit, recent, sets)
			if err != nil {
				cancel(fmt.Errorf("find the revision of %s: %w", name, err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if rev.Commit != "" {
				found[name] = rev
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return found, nil
}

func revision(ctx context.Context, repo Repo, commit string, recent []Touched, sets []Set) (rev Revision, err error) {
	for _, set := range sets {
		if ctx.Err() != nil {
			return Revision{}, context.Cause(ctx)
		}
		found, known := newestOf(recent, set)
		if !known {
			found, err = newest(ctx, repo, commit, set)
		}
		if err == nil {
			rev, err = Newer(ctx, repo, rev, found)
		}
		if err != nil {
			return Revision{}, err
		}
	}
	return rev, nil
}

func (s Set) seen(file string) bool { return s.Unseen == nil || !s.Unseen(file) }

// newest searches history for the newest commit that touched a set of files.
func newest(ctx context.Context, repo Repo, commit string, set Set) (rev Revision, err error) {
	if set.Unseen == nil {
		rev.Commit, rev.Time, err = repo.Newest(ctx, commit, set.Include, set.Exclude)
		return rev, err
	}
	list, err := repo.Touching(ctx, commit, set.Include, set.Exclude, touchingCommits)
	for _, c := range list {
		if c.Parents > 1 || len(c.Files) == 0 || slices.ContainsFunc(c.Files, set.seen) {
			return Revision{Commit: c.Commit, Time: c.Time}, err
		}
	}
	if len(list) == touchingCommits { // whatever is behind them
		rev = Revision{Commit: list[0].Commit, Time: list[0].Time}
	}
	return rev, err
}

const touchingCommits = 1000 // that are searched for one which touched what a build sees

// RecentCommits is how many commits Revisions lists before it searches history.
const RecentCommits = 10

const recentFiles = 20_000 // of all of them: above, git searches faster

// straight is the commits before the first merge, behind which history is no line.
func straight(recent []Touched) []Touched {
	files := 0
	for i, c := range recent {
		if files += len(c.Files); c.Parents > 1 || files > recentFiles {
			return recent[:i]
		}
	}
	return recent
}

// newestOf finds the newest of some commits that touched a set of files. It is known, and perhaps none,
// when the commits say so.
func newestOf(recent []Touched, set Set) (rev Revision, known bool) {
	in := func(file string, folders []string) bool {
		return slices.ContainsFunc(folders, func(dir string) bool {
			return dir == "." || file == dir || (len(file) > len(dir) && file[len(dir)] == '/' && file[:len(dir)] == dir)
		})
	}
	for _, c := range recent {
		if slices.ContainsFunc(c.Files, func(f string) bool { return in(f, set.Include) && !in(f, set.Exclude) && set.seen(f) }) {
			return Revision{Commit: c.Commit, Time: c.Time}, true
		}
	}
	return rev, len(recent) > 0 && recent[len(recent)-1].Parents == 0
}

// Newer is the one of two revisions that comes after the other; one without a commit comes first.
func Newer(ctx context.Context, repo Repo, a, b Revision) (Revision, error) {
	if a.Commit == "" || a.Commit == b.Commit {
		return b, nil
	}
	if b.Commit == "" {
		return a, nil
	}
	base, err := repo.MergeBase(ctx, a.Commit, b.Commit)
	switch {
	case err != nil:
		return Revision{}, err
	case base == a.Commit:
		return b, nil
	case base == b.Commit:
		return a, nil
	}
	if c := cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Commit, b.Commit)); c < 0 {
		return b, nil
	}
	return a, nil
}
