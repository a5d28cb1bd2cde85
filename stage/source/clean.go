package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	// keepFor is how long the workspace of a run that did not succeed is kept: a retry goes on with what its steps
	// left there.
	keepFor    = 24 * time.Hour
	sweepEvery = time.Hour
)

// Records is what is on record about runs.
type Records interface {
	// Run is NotFound when there is none any more.
	Run(ctx context.Context, id int64) (slipway.RunDetail, error)
	LastEvent(ctx context.Context) (int64, error)
	Events(ctx context.Context, after int64, f slipway.EventFilter) ([]slipway.Event, error)
	// Watch returns a channel that is closed when something has happened since.
	Watch() <-chan struct{}
}

// Cleaner removes the workspaces of runs that nobody will go on with: at once when they succeed, the others after a
// while.
type Cleaner struct {
	Workspaces *Workspaces
	Records    Records
	// Also is done with each sweep, once an hour.
	Also func(ctx context.Context) error
	Log  *slog.Logger
	Now  func() time.Time
}

// Recover removes, before any step runs, what a killed process left half-made, and the workspaces that nobody wants.
func (c *Cleaner) Recover(ctx context.Context) error {
	return errors.Join(c.Workspaces.Recover(), c.sweep(ctx))
}

// Run cleans until ctx ends.
func (c *Cleaner) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	after, err := c.Records.LastEvent(ctx)
	for {
		changed := c.Records.Watch()
		if err == nil {
			after, err = c.succeeded(ctx, after)
		}
		if err != nil && ctx.Err() == nil {
			c.Log.Error("clean workspaces; the next sweep does", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if after, err = c.Records.LastEvent(ctx); err == nil {
				err = errors.Join(c.sweep(ctx), c.Also(ctx))
			}
		}
	}
}

// succeeded removes the workspaces of runs that succeeded after an event, and returns the last one.
func (c *Cleaner) succeeded(ctx context.Context, after int64) (int64, error) {
	for {
		events, err := c.Records.Events(ctx, after, slipway.EventFilter{Kind: "run.succeeded"})
		if err != nil || len(events) == 0 {
			return after, err
		}
		for _, e := range events {
			after = e.ID
			if err := c.Workspaces.Remove(e.RunID); err != nil {
				return after, fmt.Errorf("workspace of run #%d: %w", e.RunID, err)
			}
		}
	}
}

// sweep removes the workspaces that nobody wants.
func (c *Cleaner) sweep(ctx context.Context) error {
	return c.Workspaces.Sweep(func(run int64) bool { return c.wanted(ctx, run) })
}

// wanted reports whether the workspace of a run may still be used.
func (c *Cleaner) wanted(ctx context.Context, run int64) bool {
	d, err := c.Records.Run(ctx, run)
	switch {
	case slipway.ErrorCode(err) == slipway.NotFound:
		return false
	case err != nil:
		return true
	case d.Run.State == slipway.RunSucceeded:
		return false
	}
	return !d.Run.State.Final() || c.Now().Sub(d.Run.FinishedAt) < keepFor
}
