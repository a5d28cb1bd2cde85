package act

import (
	"context"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// KeyStore is where the keys are that sign images and charts.
type KeyStore interface {
	Keys(ctx context.Context) ([]slipway.Key, error)
	RotateKey(ctx context.Context, until time.Time, actor string) (slipway.Key, error)
	RetireKey(ctx context.Context, id, actor string) (slipway.Key, error)
}

// Keys keeps the keys with which Slipway signs.
type Keys struct {
	Store KeyStore
	// Builders and Registry are those of the key ring that people verify with.
	Builders []string
	Registry string
	Now      func() time.Time
}

// Keys returns what signatures are verified with, to everybody who is signed in.
func (x *Keys) Keys(ctx context.Context, by slipway.User) (slipway.KeyRing, error) {
	if by.Name == "" {
		return slipway.KeyRing{}, auth.Check(by, auth.View, "")
	}
	keys, err := x.Store.Keys(ctx)
	return slipway.KeyRing{Keys: keys, Builders: x.Builders, Registry: x.Registry}, err
}

// RotateKey makes a new key that signs from now on. The old one is trusted for that long, for 0 until it is
// retired.
func (x *Keys) RotateKey(ctx context.Context, by slipway.User, trust time.Duration) (slipway.Key, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Key{}, err
	}
	if trust < 0 {
		return slipway.Key{}, slipway.Errorf(slipway.Invalid, "the old key cannot be trusted for %s", trust)
	}
	var until time.Time
	if trust > 0 {
		until = x.Now().Add(trust)
	}
	return x.Store.RotateKey(ctx, until, by.Name)
}

// RetireKey takes the trust in a key back that has been replaced.
func (x *Keys) RetireKey(ctx context.Context, by slipway.User, id string) (slipway.Key, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Key{}, err
	}
	return x.Store.RetireKey(ctx, id, by.Name)
}
