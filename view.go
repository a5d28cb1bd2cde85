package slipway

import "time"

// Board is the services of a project by environments: what runs where, and who is waited for.
type Board struct {
	Project      string     `json:"project"`
	Environments []string   `json:"environments"`
	Rows         []BoardRow `json:"services"`
	// Codebases are the names of the further codebases of the project.
	Codebases []string `json:"codebases,omitempty"`
}

// BoardRow is one service.
type BoardRow struct {
	Service string `json:"service"`
	// Codebase is the name of the one that the service is in, "" for the main one.
	Codebase string      `json:"codebase,omitempty"`
	Cells    []BoardCell `json:"environments"` // as Board.Environments
	LastRun  *Run        `json:"lastRun,omitempty"`
}

// BoardCell is one service in one environment.
type BoardCell struct {
	Environment string      `json:"environment"`
	Current     *Deployment `json:"current,omitempty"`  // newest one that Helm deployed
	Pending     *Deployment `json:"pending,omitempty"`  // being deployed now
	Approval    *Approval   `json:"approval,omitempty"` // waiting
	// Outside is what Helm runs instead of Current, made without Slipway; seen some seconds ago.
	Outside *ObservedRevision `json:"outside,omitempty"`
}

// ObservedRevision is what Helm says is deployed in a target.
type ObservedRevision struct {
	Number      int       `json:"number"`          // 0: nothing is deployed any more
	Own         bool      `json:"own"`             // made by a run of Slipway
	Chart       string    `json:"chart,omitempty"` // name and version
	AppVersion  string    `json:"appVersion,omitempty"`
	Description string    `json:"description,omitempty"` // as its maker wrote it
	Updated     time.Time `json:"updatedAt,omitzero"`
}

// RunDetail is a run with all that belongs to it.
type RunDetail struct {
	Run         Run          `json:"run"`
	Plan        Plan         `json:"plan"` // Decisions and ConfigCommit; the steps are in Steps
	Steps       []Step       `json:"steps"`
	Artifacts   []Artifact   `json:"artifacts"`
	Deployments []Deployment `json:"deployments"`
	Approvals   []Approval   `json:"approvals"`
	Events      []Event      `json:"events"`
	Links       *ForgeLinks  `json:"links,omitempty"` // of a project on a forge
}

// RunFilter selects runs, newest first.
type RunFilter struct {
	Project string
	// Codebase is the key of the one whose runs are meant; "": of all. It needs no Project.
	Codebase string
	Service  string
	Ref      string
	Commit   string
	State    RunState
	Before   int64 // runs with a smaller ID; 0: from the newest
	Limit    int   // 0: 50; at most 200
}

// ReleaseFilter selects releases of a project, newest first.
type ReleaseFilter struct {
	Project     string
	Service     string // "": of every service
	Named       string // only of services with this in their names
	Version     string // v1.0.2 and 1.0.2 are one
	Quarantined bool   // only those in quarantine, and all of them: Limit does not hold
	Before      int64  // releases with a smaller ID; 0: from the newest
	Limit       int    // 0: 100; at most MostReleases
}

// MostReleases is how many releases are listed at once.
const MostReleases = 500

// WaiverFilter selects waivers of a project: all that hold, and after them those that do not hold any more, newest
// first. What holds is never cut off.
type WaiverFilter struct {
	Project string
	Holding bool  // only those that hold
	Before  int64 // only those that do not hold any more and have a smaller ID; 0: from the first
	Limit   int   // of those that do not hold any more; 0: 100; at most MostWaivers
}

// MostWaivers is how many waivers that do not hold any more are listed at once.
const MostWaivers = 1000

// EventFilter selects events.
type EventFilter struct {
	Project string
	RunID   int64
	Kind    string // an exact kind, or a noun with a dot ("approval.") for all of it
	Newest  bool   // the newest Limit events instead of the next ones; still oldest first
	Limit   int    // 0: 100; at most 1000
}

// DeploymentFilter selects deployments, newest first.
type DeploymentFilter struct {
	Project     string
	Environment string
	Service     string
	RunID       int64
	State       DeploymentState
	Limit       int // 0: 50; at most 500
}

// Trace is the chain that an id belongs to, both ways: commit, run, image, chart, release,
// deployments (S119).
type Trace struct {
	Query       string       `json:"query"`
	More        bool         `json:"more,omitempty"` // there are more runs or deployments: these are the newest
	Matched     []string     `json:"matched"`        // what the query was found as: commit, branch, tag, digest, version, revision, run
	Project     string       `json:"project"`
	Commits     []string     `json:"commits"`
	Runs        []Run        `json:"runs"`
	Artifacts   []Artifact   `json:"artifacts"`
	Releases    []Release    `json:"releases"`
	Deployments []Deployment `json:"deployments"`
	Approvals   []Approval   `json:"approvals"`
}
