package attest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Types of builds, as docs/reference/attestations.md describes them.
const (
	BuildTypeImage = "https://github.com/slipway-cd/slipway/blob/main/docs/reference/attestations.md#image-v1"
	BuildTypeChart = "https://github.com/slipway-cd/slipway/blob/main/docs/reference/attestations.md#chart-v1"
)

// provenance is the predicate of SLSA provenance v1.
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string     `json:"buildType"`
	ExternalParameters   any        `json:"externalParameters"`
	InternalParameters   any        `json:"internalParameters,omitempty"`
	ResolvedDependencies []resource `json:"resolvedDependencies,omitempty"`
}

type runDetails struct {
	Builder    builder    `json:"builder"`
	Metadata   metadata   `json:"metadata"`
	Byproducts []resource `json:"byproducts,omitempty"`
}

type builder struct {
	ID string `json:"id"`
}

type metadata struct {
	InvocationID string    `json:"invocationId,omitempty"`
	StartedOn    time.Time `json:"startedOn,omitzero"`
	FinishedOn   time.Time `json:"finishedOn,omitzero"`
}

// imageParameters are what somebody outside of the builder decided: the repository and its slipway.yaml.
type imageParameters struct {
	Source     resource          `json:"source"`
	Ref        string            `json:"ref,omitempty"`
	Path       string            `json:"path,omitempty"`
	Dockerfile string            `json:"dockerfile,omitempty"`
	Target     string            `json:"target,omitempty"`
	Args       map[string]string `json:"args,omitempty"`
	Pins       map[string]string `json:"pins,omitempty"`
	Secrets    []string          `json:"secrets,omitempty"` // their names
	Contexts   []namedContext    `json:"contexts,omitempty"`
}

// namedContext is a folder of another codebase that the Dockerfile could copy from.
type namedContext struct {
	Name   string   `json:"name"`
	Source resource `json:"source"`
	Path   string   `json:"path,omitempty"`
}

type internalParameters struct {
	Project         string            `json:"project"`
	Service         string            `json:"service"`
	Run             int64             `json:"run"`
	Step            string            `json:"step"`
	SourceDateEpoch int64             `json:"sourceDateEpoch,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Trust           slipway.Trust     `json:"trust,omitempty"`
}

type chartParameters struct {
	Source  resource `json:"source"`
	Ref     string   `json:"ref,omitempty"`
	Path    string   `json:"path,omitempty"` // empty: the standard chart of Slipway
	Version string   `json:"version"`
}

// made is a build as it really ran, in this run or an earlier one.
type made struct {
	step     slipway.Step
	artifact slipway.Artifact // the image
	record   slipway.Artifact // of the builder, attached to the image; zero: there is none
}

// imageProvenance says how an image was made. record is what the builder wrote down of the build, nil where
// it did not.
func (p *production) imageProvenance(m made, record []byte) (provenance, error) {
	spec := m.step.Spec.Build
	out := provenance{
		BuildDefinition: buildDefinition{
			BuildType: BuildTypeImage,
			ExternalParameters: imageParameters{
				Source: p.source(spec.Source.Commit), Ref: p.refOf(m.step), Path: spec.Source.Dir, Dockerfile: spec.Dockerfile, Target: spec.Target,
				Args: spec.Args, Pins: spec.Pins, Secrets: m.step.Spec.Secrets, Contexts: contextsOf(spec.Contexts),
			},
			InternalParameters: internalParameters{
				Project: p.env.Run.Project, Service: p.step.Service, Run: m.step.RunID, Step: m.step.Spec.Key,
				SourceDateEpoch: spec.Epoch, Labels: spec.Labels, Trust: spec.Trust,
			},
			ResolvedDependencies: []resource{p.source(spec.Source.Commit)},
		},
		RunDetails: p.details(m.step),
	}
	for _, c := range contextsOf(spec.Contexts) {
		out.BuildDefinition.ResolvedDependencies = append(out.BuildDefinition.ResolvedDependencies, c.Source)
	}
	if record == nil {
		return out, nil
	}
	deps, err := dependencies(record)
	if err != nil {
		return out, err
	}
	out.BuildDefinition.ResolvedDependencies = append(out.BuildDefinition.ResolvedDependencies, deps...)
	out.RunDetails.Byproducts = []resource{{Name: "record of the builder", URI: "oci://" + m.record.Repository + "@" + m.record.Digest, Digest: digestSet(m.record.Digest)}}
	return out, nil
}

func contextsOf(list []slipway.NamedContext) (out []namedContext) {
	for _, c := range list {
		out = append(out, namedContext{Name: c.Name, Source: resource{URI: c.URL, Digest: map[string]string{"gitCommit": c.Source.Commit}}, Path: c.Source.Dir})
	}
	return out
}

// chartProvenance says how the chart was packaged.
func (p *production) chartProvenance(st slipway.Step) provenance {
	spec := st.Spec.Chart
	commit := cmp.Or(spec.Source.Commit, p.step.Attest.Commit) // the standard chart is of no commit
	return provenance{
		BuildDefinition: buildDefinition{
			BuildType:            BuildTypeChart,
			ExternalParameters:   chartParameters{Source: p.source(commit), Ref: p.refOf(st), Path: spec.Source.Dir, Version: spec.Version},
			InternalParameters:   internalParameters{Project: p.env.Run.Project, Service: p.step.Service, Run: st.RunID, Step: st.Spec.Key},
			ResolvedDependencies: []resource{p.source(commit)},
		},
		RunDetails: p.details(st),
	}
}

func (p *production) source(commit string) resource {
	return resource{URI: p.step.Attest.Source, Digest: map[string]string{"gitCommit": commit}}
}

// refOf is the ref that the run of a step was of; that of an earlier run is not known.
func (p *production) refOf(st slipway.Step) string {
	if st.RunID != p.env.Run.ID {
		return ""
	}
	return p.step.Attest.Ref
}

func (p *production) details(st slipway.Step) runDetails {
	return runDetails{
		Builder:  builder{p.builder()},
		Metadata: metadata{InvocationID: p.runLink(st.RunID), StartedOn: st.StartedAt.UTC(), FinishedOn: st.FinishedAt.UTC()},
	}
}

// builder is the identity of this server: what the plan says, else its URL.
func (p *production) builder() string { return cmp.Or(p.step.Attest.Builder, p.runner.URL) }

// runLink is where a run is seen.
func (p *production) runLink(run int64) string {
	return fmt.Sprintf("%s/runs/%d", p.runner.URL, run)
}

// dependencies are what a builder's record says that the build took: base images and what a Dockerfile
// fetched, with their digests.
func dependencies(record []byte) ([]resource, error) {
	var st struct {
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []resource `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
			Materials []resource `json:"materials"` // SLSA v0.2
		} `json:"predicate"`
	}
	if err := json.Unmarshal(record, &st); err != nil {
		return nil, fmt.Errorf("read the builder's record: %w", err)
	}
	deps := append(st.Predicate.BuildDefinition.ResolvedDependencies, st.Predicate.Materials...)
	return slices.DeleteFunc(deps, func(r resource) bool { return len(r.Digest) == 0 }), nil
}

// stepOf is a step of the run that has succeeded.
func stepOf(env stage.Env, kind slipway.StepKind, service string) (slipway.Step, bool) {
	key := slipway.StepKey(kind, service, "")
	for _, st := range env.Steps {
		if st.Spec.Key == key && st.State == slipway.StepSucceeded {
			return st, true
		}
	}
	return slipway.Step{}, false
}
