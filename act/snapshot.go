package act

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

// snapshot is a repository as one plan sees it: each ref stays where it was when it was first asked for,
// and what was asked once is not asked again. What differs between two commits is remembered beyond the
// plan. It is safe for concurrent use.
type snapshot struct {
	PlanRepo
	codebase string // key
	differ   *differences

	refs    answers[string, string]
	bases   answers[[2]string, string]
	changes answers[difference, []source.FileChange]
	recent  answers[listing, []source.Touched]
}

// listing is a question for the newest commits.
type listing struct {
	commit string
	limit  int
}

// snapshot is the repository of a codebase as it is from now on.
func (p *Planner) snapshot(codebase string) *snapshot {
	return &snapshot{PlanRepo: p.Repo(codebase), codebase: codebase, differ: &p.differ}
}

// Resolve is PlanRepo's.
func (s *snapshot) Resolve(ctx context.Context, ref string) (string, error) {
	return s.refs.once(ref, func() (string, error) { return s.PlanRepo.Resolve(ctx, ref) })
}

// MergeBase is source.Repo's. A commit is its own merge base with itself.
func (s *snapshot) MergeBase(ctx context.Context, a, b string) (string, error) {
	if a == b {
		return a, nil
	}
	return s.bases.once([2]string{a, b}, func() (string, error) { return s.PlanRepo.MergeBase(ctx, a, b) })
}

// FileChanges is PlanRepo's.
func (s *snapshot) FileChanges(ctx context.Context, base, head string) ([]source.FileChange, error) {
	k := difference{s.codebase, base, head}
	if files, ok := s.differ.get(k); ok {
		return files, nil
	}
	return s.changes.once(k, func() ([]source.FileChange, error) {
		files, err := s.PlanRepo.FileChanges(ctx, base, head)
		if err == nil {
			s.differ.put(k, files)
		}
		return files, err
	})
}

// ChangedFiles are the paths of FileChanges.
func (s *snapshot) ChangedFiles(ctx context.Context, base, head string) ([]string, error) {
	files, err := s.FileChanges(ctx, base, head)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.Path
	}
	return paths, nil
}

// moved are those of some folders that only one of two commits has.
func (s *snapshot) moved(ctx context.Context, base, head string, folders []string) ([]string, error) {
	if len(folders) == 0 {
		return nil, nil
	}
	changes, err := s.FileChanges(ctx, base, head)
	if err != nil {
		return nil, err
	}
	came, went := map[string]bool{}, map[string]bool{}
	for _, c := range changes {
		to := came
		switch {
		case c.Deleted:
			to = went
		case !c.Added:
			continue
		}
		for dir := path.Dir(c.Path); dir != "." && !to[dir]; dir = path.Dir(dir) {
			to[dir] = true
		}
	}
	before, err := s.without(ctx, base, folders, came)
	if err != nil {
		return nil, err
	}
	after, err := s.without(ctx, head, folders, went)
	return append(before, after...), err
}

// without are those of some folders that are in question and that a commit does not have.
func (s *snapshot) without(ctx context.Context, commit string, folders []string, question map[string]bool) (out []string, err error) {
	folders = slices.DeleteFunc(slices.Clone(folders), func(dir string) bool { return !question[dir] })
	if len(folders) == 0 {
		return nil, nil
	}
	files, err := s.Tree(ctx, commit)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", slipway.ShortHash(commit), err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	for _, dir := range folders {
		info, err := fs.Lstat(files, dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
			out = append(out, dir)
		case err != nil:
			return nil, fmt.Errorf("look for %s in commit %s: %w", dir, slipway.ShortHash(commit), err)
		}
	}
	return out, nil
}

// Recent is source.Repo's.
func (s *snapshot) Recent(ctx context.Context, commit string, limit int) ([]source.Touched, error) {
	return s.recent.once(listing{commit, limit}, func() ([]source.Touched, error) { return s.PlanRepo.Recent(ctx, commit, limit) })
}

// askRecent asks first for what a plan needs last: git answers while the rest is found out. Call wait before
// the plan is left.
func (s *snapshot) askRecent(ctx context.Context, commit string) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Recent(ctx, commit, source.RecentCommits) // whoever asks again gets the error
	}()
	return func() { <-done }
}

// branchTip is where a branch is, "" when it does not exist.
func (s *snapshot) branchTip(ctx context.Context, branch string) (string, error) {
	commit, err := s.Resolve(ctx, "refs/heads/"+branch)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return "", nil
	}
	return commit, err
}

// answers are given once for each question; who asks meanwhile waits. The zero value is ready, and safe for
// concurrent use.
type answers[Question comparable, Answer any] struct {
	mu    sync.Mutex
	known map[Question]func() (Answer, error)
}

func (a *answers[Question, Answer]) once(q Question, ask func() (Answer, error)) (Answer, error) {
	a.mu.Lock()
	answer, ok := a.known[q]
	if !ok {
		if a.known == nil {
			a.known = map[Question]func() (Answer, error){}
		}
		answer = sync.OnceValues(ask)
		a.known[q] = answer
	}
	a.mu.Unlock()
	return answer()
}
