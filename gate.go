package slipway

import (
	"strings"
	"time"
)

// Verdict is what a gate says.
type Verdict string

const (
	Pass Verdict = "pass"
	Warn Verdict = "warn" // on record, and stops nothing
	Fail Verdict = "fail" // the step that the gate belongs to fails
)

// Worse returns the worse of two verdicts.
func (v Verdict) Worse(w Verdict) Verdict {
	if v == Fail || w == Fail {
		return Fail
	}
	if v == Warn || w == Warn {
		return Warn
	}
	return Pass
}

// Level is what becomes of something that a gate does not like.
type Level string

const (
	LevelFail Level = "fail"
	LevelWarn Level = "warn"
	LevelOff  Level = "off" // the gate does not look
)

// Names of the gates that are built in; a rule's gate has the rule's name.
const (
	GateTests           = "tests"           // failed tests
	GateCoverage        = "coverage"        // too little, or less than before
	GateVulnerabilities = "vulnerabilities" // known ones, in the image
	GateDatabase        = "database"        // the vulnerability database is missing or old
	GateSecrets         = "secrets"         // committed, or baked into a layer
	GateManifests       = "manifests"       // schema and policies of what the chart renders
	GateSignatures      = "signatures"      // signature, builder and attestations before a deployment
)

// GateNames lists the gates that are built in, in the order in which people see them.
func GateNames() []string {
	return []string{GateTests, GateCoverage, GateVulnerabilities, GateDatabase, GateSecrets, GateManifests, GateSignatures}
}

// GateResult is what one gate said, once: in a step of a run. It is never changed.
type GateResult struct {
	ID          int64        `json:"id,omitempty"`
	Project     string       `json:"project,omitempty"`
	RunID       int64        `json:"runID,omitempty"`
	Step        string       `json:"step,omitempty"` // key of the step
	Gate        string       `json:"gate"`
	Service     string       `json:"service,omitempty"`
	Environment string       `json:"environment,omitempty"` // whose thresholds were applied; empty: the project's
	Verdict     Verdict      `json:"verdict"`
	Summary     string       `json:"summary"` // one line: "212 passed, 3 flaky"
	Reasons     []GateReason `json:"reasons,omitempty"`
	Time        time.Time    `json:"time,omitzero"`
}

// GateReason is one thing that a gate does not like, or would not without a waiver.
type GateReason struct {
	Verdict Verdict `json:"verdict"` // with a waiver: Pass
	// Subject is what a waiver names: "CVE-2024-1234 openssl", "suite/case", "non-root Deployment/web".
	Subject string  `json:"subject"`
	Message string  `json:"message"`         // one line
	Place   string  `json:"place,omitempty"` // where it is: file:line, layer and path, values key
	Link    string  `json:"link,omitempty"`  // where more is to be read, https only
	Waiver  *Waiver `json:"waiver,omitempty"`
}

// Waiver is a decision to let something through a gate, until a day. It stands in slipway.yaml of the
// default branch, or a permitted person gave it.
type Waiver struct {
	ID      int64  `json:"id,omitempty"` // 0: of slipway.yaml
	Project string `json:"project,omitempty"`
	Gate    string `json:"gate"`
	// Subject is compared with that of a reason; a * stands for any characters.
	Subject     string    `json:"subject"`
	Service     string    `json:"service,omitempty"`     // empty: every
	Environment string    `json:"environment,omitempty"` // empty: every
	Reason      string    `json:"reason"`
	Author      string    `json:"author"`
	Expires     time.Time `json:"expires"`         // it does not hold from then on
	Place       string    `json:"place,omitempty"` // file:line of slipway.yaml; empty: a person gave it
	CreatedAt   time.Time `json:"createdAt,omitzero"`
	// Withdrawn is when a person took it back; zero: not.
	Withdrawn time.Time `json:"withdrawn,omitzero"`
	// Problem is what is wrong with one that holds, where waivers are listed: "there is no service carts".
	Problem string `json:"problem,omitempty"`
}

// Gates is what the gates of a project or an environment demand: complete, defaults filled in.
type Gates struct {
	Tests           Level             `json:"tests"`
	Coverage        CoverageGate      `json:"coverage"`
	Vulnerabilities VulnerabilityGate `json:"vulnerabilities"`
	Database        DatabaseGate      `json:"database"`
	Secrets         Level             `json:"secrets"`
	Manifests       ManifestGate      `json:"manifests"`
	Signatures      SignatureGate     `json:"signatures"`
	Rules           []Rule            `json:"rules,omitempty"`
	Waivers         []Waiver          `json:"waivers,omitempty"` // of slipway.yaml
}

// CoverageGate asks for covered lines. Numbers are percent.
type CoverageGate struct {
	Level   Level   `json:"level"`
	Minimum float64 `json:"minimum"` // 0: any
	MaxDrop float64 `json:"maxDrop"` // below what the base branch has; negative: not compared
}

// VulnerabilityGate says which findings are too many.
type VulnerabilityGate struct {
	FailOn      Severity `json:"failOn"`      // this and worse; SeverityNone: never
	WarnOn      Severity `json:"warnOn"`      // this and worse
	FixableOnly bool     `json:"fixableOnly"` // those without a fixed version only warn
	// New counts only findings that Since does not have: "base" the base image, "release" the last
	// release; empty: all count.
	NewSince string `json:"newSince,omitempty"`
}

// DatabaseGate says what holds when there is no vulnerability database, or an old one.
type DatabaseGate struct {
	Missing Level    `json:"missing"`
	MaxAge  Duration `json:"maxAge"` // older counts as Old says
	Old     Level    `json:"old"`
}

// ManifestGate says how the built-in policies of manifests count.
type ManifestGate struct {
	// Policies overrides the level of a policy by its name.
	Policies map[string]Level `json:"policies"`
	// PodSecurity is the level of the Pod Security Standards that pods must keep: privileged (none),
	// baseline or restricted.
	PodSecurity string `json:"podSecurity"`
	// Registries from which images may come, as host or host/prefix; empty: any. Those of the project are always
	// allowed.
	Registries []string `json:"registries,omitempty"`
}

// SignatureGate says what a deployment must be able to prove.
type SignatureGate struct {
	Level        Level    `json:"level"`
	Attestations []string `json:"attestations,omitempty"` // provenance, sbom, tests, scan
}

// Rule is a gate of one's own: a CEL expression over Evidence that must be true.
type Rule struct {
	Name       string   `json:"name"`
	Stage      StepKind `json:"stage"` // test, scan, chart or gate: the step that it belongs to
	Expression string   `json:"expression"`
	Message    string   `json:"message"` // for people, when it is false
	Level      Level    `json:"level"`
	Place      string   `json:"place,omitempty"` // file:line of slipway.yaml
}

// Evidence is what gates see. What a step did not make is nil. Rules see it under its JSON names.
type Evidence struct {
	Stage       StepKind  `json:"stage"`
	Project     string    `json:"project"`
	Service     string    `json:"service"`
	Environment string    `json:"environment"` // "" outside of a gate step
	Production  bool      `json:"production"`
	Event       EventKind `json:"event"`
	Ref         string    `json:"ref"`
	Version     string    `json:"version"`
	Commit      string    `json:"commit"`
	Now         time.Time `json:"now"`

	Tests *TestReport `json:"tests"`
	// BaseCoverage is that of the last report of the base branch; nil: not known.
	BaseCoverage *Coverage `json:"baseCoverage"`
	Scan         *Scan     `json:"scan"`
	// PreviousScan is that of the last release's image; nil: there is none.
	PreviousScan *Scan            `json:"previousScan"`
	Manifests    []ManifestReport `json:"manifests"` // one for each environment
	Signatures   *SignatureReport `json:"signatures"`
	Image        *Artifact        `json:"image"`
	Chart        *Artifact        `json:"chart"`
	// Deployments are those of the release so far, oldest first.
	Deployments []Deployment `json:"deployments"`
}

// SignatureReport is what was found out about the signatures of what is to be deployed.
type SignatureReport struct {
	Subjects []SignedSubject `json:"subjects"` // image, chart
}

// SignedSubject is one digest with what is signed about it.
type SignedSubject struct {
	Name   string `json:"name"` // repository@digest
	Signed bool   `json:"signed"`
	// Kind is image or chart: attestations are about images. Empty: told by the digest of the evidence's chart.
	Kind         ArtifactKind `json:"kind,omitempty"`
	Key          string       `json:"key,omitempty"`          // id of the key that signed it
	Builder      string       `json:"builder,omitempty"`      // of the provenance
	Attestations []string     `json:"attestations,omitempty"` // provenance, sbom, tests, scan: those that verified
	// Problems are signatures and attestations that are there and do not verify, with the reason.
	Problems []string `json:"problems,omitempty"`
}

// GateFilter selects what gates said: in a run, or with RunID 0 in the newest run of Service that has any.
type GateFilter struct {
	Project     string
	RunID       int64
	Service     string // empty: all of the run
	Environment string // with those that belong to none; empty: all
}

// Holds reports whether the waiver may let something through at a time: it has a reason, an author and an end
// that has not come, and nobody took it back.
func (w Waiver) Holds(now time.Time) bool {
	return w.Withdrawn.IsZero() && now.Before(w.Expires) && w.Reason != "" && w.Author != ""
}

// Concerns reports whether the waiver is for a gate, of a service and in an environment.
func (w Waiver) Concerns(gate, service, environment string) bool {
	return w.Gate == gate && (w.Service == "" || w.Service == service) && (w.Environment == "" || w.Environment == environment)
}

// Covers reports whether the waiver's subject names that of a reason: a * stands for any characters, everything
// else for itself. It takes time in proportion to the two lengths. Each part between stars is found as early as
// it can stand, which leaves most room for the rest.
func (w Waiver) Covers(subject string) bool {
	first, rest, star := strings.Cut(w.Subject, "*")
	if !star {
		return subject == first
	}
	if !strings.HasPrefix(subject, first) {
		return false
	}
	subject = subject[len(first):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(subject, part)
		}
		at := strings.Index(subject, part)
		if at < 0 {
			return false
		}
		subject, rest = subject[at+len(part):], more
	}
}
