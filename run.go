package slipway

import "time"

// EventKind says what made a run.
type EventKind string

const (
	BranchPush   EventKind = "push"         // a feature branch moved
	PullUpdate   EventKind = "pull-request" // a pull request was opened or updated
	DefaultPush  EventKind = "merge"        // the default branch moved
	ReleasePush  EventKind = "release"      // release/<service>/<version> was created or moved
	RollbackCall EventKind = "rollback"     // a person asked for a rollback
)

// Run is one execution of a plan.
type Run struct {
	ID         int64     `json:"id"`
	Project    string    `json:"project"`
	Codebase   string    `json:"codebase,omitempty"` // name of the one that was pushed; "": the main one
	Event      EventKind `json:"event"`
	Ref        string    `json:"ref"`            // full ref: refs/heads/main, refs/pull/3/head
	Base       string    `json:"base,omitempty"` // commit before the push; for a pull request the base branch's name
	Commit     string    `json:"commit"`
	Title      string    `json:"title"` // first line of the commit's message
	Actor      string    `json:"actor"`
	Pull       int64     `json:"pull,omitempty"`    // number of the pull request
	Fork       bool      `json:"fork,omitempty"`    // of a pull request from another repository: not trusted
	Service    string    `json:"service,omitempty"` // release and rollback runs
	Version    string    `json:"version,omitempty"` // release runs: the leaf as written
	State      RunState  `json:"state"`
	Reason     string    `json:"reason,omitempty"` // why it is in that state, for people
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
}

// RunState is derived from the run's steps whenever one of them moves.
type RunState string

const (
	RunQueued    RunState = "queued"    // no step has started; its first step moves it
	RunRunning   RunState = "running"   // a step is ready, running or retrying; the engine moves it
	RunWaiting   RunState = "waiting"   // every open step waits for a person; an approval moves it
	RunSucceeded RunState = "succeeded" // final
	RunFailed    RunState = "failed"    // final: a build, a test, a check or a verification failed
	RunErrored   RunState = "errored"   // final: Slipway or its surroundings failed; may be retried by a person
	RunCancelled RunState = "cancelled" // final: by a person, or superseded by a newer run (Reason says which)
)

// RunStates lists every state.
func RunStates() []RunState {
	return []RunState{RunQueued, RunRunning, RunWaiting, RunSucceeded, RunFailed, RunErrored, RunCancelled}
}

// Final reports whether nothing but a retry by a person moves a run out of s.
func (s RunState) Final() bool {
	switch s {
	case RunSucceeded, RunFailed, RunErrored, RunCancelled:
		return true
	}
	return false
}

// Outcome is how a step ended when nothing went wrong with Slipway itself (D7, P11).
type Outcome string

const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"    // red: what was asked for did not work; never retried by itself
	Skipped   Outcome = "skipped"   // there was nothing to do, Reason says why
	Waiting   Outcome = "waiting"   // a person must decide; the Result carries the Approval
	Postponed Outcome = "postponed" // to be asked again when the run that the Result names has ended
)

// StepKind is what a step does. stage.Order lists them as they come in a delivery.
type StepKind string

const (
	KindPlan     StepKind = "plan"
	KindBuild    StepKind = "build"
	KindTest     StepKind = "test"
	KindChart    StepKind = "chart"
	KindPublish  StepKind = "publish"
	KindDeploy   StepKind = "deploy"
	KindVerify   StepKind = "verify"
	KindApprove  StepKind = "approve"
	KindRetag    StepKind = "retag"
	KindScan     StepKind = "scan"
	KindAttest   StepKind = "attest"
	KindGate     StepKind = "gate"
	KindRollback StepKind = "rollback"
)

// Step is a planned step with its state.
type Step struct {
	ID      int64     `json:"id"`
	RunID   int64     `json:"runID"`
	Spec    PlanStep  `json:"spec"`
	State   StepState `json:"state"`
	Reason  string    `json:"reason,omitempty"` // why it is in that state, for people
	Attempt int       `json:"attempt"`          // 1 for the first; counts started attempts
	Errors  int       `json:"errors,omitempty"` // attempts that ended in an error since a person last made it ready
	// ErrorsSince is when the first of those errors came.
	ErrorsSince time.Time `json:"errorsSince,omitzero"`
	ReusedFrom  int64     `json:"reusedFrom,omitempty"` // run whose result this is
	ReadyAt     time.Time `json:"readyAt,omitzero"`
	StartedAt   time.Time `json:"startedAt,omitzero"`
	FinishedAt  time.Time `json:"finishedAt,omitzero"`
}

// StepState is the state of a step; StepMoves has the allowed moves.
type StepState string

const (
	StepBlocked   StepState = "blocked"   // a step it needs is not done; that step's end moves it
	StepReady     StepState = "ready"     // a job for it is queued; the engine moves it
	StepRunning   StepState = "running"   // a runner is at work; the engine moves it
	StepRetrying  StepState = "retrying"  // an error, or a lock held by another step; the engine moves it when its time comes
	StepWaiting   StepState = "waiting"   // for a person; an approval moves it
	StepSucceeded StepState = "succeeded" // final
	StepFailed    StepState = "failed"    // final unless a person retries
	StepErrored   StepState = "errored"   // final unless a person retries
	StepSkipped   StepState = "skipped"   // final: nothing to do, or a step it needs did not succeed
	StepCancelled StepState = "cancelled" // final unless a person retries
)

// StepStates lists every state.
func StepStates() []StepState {
	return []StepState{StepBlocked, StepReady, StepRunning, StepRetrying, StepWaiting,
		StepSucceeded, StepFailed, StepErrored, StepSkipped, StepCancelled}
}

// Final reports whether nothing but a retry by a person moves a step out of s.
func (s StepState) Final() bool {
	switch s {
	case StepSucceeded, StepFailed, StepErrored, StepSkipped, StepCancelled:
		return true
	}
	return false
}

// StepMoves is the table of allowed moves.
func StepMoves() map[StepState][]StepState {
	return map[StepState][]StepState{
		StepBlocked:   {StepReady, StepSkipped, StepCancelled},
		StepReady:     {StepRunning, StepRetrying, StepCancelled},
		StepRunning:   {StepReady, StepRetrying, StepWaiting, StepSucceeded, StepFailed, StepErrored, StepSkipped, StepCancelled},
		StepRetrying:  {StepReady, StepRunning, StepErrored, StepCancelled},
		StepWaiting:   {StepSucceeded, StepFailed, StepCancelled, StepReady},
		StepSucceeded: {StepBlocked}, // by a retry: an approval whose evidence no longer holds, a step whose result is lost
		StepFailed:    {StepReady, StepBlocked},
		StepErrored:   {StepReady, StepBlocked},
		StepSkipped:   {StepBlocked, StepReady},
		StepCancelled: {StepReady, StepBlocked},
	}
}

// MayMove reports whether a step may go from one state to another.
func MayMove(from, to StepState) bool {
	for _, s := range StepMoves()[from] {
		if s == to {
			return true
		}
	}
	return false
}
