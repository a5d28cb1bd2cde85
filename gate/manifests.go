package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// manifests judges what a chart renders for each environment; at the gate of one environment only that. A
// policy that the levels do not name counts as the strictest.
func (j *judge) manifests() []slipway.GateResult {
	levels := j.policy.Manifests.Policies
	if worst := strictest(levels); worst == slipway.LevelOff {
		return nil
	}
	var out []slipway.GateResult
	for _, m := range j.e.Manifests {
		if j.e.Stage == slipway.KindGate && m.Environment != j.e.Environment {
			continue
		}
		out = append(out, j.manifest(m, levels))
	}
	if len(out) > 0 {
		return out
	}
	v := slipway.Warn // a chart may be for no environment yet
	message := "nothing was rendered, so that no policy was looked at"
	if j.e.Stage == slipway.KindGate {
		v = verdict(strictest(levels))
		message = "nothing was rendered for " + j.e.Environment + ", so that no policy was looked at"
	}
	w := j.weigh(slipway.GateManifests, j.e.Environment, []found{{GateReason: slipway.GateReason{Verdict: v, Subject: "no manifests", Message: message}}})
	return []slipway.GateResult{j.result(slipway.GateManifests, j.e.Environment, w, "nothing was rendered")}
}

func (j *judge) manifest(m slipway.ManifestReport, levels map[string]slipway.Level) slipway.GateResult {
	var reasons []found
	for _, p := range m.Problems {
		l, known := levels[p.Policy]
		if known && l == slipway.LevelOff {
			continue
		}
		message := p.Message
		if p.Path != "" {
			message = p.Path + ": " + message
		}
		at := p.Place
		if p.Values != "" {
			at = strings.TrimPrefix(at+", value from "+p.Values, ", ")
		}
		reasons = append(reasons, found{kind: p.Policy, GateReason: slipway.GateReason{Verdict: verdict(l), Subject: p.Subject(), Message: message, Place: at}})
	}
	w := j.weigh(slipway.GateManifests, m.Environment, reasons)
	parts := []string{counted(len(m.Objects), "object", "objects")}
	for _, v := range []slipway.Verdict{slipway.Fail, slipway.Warn} {
		if n := w.open(v); n > 0 {
			noun := map[slipway.Verdict][2]string{slipway.Fail: {"failure", "failures"}, slipway.Warn: {"warning", "warnings"}}[v]
			parts = append(parts, fmt.Sprintf("%s (%s)", counted(n, noun[0], noun[1]), strings.Join(policies(w, v), ", ")))
		}
	}
	if !m.Live {
		parts = append(parts, "schema of Kubernetes "+m.KubeVersion)
	}
	return j.result(slipway.GateManifests, m.Environment, w, parts...)
}

// policies are the names of those that found something, each once.
func policies(w weighed, v slipway.Verdict) (out []string) {
	for _, r := range w.all {
		if r.Waiver == nil && r.Verdict == v && !slices.Contains(out, r.kind) {
			out = append(out, line(r.kind, 40))
		}
	}
	slices.Sort(out)
	const most = 5
	if len(out) > most {
		out = append(out[:most], "...")
	}
	return out
}

func strictest(levels map[string]slipway.Level) slipway.Level {
	if len(levels) == 0 {
		return slipway.LevelFail
	}
	worst := slipway.LevelOff
	for _, l := range levels {
		worst = stricterLevel(worst, l)
	}
	return worst
}
