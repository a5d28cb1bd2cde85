package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/azuredevops"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/gitlab"
	"github.com/slipway-cd/slipway/driver/rest"
	"github.com/slipway-cd/slipway/react"
)

// forgeClient is what every driver of a forge offers.
type forgeClient interface {
	act.Forge
	react.Forge
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

// forgeOf opens the forge that a project is connected with; nil if there is no token for its API.
func (s *server) forgeOf(ctx context.Context, project string) (slipway.Connection, forgeClient, error) {
	c, err := s.store.Connection(ctx, project)
	if err != nil || c.Credential == "" {
		return c, nil, err
	}
	token, err := s.store.Credential(ctx, c.Credential)
	if err != nil {
		return c, nil, err
	}
	client, err := s.openForge(c, token)
	return c, client, err
}

// remoteOf is where a codebase is fetched from: with its deploy key if it has one, else with the credential of the
// project's forge if it has one and the codebase is there too.
func (s *server) remoteOf(ctx context.Context, p slipway.Codebase) (git.Remote, error) {
	m := git.Remote{URL: p.GitURL}
	key, err := s.byKey(ctx, p)
	if m.SSH = key; key != nil || err != nil {
		return m, err
	}
	if p.Name != "" {
		main, err := s.store.Project(ctx, p.Project)
		if err != nil || !sameOrigin(p.GitURL, main.GitURL) {
			return m, err
		}
	}
	_, client, err := s.forgeOf(ctx, p.Project)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return m, nil
	}
	if err != nil || client == nil {
		return m, err
	}
	m.User, m.Password, err = client.GitAuth(ctx)
	return m, err
}

// sameOrigin reports whether two git URLs are asked with one protocol at one host, so that a credential for
// one may be shown to the other.
func sameOrigin(a, b string) bool {
	u, uerr := url.Parse(a)
	v, verr := url.Parse(b)
	return uerr == nil && verr == nil && u.Host != "" && u.Scheme == v.Scheme && strings.EqualFold(u.Host, v.Host)
}

func (s *server) openForges() {
	s.forges = act.NewForges(s.actions, act.ForgeOptions{
		Connections: s.store, Deliveries: s.store, Pulls: s.store, Commands: s.store, Problem: s.store.SetForgeProblem,
		Keys: s.store, SSH: git.DeployKeys{Dir: s.sshDir},
		Open:    func(c slipway.Connection, token string) (act.Forge, error) { return s.openForge(c, token) },
		Receive: receiveDelivery, HookText: hookText,
		Mirror: func(ctx context.Context, project string, actors map[string]string) error {
			p, err := s.store.Project(ctx, project)
			if err != nil {
				return err
			}
			return s.pollMirror(ctx, p.Main(), actors)
		},
		FetchPull: func(ctx context.Context, project string, number int64, ref string) (string, error) {
			p, err := s.store.Project(ctx, project)
			if err != nil {
				return "", err
			}
			m, err := s.remoteOf(ctx, p.Main())
			if err != nil {
				return "", err
			}
			return s.repos.open(project).FetchPull(ctx, m, number, ref)
		},
		Wake: s.wakes.wake,
		Connected: func(project string) {
			s.wakes.wake(project)
			s.again.wake(project)
			s.wakes.wake(everyMirror)
		},
	})
	s.reactor = react.New(react.Options{
		Events: s.store, Runs: s.store, Watch: s.store.Watch, URL: s.opts.url, Log: s.log, Pause: s.opts.pause,
		Connect: s.reactTo,
		Problem: func(ctx context.Context, project, problem string) error {
			return s.store.SetForgeProblem(ctx, project, "write", problem)
		},
	})
}

// reactTo is the forge of a codebase: that of the project, for a further one if it is there too.
func (s *server) reactTo(ctx context.Context, project, codebase string) (react.Forge, error) {
	connection, client, err := s.forgeOf(ctx, project)
	if err != nil || client == nil {
		return nil, err
	}
	if codebase == "" {
		return client, nil
	}
	main, err := s.store.Project(ctx, project)
	if err != nil {
		return nil, err
	}
	c, err := s.planner.Codebase(ctx, slipway.CodebaseKey(project, codebase))
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && !sameOrigin(c.GitURL, main.GitURL) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	token, err := s.store.Credential(ctx, connection.Credential)
	if err != nil {
		return nil, err
	}
	beside, err := s.openForge(act.Beside(connection, c.GitURL), token)
	if err != nil {
		return nil, err
	}
	return beside, nil
}

// everyMirror is what the loop of the mirrors is woken by, in place of a project's name.
const everyMirror = ""

// wakes tells the loop of each project that there is something to do.
type wakes struct {
	mu       sync.Mutex
	channels map[string]chan struct{}
}

// of is the channel that gets a value after a wake of a project; several at once are one.
func (w *wakes) of(project string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.channels == nil {
		w.channels = map[string]chan struct{}{}
	}
	if w.channels[project] == nil {
		w.channels[project] = make(chan struct{}, 1)
	}
	return w.channels[project]
}

func (w *wakes) wake(project string) {
	select {
	case w.of(project) <- struct{}{}:
	default:
	}
}

// followForges has two loops for each project with a forge: one works off what webhooks sent and polls,
// one tells the forge what became of it. A forge that does not answer holds up its own project alone.
func (s *server) followForges(ctx context.Context) {
	var loops sync.WaitGroup
	defer loops.Wait()
	known := map[string]bool{}
	for {
		changed := s.store.Watch()
		connections, err := s.store.Connections(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("list the connections with forges", "error", err)
		}
		for _, c := range connections {
			if known[c.Project] {
				continue
			}
			known[c.Project] = true
			loops.Go(func() { s.followForge(ctx, c.Project, s.wakes.of(c.Project)) })
			loops.Go(func() { s.reactor.Follow(ctx, c.Project, s.again.of(c.Project)) })
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// gather is how long the deliveries of a project rest at least after some were worked off; they rest as
// long as that took, so that a storm leaves the server half of its time, and mostGather at most.
const (
	gather     = 250 * time.Millisecond
	mostGather = 5 * time.Second
)

// followForge works off the deliveries of a project when they come, and polls every so often. What was
// kept before the server stopped is worked off first.
func (s *server) followForge(ctx context.Context, project string, wake <-chan struct{}) {
	poll := time.NewTicker(s.opts.poll)
	defer poll.Stop()
	s.pollForge(ctx, project)
	for ctx.Err() == nil {
		began := time.Now()
		next, err := s.forges.Work(ctx, project)
		rest := min(max(gather, time.Since(began)), mostGather)
		if err != nil && ctx.Err() == nil {
			s.log.Error("work off deliveries", "project", project, "error", err)
			next = time.Now().Add(5 * time.Second)
		}
		var due <-chan time.Time
		timer := time.NewTimer(time.Until(next))
		if !next.IsZero() {
			due = timer.C
		}
		select { // what comes in a storm is worked off together
		case <-ctx.Done():
		case <-time.After(rest):
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-due:
		case <-poll.C:
			s.pollForge(ctx, project)
		}
		timer.Stop()
	}
}

// pollForge finds what webhooks missed.
func (s *server) pollForge(ctx context.Context, project string) {
	c, err := s.store.Connection(ctx, project)
	if err == nil {
		err = s.forges.Poll(ctx, c, nil)
	}
	if err == nil {
		err = s.forges.SyncPulls(ctx, c)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("poll forge", "project", project, "error", err)
	}
}
