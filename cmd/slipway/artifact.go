package main

import (
	"context"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/driver/oci"
)

// reached is the way to an artifact.
type reached struct {
	registry *oci.Client
	ring     slipway.KeyRing // the server's
	noKeys   error           // why that is not known: an artifact elsewhere is reached without a server
}

// reach finds the way to an artifact: the server's at the server, as who is signed in; another one, or at another
// address, as docker goes there.
func (c *cli) reach(ctx context.Context, ref *artifactRef, address string) (at reached, err error) {
	api, err := c.client()
	if err == nil {
		at.ring, err = api.Keys(ctx)
	}
	host := ref.repo.Registry.Host
	if at.noKeys = err; err != nil && host == "" {
		return at, err
	}
	credentials := oci.Credentials(oci.DockerCredentials)
	if err == nil && (host == "" || host == at.ring.Registry) {
		ref.repo.Registry = slipway.Registry{Host: at.ring.Registry, Address: api.Address()}
		credentials = atServer(api, at.ring.Registry, address)
	}
	if address != "" {
		ref.repo.Registry.Address = address
	}
	at.registry = oci.New(credentials, oci.Options{})
	return at, nil
}

// atServer are the credentials for the server's registry that is reached at an address, "" for the server's own: a
// token goes to the server that made it and to no other.
func atServer(api *client.Client, registry, address string) oci.Credentials {
	if address != "" && strings.TrimSuffix(address, "/") != api.Address() {
		return oci.DockerCredentials
	}
	return signedIn(api, registry)
}

// signedIn are the credentials of who is signed in, for the server's registry and no other.
func signedIn(api *client.Client, registry string) oci.Credentials {
	return func(ctx context.Context, host string) (string, string, error) {
		if host != registry {
			return oci.DockerCredentials(ctx, host)
		}
		return api.Credentials(ctx)
	}
}

// artifactRef names an image or a chart by tag or digest.
type artifactRef struct {
	repo        slipway.Repository
	tag, digest string
}

var artifactRefExpr = regexp.MustCompile(`^(?:oci://)?([a-zA-Z0-9.:\[\]-]+/)?([a-z0-9][a-z0-9._/-]*?)(?::([A-Za-z0-9_][A-Za-z0-9._+-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)

// parseArtifactRef reads a reference. The first part is a registry when it could be no folder: it has a dot or
// a port, or is localhost.
func parseArtifactRef(text string) (artifactRef, error) {
	m := artifactRefExpr.FindStringSubmatch(text)
	if m == nil || m[3] == "" && m[4] == "" {
		return artifactRef{}, slipway.Errorf(slipway.Invalid, "%q: expected REPOSITORY:TAG or REPOSITORY@sha256:..., such as shop/delivery:v1.0.2", text)
	}
	host, name := strings.TrimSuffix(m[1], "/"), m[2]
	if host != "" && host != "localhost" && !strings.ContainsAny(host, ".:") {
		host, name = "", host+"/"+name
	}
	return artifactRef{slipway.Repository{Registry: slipway.Registry{Host: host}, Name: name}, strings.ReplaceAll(m[3], "+", "_"), m[4]}, nil
}
