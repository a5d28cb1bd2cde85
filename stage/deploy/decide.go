package deploy

import (
	"fmt"
	"time"
)

// Verb is what to do next with a Helm release.
type Verb string

const (
	Act     Verb = "act"     // make a new revision
	Adopt   Verb = "adopt"   // the newest revision is what is wanted: done
	Recover Verb = "recover" // mark Action.Revision as failed, it was interrupted; then look again
	Wait    Verb = "wait"    // someone else is at work; try again later
	Refuse  Verb = "refuse"  // someone else replaced what was done; a person must look
)

// Action is a decision with its reason, a sentence for people.
type Action struct {
	Do       Verb
	Revision int // the revision that the decision is about; 0: there is none
	Reason   string
}

// Want is what Decide decides towards.
type Want struct {
	Intent     string // of the intended deployment
	Now        time.Time
	StaleAfter time.Duration
	// Reported is the newest revision of someone else that a person was told of; retrying after that
	// means to replace it.
	Reported int
}

// owner is whose a revision is.
type owner string

const (
	mine    owner = "mine"    // made for this intended deployment
	ours    owner = "ours"    // made by Slipway for another one; the lock of the target says that it is not at work
	foreign owner = "foreign" // made by another Helm client, or by slipway run on a laptop
)

func (w Want) owner(r Revision) owner {
	switch {
	case r.Marks.Intent != "" && r.Marks.Intent == w.Intent:
		return mine
	case r.Marks.OfServer():
		return ours
	}
	return foreign
}

// Decide picks the next action from what was observed. history is newest first. It is a function of
// its arguments alone.
func Decide(history []Revision, want Want) Action {
	if len(history) == 0 {
		return Action{Do: Act, Reason: "there is no release yet"}
	}
	last := history[0]
	if last.Status.Moving() {
		return decideMoving(last, want)
	}
	whose := want.owner(last)
	if last.Status == StatusDeployed && whose == mine {
		return Action{Do: Adopt, Revision: last.Number, Reason: fmt.Sprintf("revision %d is deployed and is this deployment", last.Number)}
	}
	if done, ok := finished(history, want); ok && whose == foreign && last.Number > want.Reported {
		return Action{Do: Refuse, Revision: last.Number, Reason: fmt.Sprintf(
			"revision %d of this deployment was replaced by revision %d outside Slipway (%s)", done.Number, last.Number, last.Description)}
	}
	reason := fmt.Sprintf("revision %d is %s", last.Number, last.Status)
	if whose == foreign {
		reason += ", made outside Slipway (" + last.Description + ")"
	}
	return Action{Do: Act, Revision: last.Number, Reason: reason}
}

func decideMoving(last Revision, want Want) Action {
	switch want.owner(last) {
	case mine:
		return Action{Do: Recover, Revision: last.Number, Reason: fmt.Sprintf("interrupted: %s by an earlier attempt of this step", last.Status)}
	case ours:
		return Action{Do: Recover, Revision: last.Number, Reason: fmt.Sprintf("interrupted: %s by slipway run %s", last.Status, last.Marks.Run)}
	}
	if age := want.Now.Sub(last.Updated); age >= want.StaleAfter {
		return Action{Do: Recover, Revision: last.Number, Reason: fmt.Sprintf("abandoned: %s outside Slipway since %s", last.Status, stamp(last.Updated))}
	}
	return Action{Do: Wait, Revision: last.Number, Reason: fmt.Sprintf(
		"revision %d is %s by another Helm client since %s; it counts as abandoned at %s",
		last.Number, last.Status, stamp(last.Updated), stamp(last.Updated.Add(want.StaleAfter)))}
}

// finished finds the revision of this intended deployment that was deployed, if there was one.
func finished(history []Revision, want Want) (Revision, bool) {
	for _, r := range history {
		if want.owner(r) == mine && (r.Status == StatusDeployed || r.Status == StatusSuperseded) {
			return r, true
		}
	}
	return Revision{}, false
}

// base is the revision that a deployment replaces: the newest deployed one that is not its own.
func base(history []Revision, want Want) int {
	for _, r := range history {
		if r.Status == StatusDeployed && want.owner(r) != mine {
			return r.Number
		}
	}
	return 0
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
