package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Intent is what a step records before it acts (D21).
type Intent struct {
	ID       string `json:"id"`
	Base     int    `json:"base"`     // deployed revision that is replaced; 0: none
	Expected int    `json:"expected"` // revision that is about to be made
	Reported int    `json:"reported"` // newest revision of someone else that a person was told of
}

const (
	intentKey      = "helm"
	maxRounds      = 6 // of observe, decide, act before the release counts as restless
	defaultStale   = 15 * time.Minute
	cleanupTimeout = 30 * time.Second
)

// job brings one Helm release to one intended revision.
type job struct {
	target slipway.Target
	intent string
	helm   interface {
		History(ctx context.Context, t slipway.Target) ([]Revision, error)
		Abandon(ctx context.Context, t slipway.Target, revision int, why string) error
		Supersede(ctx context.Context, t slipway.Target) error
	}
	env        stage.Env
	staleAfter time.Duration
	seen       *view                                      // the first look, nil: there was none yet
	before     func(ctx context.Context, in Intent) error // last word before the act; may refuse
	act        func(ctx context.Context, history []Revision) (Revision, error)
}

// run observes, decides and acts until the newest revision is the intended one, which it returns.
// With an error, the revision is the one that this intention left behind, if it did.
func (j *job) run(ctx context.Context) (Revision, error) {
	if j.staleAfter == 0 {
		j.staleAfter = defaultStale
	}
	for range maxRounds {
		history, err := j.look(ctx)
		if err != nil {
			return Revision{}, fmt.Errorf("look at Helm release %s in %s: %w", j.target.Release, j.target.Namespace, err)
		}
		in, err := j.recall(ctx, history)
		if err != nil {
			return Revision{}, err
		}
		a := Decide(history, j.want(in))
		if a.Do == Adopt {
			return history[0], j.tidy(ctx, history)
		}
		j.env.Log.Printf("Helm release %s: %s", j.target.Release, a.Reason)
		made, err := j.do(ctx, in, a, history)
		if err != nil {
			return j.left(ctx, err)
		}
		if j.done(made, history) {
			return made, nil
		}
	}
	return j.left(ctx, slipway.Errorf(slipway.Unavailable,
		"Helm release %s in %s did not come to rest in %d attempts: is another Helm client at work on it?", j.target.Release, j.target.Namespace, maxRounds))
}

// look returns the history: what was read of it ahead, the first time, unless that is too long ago.
func (j *job) look(ctx context.Context) ([]Revision, error) {
	if seen := j.seen; seen != nil {
		j.seen = nil
		history, err := seen.history.wait(ctx)
		if err != nil || !seen.stale() {
			return history, err
		}
	}
	return j.helm.History(ctx, j.target)
}

func (j *job) want(in Intent) Want {
	return Want{Intent: j.intent, Now: j.env.Now(), StaleAfter: j.staleAfter, Reported: in.Reported}
}

// recall returns the journal's intent, or a new one, with the base as it is now.
func (j *job) recall(ctx context.Context, history []Revision) (Intent, error) {
	in, _, err := stage.Intent[Intent](ctx, j.env.Journal, intentKey)
	if err != nil {
		return in, fmt.Errorf("read the journal: %w", err)
	}
	if in.ID != j.intent {
		in = Intent{ID: j.intent}
	}
	in.Base = max(in.Base, base(history, j.want(in)))
	return in, nil
}

// done reports whether the revision that was made is the intended one, with nothing left to tidy: looking again would
// tell nothing new.
func (j *job) done(made Revision, before []Revision) bool {
	return made.Marks.Intent == j.intent && made.Status == StatusDeployed && deployed(before) < 2
}

// do carries out a decision. The revision is the one that Helm says it made, if it does.
func (j *job) do(ctx context.Context, in Intent, a Action, history []Revision) (Revision, error) {
	switch a.Do {
	case Recover:
		if err := j.helm.Abandon(ctx, j.target, a.Revision, a.Reason); err != nil {
			return Revision{}, fmt.Errorf("give up revision %d of %s: %w", a.Revision, j.target.Release, err)
		}
		return Revision{}, nil
	case Wait:
		return Revision{}, slipway.Errorf(slipway.Unavailable, "Helm release %s in %s: %s", j.target.Release, j.target.Namespace, a.Reason)
	case Refuse:
		in.Reported = a.Revision
		if err := j.env.Journal.Put(ctx, intentKey, in); err != nil {
			return Revision{}, fmt.Errorf("write the journal: %w", err)
		}
		return Revision{}, slipway.Errorf(slipway.Conflict, "Helm release %s in %s: %s; to deploy over it: slipway retry %d",
			j.target.Release, j.target.Namespace, a.Reason, j.env.Run.ID)
	}
	in.Expected = 1
	if len(history) > 0 {
		in.Expected = history[0].Number + 1
	}
	if err := j.env.Journal.Put(ctx, intentKey, in); err != nil {
		return Revision{}, fmt.Errorf("write the journal: %w", err)
	}
	if err := j.before(ctx, in); err != nil {
		return Revision{}, err
	}
	return j.act(ctx, history)
}

// left cleans up after a failed act, also when ctx has ended: a revision of ours that is still
// pending is marked as failed, so that the next Helm client is not locked out.
func (j *job) left(ctx context.Context, cause error) (Revision, error) {
	if ctx.Err() != nil {
		cause = context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	history, err := j.helm.History(ctx, j.target)
	if err != nil || len(history) == 0 {
		return Revision{}, cause
	}
	want := Want{Intent: j.intent}
	if last := history[0]; want.owner(last) == mine && last.Status.Moving() {
		if err := j.helm.Abandon(ctx, j.target, last.Number, "interrupted: "+cause.Error()); err != nil {
			return last, errors.Join(cause, fmt.Errorf("give up revision %d of %s: %w", last.Number, j.target.Release, err))
		}
	}
	for _, r := range history {
		if want.owner(r) == mine {
			return r, cause
		}
	}
	return Revision{}, cause
}

// tidy sees to it that one revision is deployed: Helm goes on when it cannot mark the one before as
// superseded.
func (j *job) tidy(ctx context.Context, history []Revision) error {
	if deployed(history) < 2 {
		return nil
	}
	if err := j.helm.Supersede(ctx, j.target); err != nil {
		return fmt.Errorf("mark the revisions of %s before %d as superseded: %w", j.target.Release, history[0].Number, err)
	}
	return nil
}

func deployed(history []Revision) (n int) {
	for _, r := range history {
		if r.Status == StatusDeployed {
			n++
		}
	}
	return n
}
