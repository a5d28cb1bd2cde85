package web

import (
	"slices"

	"github.com/slipway-cd/slipway"
)

// proof is what is attached to an image or a chart of a run, for whoever wants to verify where it comes from.
type proof struct {
	Service    string
	Kind       slipway.ArtifactKind // image, chart
	Digest     string
	Ref        string // repository@digest
	Signed     int    // signed statements: its signature and attestations
	Provenance bool   // what the builder recorded
	SBOM       string // page of it; "" when there is none
	Missing    bool   // an attest step has succeeded, and nothing is signed all the same
}

// proofs are those of a service's published digests, or with "" of every one's.
func proofs(d slipway.RunDetail, service string) (out []proof) {
	for _, a := range d.Artifacts {
		if (a.Kind != slipway.ArtifactImage && a.Kind != slipway.ArtifactChart) || a.Digest == "" || a.Repository == "" || (service != "" && a.Service != service) ||
			slices.ContainsFunc(out, func(p proof) bool { return p.Kind == a.Kind && p.Digest == a.Digest && p.Service == a.Service }) {
			continue
		}
		p := proof{Service: a.Service, Kind: a.Kind, Digest: a.Digest, Ref: a.Repository + "@" + a.Digest}
		var statements []string // by digest: after a promotion they are in two places
		for _, o := range d.Artifacts {
			switch {
			case o.Kind == slipway.ArtifactSignature && o.Subject == a.Digest && !slices.Contains(statements, o.Digest):
				statements = append(statements, o.Digest)
			case o.Kind == slipway.ArtifactProvenance && (o.Subject == a.Digest || (o.Subject == "" && o.Service == a.Service)) && a.Kind == slipway.ArtifactImage:
				p.Provenance = true
			case o.Kind == slipway.ArtifactSBOM && o.Service == a.Service && a.Kind == slipway.ArtifactImage:
				p.SBOM = evidenceHref(d.Run.ID, "sbom", a.Service)
			}
		}
		p.Signed = len(statements)
		p.Missing = p.Signed == 0 && attested(d, a.Service)
		out = append(out, p)
	}
	if !slices.ContainsFunc(out, func(p proof) bool { return p.Signed > 0 || p.Missing }) {
		return nil // of a run before there were signatures, or that is not so far
	}
	return out
}

func attested(d slipway.RunDetail, service string) bool {
	key := slipway.StepKey(slipway.KindAttest, service, "")
	return slices.ContainsFunc(d.Steps, func(st slipway.Step) bool { return st.Spec.Key == key && st.State == slipway.StepSucceeded })
}
