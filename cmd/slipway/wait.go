package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

const (
	// silence is how long a server that does not answer is waited for: time enough to be started again.
	silence    = time.Minute
	askAgainIn = 500 * time.Millisecond
)

var errMoved = errors.New("something happened")

// follow calls look with a run, and again after each of its events, until look is done. A look that
// took its time answers errMoved to see the run again at once. A server that is started again in
// between is waited for.
func (c *cli) follow(ctx context.Context, api *client.Client, id int64, look func(slipway.RunDetail) (done bool, err error)) error {
	var silent time.Time // since when
	for {
		d, err := api.Run(ctx, id)
		if err == nil {
			silent = time.Time{}
			var done bool
			if done, err = look(d); done {
				return err
			}
			if err == nil {
				err = nextEvent(ctx, api, d)
			}
		}
		switch {
		case err == nil, errors.Is(err, errMoved):
			continue
		case slipway.ErrorCode(err) != slipway.Unavailable:
			return err
		case silent.IsZero():
			silent = time.Now()
			fmt.Fprintf(os.Stderr, "slipway: %s; waiting for it\n", slipway.Printable(err.Error()))
		case time.Since(silent) > silence:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(askAgainIn):
		}
	}
}

// nextEvent returns at the next event of the run.
func nextEvent(ctx context.Context, api *client.Client, d slipway.RunDetail) error {
	var after int64
	for _, e := range d.Events {
		after = max(after, e.ID)
	}
	err := api.Events(ctx, d.Run.Project, after, func(e slipway.Event) error {
		if e.RunID == d.Run.ID {
			return errMoved
		}
		return nil
	})
	if errors.Is(err, errMoved) {
		return nil
	}
	return err
}

// waitRun prints each step as it moves, then how the run ended. What was over before is counted.
func (c *cli) waitRun(ctx context.Context, api *client.Client, id int64) error {
	var last slipway.RunDetail
	var seen map[string]slipway.StepState
	err := c.follow(ctx, api, id, func(d slipway.RunDetail) (bool, error) {
		if seen == nil {
			seen = c.doneBefore(d)
		}
		last = d
		for _, s := range d.Steps {
			if seen[s.Spec.Key] == s.State || s.State == slipway.StepBlocked || s.State == slipway.StepReady {
				continue
			}
			seen[s.Spec.Key] = s.State
			if !c.out.json {
				c.out.line("  %s  %s %s %s", time.Now().Format("15:04:05"), c.out.state(string(s.State)), s.Spec.Key, c.out.dim(slipway.Printable(slipway.Clip(s.Reason, 120))))
			}
		}
		return d.Run.State.Final() || d.Run.State == slipway.RunWaiting, nil
	})
	if err != nil {
		return err
	}
	if done, err := c.out.value(last); err != nil {
		return err
	} else if !done {
		c.out.line("run #%d %s %s", id, c.out.state(string(last.Run.State)), slipway.Printable(last.Run.Reason))
	}
	if s := last.Run.State; s != slipway.RunSucceeded && s != slipway.RunWaiting {
		return errQuiet
	}
	return nil
}

// doneBefore are the steps of a run that are over, and says how many.
func (c *cli) doneBefore(d slipway.RunDetail) map[string]slipway.StepState {
	over := map[string]slipway.StepState{}
	for _, s := range d.Steps {
		if s.State.Final() {
			over[s.Spec.Key] = s.State
		}
	}
	if len(over) > 0 && !c.out.json {
		c.out.line("  %s", c.out.dim(slipway.Counted(len(over), "step")+" done before"))
	}
	return over
}
