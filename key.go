package slipway

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"
)

// Key is a key with which this server signs images and charts, or has signed. Only its public half is ever
// seen.
type Key struct {
	ID string `json:"id"` // the beginning of the hash of the public key
	// Public is the public key in PEM: what `cosign verify --key` takes.
	Public    string    `json:"public"`
	CreatedAt time.Time `json:"createdAt"`
	// ReplacedAt is when a newer key took its place; zero: it is the one that signs.
	ReplacedAt time.Time `json:"replacedAt,omitzero"`
	// Expires is when its signatures cease to be trusted; zero: when it is retired.
	Expires   time.Time `json:"expires,omitzero"`
	RetiredAt time.Time `json:"retiredAt,omitzero"`
}

// KeyState is what a key is good for.
type KeyState string

const (
	KeyCurrent KeyState = "current" // it signs
	KeyTrusted KeyState = "trusted" // it has been replaced, and what it signed is accepted
	KeyExpired KeyState = "expired" // the time for which it was trusted is over
	KeyRetired KeyState = "retired" // a person has taken the trust in it back
)

// State is what the key is good for at a time.
func (k Key) State(now time.Time) KeyState {
	switch {
	case !k.RetiredAt.IsZero():
		return KeyRetired
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return KeyExpired
	case !k.ReplacedAt.IsZero():
		return KeyTrusted
	}
	return KeyCurrent
}

// Trusted reports whether what the key signed is accepted at a time.
func (k Key) Trusted(now time.Time) bool {
	s := k.State(now)
	return s == KeyCurrent || s == KeyTrusted
}

// KeyID is the id of a public key, and the hint by which bundles name it, from its DER form (PKIX).
func KeyID(der []byte) (id, hint string) {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8]), base64.StdEncoding.EncodeToString(sum[:])
}

// KeyRing is what signatures of this server are verified with.
type KeyRing struct {
	Keys []Key `json:"keys"` // newest first
	// Builders are the identities that its provenance has.
	Builders []string `json:"builders"`
	// Registry is the stable host name of the embedded registry, which is reached at the server's address.
	Registry string `json:"registry"`
}
