package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/hosting/gitserver"
)

func (s *server) openGit(ctx context.Context) (*gitserver.Server, error) {
	return gitserver.New(ctx, gitserver.Options{
		Dir: func(ctx context.Context, project string) (string, error) {
			if _, err := s.store.Project(ctx, project); err != nil {
				return "", err
			}
			dir := s.repos.path(project)
			_, err := os.Stat(dir)
			return dir, err
		},
		Open: func(dir string, env []string) gitserver.Repository { return git.Repo{Dir: dir, Env: env} },
		Authorize: func(ctx context.Context, r *http.Request, project string, write bool) (string, error) {
			by, err := s.identity.Identify(r)
			if err != nil {
				return "", err
			}
			action := auth.Clone
			if write {
				action = auth.PushBranch
			}
			return by.Name, auth.Check(by, action, project)
		},
		Pushes: &pushes{server: s, recorded: map[string]slipway.Push{}},
		State:  filepath.Join(s.opts.data, "git"),
		Log:    s.log,
	})
}

// pushes turns what the git server tells into acts.
type pushes struct {
	server *server

	mu       sync.Mutex
	recorded map[string]slipway.Push // received and not yet moved, by project, ref and commit
}

func key(project, ref, commit string) string { return project + " " + ref + " " + commit }

func (p *pushes) remember(push slipway.Push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded[key(push.Project, push.Ref, push.New)] = push
}

// take returns the recorded pushes of commands, in their order.
func (p *pushes) take(in gitserver.Push) []slipway.Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []slipway.Push
	for _, c := range in.Commands {
		k := key(in.Project, c.Ref, c.New)
		if push, ok := p.recorded[k]; ok {
			delete(p.recorded, k)
			out = append(out, push)
		}
	}
	return out
}

// Receive decides about a push and records it.
func (p *pushes) Receive(ctx context.Context, in gitserver.Push) ([]string, error) {
	by, err := p.server.store.User(ctx, in.Actor)
	if err != nil {
		return nil, err
	}
	commands := make([]act.Command, len(in.Commands))
	for i, c := range in.Commands {
		commands[i] = act.Command{Ref: c.Ref, Old: c.Old, New: c.New, Forced: c.Forced}
	}
	view := repo{git.Repo{Dir: in.Dir, Env: in.Env}}
	recorded, err := p.server.actions.Receive(ctx, by, in.Project, commands, func(ctx context.Context, commit string) (fs.FS, error) { return view.Tree(ctx, commit) })
	if err != nil {
		return nil, err
	}
	for _, push := range recorded {
		p.remember(push)
	}
	return nil, nil
}

// Propose opens or updates a pull request.
func (p *pushes) Propose(ctx context.Context, in gitserver.Proposal) (gitserver.Proposed, error) {
	by, err := p.server.store.User(ctx, in.Actor)
	if err != nil {
		return gitserver.Proposed{}, err
	}
	push, lines, err := p.server.actions.Propose(ctx, by, act.Proposal{Project: in.Project, Base: in.Base, Topic: in.Topic, Title: in.Title, Head: in.Head})
	if err != nil {
		return gitserver.Proposed{}, err
	}
	p.remember(push)
	return gitserver.Proposed{Ref: push.Ref, Old: push.Old, Messages: lines}, nil
}

// Moved starts the runs of what moved.
func (p *pushes) Moved(ctx context.Context, in gitserver.Push) []string {
	return p.server.actions.Moved(ctx, p.take(in))
}

// Refused closes what did not move.
func (p *pushes) Refused(ctx context.Context, in gitserver.Push) {
	p.server.actions.Refused(ctx, p.take(in))
}

// pollMirror fetches what a project mirrors and takes every ref that moved as a push.
func (s *server) pollMirror(ctx context.Context, p slipway.Project) error {
	r := s.repos.open(p.Name)
	if _, err := r.Fetch(ctx, git.Remote{URL: p.GitURL}); err != nil {
		return fmt.Errorf("fetch %s: %w", p.Name, err)
	}
	now, err := r.Refs(ctx, "refs/heads", "refs/tags")
	if err != nil {
		return err
	}
	seen, err := s.store.SeenRefs(ctx, p.Name)
	if err != nil {
		return err
	}
	for ref, commit := range now {
		if seen[ref] == commit {
			continue
		}
		if err := s.actions.Seen(ctx, p, ref, first(seen[ref], slipway.ZeroHash), commit, len(seen) == 0); err != nil {
			return err
		}
	}
	for ref, commit := range seen {
		if _, there := now[ref]; there || commit == slipway.ZeroHash {
			continue
		}
		if err := s.actions.Seen(ctx, p, ref, commit, slipway.ZeroHash, false); err != nil {
			return err
		}
	}
	return nil
}
