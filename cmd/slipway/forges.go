package main

import (
	"context"
	"net/http"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/azuredevops"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/gitlab"
	"github.com/slipway-cd/slipway/driver/rest"
	"github.com/slipway-cd/slipway/mirror"
	"github.com/slipway-cd/slipway/react"
)

// forgeClient is what every driver of a forge offers.
type forgeClient interface {
	act.Forge
	react.Forge
	DeleteHook(ctx context.Context, id string) error
	// GitAuth is the user and the password that git takes over HTTPS.
	GitAuth(ctx context.Context) (user, password string, err error)
}

// clients are the clients of forges that are in use, so that what one of them learned (the token of a GitHub
// App, its own account) is not asked for each time. Its zero value is ready.
type clients struct {
	mu    sync.Mutex
	known map[clientKey]forgeClient
}

type clientKey struct {
	forge                      slipway.ForgeKind
	api, repository, id, token string
}

// maxClients bounds how many are kept.
const maxClients = 500

// openForge speaks with the forge of a connection.
func (s *server) openForge(c slipway.Connection, token string) (forgeClient, error) {
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	key := clientKey{c.Forge, c.API, c.Repository, c.RepositoryID, token}
	if client := s.clients.known[key]; client != nil {
		return client, nil
	}
	client, err := s.newForge(c, token)
	if err != nil {
		return nil, err
	}
	if s.clients.known == nil || len(s.clients.known) >= maxClients {
		s.clients.known = map[clientKey]forgeClient{}
	}
	s.clients.known[key] = client
	return client, nil
}

func (s *server) newForge(c slipway.Connection, token string) (forgeClient, error) {
	o := rest.Options{Log: s.log}
	switch c.Forge {
	case slipway.GitHub:
		return opened(github.New(c, token, o))
	case slipway.GitLab:
		return opened(gitlab.New(c, token, o))
	case slipway.Gitea:
		return opened(gitea.New(c, token, o))
	case slipway.AzureDevOps:
		return opened(azuredevops.New(c, token, o))
	}
	return nil, slipway.Errorf(slipway.Invalid, "forge %q: must be one of %v", c.Forge, slipway.ForgeKinds())
}

// opened keeps a nil client of an error from becoming an interface that is not nil.
func opened[T forgeClient](c T, err error) (forgeClient, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func receiveDelivery(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error) {
	switch c.Forge {
	case slipway.GitHub:
		return github.Receive(c, secret, h, body)
	case slipway.GitLab:
		return gitlab.Receive(c, secret, h, body)
	case slipway.Gitea:
		return gitea.Receive(c, secret, h, body)
	case slipway.AzureDevOps:
		return azuredevops.Receive(c, secret, h, body)
	}
	return slipway.Delivery{}, slipway.Errorf(slipway.Invalid, "forge %q is not known", c.Forge)
}

func hookText(c slipway.Connection, address, secret string) string {
	switch c.Forge {
	case slipway.GitHub:
		return github.HookText(c, address, secret)
	case slipway.GitLab:
		return gitlab.HookText(c, address, secret)
	case slipway.Gitea:
		return gitea.HookText(c, address, secret)
	case slipway.AzureDevOps:
		return azuredevops.HookText(c, address, secret)
	}
	return ""
}

// forgeOf opens the forge that a codebase, given by its key, is connected with; nil if there is no token for its
// API.
func (s *server) forgeOf(ctx context.Context, codebase string) (forgeClient, error) {
	c, err := s.store.Connection(ctx, codebase)
	if err != nil || c.Credential == "" {
		return nil, err
	}
	token, err := s.store.Credential(ctx, c.Credential)
	if err != nil {
		return nil, err
	}
	return s.openForge(c, token)
}

// remoteOf is where a codebase is fetched from: with its deploy key if it has one, else with the credential of its
// forge. One that is not connected is fetched with that of the project's forge if it is there too, else without any.
func (s *server) remoteOf(ctx context.Context, p slipway.Codebase) (git.Remote, error) {
	m := git.Remote{URL: p.GitURL}
	key, err := s.byKey(ctx, p)
	if m.SSH = key; key != nil || err != nil {
		return m, err
	}
	client, err := s.forgeOf(ctx, p.Key())
	if slipway.ErrorCode(err) == slipway.NotFound && p.Name != "" {
		main, merr := s.store.Project(ctx, p.Project)
		if merr != nil || !act.SameOrigin(p.GitURL, main.GitURL) {
			return m, merr
		}
		client, err = s.forgeOf(ctx, p.Project)
	}
	if slipway.ErrorCode(err) == slipway.NotFound {
		return m, nil
	}
	if err != nil || client == nil {
		return m, err
	}
	m.User, m.Password, err = client.GitAuth(ctx)
	return m, err
}

func (s *server) openForges() {
	s.mirrors = mirror.New(mirror.Options{
		Repos: s.repos, Actions: s.actions, Records: s.store, Events: s.store, Codebases: s.codebases, Codebase: s.planner.Codebase, Remote: s.remoteOf,
		React: func(ctx context.Context, codebase string, wake <-chan struct{}) {
			s.reactor.Follow(ctx, codebase, wake)
		},
		Every: s.opts.poll, Log: s.log,
	})
	s.forges = act.NewForges(s.actions, act.ForgeOptions{
		Connections: s.store, Details: s.store, Deliveries: s.store, Pulls: s.store, Commands: s.store, Problem: s.store.SetForgeProblem,
		Keys: s.store, SSH: git.DeployKeys{Dir: s.sshDir},
		Open:    func(c slipway.Connection, token string) (act.Forge, error) { return s.openForge(c, token) },
		Receive: receiveDelivery, HookText: hookText, Unhook: s.unhook,
		Mirror: s.mirrors.Fetch, FetchPull: s.mirrors.FetchPull, Wake: s.mirrors.Wake, Connected: s.mirrors.Connected, Polled: s.mirrors.Polled,
	})
	s.mirrors.Use(s.forges)
	s.reactor = react.New(react.Options{
		Events: s.store, Runs: s.store, Gates: s.store, Watch: s.store.Watch, URL: s.opts.url, Log: s.log, Pause: s.opts.pause,
		Connect: func(ctx context.Context, codebase string) (react.Forge, error) {
			src, err := s.forges.Source(ctx, codebase)
			if err == nil {
				err = s.forges.Confirm(ctx, src)
			}
			if err != nil {
				return nil, err
			}
			return s.forgeOf(ctx, codebase)
		},
		Problem: func(ctx context.Context, codebase, problem string) error {
			return s.store.SetForgeProblem(ctx, codebase, "write", problem)
		},
	})
}

// unhook removes the webhooks that Slipway made for a connection.
func (s *server) unhook(ctx context.Context, c slipway.Connection, token string) error {
	client, err := s.openForge(c, token)
	if err != nil {
		return err
	}
	for _, id := range c.HookIDs {
		if err := client.DeleteHook(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
