package attest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// readable is a verified statement, as far as people are told of it.
type readable struct {
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

func readStatement(text []byte) readable {
	var r readable
	_ = json.Unmarshal(text, &r) // it is of a type that says nothing then
	return r
}

func typeOf(text []byte) string { return readStatement(text).PredicateType }

func (r readable) provenance() (out struct {
	BuildDefinition struct {
		ExternalParameters struct {
			Source resource `json:"source"`
		} `json:"externalParameters"`
	} `json:"buildDefinition"`
	RunDetails runDetails `json:"runDetails"`
}) {
	_ = json.Unmarshal(r.Predicate, &out) // what is not there is not trusted
	return out
}

func (r readable) builder() string { return r.provenance().RunDetails.Builder.ID }

// tell fills in what a statement says.
func (p *Proof) tell(text []byte) {
	r := readStatement(text)
	switch p.Name {
	case Provenance:
		said := r.provenance()
		p.Builder, p.Run = said.RunDetails.Builder.ID, said.RunDetails.Metadata.InvocationID
		p.Source, p.Commit = said.BuildDefinition.ExternalParameters.Source.URI, said.BuildDefinition.ExternalParameters.Source.Digest["gitCommit"]
		p.Summary = strings.TrimSpace(fmt.Sprintf("%s at %s", p.Source, slipway.ShortHash(p.Commit)))
	case SBOM:
		var doc struct {
			Version  string            `json:"spdxVersion"`
			Packages []json.RawMessage `json:"packages"`
		}
		_ = json.Unmarshal(r.Predicate, &doc)
		p.Summary = fmt.Sprintf("%s, %d packages", doc.Version, len(doc.Packages))
	case Tests:
		var said testResult
		_ = json.Unmarshal(r.Predicate, &said)
		p.Run = said.URL
		p.Summary = fmt.Sprintf("%s: %d passed, %d failed, %d skipped", strings.ToLower(said.Result), said.Summary.Passed, said.Summary.Failed, said.Summary.Skipped)
	case Scan:
		var said vulnerabilities
		_ = json.Unmarshal(r.Predicate, &said)
		severities := map[slipway.Severity]int{}
		for _, f := range said.Scanner.Result {
			for _, s := range f.Severity {
				severities[slipway.Severity(s.Score)]++
			}
		}
		p.Summary = counts(severities)
		if said.Scanner.DB == nil {
			p.Summary += ", without a vulnerability database"
		}
	}
}
