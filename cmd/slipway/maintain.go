package main

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	// maintainEvery is how often it is looked whether repositories are worth packing.
	maintainEvery = time.Hour
	// maintainFirst is how long after its start a server does so.
	maintainFirst = 10 * time.Minute
	// maintainMost is how long the packing of one repository may take; it is tried again.
	maintainMost = 2 * time.Hour
	// keepParts is how long what a git that was killed left half-made may be that of one which still runs.
	keepParts = 24 * time.Hour
)

// maintain keeps the repositories of all codebases, mirrors too, small and quick to read, one after the other.
func (s *server) maintain(ctx context.Context) {
	due := time.NewTimer(maintainFirst)
	defer due.Stop()
	known := map[string]string{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		due.Reset(maintainEvery)
		s.maintainAll(ctx, known)
	}
}

// maintainAll maintains the repositories that are worth it. known is what is wrong with which: it is logged when
// it changes.
func (s *server) maintainAll(ctx context.Context, known map[string]string) {
	codebases, err := s.codebases(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Error("maintain repositories", "error", err)
	}
	for _, c := range codebases {
		if ctx.Err() != nil {
			return
		}
		problem := ""
		if err := s.maintainOne(ctx, c.Key()); err != nil && ctx.Err() == nil {
			if problem = err.Error(); problem != known[c.Key()] {
				s.log.Error("maintain repository", "codebase", c.Key(), "error", err)
			}
		}
		known[c.Key()] = problem
	}
}

func (s *server) maintainOne(ctx context.Context, codebase string) error {
	repo := s.repos.Open(codebase)
	removed, err := repo.RemoveParts(time.Now().Add(-keepParts))
	for _, name := range removed {
		s.log.Warn("removed what a dead git left", "codebase", codebase, "file", name)
	}
	untidy, uerr := repo.Untidy()
	if errors.Is(uerr, fs.ErrNotExist) {
		return err // it was removed meanwhile
	}
	if err = errors.Join(err, uerr); !untidy {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maintainMost, slipway.ErrTimeout)
	defer cancel()
	began := time.Now()
	if merr := repo.Maintain(ctx); merr != nil {
		return errors.Join(err, merr)
	}
	s.log.Info("packed repository", "codebase", codebase, "took", time.Since(began).Round(time.Millisecond))
	return err
}
