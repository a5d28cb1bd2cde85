package scan

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	// updateEvery is how often the mirror of the vulnerability database is asked.
	updateEvery = 6 * time.Hour
	// updateAgain is when it is asked again after it could not be reached.
	updateAgain = 15 * time.Minute
	// lookEvery is how often it is looked whether somebody put another database in place.
	lookEvery = 5 * time.Second
	// rescanEvery is how often it is looked whether production runs, or people are asked to approve, what this database
	// has not seen: what was approved came later than its scan.
	rescanEvery = time.Hour
	// rescanAgain is when that is first done again after it went wrong; the pause doubles up to rescanEvery.
	rescanAgain = 10 * time.Second
)

// rescans says when production is scanned again. The zero value says at once.
type rescans struct {
	known string        // checksum of the database that was used last
	due   time.Time     // of the next one with that database
	pause time.Duration // since the last one failed
}

func (r *rescans) wanted(database string, now time.Time) bool {
	return database != r.known || !now.Before(r.due)
}

// done notes how a rescan ended. One that fails is not repeated at once: what cannot be scanned today may take the
// scanner ten minutes to find out.
func (r *rescans) done(database string, now time.Time, failed bool) {
	switch {
	case !failed:
		r.pause = 0
		r.due = now.Add(rescanEvery)
	default:
		r.pause = min(max(2*r.pause, rescanAgain), rescanEvery)
		r.due = now.Add(r.pause)
	}
	r.known = database
}

// Database is the vulnerability database that the scanner uses.
type Database interface {
	// Database says which one there is; its field Missing says why there is none.
	Database() slipway.ScanDatabase
	// Update brings it up to date from a mirror and reports whether it changed; the one that is there stays when that
	// goes wrong.
	Update(ctx context.Context, mirror string) (bool, error)
}

// Watch keeps the vulnerability database up to date, and looks again at what runs in production or waits for people when
// it has changed: a new critical finding in production is an event that names the environments. It is used by one
// goroutine.
type Watch struct {
	Rescan Rescan // Wanted and Log are filled in
	Waits  Waits
	// Candidates is where images are before they are in production.
	Candidates slipway.Registry
	Database   Database
	Mirror     string // of the database; "": nobody brings it up to date
	// Policy is what the default branch of a project decides.
	Policy func(ctx context.Context, project string) (slipway.Config, error)
	// Tell keeps what became known about an image that runs, so that it is an event.
	Tell func(ctx context.Context, f Found) error
	Log  *slog.Logger

	due   time.Time // of the next update
	again rescans
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look does what is due.
func (w *Watch) look(ctx context.Context) {
	now := w.Rescan.Runner.Now
	if w.Mirror != "" && !now().Before(w.due) {
		w.due = now().Add(updateEvery)
		if changed, err := w.Database.Update(ctx, w.Mirror); err != nil && ctx.Err() == nil {
			w.due = now().Add(updateAgain)
			w.Log.Error("update the vulnerability database; the one that is there is used on", "error", err)
		} else if changed {
			w.Log.Info("the vulnerability database was updated", "built", w.Database.Database().Built)
		}
	}
	if database := w.Database.Database().Checksum; w.again.wanted(database, now()) {
		err := w.rescan(ctx)
		if err != nil && ctx.Err() == nil {
			w.Log.Error("scan again what runs in production or waits for it", "error", err)
		}
		w.again.done(database, now(), err != nil)
	}
}

func (w *Watch) rescan(ctx context.Context) error {
	again := w.Rescan
	again.Log, again.Wanted = quietly{}, w.inProduction(ctx)
	err := again.Run(ctx, func(f Found) error {
		w.Log.Warn("new critical findings in production", "project", f.Project, "service", f.Service, "version", f.Version, "environments", strings.Join(f.Environments, ","), "findings", len(f.New))
		return w.Tell(ctx, f)
	})
	waiting, failed := w.awaited(ctx)
	if failed != nil {
		return errors.Join(err, failed)
	}
	return errors.Join(err, again.Waiting(ctx, waiting))
}

// inProduction says which deployments are in production, and where their images are.
func (w *Watch) inProduction(ctx context.Context) func(slipway.Deployment) (slipway.Repository, bool) {
	configs := map[string]slipway.Config{}
	return func(d slipway.Deployment) (slipway.Repository, bool) {
		c, known := configs[d.Target.Project]
		if !known {
			var err error
			if c, err = w.Policy(ctx, d.Target.Project); err != nil && slipway.ErrorCode(err) != slipway.Invalid {
				w.Log.Error("read which environments are production", "project", d.Target.Project, "error", err)
			}
			configs[d.Target.Project] = c
		}
		env, ok := c.Environment(d.Target.Environment)
		_, name, cut := strings.Cut(d.Image, "/")
		if !ok || !env.Production || !cut {
			return slipway.Repository{}, false
		}
		return slipway.Repository{Registry: c.Production, Name: name}, true
	}
}

// quietly is a log that nobody reads.
type quietly struct{}

// Line drops a line.
func (quietly) Line(slipway.LogLine) {}

// Printf drops a line.
func (quietly) Printf(string, ...any) {}
