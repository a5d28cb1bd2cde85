package attest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// BundleType is the media type of a Sigstore bundle, and the artifact type of its manifest.
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// PredicateAnnotation is where the manifest of a bundle says what it states. Nobody signs it: it may only
// save a look.
const PredicateAnnotation = "dev.sigstore.bundle.predicateType"

// Types of predicates, as in docs/reference/attestations.md.
const (
	TypeSignature  = "https://sigstore.dev/cosign/sign/v1"
	TypeProvenance = "https://slsa.dev/provenance/v1"
	TypeSBOM       = "https://spdx.dev/Document"
	TypeTests      = "https://in-toto.io/attestation/test-result/v0.1"
	TypeScan       = "https://in-toto.io/attestation/vulns/v0.2"
)

// Names of attestations, as slipway.SignatureGate has them.
const (
	Provenance = "provenance"
	SBOM       = "sbom"
	Tests      = "tests"
	Scan       = "scan"
	signature  = "signature"
)

// nameOf is the name of a type of predicate, "" for one of others.
func nameOf(predicate string) string {
	switch predicate {
	case TypeSignature:
		return signature
	case TypeProvenance:
		return Provenance
	case TypeSBOM:
		return SBOM
	case TypeTests:
		return Tests
	case TypeScan:
		return Scan
	}
	return ""
}

const statementType = "https://in-toto.io/Statement/v1"

// statement is an in-toto statement about one digest.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     any       `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// resource is what in-toto calls a resource descriptor.
type resource struct {
	Name      string            `json:"name,omitempty"`
	URI       string            `json:"uri,omitempty"`
	Digest    map[string]string `json:"digest,omitempty"`
	MediaType string            `json:"mediaType,omitempty"`
}

// state writes a statement about a digest. Equal arguments give equal bytes.
func state(name, digest, predicateType string, predicate any) ([]byte, error) {
	b, err := json.Marshal(statement{
		Type: statementType, Subject: []subject{{Name: name, Digest: digestSet(digest)}},
		PredicateType: predicateType, Predicate: predicate,
	})
	if err != nil {
		return nil, fmt.Errorf("write the %s of %s: %w", nameOf(predicateType), digest, err)
	}
	return b, nil
}

func digestSet(digest string) map[string]string {
	algorithm, hex, _ := strings.Cut(digest, ":")
	return map[string]string{algorithm: hex}
}
