// Package see answers what people look at: runs with their logs and tests, what gates and scans said, where an id leads,
// and events as they come. Each question asks first whether the person may.
//
// It changes nothing; what people may do is act's.
package see

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/store"
)

// Reader answers what people look at, for the API and the UI; what is read of runs, projects and boards is that of the
// Actions. Its methods are safe for concurrent use.
type Reader struct {
	*act.Actions
	store *store.Store

	mu   sync.Mutex
	open map[string]int // streams, by user
}

// New returns a Reader of what is kept.
func New(x *act.Actions, s *store.Store) *Reader { return &Reader{Actions: x, store: s} }

// maxStreams is how many streams one user may have open at once: a few pages and terminals.
const maxStreams = 32

// Enter counts a stream of the user until leave.
func (s *Reader) Enter(by slipway.User) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[by.Name] >= maxStreams {
		return nil, slipway.Errorf(slipway.TooMany, "%s has %d streams of events and logs open, which is the most at once: close some pages or commands", by.Name, maxStreams)
	}
	if s.open == nil {
		s.open = map[string]int{}
	}
	s.open[by.Name]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[by.Name]--; s.open[by.Name] == 0 {
			delete(s.open, by.Name)
		}
	}), nil
}

// Trace follows an id within a project, or with project "" within those that the user may see: when
// several know it, it is a Conflict that names them.
func (s *Reader) Trace(ctx context.Context, by slipway.User, project, query string) (slipway.Trace, error) {
	if project != "" {
		if err := auth.Check(by, auth.View, project); err != nil {
			return slipway.Trace{}, err
		}
		return s.traceIn(ctx, project, query)
	}
	projects, err := s.Projects(ctx, by)
	if err != nil {
		return slipway.Trace{}, err
	}
	found := slipway.Trace{Query: query}
	var in []string
	for _, p := range projects {
		t, err := s.traceIn(ctx, p.Name, query)
		switch slipway.ErrorCode(err) {
		case slipway.NotFound:
			continue
		case "":
			found, in = t, append(in, p.Name)
		default:
			return slipway.Trace{}, err
		}
	}
	switch len(in) {
	case 0:
		return found, slipway.Errorf(slipway.NotFound, "%q is no commit, branch, tag, digest, version, run, revision or image that Slipway knows", query)
	case 1:
		return found, nil
	}
	return slipway.Trace{Query: query}, slipway.Errorf(slipway.Conflict, "%q is in more than one project: %s; choose one", query, strings.Join(in, ", "))
}

func (s *Reader) traceIn(ctx context.Context, project, query string) (slipway.Trace, error) {
	t, err := s.store.Trace(ctx, project, query)
	t.Project = project
	return t, err
}

// Run is a run with all that belongs to it, and where it is on the project's forge.
func (s *Reader) Run(ctx context.Context, by slipway.User, id int64) (slipway.RunDetail, error) {
	d, err := s.Actions.Run(ctx, by, id)
	if err == nil {
		d.Links, err = s.store.ForgeLinks(ctx, d.Run)
	}
	return d, err
}

func (s *Reader) step(ctx context.Context, by slipway.User, run int64, key string) (slipway.Step, error) {
	d, err := s.Actions.Run(ctx, by, run)
	if err != nil {
		return slipway.Step{}, err
	}
	for _, st := range d.Steps {
		if st.Spec.Key == key {
			return st, nil
		}
	}
	return slipway.Step{}, slipway.Errorf(slipway.NotFound, "run #%d has no step %q", run, key)
}

// Report returns the test report of a step.
func (s *Reader) Report(ctx context.Context, by slipway.User, run int64, key string) (slipway.TestReport, error) {
	st, err := s.step(ctx, by, run, key)
	if err != nil {
		return slipway.TestReport{}, err
	}
	return s.store.Report(ctx, st.ID)
}

// Log calls line for each line of a step's log, of each attempt; with follow until the step ends.
func (s *Reader) Log(ctx context.Context, by slipway.User, run int64, key string, follow bool, line func(slipway.LogLine) error) error {
	for attempt := 1; ; attempt++ {
		st, err := s.await(ctx, by, run, key, attempt, follow)
		if err != nil || st.Attempt < attempt {
			return err
		}
		if attempt > 1 {
			if err := line(slipway.LogLine{Time: st.StartedAt, Text: fmt.Sprintf("attempt %d", attempt)}); err != nil {
				return err
			}
		}
		if err := s.attempt(ctx, st, attempt, follow, line); err != nil {
			return err
		}
	}
}

// await returns the step once it has had that attempt; with follow it waits for it until the step is
// final or waits for a person.
func (s *Reader) await(ctx context.Context, by slipway.User, run int64, key string, attempt int, follow bool) (slipway.Step, error) {
	for {
		changed := s.store.Watch()
		st, err := s.step(ctx, by, run, key)
		if err != nil || st.Attempt >= attempt || !follow || st.State.Final() || st.State == slipway.StepWaiting {
			return st, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return st, context.Cause(ctx)
		}
	}
}

func (s *Reader) attempt(ctx context.Context, st slipway.Step, attempt int, follow bool, line func(slipway.LogLine) error) error {
	tail, err := s.store.Logs().Tail(ctx, st.RunID, st.ID, attempt, follow)
	if err != nil {
		return err
	}
	defer tail.Close()
	lines := bufio.NewScanner(tail)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var l slipway.LogLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // the torn last line of a killed process
		}
		if err := line(l); err != nil {
			return err
		}
	}
	return lines.Err()
}

const eventPage = 200

// Events returns what happened after a cursor that the user may see, and the next cursor.
func (s *Reader) Events(ctx context.Context, by slipway.User, project string, after int64) ([]slipway.Event, int64, error) {
	if by.Name == "" || project != "" {
		if err := auth.Check(by, auth.View, project); err != nil {
			return nil, after, err
		}
	}
	last, err := s.store.LastEvent(ctx)
	if err != nil || after > last {
		return nil, last, err
	}
	events, err := s.store.Events(ctx, after, slipway.EventFilter{Project: project, Limit: eventPage})
	if err != nil {
		return nil, after, err
	}
	next := last
	if n := len(events); n > 0 && (n == eventPage || events[n-1].ID > last) {
		next = events[n-1].ID // also of what came since: it would be told twice
	}
	var mine []slipway.Event
	for _, e := range events {
		if by.Admin || (e.Project != "" && auth.Check(by, auth.View, e.Project) == nil) {
			mine = append(mine, e)
		}
	}
	return mine, next, nil
}

// Changed returns a channel that gets a value after each commit that wrote events, and the function
// that ends it.
func (s *Reader) Changed() (<-chan struct{}, func()) {
	out, done := make(chan struct{}, 1), make(chan struct{})
	var once sync.Once
	changed := s.store.Watch()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			changed = s.store.Watch()
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, func() { once.Do(func() { close(done) }) }
}
