// Package approve puts before people what they are asked to agree to: the digests of image, chart and
// values, the Helm revision that would be replaced, and the difference between what the cluster's
// release holds and what would be applied, with secrets masked (D11). Its Runner asks and ends with
// the outcome Waiting; who may answer, counting the answers and going on are for others.
package approve

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Charts pulls chart packages from registries.
type Charts interface {
	// PullChart returns the bytes of the chart package (.tgz) whose manifest has that digest.
	PullChart(ctx context.Context, repository slipway.Repository, digest string) ([]byte, error)
}

// Renderer says what a deployment would do, without doing it.
type Renderer interface {
	// Preview renders what deploying would apply, exactly as the deployment itself would, with the
	// cluster's capabilities, and reads what the current revision holds. Errors are coded as those of
	// stage/deploy.Helm.
	Preview(ctx context.Context, req Request) (Preview, error)
}

// Request is a deployment to preview.
type Request struct {
	Run         int64
	Spec        slipway.DeploySpec
	Image       slipway.Artifact
	ChartDigest string
	Package     []byte // of the chart
}

// Preview is what a deployment would do.
type Preview struct {
	ValuesDigest string
	Base         int    // deployed revision that would be replaced; 0: none
	Old          string // YAML documents of the base
	New          string // YAML documents that would be applied
	Unstable     bool   // two renders differed
	Notes        []string
}

// Runner asks for approval. Its fields are set before the first Run and not changed afterwards.
type Runner struct {
	Charts   Charts
	Renderer Renderer
	// MaskKey keys the hashes that stand for secret values in diffs. It stays the same, so that the
	// same evidence is found after a restart, and secret, so that values cannot be guessed.
	MaskKey []byte
}

var _ stage.Runner = (*Runner)(nil)

// Run gathers the evidence for step.Approve. It changes nothing, so that running it again is safe;
// the same input gives the same evidence.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Approve
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no approval in it", step.Key)
	}
	d := spec.Deploy
	service := d.Target.Service
	image, ok := env.Artifact(slipway.ArtifactImage, service)
	if !ok {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "approve %s: run %d made no image of it", service, env.Run.ID)
	}
	chart, ok := env.Artifact(slipway.ArtifactChart, service)
	if !ok {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "approve %s: run %d made no chart of it", service, env.Run.ID)
	}
	from := chartSource(*spec, chart)
	pkg, err := r.Charts.PullChart(ctx, from, chart.Digest)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("pull chart %s@%s: %w", from.Ref(), chart.Digest, err)
	}
	p, err := r.Renderer.Preview(ctx, Request{Run: env.Run.ID, Spec: d, Image: image, ChartDigest: chart.Digest, Package: pkg})
	if err != nil {
		return failed(fmt.Errorf("render %s for %s: %w", service, d.Target.Environment, err))
	}
	diff, err := Diff(p.Old, p.New, r.MaskKey)
	if err != nil {
		return failed(slipway.Errorf(slipway.Invalid, "compare what is deployed of %s in %s with the new render: %w", service, d.Target.Environment, err))
	}
	return slipway.Result{
		Outcome: slipway.Waiting,
		Reason:  fmt.Sprintf("waiting for %s of %s %s to %s", people(spec.Approvals.Required), service, d.Version, d.Target.Environment),
		Approval: &slipway.Approval{
			Project: d.Target.Project, RunID: env.Run.ID, Step: step.Key, Service: service,
			Environment: d.Target.Environment, Version: d.Version, State: slipway.ApprovalWaiting,
			Required: max(1, spec.Approvals.Required), NotRequester: spec.Approvals.NotRequester, Requester: env.Run.Actor,
			ImageDigest: image.Digest, ChartDigest: chart.Digest, ValuesDigest: p.ValuesDigest, BaseRevision: p.Base,
			Diff: diff, Notes: notes(env, service, p, diff),
		},
	}, nil
}

// failed tells a chart that does not render, which is a result, from trouble of the surroundings.
func failed(err error) (slipway.Result, error) {
	switch slipway.ErrorCode(err) {
	case slipway.Invalid, slipway.Conflict, slipway.Forbidden:
		return slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}, nil
	}
	return slipway.Result{}, err
}

// chartSource is where the chart is now: before the retag the production repository does not have it.
func chartSource(spec slipway.ApproveSpec, chart slipway.Artifact) slipway.Repository {
	if spec.Chart.Name != "" {
		return spec.Chart
	}
	host, name, ok := strings.Cut(chart.Repository, "/")
	if !ok {
		return spec.Deploy.Chart
	}
	registry := spec.Deploy.Chart.Registry
	if registry.Host != host {
		registry = slipway.Registry{Host: host}
	}
	registry.Prefix = ""
	return slipway.Repository{Registry: registry, Name: name}
}

func notes(env stage.Env, service string, p Preview, diff string) []string {
	var out []string
	if p.Base == 0 {
		out = append(out, "first install: nothing of it is deployed yet")
	} else if diff == "" {
		out = append(out, "nothing but the Helm revision would change")
	}
	if p.Unstable {
		out = append(out, "the chart renders differently each time (random values or the current time): the diff is one of many")
	}
	out = append(out, p.Notes...)
	for _, st := range env.Steps {
		if st.Spec.Kind == slipway.KindTest && st.Spec.Service == service {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("tests %s: %s", st.State, st.Reason), ": "))
		}
	}
	for _, a := range env.Artifacts {
		if a.Service == service && a.Kind == slipway.ArtifactProvenance {
			out = append(out, "provenance "+a.Digest)
		}
	}
	for _, d := range env.Deployments {
		if d.Target.Service == service && d.State == slipway.Verified {
			out = append(out, fmt.Sprintf("verified in %s as Helm revision %d", d.Target.Environment, d.Revision))
		}
	}
	return slices.Compact(out)
}

func people(n int) string {
	if n <= 1 {
		return "approval"
	}
	return fmt.Sprintf("%d approvals", n)
}
