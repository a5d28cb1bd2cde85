package act_test

import (
	"context"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// keyStore remembers what it was asked.
type keyStore struct {
	until time.Time
	asked []string
}

func (k *keyStore) Keys(context.Context) ([]slipway.Key, error) { return []slipway.Key{{ID: "1"}}, nil }

func (k *keyStore) RotateKey(_ context.Context, until time.Time, actor string) (slipway.Key, error) {
	k.until, k.asked = until, append(k.asked, "rotate by "+actor)
	return slipway.Key{ID: "2"}, nil
}

func (k *keyStore) RetireKey(_ context.Context, id, actor string) (slipway.Key, error) {
	k.asked = append(k.asked, "retire "+id+" by "+actor)
	return slipway.Key{ID: id}, nil
}

func TestKeysAreForAdmins(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	st := &keyStore{}
	x := act.Keys{Store: st, Builders: []string{"https://a.example.com"}, Registry: "registry.example.com", Now: func() time.Time { return now }}
	admin := slipway.User{Name: "ada", Admin: true}
	for _, by := range []slipway.User{{}, {Name: "bob"}, {Name: "eve", Roles: map[string]slipway.Role{"shop": slipway.Admin}}, {Name: "robot", Robot: &slipway.Robot{Project: "shop"}}} {
		if _, err := x.RotateKey(t.Context(), by, 0); err == nil {
			t.Errorf("%q rotates", by.Name)
		}
		if _, err := x.RetireKey(t.Context(), by, "1"); err == nil {
			t.Errorf("%q retires", by.Name)
		}
		ring, err := x.Keys(t.Context(), by)
		if (err == nil) != (by.Name != "") || (err == nil && (len(ring.Keys) != 1 || ring.Registry != x.Registry || ring.Builders[0] != x.Builders[0])) {
			t.Errorf("%q reads %+v, %v", by.Name, ring, err)
		}
	}
	if _, err := x.RotateKey(t.Context(), admin, -time.Second); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("trusted for less than no time: %v", err)
	}
	if len(st.asked) != 0 {
		t.Errorf("asked %v", st.asked)
	}
	if _, err := x.RotateKey(t.Context(), admin, time.Hour); err != nil || !st.until.Equal(now.Add(time.Hour)) {
		t.Errorf("until %v, %v", st.until, err)
	}
	if _, err := x.RotateKey(t.Context(), admin, 0); err != nil || !st.until.IsZero() {
		t.Errorf("until %v, %v", st.until, err)
	}
	if _, err := x.RetireKey(t.Context(), admin, "1"); err != nil || st.asked[2] != "retire 1 by ada" {
		t.Errorf("asked %v, %v", st.asked, err)
	}
}
