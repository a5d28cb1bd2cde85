// Package gate judges: what the gates of a step make of the evidence, with the reasons that point at the
// thing, the waivers that hold and the rules of one's own. It is a function of its arguments: it reads no
// file, asks nobody and has no clock; the evidence says what time it is.
//
// It does not gather evidence, keep results or end steps. What the policies of manifests are, and where they
// find fault, is the business of gate/manifest.
package gate

import (
	"context"

	"github.com/slipway-cd/slipway"
)

// Judge says what each gate of e.Stage makes of the evidence, by what policy demands:
//
//   - test: tests, coverage
//   - scan: vulnerabilities, database, secrets
//   - chart: manifests, once for each environment in e.Manifests
//   - gate: all of those together, of e.Environment
//   - deploy: signatures
//
// and after them the rules of that stage; at gate those of test, scan and chart too, as an environment may
// have other rules than the project. A gate that is off gives no result. Waivers are those of the policy and
// the given ones; which hold is decided by e.Now.
//
// The order of results and reasons depends only on what they say. At most MaxReasons are kept of one result,
// the worst first, and as many that are waived; its summary counts the rest. Levels and severities that are not known count as the
// strictest. The error is the cause of the context's end, and nothing else: whatever is wrong with evidence or
// rules is a reason.
func Judge(ctx context.Context, policy slipway.Gates, e slipway.Evidence, given []slipway.Waiver) ([]slipway.GateResult, error) {
	j := &judge{policy: policy, e: e, waivers: newWaivers(policy.Waivers, given)}
	var out []slipway.GateResult
	for _, gate := range j.gates() {
		out = append(out, gate()...)
	}
	rules, err := j.rules(ctx)
	if err != nil {
		return nil, err
	}
	return append(out, rules...), nil
}

// MaxReasons is how many reasons a result has at most, and how many more that are waived: a waiver always shows.
const MaxReasons = 500

type judge struct {
	policy  slipway.Gates
	e       slipway.Evidence
	waivers waivers
}

func (j *judge) gates() []func() []slipway.GateResult {
	switch j.e.Stage {
	case slipway.KindTest:
		return []func() []slipway.GateResult{j.tests, j.coverage}
	case slipway.KindScan:
		return []func() []slipway.GateResult{j.vulnerabilities, j.database, j.secrets}
	case slipway.KindChart:
		return []func() []slipway.GateResult{j.manifests}
	case slipway.KindGate:
		return []func() []slipway.GateResult{j.tests, j.coverage, j.vulnerabilities, j.database, j.secrets, j.manifests, j.signatures}
	case slipway.KindDeploy:
		return []func() []slipway.GateResult{j.signatures}
	}
	return nil
}

// verdict is what a level makes of something that the gate does not like.
func verdict(l slipway.Level) slipway.Verdict {
	switch l {
	case slipway.LevelOff:
		return slipway.Pass
	case slipway.LevelWarn:
		return slipway.Warn
	}
	return slipway.Fail
}

// atMostWarn is a verdict that is no worse than a warning.
func atMostWarn(v slipway.Verdict) slipway.Verdict {
	if v.Worse(slipway.Warn) == slipway.Warn {
		return v
	}
	return slipway.Warn
}
