// Package judge lets gates speak: when a step has found something out, as the step gate before an environment, and
// once more before what they let through is deployed. A gate that fails fails its step. A rollback is only told what
// they say, and so are the people who are asked to approve.
//
// It gathers the evidence, from interfaces that are declared here. What gates make of it is package gate's, and what
// they said is recorded by whoever records the result of the step.
package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/stage"
)

// Judge is the runner of gate steps, and wraps those of other steps. Its fields are set before it is used; it is safe
// for concurrent use then.
type Judge struct {
	Policies Policies
	Findings Findings
	Earlier  Earlier
	// Environment is what the default branch demands now: NotFound when the environment was taken out, Invalid when
	// the configuration is broken.
	Environment func(ctx context.Context, project, name string) (slipway.Environment, error)
	// Newer is what is known of the image that a run scanned, and whether a later scan of it counts instead.
	Newer func(ran, later slipway.Scan) (slipway.Scan, bool)
	// Again is a report as it would be had other registries and another Pod Security Standard been asked for. Image is
	// the service's own.
	Again func(r slipway.ManifestReport, image slipway.Repository, asked slipway.ManifestGate) slipway.ManifestReport
	// Verify verifies signatures. A bad one is in the report; an error means that it could not be found out.
	Verify func(ctx context.Context, d Delivered) (slipway.SignatureReport, error)
}

// Policies is what gates demand, what people let through, and what gates have said.
type Policies interface {
	// GatesOf returns what the plan of a run demands, by environment and with "" of the project; nil for a run that
	// was planned before there were gates.
	GatesOf(ctx context.Context, run int64) (map[string]slipway.Gates, error)
	Waivers(ctx context.Context, f slipway.WaiverFilter) ([]slipway.Waiver, error)
	Gates(ctx context.Context, f slipway.GateFilter) ([]slipway.GateResult, error)
}

// Findings is what the steps of a run found out about a service. What there is nothing of is NotFound.
type Findings interface {
	TestsOf(ctx context.Context, run int64, service, image string) (slipway.TestReport, error)
	ScanOf(ctx context.Context, run int64, service string) (slipway.Scan, error)
	Manifests(ctx context.Context, run int64, service string) ([]slipway.ManifestReport, error)
	// AnnotateTests says in the report of a result which failures are new and which tests flaky.
	AnnotateTests(ctx context.Context, step int64, res slipway.Result) error
}

// Earlier is what a run is compared with.
type Earlier interface {
	// BaseCoverage returns the coverage of the branch that the run is compared with, nil when there is none.
	BaseCoverage(ctx context.Context, run slipway.Run, service string) (*slipway.Coverage, error)
	Releases(ctx context.Context, f slipway.ReleaseFilter) ([]slipway.Release, error)
	// LastScan returns the newest scan of an image, and whether there is one.
	LastScan(ctx context.Context, project, digest string) (slipway.Scan, bool, error)
	// NewerScan is LastScan of those that were made after a time.
	NewerScan(ctx context.Context, project, digest string, after time.Time) (slipway.Scan, bool, error)
}

// Delivered is an image with its chart, of which signatures are wanted.
type Delivered struct {
	Image, Chart             slipway.Repository
	ImageDigest, ChartDigest string
	// Attestations are those that the image must have; nil: all that there are are looked at.
	Attestations []string
}

// Judged lets the gates of a step speak when it has done its work: one that fails fails the step. What
// they said is recorded with the step's outcome.
func (j *Judge) Judged(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil || (res.Outcome != slipway.Succeeded && res.Outcome != slipway.Failed) {
			return res, err
		}
		policies, given, err := j.demanded(ctx, env.Run)
		if err != nil || policies == nil {
			return res, err
		}
		if err := j.Findings.AnnotateTests(ctx, env.StepID, res); err != nil {
			return res, err
		}
		seen := evidenceOf(env, step)
		seen.Tests, seen.Scan = res.Report, res.Scan
		if err := j.compare(ctx, env.Run, &seen); err != nil {
			return res, err
		}
		return judgeStep(ctx, env.Log, res, policies, seen, given)
	})
}

// judgeStep lets the gates of a step speak about its result. What a chart renders is judged by what each environment
// demands; all else, and a chart that was rendered for none, by what the project does.
func judgeStep(ctx context.Context, log stage.Log, res slipway.Result, policies map[string]slipway.Gates, seen slipway.Evidence, given []slipway.Waiver) (slipway.Result, error) {
	if seen.Stage != slipway.KindChart {
		return speak(ctx, log, res, policies[""], seen, given)
	}
	if len(res.Manifests) == 0 && res.Outcome == slipway.Succeeded {
		return speak(ctx, log, res, policies[""], seen, given)
	}
	var failed []string
	for _, m := range res.Manifests {
		policy, ok := policies[m.Environment]
		if !ok {
			policy = policies[""]
		}
		seen.Environment, seen.Manifests = m.Environment, []slipway.ManifestReport{m}
		said, err := speak(ctx, log, slipway.Result{Outcome: slipway.Succeeded, ReusedFrom: res.ReusedFrom}, policy, seen, given)
		if err != nil {
			return res, err
		}
		res.Gates = append(res.Gates, said.Gates...)
		if said.Outcome == slipway.Failed {
			failed = append(failed, m.Environment+": "+said.Reason)
		}
	}
	if len(failed) > 0 && res.Outcome == slipway.Succeeded {
		res.Outcome, res.Reason = slipway.Failed, strings.Join(failed, "; ")
	}
	return res, nil
}

// Here is Judged on a laptop, where there is no history and nobody gave a waiver.
func Here(policies map[string]slipway.Gates, r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil || (res.Outcome != slipway.Succeeded && res.Outcome != slipway.Failed) {
			return res, err
		}
		seen := evidenceOf(env, step)
		seen.Tests = res.Report
		return judgeStep(ctx, env.Log, res, policies, seen, nil)
	})
}

// speak adds to a result what the gates say of the evidence.
func speak(ctx context.Context, log stage.Log, res slipway.Result, policy slipway.Gates, seen slipway.Evidence, given []slipway.Waiver) (slipway.Result, error) {
	said, err := gate.Judge(ctx, policy, seen, given)
	if err != nil {
		return res, fmt.Errorf("judge %s: %w", seen.Service, err)
	}
	var failed []string
	for _, g := range said {
		line := g
		if seen.Stage == slipway.KindChart && seen.Environment != "" { // of which the step has several
			line.Gate += " for " + seen.Environment
		}
		told(log, line, seen.Stage != slipway.KindChart || res.ReusedFrom != 0) // a chart step tells its remarks as it finds them
		if g.Verdict == slipway.Fail {
			failed = append(failed, "gate "+g.Gate+": "+g.Summary)
		}
	}
	res.Gates = append(res.Gates, said...)
	switch {
	case len(failed) > 0 && res.Outcome == slipway.Succeeded:
		res.Outcome, res.Reason = slipway.Failed, strings.Join(failed, "; ")
	case len(failed) == 0 && letThrough(res, seen.Stage, said):
		res.Outcome, res.Reason = slipway.Succeeded, "let through by gate tests: "+res.Reason
	}
	return res, nil
}

// letThrough reports whether a step failed by red tests alone, which its gate does not mind: each is waived, or it only
// warns of them. Tests that a signal ended, that end badly without one that is reported red, and a gate that is off, let nothing through.
func letThrough(res slipway.Result, stage slipway.StepKind, said []slipway.GateResult) bool {
	if stage != slipway.KindTest || res.Outcome != slipway.Failed || res.Report == nil || res.Report.Failed == 0 || res.Report.Crashed() {
		return false
	}
	return slices.ContainsFunc(said, func(g slipway.GateResult) bool { return g.Gate == slipway.GateTests && g.Verdict != slipway.Fail })
}

// once makes one result of those of gates of one name: of a rule that was changed since the plan was made, both
// its old and its new form must hold.
func once(said []slipway.GateResult) []slipway.GateResult {
	var out []slipway.GateResult
	for _, g := range said {
		at := slices.IndexFunc(out, func(o slipway.GateResult) bool { return o.Gate == g.Gate && o.Environment == g.Environment })
		if at < 0 {
			out = append(out, g)
			continue
		}
		o := &out[at]
		if o.Verdict.Worse(g.Verdict) != o.Verdict {
			o.Verdict, o.Summary = g.Verdict, g.Summary
		}
		o.Reasons = slices.Concat(o.Reasons, g.Reasons)
	}
	return out
}

const toldReasons = 20

func told(log stage.Log, g slipway.GateResult, reasons bool) {
	log.Line(slipway.LogLine{Group: "gates", Text: fmt.Sprintf("%s %s: %s", g.Verdict, g.Gate, g.Summary)})
	for i, r := range g.Reasons {
		if !reasons && r.Waiver == nil {
			continue
		}
		if i == toldReasons {
			log.Line(slipway.LogLine{Group: "gates", Text: fmt.Sprintf("  and %d more", len(g.Reasons)-i)})
			return
		}
		text := fmt.Sprintf("  %s %s: %s", r.Verdict, r.Subject, r.Message)
		if r.Place != "" {
			text += " (" + r.Place + ")"
		}
		if r.Waiver != nil {
			text += fmt.Sprintf(", waived by %s until %s", r.Waiver.Author, r.Waiver.Expires.UTC().Format(time.DateOnly))
		}
		log.Line(slipway.LogLine{Group: "gates", Text: text})
	}
}

// demanded is what the gates of a run demand, and the waivers that people gave. A run that was planned before there were
// gates has none.
func (j *Judge) demanded(ctx context.Context, run slipway.Run) (map[string]slipway.Gates, []slipway.Waiver, error) {
	policies, err := j.Policies.GatesOf(ctx, run.ID)
	if err != nil || policies == nil {
		return nil, nil, err
	}
	given, err := j.given(ctx, run.Project)
	return policies, given, err
}

// given are the waivers of a project, those that have ended too: a gate says of them that they did.
func (j *Judge) given(ctx context.Context, project string) ([]slipway.Waiver, error) {
	return j.Policies.Waivers(ctx, slipway.WaiverFilter{Project: project, Limit: slipway.MostWaivers})
}

// evidenceOf is what gates see of any step.
func evidenceOf(env stage.Env, step slipway.PlanStep) slipway.Evidence {
	run := env.Run
	seen := slipway.Evidence{Stage: step.Kind, Project: run.Project, Service: step.Service, Environment: step.Environment,
		Event: run.Event, Ref: run.Ref, Version: run.Version, Commit: run.Commit, Now: env.Now()}
	if a, ok := env.Artifact(slipway.ArtifactImage, step.Service); ok {
		seen.Image = &a
	}
	if a, ok := env.Artifact(slipway.ArtifactChart, step.Service); ok {
		seen.Chart = &a
	}
	return seen
}

// compare adds what was before: the coverage of the base branch, the scan of the last release.
func (j *Judge) compare(ctx context.Context, run slipway.Run, seen *slipway.Evidence) error {
	if seen.Tests != nil && seen.Tests.Coverage != nil {
		base, err := j.Earlier.BaseCoverage(ctx, run, seen.Service)
		if err != nil {
			return err
		}
		seen.BaseCoverage = base
	}
	if seen.Scan == nil {
		return nil
	}
	releases, err := j.Earlier.Releases(ctx, slipway.ReleaseFilter{Project: run.Project, Service: seen.Service, Limit: slipway.MostReleases})
	if err != nil {
		return err
	}
	for _, r := range releases {
		if r.ImageDigest == seen.Scan.Digest {
			continue
		}
		before, found, err := j.Earlier.LastScan(ctx, run.Project, r.ImageDigest)
		if err != nil {
			return err
		}
		if found {
			seen.PreviousScan = &before
			return nil
		}
	}
	return nil
}

// Run judges all that is on record about a candidate by what the environment demands.
func (j *Judge) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	policies, given, err := j.demanded(ctx, env.Run)
	if err != nil {
		return slipway.Result{}, err
	}
	seen, err := j.evidence(ctx, env, step)
	if err != nil {
		return slipway.Result{}, err
	}
	seen.Production, seen.Version = step.Gate.Production, step.Gate.Version
	res, err := speak(ctx, env.Log, slipway.Result{Outcome: slipway.Succeeded}, policies[step.Environment], seen, given)
	if err == nil && res.Outcome == slipway.Succeeded {
		res.Reason = summary(res.Gates)
	}
	return res, err
}

// summary is the gates in a few words.
func summary(gates []slipway.GateResult) string {
	var warned []string
	for _, g := range gates {
		if g.Verdict == slipway.Warn {
			warned = append(warned, g.Gate)
		}
	}
	if len(warned) == 0 {
		return slipway.Counted(len(gates), "gate") + " passed"
	}
	return fmt.Sprintf("%s passed, %d warned: %s", slipway.Counted(len(gates)-len(warned), "gate"), len(warned), strings.Join(warned, ", "))
}

// evidence is all that is on record about what a run is to deploy.
func (j *Judge) evidence(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Evidence, error) {
	seen := evidenceOf(env, step)
	seen.Stage = slipway.KindGate
	if seen.Image == nil {
		return seen, slipway.Errorf(slipway.Internal, "gates of %s: run %d made no image of it", step.Service, env.Run.ID)
	}
	report, err := j.Findings.TestsOf(ctx, env.Run.ID, step.Service, seen.Image.Digest)
	if found, err := there(err); err != nil {
		return seen, err
	} else if found {
		seen.Tests = &report
	}
	scan, err := j.Findings.ScanOf(ctx, env.Run.ID, step.Service)
	if found, err := there(err); err != nil {
		return seen, err
	} else if found {
		if seen.Scan, err = j.newest(ctx, env, scan); err != nil {
			return seen, err
		}
	}
	reports, err := j.Findings.Manifests(ctx, env.Run.ID, step.Service)
	if _, err := there(err); err != nil {
		return seen, err
	}
	for _, m := range reports {
		if m.Environment == step.Environment {
			seen.Manifests = append(seen.Manifests, m)
		}
	}
	for _, d := range env.Deployments {
		if d.Target.Service == step.Service {
			seen.Deployments = append(seen.Deployments, d)
		}
	}
	return seen, j.compare(ctx, env.Run, &seen)
}

// there reports whether something is on record.
func there(err error) (bool, error) {
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	return err == nil, err
}

// Ahead begins to read what a deployment needs to know, and changes nothing before the runner that it returns runs.
type Ahead func(ctx context.Context, env stage.Env, step slipway.PlanStep) stage.Runner

// Proven deploys only what can prove where it comes from, and what the gates still let through: people may
// have taken days to approve, in which waivers end and thresholds change; the stricter of then and now
// holds (D14). What the deployment needs to know is read beside the proof; nothing is written, neither in the cluster nor
// in the journal, before the proof is complete.
func (j *Judge) Proven(begin Ahead) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		deploying := begin(reading, env, step)
		policies, given, err := j.demanded(ctx, env.Run)
		if err != nil {
			return slipway.Result{}, err
		}
		if policies == nil {
			return deploying.Run(ctx, env, step)
		}
		said, err := j.prove(ctx, env, step, policies[step.Environment], given)
		if err != nil || said.Outcome == slipway.Failed {
			return said, err
		}
		res, err := deploying.Run(ctx, env, step)
		res.Gates = append(res.Gates, said.Gates...)
		return res, err
	})
}

func (j *Judge) prove(ctx context.Context, env stage.Env, step slipway.PlanStep, policy slipway.Gates, given []slipway.Waiver) (slipway.Result, error) {
	planned := policy
	switch now, err := j.Environment(ctx, env.Run.Project, step.Environment); slipway.ErrorCode(err) {
	case "":
		policy = gate.Stricter(planned, now.Gates)
	case slipway.NotFound, slipway.Invalid: // taken out, or broken, since: what was planned holds
	default:
		return slipway.Result{}, err
	}
	seen, err := j.evidence(ctx, env, step)
	if err != nil {
		return slipway.Result{}, err
	}
	seen.Production, seen.Version = step.Deploy.Production, step.Deploy.Version
	seen.Manifests = j.askedMore(seen, step.Deploy.Image.Registry, planned.Manifests, policy.Manifests)
	again, err := gate.Judge(ctx, policy, seen, given)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("judge %s: %w", step.Service, err)
	}
	res := slipway.Result{Outcome: slipway.Succeeded}
	var failed []string
	for _, g := range once(again) {
		if g.Verdict == slipway.Fail { // else the gate step has said it
			told(env.Log, g, true)
			res.Gates = append(res.Gates, g)
			failed = append(failed, "gate "+g.Gate+": "+g.Summary)
		}
	}
	if len(failed) > 0 {
		res.Outcome, res.Reason = slipway.Failed, "not deployed, as the gates do not let it through any more: "+strings.Join(failed, "; ")
		return res, nil
	}
	if policy.Signatures.Level == slipway.LevelOff {
		return res, nil
	}
	began := env.Now()
	if seen.Signatures, err = j.signatures(ctx, env, step, policy.Signatures); err != nil {
		return res, fmt.Errorf("verify the signatures of %s: %w", step.Service, err)
	}
	seen.Stage = slipway.KindDeploy
	res, err = speak(ctx, env.Log, res, policy, seen, given)
	if err == nil && res.Outcome == slipway.Succeeded {
		env.Log.Printf("signatures verified in %s", env.Now().Sub(began).Round(time.Millisecond))
	} else if err == nil {
		res.Reason = "not deployed: " + res.Reason
	}
	return res, err
}

// signatures verifies what is signed about the image and the chart of a deployment.
func (j *Judge) signatures(ctx context.Context, env stage.Env, step slipway.PlanStep, policy slipway.SignatureGate) (*slipway.SignatureReport, error) {
	image, ok := env.Artifact(slipway.ArtifactImage, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "run %d made no image of %s", env.Run.ID, step.Service)
	}
	chart, ok := env.Artifact(slipway.ArtifactChart, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "run %d made no chart of %s", env.Run.ID, step.Service)
	}
	report, err := j.Verify(ctx, Delivered{Image: step.Deploy.Image, ImageDigest: image.Digest, Chart: step.Deploy.Chart, ChartDigest: chart.Digest, Attestations: policy.Attestations})
	return &report, err
}

// Noted puts what the gates said before people who are asked to approve.
func (j *Judge) Noted(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil || res.Approval == nil {
			return res, err
		}
		said, err := j.Policies.Gates(ctx, slipway.GateFilter{Project: env.Run.Project, RunID: env.Run.ID, Service: step.Service, Environment: step.Environment})
		if err != nil {
			return res, err
		}
		for _, g := range said {
			if g.Step == slipway.StepKey(slipway.KindGate, step.Service, step.Environment) {
				res.Approval.Notes = append(res.Approval.Notes, fmt.Sprintf("gate %s: %s: %s%s", g.Gate, g.Verdict, g.Summary, letThroughBy(g)))
			}
		}
		return res, nil
	})
}

// notedWaivers is how many waived reasons of a gate are put before people; its evidence has all.
const notedWaivers = 5

// letThroughBy says what waivers let through a gate, who decided so, until when and why.
func letThroughBy(g slipway.GateResult) string {
	var b strings.Builder
	n := 0
	for _, r := range g.Reasons {
		if r.Waiver == nil {
			continue
		}
		if n++; n <= notedWaivers {
			fmt.Fprintf(&b, "; %s waived by %s until %s: %s", r.Subject, r.Waiver.Author, r.Waiver.Expires.UTC().Format(time.DateOnly), r.Waiver.Reason)
		}
	}
	if n > notedWaivers {
		fmt.Fprintf(&b, "; and %d more", n-notedWaivers)
	}
	return b.String()
}
