package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/store"
)

// judged lets the gates of a step speak when it has done its work: one that fails fails the step. What
// they said is recorded with the step's outcome.
func (s *server) judged(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil || (res.Outcome != slipway.Succeeded && res.Outcome != slipway.Failed) {
			return res, err
		}
		policies, given, err := s.gatesOf(ctx, env.Run)
		if err != nil || policies == nil {
			return res, err
		}
		if err := s.store.AnnotateTests(ctx, env.StepID, res); err != nil {
			return res, err
		}
		seen := evidenceOf(env, step)
		seen.Tests, seen.Scan = res.Report, res.Scan
		if err := s.compare(ctx, env.Run, &seen); err != nil {
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

// judgedHere is judged on the laptop, where there is no history and nobody gave a waiver.
func judgedHere(policies map[string]slipway.Gates, r stage.Runner) stage.Runner {
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
			text += fmt.Sprintf(", waived by %s until %s", r.Waiver.Author, day(r.Waiver.Expires))
		}
		log.Line(slipway.LogLine{Group: "gates", Text: text})
	}
}

// gatesOf is what the gates of a run demand, and the waivers that people gave. A run that was planned before there were
// gates has none.
func (s *server) gatesOf(ctx context.Context, run slipway.Run) (map[string]slipway.Gates, []slipway.Waiver, error) {
	policies, err := s.store.GatesOf(ctx, run.ID)
	if err != nil || policies == nil {
		return nil, nil, err
	}
	given, err := s.store.Waivers(ctx, slipway.WaiverFilter{Project: run.Project, Limit: store.MostWaivers})
	return policies, given, err
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
func (s *server) compare(ctx context.Context, run slipway.Run, seen *slipway.Evidence) error {
	if seen.Tests != nil && seen.Tests.Coverage != nil {
		base, err := s.store.BaseCoverage(ctx, run, seen.Service)
		if err != nil {
			return err
		}
		seen.BaseCoverage = base
	}
	if seen.Scan == nil {
		return nil
	}
	releases, err := s.store.Releases(ctx, slipway.ReleaseFilter{Project: run.Project, Service: seen.Service, Limit: slipway.MostReleases})
	if err != nil {
		return err
	}
	for _, r := range releases {
		if r.ImageDigest == seen.Scan.Digest {
			continue
		}
		before, found, err := s.store.LastScan(ctx, run.Project, r.ImageDigest)
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

// gate is the runner of gate steps: it judges all that is on record about a candidate by what the
// environment demands.
func (s *server) gate() stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		policies, given, err := s.gatesOf(ctx, env.Run)
		if err != nil {
			return slipway.Result{}, err
		}
		seen, err := s.evidence(ctx, env, step, step.Gate.Production, step.Gate.Version)
		if err != nil {
			return slipway.Result{}, err
		}
		res, err := speak(ctx, env.Log, slipway.Result{Outcome: slipway.Succeeded}, policies[step.Environment], seen, given)
		if err == nil && res.Outcome == slipway.Succeeded {
			res.Reason = summary(res.Gates)
		}
		return res, err
	})
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
		return counted(len(gates), "gate passed", "gates passed")
	}
	return fmt.Sprintf("%s, %d warned: %s", counted(len(gates)-len(warned), "gate passed", "gates passed"), len(warned), strings.Join(warned, ", "))
}

// evidence is all that is on record about what a run is to deploy.
func (s *server) evidence(ctx context.Context, env stage.Env, step slipway.PlanStep, production bool, version string) (slipway.Evidence, error) {
	seen := evidenceOf(env, step)
	seen.Stage, seen.Production, seen.Version = slipway.KindGate, production, version
	if seen.Image == nil {
		return seen, slipway.Errorf(slipway.Internal, "gates of %s: run %d made no image of it", step.Service, env.Run.ID)
	}
	report, err := s.store.TestsOf(ctx, env.Run.ID, step.Service, seen.Image.Digest)
	if found, err := there(err); err != nil {
		return seen, err
	} else if found {
		seen.Tests = &report
	}
	scan, err := s.store.ScanOf(ctx, env.Run.ID, step.Service)
	if found, err := there(err); err != nil {
		return seen, err
	} else if found {
		if seen.Scan, err = s.newest(ctx, env, scan); err != nil {
			return seen, err
		}
	}
	reports, err := s.store.Manifests(ctx, env.Run.ID, step.Service)
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
	return seen, s.compare(ctx, env.Run, &seen)
}

func there(err error) (bool, error) {
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	return err == nil, err
}

// proven deploys only what can prove where it comes from, and what the gates still let through: people may
// have taken days to approve, in which waivers end and thresholds change; the stricter of then and now
// holds (D14).
func (s *server) proven(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		policies, given, err := s.gatesOf(ctx, env.Run)
		if err != nil {
			return slipway.Result{}, err
		}
		if policies == nil {
			return r.Run(ctx, env, step)
		}
		said, err := s.prove(ctx, env, step, policies[step.Environment], given)
		if err != nil || said.Outcome == slipway.Failed {
			return said, err
		}
		res, err := r.Run(ctx, env, step)
		res.Gates = append(res.Gates, said.Gates...)
		return res, err
	})
}

func (s *server) prove(ctx context.Context, env stage.Env, step slipway.PlanStep, policy slipway.Gates, given []slipway.Waiver) (slipway.Result, error) {
	planned := policy
	switch now, err := s.planner.Environment(ctx, env.Run.Project, step.Environment); slipway.ErrorCode(err) {
	case "":
		policy = gate.Stricter(planned, now.Gates)
	case slipway.NotFound, slipway.Invalid: // taken out, or broken, since: what was planned holds
	default:
		return slipway.Result{}, err
	}
	seen, err := s.evidence(ctx, env, step, step.Deploy.Production, step.Deploy.Version)
	if err != nil {
		return slipway.Result{}, err
	}
	seen.Manifests = askedMore(seen, step.Deploy.Image.Registry, planned.Manifests, policy.Manifests)
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
	began := time.Now()
	if seen.Signatures, err = s.signatures(ctx, env, step, policy.Signatures); err != nil {
		return res, fmt.Errorf("verify the signatures of %s: %w", step.Service, err)
	}
	seen.Stage = slipway.KindDeploy
	res, err = speak(ctx, env.Log, res, policy, seen, given)
	if err == nil && res.Outcome == slipway.Succeeded {
		env.Log.Printf("signatures verified in %s", time.Since(began).Round(time.Millisecond))
	} else if err == nil {
		res.Reason = "not deployed: " + res.Reason
	}
	return res, err
}

// noted puts what the gates said before people who are asked to approve.
func (s *server) noted(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil || res.Approval == nil {
			return res, err
		}
		said, err := s.store.Gates(ctx, slipway.GateFilter{Project: env.Run.Project, RunID: env.Run.ID, Service: step.Service, Environment: step.Environment})
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
			fmt.Fprintf(&b, "; %s waived by %s until %s: %s", r.Subject, r.Waiver.Author, day(r.Waiver.Expires), r.Waiver.Reason)
		}
	}
	if n > notedWaivers {
		fmt.Fprintf(&b, "; and %d more", n-notedWaivers)
	}
	return b.String()
}
