package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/slipway-cd/slipway"
)

// Keys returns what signatures of the server are verified with.
func (c *Client) Keys(ctx context.Context) (slipway.KeyRing, error) {
	return get[slipway.KeyRing](ctx, c, "/api/v1/keys", nil)
}

// RotateKey makes a new key that signs from now on; the old one is trusted for that long, for 0 until it is
// retired.
func (c *Client) RotateKey(ctx context.Context, trust time.Duration) (slipway.Key, error) {
	return post[slipway.Key](ctx, c, "/api/v1/keys", map[string]slipway.Duration{"trust": slipway.Duration(trust)})
}

// RetireKey takes the trust in a replaced key back.
func (c *Client) RetireKey(ctx context.Context, id string) (slipway.Key, error) {
	return do[slipway.Key](ctx, c, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(id), nil, nil)
}

// Credentials are the user name and token with which the server's registry is read.
func (c *Client) Credentials(ctx context.Context) (user, token string, err error) {
	me, err := c.Whoami(ctx)
	return me.Name, c.token, err
}
