package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// runs are those that are on record; none has an error of its own.
type runs map[int64]slipway.Run

func (r runs) Run(_ context.Context, id int64) (slipway.RunDetail, error) {
	run, ok := r[id]
	switch {
	case !ok:
		return slipway.RunDetail{}, slipway.Errorf(slipway.NotFound, "run #%d does not exist", id)
	case run.State == "":
		return slipway.RunDetail{}, slipway.Errorf(slipway.Unavailable, "the database does not answer")
	}
	return slipway.RunDetail{Run: run}, nil
}

func (runs) LastEvent(context.Context) (int64, error) { return 1, nil }

func (r runs) Events(_ context.Context, after int64, _ slipway.EventFilter) (out []slipway.Event, err error) {
	for id, run := range r {
		if run.State == slipway.RunSucceeded && id > after {
			out = append(out, slipway.Event{ID: id, RunID: id})
		}
	}
	slices.SortFunc(out, func(a, b slipway.Event) int { return int(a.ID - b.ID) })
	return out, nil
}

func (runs) Watch() <-chan struct{} { return nil }

// What a run left is kept as long as a retry may want it, and while nobody can say.
func TestWorkspacesAreKeptForARetry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	root := t.TempDir()
	for run := range int64(8) {
		if err := os.MkdirAll(filepath.Join(root, strconv.FormatInt(run, 10), "step"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := &Cleaner{Workspaces: NewWorkspaces(root, nil), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Records: runs{1: {State: slipway.RunSucceeded}, 2: {State: slipway.RunWaiting}, 3: {State: slipway.RunFailed, FinishedAt: now.Add(-keepFor + time.Second)},
			4: {State: slipway.RunFailed, FinishedAt: now.Add(-keepFor)}, 5: {State: slipway.RunRunning}, 6: {}, 7: {State: slipway.RunSucceeded}}}
	left := func() (out []string) {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	if last, err := c.succeeded(t.Context(), 1); err != nil || last != 7 || slices.Contains(left(), "7") || !slices.Contains(left(), "1") {
		t.Errorf("after the events behind 1: %v, last %d, %v", left(), last, err)
	}
	if err := c.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := left(), []string{"2", "3", "5", "6"}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}
