package judge

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/stage"
)

// backProof bounds how long a rollback waits for the registry.
const backProof = 5 * time.Second

// Remarked says whether what a rollback goes to can still prove where it comes from. It never stops the
// rollback: the digests are those that were verified when they were deployed, and what is broken must not
// stay because a registry is away or somebody took signatures from it. What does not verify is a failed gate
// of the step, with its event, and part of the step's reason.
func (j *Judge) Remarked(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		said := j.proveBack(ctx, env, step)
		res, err := r.Run(ctx, env, step)
		if err != nil {
			return res, err
		}
		for _, g := range said {
			res.Gates = append(res.Gates, g)
			if g.Verdict != slipway.Pass {
				res.Reason += fmt.Sprintf("; look at what runs now: gate %s: %s", g.Gate, g.Summary)
			}
		}
		return res, nil
	})
}

// proveBack is what the gate of signatures says of what a rollback goes to, by what its environment demands
// now; nothing where that is no signature.
func (j *Judge) proveBack(ctx context.Context, env stage.Env, step slipway.PlanStep) []slipway.GateResult {
	back := step.Rollback
	if back == nil || back.To.ID == 0 {
		return nil
	}
	now, err := j.Environment(ctx, env.Run.Project, step.Environment)
	if err != nil || now.Gates.Signatures.Level == slipway.LevelOff {
		if err != nil {
			env.Log.Printf("the signatures of %s are not verified: %s", back.To.Version, err)
		}
		return nil
	}
	seen := evidenceOf(env, step)
	seen.Stage, seen.Production, seen.Version, seen.Commit = slipway.KindDeploy, now.Production, back.To.Version, back.To.Commit
	seen.Image = &slipway.Artifact{Kind: slipway.ArtifactImage, Repository: back.To.Image, Digest: back.To.ImageDigest}
	seen.Chart = &slipway.Artifact{Kind: slipway.ArtifactChart, Repository: back.To.Chart, Digest: back.To.ChartDigest}
	said, err := j.judgeBack(ctx, env, *back, now.Gates, seen)
	if err != nil {
		said = []slipway.GateResult{{Project: env.Run.Project, Gate: slipway.GateSignatures, Service: step.Service, Environment: step.Environment, Verdict: slipway.Warn,
			Summary: "the signatures of " + back.To.Version + " could not be verified: " + slipway.FirstLine(err.Error()), Time: seen.Now}}
	}
	for _, g := range said {
		told(env.Log, g, true)
	}
	return said
}

func (j *Judge) judgeBack(ctx context.Context, env stage.Env, back slipway.RollbackSpec, policy slipway.Gates, seen slipway.Evidence) ([]slipway.GateResult, error) {
	ctx, cancel := context.WithTimeout(ctx, backProof)
	defer cancel()
	report, err := j.Verify(ctx, Delivered{
		Image: back.Registry.Recorded(back.To.Image), ImageDigest: back.To.ImageDigest,
		Chart: back.Registry.Recorded(back.To.Chart), ChartDigest: back.To.ChartDigest,
		Attestations: policy.Signatures.Attestations,
	})
	if err != nil {
		return nil, err
	}
	seen.Signatures = &report
	given, err := j.given(ctx, env.Run.Project)
	if err != nil {
		return nil, err
	}
	return gate.Judge(ctx, policy, seen, given)
}
