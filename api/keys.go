package api

import (
	"context"
	"net/http"
	"time"

	"github.com/slipway-cd/slipway"
)

// Keys are those with which the server signs images and charts.
type Keys interface {
	Keys(ctx context.Context, by slipway.User) (slipway.KeyRing, error)
	// RotateKey makes a new one; the old one is trusted for that long, for 0 until it is retired.
	RotateKey(ctx context.Context, by slipway.User, trust time.Duration) (slipway.Key, error)
	RetireKey(ctx context.Context, by slipway.User, id string) (slipway.Key, error)
}

// KeyRotation is the body that replaces the key that signs.
type KeyRotation struct {
	Trust slipway.Duration `json:"trust"` // how long the old one is trusted; 0: until it is retired
}

func (s *server) keys() {
	s.handle("GET /api/v1/keys", func(r *http.Request, by slipway.User) (any, error) {
		return s.Keys.Keys(r.Context(), by)
	})
	s.handle("POST /api/v1/keys", func(r *http.Request, by slipway.User) (any, error) {
		var body KeyRotation
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		return s.Keys.RotateKey(r.Context(), by, time.Duration(body.Trust))
	})
	s.handle("DELETE /api/v1/keys/{key}", func(r *http.Request, by slipway.User) (any, error) {
		return s.Keys.RetireKey(r.Context(), by, r.PathValue("key"))
	})
}
