package buildkit

import (
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/session/auth"
	"google.golang.org/grpc"
)

// credentials answers the daemon's question for a registry's user and password, for one build. The
// daemon keeps them no longer than the build's session.
type credentials struct {
	auth.UnimplementedAuthServer
	project string
	get     func(ctx context.Context, project, host string) (user, password string)
}

// Register makes it part of a session.
func (c *credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials returns empty ones for a registry that is used without.
func (c *credentials) Credentials(ctx context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	user, password := c.get(ctx, c.project, req.GetHost())
	return &auth.CredentialsResponse{Username: user, Secret: password}, nil
}

// registryAuth is the same for Slipway's own requests.
func (c *credentials) registryAuth(ctx context.Context, host string) authn.Authenticator {
	user, password := c.get(ctx, c.project, host)
	if user == "" && password == "" {
		return authn.Anonymous
	}
	return &authn.Basic{Username: user, Password: password}
}
