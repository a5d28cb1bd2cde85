package slipway

import (
	"fmt"
	"strings"
	"time"
)

// Plan is what a run does: a stored value that leaves nothing to decide but skip, retry and cancel.
// It round-trips through JSON.
type Plan struct {
	Decisions []Decision `json:"decisions,omitempty"` // one per service: what runs, or why not
	// Notes are what people should know besides, a sentence each.
	Notes []string `json:"notes,omitempty"`
	// Batch: of a service that runs, pushes are gathered while a run is active (S38).
	Batch bool `json:"batch,omitempty"`
	// Because says of services that run by way of another codebase whose changes make them run.
	Because map[string][]string `json:"because,omitempty"`
	// Since are the commits that the run's was compared with; none: everything counts as changed.
	Since []string   `json:"since,omitempty"`
	Steps []PlanStep `json:"steps"`
	// ConfigCommit is the commit of the default branch whose environments, registries and
	// approvals govern (D14).
	ConfigCommit string `json:"configCommit,omitempty"`
	// Gates are what the gates of that commit demand, by environment; "" has the project's.
	Gates map[string]Gates `json:"gates,omitempty"`
	// Turn is Built.Turn of what the plan was made from, and not kept with it; 0: of nothing that may change.
	Turn int64 `json:"-"`
}

// Decision says what happens to one service and why, in a sentence for people.
type Decision struct {
	Service string `json:"service"`
	// Codebase is where the service is, when that is not the run's.
	Codebase string `json:"codebase,omitempty"`
	Runs     bool   `json:"runs"`
	Reason   string `json:"reason"`
	// ChartOnly: the chart changed and the code did not, so that no image is built (S23).
	ChartOnly bool `json:"chartOnly,omitempty"`
	// Unchanged: the service is as it was where the branch was done with it before.
	Unchanged bool `json:"unchanged,omitempty"`
	// LeftTo is an earlier run that waits for people with the same of the service, and delivers it when they agree: it
	// does not run again. 0: there is none.
	LeftTo int64 `json:"leftTo,omitempty"`
	// Removed: the service is no longer in the repository. What is deployed of it stays until a person
	// removes it.
	Removed bool `json:"removed,omitempty"`
}

// String is the service and the sentence about it: "cart: runs: src/cart/main.go changed".
func (d Decision) String() string { return strings.TrimPrefix(d.Service+": "+d.Reason, ": ") }

// DecisionsInShort is what a terminal has room for: all of up to twenty decisions, else those that run or
// are removed, with a line about the rest, "" for none.
func DecisionsInShort(all []Decision) (shown []Decision, rest string) {
	if len(all) <= 20 {
		return all, ""
	}
	var others []Decision
	for _, d := range all {
		if d.Runs || d.Removed {
			shown = append(shown, d)
		} else {
			others = append(others, d)
		}
	}
	if len(others) == 0 {
		return shown, ""
	}
	services := "service"
	if len(others) > 1 {
		services = "services"
	}
	rest = fmt.Sprintf("%d more %s: skipped", len(others), services)
	why := others[0].Reason
	for _, d := range others {
		if d.Reason != why {
			return shown, rest + ", each for its own reason"
		}
	}
	return shown, fmt.Sprintf("%d more %s: %s", len(others), services, why)
}

// Built says with which commits the services of a branch were done.
type Built struct {
	// Services are those of which it is known by name. One that is not there was done with Rest.
	Services map[string]Done
	// Rest is the newest run that succeeded as a whole; zero: none did.
	Rest Done
	// Turn counts the plans and retries of the branch up to now, from 1 on: a plan is stored only if there was none since.
	Turn int64
	// Unfinished is, by service, the newest run of the default branch after that one which began to deliver it,
	// or is to, and is not done with it.
	Unfinished map[string]int64
	// Waiting are, by service, the newest runs of the default branch that wait for people with it. They are not done
	// with it.
	Waiting map[string]WaitingRun
}

// Done is where a branch was done with a service: every step of it succeeded in a run of Commit, or it was left
// alone there as nothing of it had changed since it was. Without a commit it was not.
type Done struct {
	Commit string
	RunID  int64 // of Commit
}

// WaitingRun is a run that waits for people with a service, before an environment.
type WaitingRun struct {
	RunID       int64
	Environment string
	// For is the service whose approval it is: another one, when that is deployed before.
	For string
	// Commit is that of the run when people are all that the service waits for there and nothing took the service up
	// since; "": machines are at work on it, something of it failed, or it is elsewhere's by now.
	Commit string
	// With are the other services of the run that have a part in what is left to do with it: their steps come before
	// its own, or its change made them run. Set with Commit, as are Steps and Gates.
	With []string
	// Steps are those of the service that look into its image and that lead through the environments, as they were planned.
	Steps []PlanStep
	Gates map[string]Gates // of the run's plan
}

// Of is where a service was done.
func (b Built) Of(service string) Done {
	if d, ok := b.Services[service]; ok {
		return d
	}
	return b.Rest
}

// PlanStep is one step of a plan. Exactly the field that its Kind names is set.
type PlanStep struct {
	Key         string   `json:"key"` // unique in the run: kind/service or kind/service@environment
	Kind        StepKind `json:"kind"`
	Service     string   `json:"service,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Needs       []string `json:"needs,omitempty"` // keys of steps that must have succeeded
	Timeout     Duration `json:"timeout,omitempty"`
	Retries     int      `json:"retries,omitempty"` // further attempts after an error
	// Lock, when set, is held from the start of the step to its end; two steps never hold one lock.
	Lock    string   `json:"lock,omitempty"`
	Secrets []string `json:"secrets,omitempty"` // names of the secrets it may see

	Build    *BuildSpec    `json:"build,omitempty"`
	Test     *TestSpec     `json:"test,omitempty"`
	Chart    *ChartSpec    `json:"chart,omitempty"`
	Publish  *PublishSpec  `json:"publish,omitempty"`
	Deploy   *DeploySpec   `json:"deploy,omitempty"`
	Verify   *VerifySpec   `json:"verify,omitempty"`
	Approve  *ApproveSpec  `json:"approve,omitempty"`
	Retag    *RetagSpec    `json:"retag,omitempty"`
	Rollback *RollbackSpec `json:"rollback,omitempty"`
	Scan     *ScanSpec     `json:"scan,omitempty"`
	Attest   *AttestSpec   `json:"attest,omitempty"`
	Gate     *GateSpec     `json:"gate,omitempty"`
}

// StepKey makes the key of a step: kind/service, kind/service@environment, or just the kind.
func StepKey(kind StepKind, service, environment string) string {
	key := string(kind)
	if service != "" {
		key += "/" + service
	}
	if environment != "" {
		key += "@" + environment
	}
	return key
}

// Source is a folder of a commit of a codebase.
type Source struct {
	Codebase string `json:"codebase,omitempty"` // name; "": the main one
	Commit   string `json:"commit"`
	Dir      string `json:"dir"`
}

// NamedContext is a folder that a Dockerfile may copy from by a name, beside its build context.
type NamedContext struct {
	Name   string `json:"name"`
	Source Source `json:"source"`
	URL    string `json:"url,omitempty"` // of its repository, for the provenance
}

// BuildSpec builds a service's image (D15, D20).
type BuildSpec struct {
	Source     Source            `json:"source"`
	Dockerfile string            `json:"dockerfile"`
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"` // org.opencontainers.image.*: source, revision, created
	Epoch      int64             `json:"epoch"`            // SOURCE_DATE_EPOCH, Unix seconds
	Pins       map[string]string `json:"pins,omitempty"`
	// Image is where the result goes, by digest, no tag yet; nil builds without keeping an image.
	Image *Repository `json:"image,omitempty"`
	Trust Trust       `json:"trust"`
	// Contexts are services of other codebases that the Dockerfile copies from.
	Contexts []NamedContext `json:"contexts,omitempty"`
}

// Trust separates caches: what a pull request wrote is never read by a release (D20).
type Trust string

const (
	TrustFork     Trust = "fork"     // pull requests from other repositories
	TrustBranch   Trust = "branch"   // pushes to feature branches and pull requests
	TrustReviewed Trust = "reviewed" // the default branch and release branches
)

// Repository is a repository in a registry.
type Repository struct {
	Registry Registry `json:"registry"`
	Name     string   `json:"name"` // without the host
}

// Ref is the repository with the registry's stable host name.
func (r Repository) Ref() string { return r.Registry.Host + "/" + r.Name }

// TestSpec runs the tests of a service in a container (S76 to S78, D22).
type TestSpec struct {
	Source     Source            `json:"source"`
	Dockerfile string            `json:"dockerfile"`
	Args       map[string]string `json:"args,omitempty"`
	Epoch      int64             `json:"epoch"`
	Pins       map[string]string `json:"pins,omitempty"`
	Stage      string            `json:"stage"`
	Results    string            `json:"results"`
	Trust      Trust             `json:"trust"`
	Services   []TestService     `json:"services,omitempty"`
	Contexts   []NamedContext    `json:"contexts,omitempty"` // as BuildSpec's
}

// ChartSpec lints, renders, validates and packages a service's chart (S91 to S96, S109, S110).
type ChartSpec struct {
	Source  Source            `json:"source"` // Dir is the chart folder; empty Dir: the standard chart
	Service string            `json:"service"`
	Port    int               `json:"port,omitempty"` // for the standard chart
	Version string            `json:"version"`        // SemVer, chart version and appVersion (S56)
	Created time.Time         `json:"created"`        // time stamp of every file in the package: reproducible bytes (D16)
	Renders []ChartRender     `json:"renders"`        // each environment it will be deployed to
	Labels  map[string]string `json:"labels,omitempty"`
	Image   Repository        `json:"image"`
}

// EnvironmentValues is the values file that a chart folder may have for an environment.
func EnvironmentValues(environment string) string { return "values-" + environment + ".yaml" }

// ChartValues are the values that every deployment sets itself, above all files: the image (D17) and why it
// is deployed (S97).
func ChartValues(image Repository, tag, digest, reason string) map[string]any {
	return map[string]any{
		"image":  map[string]any{"registry": image.Registry.Host, "repository": image.Name, "tag": tag, "digest": digest},
		"reason": reason,
	}
}

// ChartRender is one environment a chart is rendered for, to check it before anything is deployed.
type ChartRender struct {
	Environment string   `json:"environment"`
	Cluster     string   `json:"cluster"`
	Namespace   string   `json:"namespace"`
	Values      []string `json:"values,omitempty"`
	Production  bool     `json:"production,omitempty"`
	// KubeVersion is the cluster's, such as v1.34.2; empty: what the cluster says, else the newest that
	// Slipway knows.
	KubeVersion string `json:"kubeVersion,omitempty"`
	// Manifests are the policies of the environment; nil: their defaults.
	Manifests *ManifestGate `json:"manifests,omitempty"`
}

// PublishSpec gives the built image its tag and pushes the chart package. For a release the tag is
// the claim of the version: it is written once and never moved (D1, S59, S82).
type PublishSpec struct {
	Image        Repository `json:"image"`
	Tag          string     `json:"tag"`
	Chart        Repository `json:"chart"`
	ChartVersion string     `json:"chartVersion"`
	Release      bool       `json:"release"` // a version of a release branch: makes a Release
	Commit       string     `json:"commit"`
	Trust        Trust      `json:"trust"`
	// Built is the image of an earlier run to publish, as only the chart changed since (S23); nil: the
	// one that the run builds.
	Built *BuiltImage `json:"built,omitempty"`
}

// BuiltImage is an image that an earlier run built and published.
type BuiltImage struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size,omitempty"` // bytes of configuration and layers, compressed
	Commit string `json:"commit"`         // that it was published for
	RunID  int64  `json:"runID"`
}

// Target is what is deployed: one Helm release in an environment (D3).
type Target struct {
	Project     string   `json:"project"`
	Environment string   `json:"environment"`
	Service     string   `json:"service"`
	Cluster     string   `json:"cluster"`
	Namespace   string   `json:"namespace"`
	Release     string   `json:"release"` // name of the Helm release, at most 53 characters
	Values      []string `json:"values,omitempty"`
	HistoryMax  int      `json:"historyMax"`
	Timeout     Duration `json:"timeout"`
	Tests       bool     `json:"tests"` // helm test is part of verification
}

// Lock is the name of the lock under which the target is changed.
func (t Target) Lock() string { return t.Project + "/" + t.Environment + "/" + t.Service }

// DeploySpec deploys the run's image and chart to a target.
type DeploySpec struct {
	Target  Target       `json:"target"`
	Version string       `json:"version"` // as people name it: v1.0.2, main-1a2b3c4
	Commit  string       `json:"commit"`
	Image   Repository   `json:"image"`
	Tag     string       `json:"tag"`
	Chart   Repository   `json:"chart"`
	Mode    RollbackMode `json:"rollback"`
	Reason  string       `json:"reason"` // kubernetes.io/change-cause (S97)
	// Production deployments come from the production namespace of the registry.
	Production bool `json:"production,omitempty"`
}

// VerifySpec checks that a deployment is healthy.
type VerifySpec struct {
	Target  Target       `json:"target"`
	Version string       `json:"version"`
	Mode    RollbackMode `json:"rollback"`
}

// ApproveSpec waits for people before a deployment (D11). Deploy is what will be deployed.
type ApproveSpec struct {
	Deploy    DeploySpec `json:"deploy"`
	Approvals Approvals  `json:"approvals"`
	// Chart is where the chart is before it is retagged; zero: where the run's chart artifact says,
	// in the registry of Deploy.Chart.
	Chart Repository `json:"chart,omitzero"`
}

// RetagSpec gives image and chart their names in the production namespace, by digest (D2, S64).
type RetagSpec struct {
	FromImage    Repository `json:"fromImage"`
	ToImage      Repository `json:"toImage"`
	Tag          string     `json:"tag"`
	FromChart    Repository `json:"fromChart"`
	ToChart      Repository `json:"toChart"`
	ChartVersion string     `json:"chartVersion"`
}

// RollbackSpec brings a target back to an earlier deployment, image and configuration together
// (D10). To.ID is 0 when there is nothing to go back to: a failed first install is uninstalled
// unless it owns storage.
type RollbackSpec struct {
	Target Target     `json:"target"`
	From   Deployment `json:"from"`
	To     Deployment `json:"to"`
	Reason string     `json:"reason"`
	// Registry says where the host of To.Image and To.Chart is reached, should Helm have dropped the
	// revision; zero: at that host.
	Registry Registry `json:"registry,omitzero"`
	// Automatic rollbacks quarantine the version they leave; so do a person's, unless it is not in use.
	Automatic bool `json:"automatic"`
}

// ScanSpec looks for what is known to be wrong with the run's image, and for secrets in it and in its
// source (S50, A3).
type ScanSpec struct {
	Image  Repository `json:"image"` // the run's image is there by digest
	Source Source     `json:"source"`
	// Reports are files of other scanners (SARIF, CycloneDX) in the tree's folder or the results of the
	// tests, which are taken as evidence in place of Slipway's own scan.
	Reports []string `json:"reports,omitempty"`
	// Built is the image of an earlier run, as only the chart changed since; nil: the run's own.
	Built *BuiltImage `json:"built,omitempty"`
}

// AttestSpec signs the run's image and chart, and what is known about them (D9).
type AttestSpec struct {
	Image Repository `json:"image"`
	Chart Repository `json:"chart"`
	// Builder, Source and Parameters are those of the provenance (SLSA v1).
	Builder string     `json:"builder"` // URI of this server and what it built with
	Source  string     `json:"source"`  // URI of the repository
	Ref     string     `json:"ref"`
	Commit  string     `json:"commit"`
	Dir     string     `json:"dir"`
	Build   *BuildSpec `json:"build,omitempty"` // nil: the image is that of an earlier run
}

// GateSpec judges everything that is known about a candidate by the thresholds of an environment, before
// people are asked.
type GateSpec struct {
	Environment string `json:"environment"`
	Production  bool   `json:"production,omitempty"`
	Version     string `json:"version"`
}
