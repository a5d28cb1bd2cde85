package oci

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/slipway-cd/slipway"
)

// DockerCredentials are those that `docker login` keeps for whoever runs this process. It is for commands of
// people; a server never uses them.
func DockerCredentials(ctx context.Context, host string) (user, secret string, err error) {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return "", "", slipway.Errorf(slipway.Invalid, "%q is not the name of a registry", host)
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, registry)
	if err != nil {
		return "", "", fmt.Errorf("read what docker login keeps: %w", err)
	}
	config, err := authn.Authorization(ctx, found)
	if err != nil {
		return "", "", fmt.Errorf("read what docker login keeps: %w", err)
	}
	return config.Username, config.Password, nil
}
