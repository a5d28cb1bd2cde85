// Package cosign makes and opens what the cosign command verifies with --key: in-toto statements in DSSE
// envelopes, in Sigstore bundles of version 0.3, signed by a key of one's own on P-256. It verifies without
// any network, transparency log or time stamp.
//
// It holds no keys, speaks to no registry (bundles are stored there as OCI referrers, as cosign does) and
// knows nothing of what a statement must say.
package cosign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/attest"
)

const (
	// MediaType is that of a bundle, and the artifact type of its manifest.
	MediaType   = attest.BundleType
	payloadType = "application/vnd.in-toto+json"
)

// Annotations that cosign writes on the manifest of a bundle.
const (
	contentAnnotation   = "dev.sigstore.bundle.content"
	predicateAnnotation = attest.PredicateAnnotation
	createdAnnotation   = "org.opencontainers.image.created"
)

// Bundles makes and opens bundles. The zero value works; Now is time.Now unless set.
type Bundles struct {
	Now func() time.Time
}

var _ attest.Bundles = Bundles{}

// Seal signs an in-toto statement and returns the bundle as cosign attaches one.
func (b Bundles) Seal(ctx context.Context, statement []byte, key slipway.Key, sign attest.SignFunc) (attest.Attachment, error) {
	_, der, err := parse(key)
	if err != nil {
		return attest.Attachment{}, err
	}
	var st struct {
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(statement, &st); err != nil {
		return attest.Attachment{}, fmt.Errorf("read the statement: %w", err)
	}
	digest := sha256.Sum256(preAuth(statement))
	sig, err := sign(ctx, digest[:])
	if err != nil {
		return attest.Attachment{}, fmt.Errorf("sign with key %s: %w", key.ID, err)
	}
	_, hint := slipway.KeyID(der)
	data, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: MediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: hint}},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: payloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
	if err != nil {
		return attest.Attachment{}, fmt.Errorf("write the bundle: %w", err)
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	return attest.Attachment{ArtifactType: MediaType, MediaType: MediaType, Data: data, Annotations: map[string]string{
		contentAnnotation: "dsse-envelope", predicateAnnotation: st.PredicateType, createdAnnotation: now().UTC().Format(time.RFC3339),
	}}, nil
}

// preAuth is what DSSE signs of a payload.
func preAuth(payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// Open verifies a bundle against that one of the keys which it names, and that it is about the digest. A
// bundle that is broken, of a stranger, forged or about something else is told in Problem.
func (b Bundles) Open(data []byte, digest string, keys []slipway.Key) (attest.Opened, error) {
	var bad attest.Opened
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil || len(sum) != sha256.Size {
		return bad, slipway.Errorf(slipway.Invalid, "%q is not a sha256 digest", digest)
	}
	var read bundle.Bundle
	if err := read.UnmarshalJSON(data); err != nil {
		bad.Problem = "is not a Sigstore bundle"
		return bad, nil //nolint:nilerr // it is said of the bundle
	}
	envelope := read.GetDsseEnvelope()
	if !read.MinVersion("v0.3") || envelope == nil || envelope.GetPayloadType() != payloadType {
		bad.Problem = "holds no in-toto statement in a bundle of version 0.3"
		return bad, nil
	}
	claim := read.GetVerificationMaterial().GetPublicKey()
	if claim == nil {
		bad.Problem = "is signed with a certificate, not with a key"
		return bad, nil
	}
	key, public, err := named(keys, claim.GetHint())
	if err != nil {
		return bad, err
	}
	if public == nil {
		bad.Problem = "is signed with a key that is not known here"
		return bad, nil
	}
	// What strangers attach may be large, and is parsed only if the key has signed it.
	if !signed(envelope, public) {
		bad.Problem = problem(envelope.GetPayload(), hex.EncodeToString(sum), key)
		return bad, nil
	}
	result, err := check(&read, sum, public)
	if err != nil {
		bad.Problem = problem(envelope.GetPayload(), hex.EncodeToString(sum), key)
		return bad, nil //nolint:nilerr // it is said of the bundle
	}
	return attest.Opened{Key: key, Type: result.Statement.GetPredicateType(), Statement: envelope.GetPayload()}, nil
}

// signed reports whether the key has signed an envelope, once.
func signed(e *protodsse.Envelope, public *ecdsa.PublicKey) bool {
	digest := sha256.Sum256(preAuth(e.GetPayload()))
	return len(e.GetSignatures()) == 1 && ecdsa.VerifyASN1(public, digest[:], e.GetSignatures()[0].GetSig())
}

// check has sigstore-go verify signature and subject.
func check(b *bundle.Bundle, sum []byte, public *ecdsa.PublicKey) (*verify.VerificationResult, error) {
	checker, err := signature.LoadECDSAVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(checker, time.Time{}, time.Time{}), nil
	})
	v, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return nil, err
	}
	result, err := v.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithKey()))
	if err == nil && result.Statement == nil {
		err = fmt.Errorf("no statement")
	}
	return result, err
}

// problem tells a bundle of another digest from one whose signature is wrong.
func problem(payload []byte, sum string, key slipway.Key) string {
	var st struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(payload, &st); err != nil || len(st.Subject) == 0 {
		return "is about nothing"
	}
	for _, s := range st.Subject {
		if s.Digest["sha256"] == sum {
			return fmt.Sprintf("names key %s, but its signature is not of that key", key.ID)
		}
	}
	about := st.Subject[0].Digest["sha256"]
	if raw, err := hex.DecodeString(about); err != nil || len(raw) != sha256.Size {
		return "is about something that has no sha256 digest"
	}
	return "is about another digest, sha256:" + about
}

// named finds the key that a bundle names.
func named(keys []slipway.Key, hint string) (slipway.Key, *ecdsa.PublicKey, error) {
	for _, k := range keys {
		public, der, err := parse(k)
		if err != nil {
			return k, nil, err
		}
		if _, h := slipway.KeyID(der); h == hint {
			return k, public, nil
		}
	}
	return slipway.Key{}, nil, nil
}

func parse(k slipway.Key) (*ecdsa.PublicKey, []byte, error) {
	block, rest := pem.Decode([]byte(k.Public))
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, nil, slipway.Errorf(slipway.Invalid, "key %s is not one public key in PEM (BEGIN PUBLIC KEY)", k.ID)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, nil, slipway.Errorf(slipway.Invalid, "key %s is not a public key: %w", k.ID, err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, nil, slipway.Errorf(slipway.Invalid, "key %s is not an ECDSA key on P-256", k.ID)
	}
	return public, block.Bytes, nil
}

// ParseKey reads a public key in PEM, as `slipway keys show` prints one.
func ParseKey(text []byte) (slipway.Key, error) {
	k := slipway.Key{ID: "given", Public: string(text)}
	_, der, err := parse(k)
	if err != nil {
		return slipway.Key{}, err
	}
	k.ID, _ = slipway.KeyID(der)
	return k, nil
}
