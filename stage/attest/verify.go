package attest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// maxReferrers bounds how many bundles of a digest are looked at: who floods one hides what is signed, and
// nothing is proven then.
const maxReferrers = 200

// maxPulls bounds how many bundles are in memory at once.
const maxPulls = 4

// maxRemembered bounds how many verified bundles are remembered.
const maxRemembered = 4096

// Subject is what a signature is wanted for.
type Subject struct {
	Kind       slipway.ArtifactKind // for the report
	Repository slipway.Repository
	Digest     string
	// Attestations are those that are looked for (provenance, sbom, tests, scan); nil: all that there are.
	Attestations []string
}

// Proof is one bundle that is attached to a digest.
type Proof struct {
	Name    string `json:"name"` // signature, provenance, sbom, tests, scan; empty: of another type
	Type    string `json:"type"` // of the predicate; nobody vouches for it when there is a problem
	Digest  string `json:"digest"`
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem,omitempty"` // why it proves nothing

	Builder string `json:"builder,omitempty"`
	Source  string `json:"source,omitempty"`
	Commit  string `json:"commit,omitempty"`
	Run     string `json:"run,omitempty"`     // where it is seen
	Summary string `json:"summary,omitempty"` // one line
}

// VerifierOptions are what may be left out.
type VerifierOptions struct {
	// Builders whose provenance is believed; none: every one of a trusted key.
	Builders []string
	Now      func() time.Time
}

// Verifier verifies what is attached to digests. It remembers which bundles are good, by their digests, so
// that the second look at one costs no more than a list. It is safe for concurrent use.
type Verifier struct {
	registry Registry
	bundles  Bundles
	keys     func(ctx context.Context) ([]slipway.Key, error)
	builders []string
	now      func() time.Time

	mu   sync.Mutex
	good map[string]Proof // by subject and digest of the bundle's manifest; the zero Proof is of what is none
}

// NewVerifier makes one. Keys are all that there are and were: which of them are trusted is asked of each.
func NewVerifier(registry Registry, bundles Bundles, keys func(ctx context.Context) ([]slipway.Key, error), opts VerifierOptions) *Verifier {
	v := &Verifier{registry: registry, bundles: bundles, keys: keys, builders: opts.Builders, now: opts.Now, good: map[string]Proof{}}
	if v.now == nil {
		v.now = time.Now
	}
	return v
}

// Report verifies image and chart, in the order given. A bad signature is in the report; an error means that
// it could not be found out.
func (v *Verifier) Report(ctx context.Context, subjects ...Subject) (slipway.SignatureReport, error) {
	out := slipway.SignatureReport{Subjects: make([]slipway.SignedSubject, len(subjects))}
	errs := make([]error, len(subjects))
	var wg sync.WaitGroup
	for i, s := range subjects {
		wg.Go(func() {
			proofs, err := v.Proofs(ctx, s)
			out.Subjects[i], errs[i] = Summarize(s, proofs), err
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return slipway.SignatureReport{}, fmt.Errorf("verify %s@%s: %w", subjects[i].Repository.Ref(), subjects[i].Digest, err)
		}
	}
	return out, nil
}

// Summarize says what proofs together say of a digest.
func Summarize(s Subject, proofs []Proof) slipway.SignedSubject {
	out := slipway.SignedSubject{Kind: s.Kind, Name: s.Repository.Ref() + "@" + s.Digest}
	for _, p := range proofs {
		switch {
		case p.Problem != "":
			out.Problems = append(out.Problems, p.title()+" "+p.Problem)
		case p.Name == signature:
			if out.Signed = true; out.Key == "" {
				out.Key = p.Key
			}
		case p.Name != "" && !slices.Contains(out.Attestations, p.Name):
			if out.Attestations = append(out.Attestations, p.Name); p.Name == Provenance {
				out.Builder = p.Builder
			}
		}
	}
	return out
}

func (p Proof) title() string {
	switch {
	case p.Name != "":
		return "the " + p.Name
	case p.Type != "":
		return "the statement of type " + p.Type
	}
	return "what is attached as " + slipway.ShortHash(p.Digest)
}

// Proofs verifies everything that is attached to a digest, signatures first, then in the order of their
// names. A digest that is not in the registry has none.
func (v *Verifier) Proofs(ctx context.Context, s Subject) ([]Proof, error) {
	keys, err := v.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the trusted keys: %w", err)
	}
	if err := v.registry.Intact(ctx, s.Repository, s.Digest); slipway.ErrorCode(err) == slipway.Conflict {
		return []Proof{{Digest: s.Digest, Name: signature, Problem: "is of another manifest than the registry has under this digest: it was altered there"}}, nil
	} else if trouble(ctx, err) {
		return nil, err
	}
	list, err := v.registry.Referrers(ctx, s.Repository, s.Digest)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return []Proof{{Digest: s.Digest, Name: signature, Problem: "cannot be: the registry has no such digest"}}, nil
	}
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(a Attachment) bool { return !a.mayBeBundle() || !s.wants(a) })
	var flood []Proof
	if len(list) > maxReferrers {
		flood = []Proof{{Digest: s.Digest, Problem: fmt.Sprintf("is one of %d bundles: more than %d are not looked at", len(list), maxReferrers)}}
		list = list[:maxReferrers]
	}
	proofs := make([]Proof, len(list))
	errs := make([]error, len(list))
	free := make(chan struct{}, maxPulls)
	var wg sync.WaitGroup
	for i, a := range list {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			proofs[i], errs[i] = v.proof(ctx, s, a, keys)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	proofs = slices.DeleteFunc(proofs, func(p Proof) bool { return p.Digest == "" })
	slices.SortStableFunc(proofs, func(a, b Proof) int { return rank(a.Name) - rank(b.Name) })
	return append(proofs, flood...), nil
}

// wants reports whether a bundle may be one of those that are looked for.
func (s Subject) wants(a Attachment) bool {
	if s.Attestations == nil {
		return true
	}
	name := nameOf(a.Annotations[PredicateAnnotation])
	return name == "" || name == signature || slices.Contains(s.Attestations, name)
}

func rank(name string) int {
	i := slices.Index([]string{signature, Provenance, SBOM, Tests, Scan}, name)
	if i < 0 {
		return 9
	}
	return i
}

// mayBeBundle tells what is surely no bundle. Registries that are older than artifact types list the media type
// of the configuration in their place.
func (a Attachment) mayBeBundle() bool {
	switch a.ArtifactType {
	case BundleType, "", "application/vnd.oci.empty.v1+json":
		return true
	}
	return false
}

// isBundle reports whether a pulled attachment says that it is one.
func (a Attachment) isBundle() bool { return a.MediaType == BundleType }

// proof verifies one bundle; what is none has no digest.
func (v *Verifier) proof(ctx context.Context, s Subject, a Attachment, keys []slipway.Key) (Proof, error) {
	id := s.Digest + " " + a.Digest
	p, ok := v.known(id)
	if !ok {
		p = Proof{Digest: a.Digest, Type: a.Annotations[PredicateAnnotation], Name: nameOf(a.Annotations[PredicateAnnotation])}
		pulled, err := v.registry.PullArtifact(ctx, s.Repository, a.Digest)
		if trouble(ctx, err) {
			return p, err
		}
		if err == nil && !pulled.isBundle() {
			v.remember(id, Proof{})
			return Proof{}, nil
		}
		if err != nil && a.ArtifactType != BundleType {
			return Proof{}, nil //nolint:nilerr // it is something else
		}
		if err != nil {
			p.Problem = "cannot be read from the registry as it was written"
			return p, nil //nolint:nilerr // it is said of the bundle
		}
		opened, err := v.bundles.Open(pulled.Data, s.Digest, keys)
		if err != nil {
			return p, err
		}
		if p.Problem = opened.Problem; p.Problem != "" {
			return p, nil
		}
		p.Key, p.Type, p.Name = opened.Key.ID, opened.Type, nameOf(opened.Type)
		p.tell(opened.Statement)
		v.remember(id, p)
	}
	if p.Digest != "" {
		p.Problem = v.distrust(p, keys)
	}
	return p, nil
}

// distrust says why a bundle that is good proves nothing now.
func (v *Verifier) distrust(p Proof, keys []slipway.Key) string {
	i := slices.IndexFunc(keys, func(k slipway.Key) bool { return k.ID == p.Key })
	if i < 0 {
		return "is signed with a key that is not known here"
	}
	now := v.now()
	switch k := keys[i]; k.State(now) {
	case slipway.KeyRetired:
		return fmt.Sprintf("is signed with key %s, which was retired on %s", k.ID, k.RetiredAt.UTC().Format(time.DateOnly))
	case slipway.KeyExpired:
		return fmt.Sprintf("is signed with key %s, which was trusted until %s", k.ID, k.Expires.UTC().Format(time.DateOnly))
	}
	if p.Name == Provenance && len(v.builders) > 0 && !slices.Contains(v.builders, p.Builder) {
		return fmt.Sprintf("is of the builder %q, which is not trusted", p.Builder)
	}
	return ""
}

func (v *Verifier) known(id string) (Proof, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.good[id]
	return p, ok
}

func (v *Verifier) remember(id string, p Proof) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.good) >= maxRemembered {
		clear(v.good)
	}
	v.good[id] = p
}

// trouble tells an error of the surroundings from one of what is in the registry.
func trouble(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	switch slipway.ErrorCode(err) {
	case slipway.Unavailable, slipway.Unauthorized, slipway.Forbidden:
		return true
	}
	return ctx.Err() != nil
}
