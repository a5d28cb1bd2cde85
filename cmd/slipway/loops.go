package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

// codebases are those of all projects.
func (s *server) codebases(ctx context.Context) (all []slipway.Codebase, err error) {
	projects, err := s.store.Projects(ctx)
	for _, p := range projects {
		further, ferr := s.store.Codebases(ctx, p.Name)
		all, err = append(append(all, p.Main()), further...), errors.Join(err, ferr)
	}
	return all, err
}

// lateEvery is how often runs are tried again that could not be started when their refs moved.
const lateEvery = 5 * time.Second

func (s *server) startLate(ctx context.Context) {
	tick := time.NewTicker(lateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.actions.Late(ctx)
		}
	}
}

const (
	// keepDeliveries is how long it is remembered which deliveries came, and what forges were told.
	keepDeliveries = 60 * 24 * time.Hour
	// keepAttachments is how long the files that tests left are kept of runs without a release.
	keepAttachments = 90 * 24 * time.Hour
)

// cleaner removes the workspaces of runs that nobody will go on with, and forgets with them what is old.
func (s *server) cleaner() *source.Cleaner {
	return &source.Cleaner{Workspaces: s.workspaces, Records: s.store, Log: s.log, Now: time.Now,
		Also: func(ctx context.Context) error {
			return errors.Join(s.store.PruneForges(ctx, time.Now().Add(-keepDeliveries)), s.store.PruneAttachments(ctx, time.Now().Add(-keepAttachments)))
		}}
}

// kept reports whether a file of a workspace is still there.
func kept(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
