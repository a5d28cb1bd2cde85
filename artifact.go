package slipway

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// ArtifactKind says what an artifact is.
type ArtifactKind string

const (
	ArtifactImage      ArtifactKind = "image"
	ArtifactChart      ArtifactKind = "chart"
	ArtifactProvenance ArtifactKind = "provenance" // referrer of an image: what the builder recorded, unsigned
	ArtifactReport     ArtifactKind = "report"     // test report; its parsed form is in TestReport
	ArtifactSBOM       ArtifactKind = "sbom"       // SPDX document, in a file
	ArtifactSignature  ArtifactKind = "signature"  // referrer: a bundle that cosign verifies
)

// Artifact is something a step made, addressed by digest.
type Artifact struct {
	ID         int64        `json:"id"`
	Project    string       `json:"project"`
	RunID      int64        `json:"runID"`
	Step       string       `json:"step"`
	Service    string       `json:"service"`
	Kind       ArtifactKind `json:"kind"`
	Repository string       `json:"repository"`    // with the stable host name
	Tag        string       `json:"tag,omitempty"` // tag or chart version; empty: by digest only
	Digest     string       `json:"digest"`        // sha256:...
	Subject    string       `json:"subject,omitempty"`
	Size       int64        `json:"size,omitempty"`
	Path       string       `json:"path,omitempty"` // file in the run's workspace, before it is pushed
	Commit     string       `json:"commit,omitempty"`
	CreatedAt  time.Time    `json:"createdAt"`
}

// DigestOf is the digest of some bytes as artifacts have it: sha256: and hexadecimal digits.
func DigestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Quarantines are why versions must not be deployed again until a person lifts it, by service/version in one
// spelling (OneSpelling). Versions of the default branch, which are no releases, may be among them.
type Quarantines map[string]string

// Why says why a version of a service must not be deployed, "" when it may.
func (q Quarantines) Why(service, version string) string {
	return q[service+"/"+OneSpelling(version)]
}

// Release is a version of a service with its image and chart digests; made when the version is
// published, never changed but for its quarantine.
type Release struct {
	ID          int64     `json:"id"`
	Project     string    `json:"project"`
	Service     string    `json:"service"`
	Version     string    `json:"version"` // the leaf as written: v1.0.2
	Commit      string    `json:"commit"`
	RunID       int64     `json:"runID"`
	ImageDigest string    `json:"imageDigest"`
	ChartDigest string    `json:"chartDigest"`
	Quarantined string    `json:"quarantined,omitempty"` // why it must not be deployed again until a person lifts it
	CreatedAt   time.Time `json:"createdAt"`
	// In is where it was deployed, as far as it was asked for: the newest deployment of each environment.
	In []Deployment `json:"in,omitempty"`
}

// RunsIn reports whether the release is what an environment runs, or is to run in a moment.
func (r Release) RunsIn(environment string) bool {
	for _, d := range r.In {
		switch d.State {
		case Deploying, Deployed, Verified, Unhealthy:
			if d.Target.Environment == environment {
				return true
			}
		}
	}
	return false
}

// GoodIn reports whether the release was found healthy in an environment, and is not in quarantine since.
func (r Release) GoodIn(environment string) bool {
	for _, d := range r.In {
		if d.Target.Environment == environment && !d.VerifiedAt.IsZero() {
			return r.Quarantined == ""
		}
	}
	return false
}

// Deployment is a version of a service in an environment.
type Deployment struct {
	ID           int64           `json:"id"`
	Target       Target          `json:"target"`
	Version      string          `json:"version"`
	Commit       string          `json:"commit"`
	RunID        int64           `json:"runID"`
	Step         string          `json:"step"`
	Image        string          `json:"image"` // repository with the stable host name
	Tag          string          `json:"tag"`
	ImageDigest  string          `json:"imageDigest"`
	Chart        string          `json:"chart"`
	ChartDigest  string          `json:"chartDigest"`
	ChartVersion string          `json:"chartVersion"`
	ValuesDigest string          `json:"valuesDigest"`
	Revision     int             `json:"revision"` // Helm's
	State        DeploymentState `json:"state"`
	Reason       string          `json:"reason,omitempty"`
	VerifiedAt   time.Time       `json:"verifiedAt,omitzero"` // when it was first found healthy; zero: never
	CreatedAt    time.Time       `json:"createdAt"`
	UpdatedAt    time.Time       `json:"updatedAt"`
}

// DeploymentState is where a deployment stands.
type DeploymentState string

const (
	Deploying    DeploymentState = "deploying"     // intent recorded, Helm may be at work
	Deployed     DeploymentState = "deployed"      // Helm is done, verification to come
	Verified     DeploymentState = "verified"      // healthy: what a rollback may go back to
	Unhealthy    DeploymentState = "unhealthy"     // deployment or verification failed
	RolledBack   DeploymentState = "rolled-back"   // replaced by an earlier one
	Replaced     DeploymentState = "replaced"      // replaced by a newer one
	DeployFailed DeploymentState = "deploy-failed" // Helm refused it; nothing of it runs
)

// DeploymentStates lists every state.
func DeploymentStates() []DeploymentState {
	return []DeploymentState{Deploying, Deployed, Verified, Unhealthy, RolledBack, Replaced, DeployFailed}
}

// Approval is a decision that a person takes before a deployment, with what it binds to (D11).
type Approval struct {
	ID           int64         `json:"id"`
	Project      string        `json:"project"`
	RunID        int64         `json:"runID"`
	Step         string        `json:"step"`
	Service      string        `json:"service"`
	Environment  string        `json:"environment"`
	Version      string        `json:"version"`
	State        ApprovalState `json:"state"`
	Required     int           `json:"required"`
	NotRequester bool          `json:"notRequester"`
	Requester    string        `json:"requester"`
	ImageDigest  string        `json:"imageDigest"`
	ChartDigest  string        `json:"chartDigest"`
	ValuesDigest string        `json:"valuesDigest"`
	BaseRevision int           `json:"baseRevision"`    // Helm revision it replaces; 0: first install
	Diff         string        `json:"diff"`            // stored manifest against new render, secrets masked
	Notes        []string      `json:"notes,omitempty"` // test summary, charts that render differently each time, ...
	Votes        []Vote        `json:"votes,omitempty"`
	CreatedAt    time.Time     `json:"createdAt"`
	DecidedAt    time.Time     `json:"decidedAt,omitzero"`
}

// Vote is one person's word on an approval.
type Vote struct {
	User    string    `json:"user"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason"`
	Time    time.Time `json:"time"`
}

// ApprovalState is where an approval stands.
type ApprovalState string

const (
	ApprovalWaiting    ApprovalState = "waiting"
	ApprovalApproved   ApprovalState = "approved"
	ApprovalRejected   ApprovalState = "rejected"
	ApprovalSuperseded ApprovalState = "superseded" // a newer version of the same target waits or was deployed
)

// ApprovalStates lists every state.
func ApprovalStates() []ApprovalState {
	return []ApprovalState{ApprovalWaiting, ApprovalApproved, ApprovalRejected, ApprovalSuperseded}
}

// Result is what a runner says of a step: an outcome, and what to record with it in the same
// transaction.
type Result struct {
	Outcome     Outcome      `json:"outcome"`
	Reason      string       `json:"reason,omitempty"`
	Artifacts   []Artifact   `json:"artifacts,omitempty"`
	Report      *TestReport  `json:"report,omitempty"`
	Release     *Release     `json:"release,omitempty"`
	Deployments []Deployment `json:"deployments,omitempty"` // inserted (ID 0) or brought up to date
	Approval    *Approval    `json:"approval,omitempty"`    // with Outcome Waiting
	Quarantine  string       `json:"quarantine,omitempty"`  // service/version to quarantine; Reason says why
	Next        *Plan        `json:"next,omitempty"`        // steps added to the run
	After       int64        `json:"after,omitempty"`       // with Outcome Postponed: the run
	// UntilPlanned: with Outcome Postponed, not until that run has ended, but until it is planned.
	UntilPlanned bool `json:"untilPlanned,omitempty"`
	// Inputs is a hash of all that the result depends on: a later step with the same may reuse it. Empty:
	// none may.
	Inputs     string `json:"inputs,omitempty"`
	ReusedFrom int64  `json:"reusedFrom,omitempty"` // the run that the result is from; 0: this one
	// Gates are what the gates of the step said.
	Gates []GateResult `json:"gates,omitempty"`
	Scan  *Scan        `json:"scan,omitempty"`
	// Manifests are what the chart renders, one for each environment.
	Manifests []ManifestReport `json:"manifests,omitempty"`
}

// Earlier is a step that has succeeded, with what it made.
type Earlier struct {
	Step      Step             `json:"step"`
	Artifacts []Artifact       `json:"artifacts,omitempty"`
	Report    *TestReport      `json:"report,omitempty"`
	Manifests []ManifestReport `json:"manifests,omitempty"` // of a chart step
}

// RollbackRequest asks for an earlier version of a service in an environment.
type RollbackRequest struct {
	Project     string `json:"project"`
	Service     string `json:"service"`
	Environment string `json:"environment"`
	To          string `json:"to,omitempty"` // version; empty: the last verified one before the current
	Reason      string `json:"reason,omitempty"`
}
