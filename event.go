package slipway

import (
	"encoding/json"
	"time"
)

// Event is something that happened, written in the same transaction as the change it tells of.
// Events are never changed or removed.
type Event struct {
	ID      int64           `json:"id"` // increases; the cursor of event streams
	Time    time.Time       `json:"time"`
	Kind    string          `json:"kind"` // noun.verb: push.received, run.created, step.succeeded, approval.approved ...
	Project string          `json:"project,omitempty"`
	RunID   int64           `json:"runID,omitempty"`
	Step    string          `json:"step,omitempty"` // key of the step
	Actor   string          `json:"actor,omitempty"`
	Message string          `json:"message"` // one line for people
	Data    json.RawMessage `json:"data,omitempty"`
}

// Push is a ref that moves: recorded before the move, so that none is lost (Old or New may be the
// zero hash: creation, deletion).
type Push struct {
	ID      int64  `json:"id"`
	Project string `json:"project"`
	// Codebase is the name of the one that was pushed to, "" for the main one.
	Codebase string    `json:"codebase,omitempty"`
	Ref      string    `json:"ref"`
	Old      string    `json:"old"`
	New      string    `json:"new"`
	Actor    string    `json:"actor"`
	State    PushState `json:"state"`
	RunID    int64     `json:"runID,omitempty"`
	Time     time.Time `json:"time"`
}

// PushState is where a push stands.
type PushState string

const (
	PushReceived PushState = "received" // recorded, the ref may or may not have moved yet
	PushAccepted PushState = "accepted" // the ref moved; its run exists, if it makes one
	PushRefused  PushState = "refused"  // the ref did not move
)

// ZeroHash stands for "no commit" in a push.
const ZeroHash = "0000000000000000000000000000000000000000"

// LogLine is one line of a step's log.
type LogLine struct {
	Time   time.Time `json:"time"`
	Group  string    `json:"group,omitempty"`  // what the line belongs to: a Dockerfile step, a resource, a test pod
	Stream string    `json:"stream,omitempty"` // stdout, stderr or "" for Slipway's own words
	Text   string    `json:"text"`             // no newline, control characters as they came
	// State marks lines that open or close a group: started, cached, done, failed.
	State string `json:"state,omitempty"`
}
