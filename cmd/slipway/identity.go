package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"os"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/web"
)

// identity finds out who asks: one user for UI, CLI, git and registry. Single sign-on will be another
// way to a session; nothing but this type knows how one is made.
type identity struct {
	store *store.Store
	// secret proves this process to its own registry; it is made anew at each start and never
	// written anywhere.
	secret []byte
}

// The names under which the process itself uses its registry.
const (
	selfName      = "slipway"
	builderPrefix = "builder-" // a project's builds and tests
)

func newIdentity(s *store.Store) *identity {
	secret := make([]byte, 32)
	rand.Read(secret) // it cannot fail (crypto/rand)
	return &identity{store: s, secret: secret}
}

// Identify returns the user behind a request: a bearer token, a token as the password of basic
// authentication (git), or a session cookie. Nothing of them is the zero user; a wrong one is
// Unauthorized.
func (i *identity) Identify(r *http.Request) (slipway.User, error) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return i.store.UserByToken(r.Context(), token)
	}
	if _, password, ok := r.BasicAuth(); ok {
		return i.store.UserByToken(r.Context(), password)
	}
	c, err := r.Cookie(web.SessionCookie)
	if err != nil {
		return slipway.User{}, nil
	}
	u, err := i.store.UserBySession(r.Context(), c.Value)
	if slipway.ErrorCode(err) == slipway.Unauthorized {
		return slipway.User{}, nil // it ended: sign in again
	}
	return u, err
}

// signing is identity with what signs people in.
type signing struct {
	*identity
	*act.People
}

func (i *identity) with(p *act.People) signing { return signing{i, p} }

// SignOut ends a session.
func (s signing) SignOut(ctx context.Context, session string) error {
	return s.store.DeleteSession(ctx, session)
}

func (i *identity) prove(name string) string {
	m := hmac.New(sha256.New, i.secret)
	m.Write([]byte(name))
	return hex.EncodeToString(m.Sum(nil))
}

func (i *identity) proven(name, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(secret), []byte(i.prove(name))) == 1
}

// authorizeRegistry is who may do what in the embedded registry. That nobody pushes to production is
// the registry's own rule.
func (i *identity) authorizeRegistry(ctx context.Context, user, secret string, action registry.Action, repository string) (string, error) {
	if user == "" && secret == "" {
		return "", slipway.Errorf(slipway.Unauthorized, "sign in first: docker login or helm registry login with your user name and a token")
	}
	place := registry.Parse(repository)
	if user == selfName && i.proven(user, secret) {
		return selfName, nil
	}
	if project, ok := strings.CutPrefix(user, builderPrefix); ok && i.proven(user, secret) {
		return user, mayBuild(project, action, repository, place)
	}
	u, err := i.store.UserByToken(ctx, secret)
	if err != nil {
		return "", err
	}
	return u.Name, mayUse(u, action, repository, place)
}

// mayBuild is what the builds of a project may do: pull base images and what is theirs, push
// candidates.
func mayBuild(project string, action registry.Action, repository string, place registry.Place) error {
	switch {
	case repository == "",
		action == registry.Pull && place.Namespace == registry.Mirror,
		action == registry.Pull && place.Project == project,
		action == registry.Push && place.Namespace == registry.Candidates && place.Project == project:
		return nil
	}
	return slipway.Errorf(slipway.Forbidden, "builds of project %s may not %s %s", project, action, repository)
}

func mayUse(u slipway.User, action registry.Action, repository string, place registry.Place) error {
	if repository == "" {
		return nil
	}
	if place.Namespace == registry.Mirror {
		if action == registry.Pull && u.Robot == nil {
			return nil
		}
		return auth.Check(u, auth.ManageServer, "")
	}
	need := map[registry.Action]auth.Action{registry.Pull: auth.PullArtifacts, registry.Push: auth.PushCandidates, registry.Delete: auth.ManageProject}
	return auth.Check(u, need[action], place.Project)
}

// registryCredentials are those of this process: its own for the embedded registry; for the outside
// ones that the operator named with --candidates and --production, SLIPWAY_REGISTRY_USER and
// SLIPWAY_REGISTRY_PASSWORD. No other host, whoever names it, gets any.
func (i *identity) registryCredentials(o serveOptions) oci.Credentials {
	return func(_ context.Context, host string) (string, string, error) {
		switch {
		case host == o.registryHost:
			return selfName, i.prove(selfName), nil
		case o.outside(host):
			return os.Getenv("SLIPWAY_REGISTRY_USER"), os.Getenv("SLIPWAY_REGISTRY_PASSWORD"), nil
		}
		return "", "", nil
	}
}

// buildCredentials are those of a project's builds: its own for the embedded registry at address, and
// for the candidates' registry that the operator named. Those of a fork's build pull base images and no more.
func (i *identity) buildCredentials(o serveOptions, address string) func(ctx context.Context, project, host string) (string, string) {
	return func(_ context.Context, project, host string) (string, string) {
		switch {
		case host == address:
			return builderPrefix + project, i.prove(builderPrefix + project)
		case strings.HasSuffix(project, buildkit.OfFork): // strangers read no image of the project
			return "", ""
		case o.candidates != "" && host == outside(o.candidates).Host:
			return os.Getenv("SLIPWAY_REGISTRY_USER"), os.Getenv("SLIPWAY_REGISTRY_PASSWORD")
		}
		return "", ""
	}
}

// outside reports whether the operator named host as a registry.
func (o serveOptions) outside(host string) bool {
	return (o.candidates != "" && host == outside(o.candidates).Host) || (o.production != "" && host == outside(o.production).Host)
}

// addresses says where registries are reached that the operator named, whatever a slipway.yaml says:
// credentials go there.
func (o serveOptions) addresses(embedded string) map[string]string {
	at := map[string]string{o.registryHost: "http://" + embedded}
	for _, named := range []string{o.candidates, o.production} {
		if named != "" {
			at[outside(named).Host] = "https://" + outside(named).Host
		}
	}
	return at
}
