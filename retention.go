package slipway

import "time"

// Retention says how long candidates are kept: images and charts that were published and that nothing needs
// any more. Never removed, whatever it says: what an environment runs or a rollback may go back to, what a run
// that has not ended made, and everything in production's part of the registry.
type Retention struct {
	Candidates   Keep `json:"candidates"`   // of the default branch and of release branches
	PullRequests Keep `json:"pullRequests"` // of pull requests
	// DryRun says what would be removed and removes nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// Keep is how long and how many. Something is removed when it is older than MaxAge and Newest of the same
// service are newer.
type Keep struct {
	MaxAge Duration `json:"maxAge"` // since it was published
	Newest int      `json:"keep"`   // of each service; 0: the age alone decides
}

// RetentionReport is what was removed of a project's candidates, or would be.
type RetentionReport struct {
	Project string          `json:"project"`
	DryRun  bool            `json:"dryRun"`
	Removed []RetentionItem `json:"removed"`
	Kept    []RetentionItem `json:"kept"`
	Blobs   int             `json:"blobs"` // files that were freed
	Bytes   int64           `json:"bytes"` // that were freed on the disk
	Later   int64           `json:"later"` // bytes that are free when no push can need them any more, an hour from now
	Time    time.Time       `json:"time"`
}

// RetentionItem is an image or a chart among the candidates.
type RetentionItem struct {
	Repository string    `json:"repository"` // without the host
	Digest     string    `json:"digest"`
	Tags       []string  `json:"tags,omitempty"`
	Pushed     time.Time `json:"pushed"`
	Reason     string    `json:"reason"` // why it is removed or kept
	// Names are the manifests that it leads to, when it is an index: they go and stay with it.
	Names []string `json:"-"`
}
