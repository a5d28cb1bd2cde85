package main

import (
	"context"
	"errors"
	"net/http"
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
	s.forges = act.NewForges(s.actions, act.ForgeOptions{
		Connections: s.store, Details: s.store, Deliveries: s.store, Pulls: s.store, Commands: s.store, Problem: s.store.SetForgeProblem,
		Keys: s.store, SSH: git.DeployKeys{Dir: s.sshDir},
		Open:    func(c slipway.Connection, token string) (act.Forge, error) { return s.openForge(c, token) },
		Receive: receiveDelivery, HookText: hookText, Unhook: s.unhook,
		Polled: s.polled,
		Mirror: s.pollMirror,
		FetchPull: func(ctx context.Context, codebase string, number int64, ref string) (string, error) {
			defer s.mirrors.lock(codebase)()
			c, err := s.planner.Codebase(ctx, codebase)
			if err != nil {
				return "", err
			}
			m, err := s.remoteOf(ctx, c)
			if err != nil {
				return "", err
			}
			return s.repos.Open(codebase).FetchPull(ctx, m, number, ref)
		},
		Wake: s.wakes.wake,
		Connected: func(codebase string) {
			s.wakes.wake(codebase)
			s.again.wake(codebase)
			s.wakes.wake(everyMirror)
		},
	})
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

// everyMirror is what the loop of the mirrors is woken by, in place of a codebase's key.
const everyMirror = ""

// wakes tells the loop of each codebase that there is something to do.
type wakes struct {
	mu       sync.Mutex
	channels map[string]chan struct{}
}

// of is the channel that gets a value after a wake of a codebase; several at once are one.
func (w *wakes) of(codebase string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.channels == nil {
		w.channels = map[string]chan struct{}{}
	}
	if w.channels[codebase] == nil {
		w.channels[codebase] = make(chan struct{}, 1)
	}
	return w.channels[codebase]
}

func (w *wakes) wake(codebase string) {
	select {
	case w.of(codebase) <- struct{}{}:
	default:
	}
}

// polls is when each mirrored codebase was polled last, and with what success. It is not kept: a server polls when
// it starts.
type polls struct {
	mu   sync.Mutex
	last map[string]slipway.Poll
}

// note keeps how a poll ended, unless it was stopped.
func (p *polls) note(ctx context.Context, codebase string, err error) {
	if ctx.Err() != nil {
		return
	}
	one := slipway.Poll{Time: time.Now()}
	if err != nil {
		one.Problem = slipway.CleanLine(err.Error(), 600)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[string]slipway.Poll{}
	}
	p.last[codebase] = one
}

func (p *polls) of(codebase string) slipway.Poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last[codebase]
}

// polled is the last poll of a mirrored codebase since the server started.
func (s *server) polled(codebase string) *slipway.Poll {
	last := s.polls.of(codebase)
	last.Since = s.begun
	return &last
}

// followForges has two loops for each codebase on a forge: one works off what webhooks sent and polls,
// one tells the forge what became of it. A forge that does not answer holds up its own codebase alone. The
// loops of a codebase that was removed end.
func (s *server) followForges(ctx context.Context) {
	var loops sync.WaitGroup
	defer loops.Wait()
	known := map[string]context.CancelFunc{}
	for {
		changed := s.store.Watch()
		connections, err := s.store.Connections(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("list the connections with forges", "error", err)
		}
		now := map[string]bool{}
		for _, c := range connections {
			key := c.Key()
			if now[key] = true; known[key] != nil {
				continue
			}
			one, end := context.WithCancel(ctx)
			known[key] = end
			loops.Go(func() { s.followForge(one, key, s.wakes.of(key)) })
			loops.Go(func() { s.reactor.Follow(one, key, s.again.of(key)) })
		}
		for key, end := range known {
			if err == nil && !now[key] {
				end()
				delete(known, key)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// gather is how long the deliveries of a codebase rest at least after some were worked off; they rest as
// long as that took, so that a storm leaves the server half of its time, and mostGather at most.
const (
	gather     = 250 * time.Millisecond
	mostGather = 5 * time.Second
)

// followForge works off the deliveries of a codebase when they come, and polls every so often. What was
// kept before the server stopped is worked off first.
func (s *server) followForge(ctx context.Context, codebase string, wake <-chan struct{}) {
	poll := time.NewTicker(s.opts.poll)
	defer poll.Stop()
	s.pollForge(ctx, codebase)
	for ctx.Err() == nil {
		began := time.Now()
		next, err := s.forges.Work(ctx, codebase)
		rest := min(max(gather, time.Since(began)), mostGather)
		if err != nil && ctx.Err() == nil {
			s.log.Error("work off deliveries", "codebase", codebase, "error", err)
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
			s.pollForge(ctx, codebase)
		}
		timer.Stop()
	}
}

// pollForge finds what webhooks missed. When the codebase is connected anew meanwhile it begins again.
func (s *server) pollForge(ctx context.Context, codebase string) {
	again := true
	for again && ctx.Err() == nil {
		c, err := s.store.Connection(ctx, codebase)
		if err == nil {
			err = s.forges.Poll(ctx, c, nil)
		}
		if err == nil {
			err = s.forges.SyncPulls(ctx, codebase)
		}
		if again = errors.Is(err, act.ErrConnectedAnew); again {
			continue
		}
		s.polls.note(ctx, codebase, err)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			s.log.Warn("poll forge", "codebase", codebase, "error", err)
		}
	}
}
