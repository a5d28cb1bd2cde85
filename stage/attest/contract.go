package attest

import (
	"context"

	"github.com/slipway-cd/slipway"
)

// Attachment is something that is attached to a digest in a registry.
type Attachment struct {
	Digest       string // of its manifest; empty when it is to be pushed
	ArtifactType string
	MediaType    string // of Data
	Data         []byte // not in lists
	Annotations  map[string]string
}

// Registry is what signing and verifying need of registries. Errors are slipway.Errors: NotFound for a
// digest that is not there, Unavailable when the registry does not answer. It is safe for concurrent use.
type Registry interface {
	// Head is NotFound when the repository has no manifest of that digest.
	Head(ctx context.Context, repo slipway.Repository, digest string) (int64, error)
	// Intact reads the manifest of that digest and is Conflict when it is another one: it was altered where the
	// registry keeps it. NotFound as Head.
	Intact(ctx context.Context, repo slipway.Repository, digest string) error
	// Referrers lists what is attached to a digest, without the data; by the tag scheme where a registry
	// knows no referrers.
	Referrers(ctx context.Context, repo slipway.Repository, digest string) ([]Attachment, error)
	PullArtifact(ctx context.Context, repo slipway.Repository, digest string) (Attachment, error)
	PushArtifact(ctx context.Context, repo slipway.Repository, a Attachment, subject string) (string, error)
}

// Keys is a service that holds keys. The store has keys of its own; a key management service would be
// another one. A private key never leaves it.
type Keys interface {
	// SigningKey is the key that signs now.
	SigningKey(ctx context.Context) (slipway.Key, error)
	// Sign signs a SHA-256 digest with that key: ECDSA on P-256, in ASN.1.
	Sign(ctx context.Context, key string, digest []byte) ([]byte, error)
	// Keys are all that there are and were, so that a retired one is told from a stranger's.
	Keys(ctx context.Context) ([]slipway.Key, error)
}

// SignFunc signs a SHA-256 digest.
type SignFunc func(ctx context.Context, digest []byte) ([]byte, error)

// Bundles makes and opens signed statements. It is safe for concurrent use.
type Bundles interface {
	// Seal signs an in-toto statement.
	Seal(ctx context.Context, statement []byte, key slipway.Key, sign SignFunc) (Attachment, error)
	// Open verifies a bundle against the key that it names, and that it is about a digest. What is wrong
	// with it is in the result; an error is one of a key.
	Open(bundle []byte, digest string, keys []slipway.Key) (Opened, error)
}

// Opened is a bundle after its verification.
type Opened struct {
	// Problem says why it proves nothing; empty: it is what Key signed about the digest.
	Problem   string
	Key       slipway.Key
	Type      string // of the predicate
	Statement []byte
}

// Evidence is what is known about an image besides the artifacts of the run. NotFound means that there is
// none.
type Evidence interface {
	// BuiltBy is the step that built an image, with what it made: one of that run, or with run 0 the newest.
	BuiltBy(ctx context.Context, project, service, digest string, run int64) (slipway.Earlier, error)
	// TestsOf is the report of the tests of what a run has published, which an earlier run may have done.
	TestsOf(ctx context.Context, runID int64, service, image string) (slipway.TestReport, error)
	// TestedBy is the step that really ran them.
	TestedBy(ctx context.Context, runID int64, service, image string) (slipway.Step, error)
	// ScanOf is the newest scan of an image.
	ScanOf(ctx context.Context, project, image string) (slipway.Scan, error)
	// SBOM is a kept SPDX document by its digest.
	SBOM(ctx context.Context, digest string) ([]byte, error)
}
