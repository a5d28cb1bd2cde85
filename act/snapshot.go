package act

import (
	"context"
	"sync"

	"github.com/slipway-cd/slipway"
)

// snapshot is a repository as one plan sees it: each ref stays where it was when it was first asked for,
// and what was asked once is not asked again. It is safe for concurrent use.
type snapshot struct {
	PlanRepo

	mu    sync.Mutex
	refs  map[string]func() (string, error)
	bases map[[2]string]func() (string, error)
}

func newSnapshot(repo PlanRepo) *snapshot {
	return &snapshot{PlanRepo: repo, refs: map[string]func() (string, error){}, bases: map[[2]string]func() (string, error){}}
}

// Resolve is PlanRepo's.
func (s *snapshot) Resolve(ctx context.Context, ref string) (string, error) {
	return once(s, s.refs, ref, func() (string, error) { return s.PlanRepo.Resolve(ctx, ref) })
}

// MergeBase is source.Repo's. A commit is its own merge base with itself.
func (s *snapshot) MergeBase(ctx context.Context, a, b string) (string, error) {
	if a == b {
		return a, nil
	}
	return once(s, s.bases, [2]string{a, b}, func() (string, error) { return s.PlanRepo.MergeBase(ctx, a, b) })
}

// branchTip is where a branch is, "" when it does not exist.
func (s *snapshot) branchTip(ctx context.Context, branch string) (string, error) {
	commit, err := s.Resolve(ctx, "refs/heads/"+branch)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return "", nil
	}
	return commit, err
}

func once[K comparable](s *snapshot, known map[K]func() (string, error), key K, ask func() (string, error)) (string, error) {
	s.mu.Lock()
	answer, ok := known[key]
	if !ok {
		answer = sync.OnceValues(ask)
		known[key] = answer
	}
	s.mu.Unlock()
	return answer()
}
