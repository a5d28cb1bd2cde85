package gate

import (
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

const provenance = "provenance"

// signatures wants what is to be deployed to be signed by a trusted key, and the image to have the required
// attestations. Before a deployment it speaks even if nobody looked; at the gate, where that is still to
// come, only if somebody did.
func (j *judge) signatures() []slipway.GateResult {
	p, report := j.policy.Signatures, j.e.Signatures
	if p.Level == slipway.LevelOff || (report == nil && j.e.Stage == slipway.KindGate) {
		return nil
	}
	bad := verdict(p.Level)
	if report == nil {
		report = &slipway.SignatureReport{}
	}
	var reasons []found
	for _, s := range report.Subjects {
		reasons = append(reasons, j.subject(s, bad)...)
	}
	for _, a := range []*slipway.Artifact{j.e.Image, j.e.Chart} {
		if a != nil && !slices.ContainsFunc(report.Subjects, func(s slipway.SignedSubject) bool { return strings.HasSuffix(s.Name, "@"+a.Digest) }) {
			name := a.Repository + "@" + a.Digest
			reasons = append(reasons, found{GateReason: slipway.GateReason{Verdict: bad, Subject: "unverified " + name,
				Message: "the signature of this " + string(a.Kind) + " was not looked at", Place: name}})
		}
	}
	if len(report.Subjects) == 0 && len(reasons) == 0 {
		reasons = append(reasons, found{GateReason: slipway.GateReason{Verdict: bad, Subject: "nothing verified", Message: "no signature was looked at"}})
	}
	signed := 0
	for _, s := range report.Subjects {
		if s.Signed {
			signed++
		}
	}
	summary := thousands(signed) + " of " + thousands(len(report.Subjects)) + " signed"
	if len(p.Attestations) > 0 {
		summary += ", " + strings.Join(p.Attestations, ", ") + " required"
	}
	w := j.weigh(slipway.GateSignatures, j.e.Environment, reasons)
	return []slipway.GateResult{j.result(slipway.GateSignatures, j.e.Environment, w, summary)}
}

// subject is what is wrong with the signatures of one digest. Of those that do not verify beside ones that do,
// it only warns: anybody who may push can put them there.
func (j *judge) subject(s slipway.SignedSubject, bad slipway.Verdict) (out []found) {
	add := func(v slipway.Verdict, what, message string) {
		out = append(out, found{GateReason: slipway.GateReason{Verdict: v, Subject: what + " " + s.Name, Message: message, Place: s.Name}})
	}
	why := because(s.Problems)
	if !s.Signed {
		add(bad, "unsigned", "no trusted key signed it: it was not made by this server, or it was changed"+why)
		why = "" // said once
	}
	if !j.chart(s) {
		for _, a := range j.policy.Signatures.Attestations {
			if !slices.Contains(s.Attestations, a) {
				add(bad, "no "+a, "it has no "+a+" that verifies"+why)
			}
		}
		if s.Builder == "" && slices.Contains(s.Attestations, provenance) && slices.Contains(j.policy.Signatures.Attestations, provenance) {
			add(bad, "no builder", "its provenance does not name the builder")
		}
	}
	if len(out) == 0 {
		for _, p := range s.Problems {
			add(atMostWarn(bad), "does not verify", "beside what verifies, there is what does not: "+p)
		}
	}
	return out
}

// chart reports whether the subject is the chart, of which no attestation but the signature is asked.
func (j *judge) chart(s slipway.SignedSubject) bool {
	if s.Kind != "" {
		return s.Kind == slipway.ArtifactChart
	}
	return j.e.Chart != nil && strings.HasSuffix(s.Name, "@"+j.e.Chart.Digest) && (j.e.Image == nil || j.e.Image.Digest != j.e.Chart.Digest)
}

func because(problems []string) string {
	if len(problems) == 0 {
		return ""
	}
	return ": " + strings.Join(problems, "; ")
}
