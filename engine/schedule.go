package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// later remembers when a job that waits is due. Should it be forgotten (more than fit in the
// channel), the queue's own scheduler finds the job within seconds.
func (e *Engine) later(at time.Time) {
	select {
	case e.due <- at:
	default:
	}
}

// promote makes jobs that wait available when they are due, to the millisecond; the queue's own
// scheduler looks every five seconds.
func (e *Engine) promote(ctx context.Context) {
	var times []time.Time // unordered and few
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-e.due:
			times = append(times, at)
		case <-timer.C:
			times = after(times, time.Now())
			if err := e.schedule(ctx); err != nil && ctx.Err() == nil {
				e.opts.Log.Error("make due steps available", "err", err)
			}
			e.opts.Queue.signal()
		}
		timer.Reset(wait(times))
	}
}

// after drops the times that have passed.
func after(times []time.Time, now time.Time) []time.Time {
	kept := times[:0]
	for _, t := range times {
		if t.After(now) {
			kept = append(kept, t)
		}
	}
	return kept
}

// wait is how long it is until the first of the times, with a millisecond to be past it.
func wait(times []time.Time) time.Duration {
	d := time.Hour // by then the queue's own scheduler has long looked
	for _, t := range times {
		d = min(d, time.Until(t)+time.Millisecond)
	}
	return max(d, 0)
}

func (e *Engine) schedule(ctx context.Context) error {
	_, err := e.client.Driver().GetExecutor().JobSchedule(ctx, &riverdriver.JobScheduleParams{Max: 1000})
	return err
}

// forgetJobs ends the jobs that a dead process held. Their steps get new ones; this keeps the queue's
// figures true and its rescuer idle.
func (e *Engine) forgetJobs(ctx context.Context) error {
	_, err := e.opts.DB.ExecContext(ctx, `UPDATE river_job SET state = $1, finalized_at = CURRENT_TIMESTAMP
		WHERE state = $2 AND kind = $3`, rivertype.JobStateCancelled, rivertype.JobStateRunning, job{}.Kind())
	if err != nil {
		return fmt.Errorf("end jobs of a dead process: %w", err)
	}
	return nil
}

// quiet keeps the queue's warnings and errors; what it says besides is of no use to the people who
// run Slipway.
func quiet(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(warnings{log.Handler()})
}

// warnings is a handler that lets warnings and errors through.
type warnings struct{ slog.Handler }

// Enabled reports whether a record of that level is kept.
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// WithAttrs keeps the limit.
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }

// WithGroup keeps the limit.
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
