package repos

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
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

// Maintenance keeps the repositories of all codebases, mirrors too, small and quick to read, beside whoever uses them.
// It is used by one goroutine.
type Maintenance struct {
	Repos Folder
	// Codebases lists those of all projects.
	Codebases func(ctx context.Context) ([]slipway.Codebase, error)
	Log       *slog.Logger

	known map[string]string // what is wrong with which: it is logged when it changes
}

// Run maintains the repositories that are worth it every so often, one after the other, until ctx ends.
func (m *Maintenance) Run(ctx context.Context) {
	due := time.NewTimer(maintainFirst)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		due.Reset(maintainEvery)
		m.Once(ctx)
	}
}

// Once maintains the repositories that are worth it now. What goes wrong with one is logged, and keeps no other from
// its turn.
func (m *Maintenance) Once(ctx context.Context) {
	codebases, err := m.Codebases(ctx)
	if err != nil && ctx.Err() == nil {
		m.Log.Error("maintain repositories", "error", err)
	}
	if m.known == nil {
		m.known = map[string]string{}
	}
	for _, c := range codebases {
		if ctx.Err() != nil {
			return
		}
		problem := ""
		if err := m.one(ctx, c.Key()); err != nil && ctx.Err() == nil {
			if problem = err.Error(); problem != m.known[c.Key()] {
				m.Log.Error("maintain repository", "codebase", c.Key(), "error", err)
			}
		}
		m.known[c.Key()] = problem
	}
}

func (m *Maintenance) one(ctx context.Context, codebase string) error {
	repo := m.Repos.Open(codebase)
	removed, err := repo.RemoveParts(m.Repos.now().Add(-keepParts))
	for _, name := range removed {
		m.Log.Warn("removed what a dead git left", "codebase", codebase, "file", name)
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
	began := m.Repos.now()
	if merr := repo.Maintain(ctx); merr != nil {
		return errors.Join(err, merr)
	}
	m.Log.Info("packed repository", "codebase", codebase, "took", m.Repos.now().Sub(began).Round(time.Millisecond))
	return err
}
