package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/hosting/gitserver"
	"github.com/slipway-cd/slipway/repos"
)

func (s *server) openGit(ctx context.Context) (*gitserver.Server, error) {
	return gitserver.New(ctx, gitserver.Options{
		Dir: func(ctx context.Context, project, codebase string) (string, error) {
			c, err := s.planner.Codebase(ctx, slipway.CodebaseKey(project, codebase))
			if err != nil {
				return "", err
			}
			dir := s.repos.Path(c.Key())
			_, err = os.Stat(dir)
			return dir, err
		},
		Open: func(dir string, env []string) gitserver.Repository { return git.Repo{Dir: dir, Env: env} },
		Authorize: func(ctx context.Context, r *http.Request, project string, write bool) (string, error) {
			if r.Header.Get("Authorization") == "" { // a browser's session is not for git
				return "", slipway.Errorf(slipway.Unauthorized, "sign in with your user name and a token as the password")
			}
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

func (s *server) submodules() repos.Submodules {
	return repos.Submodules{Repos: s.repos, Codebases: s.store.Codebases, Project: s.store.Project, URL: s.opts.url}
}

// open is the repository of a codebase, with submodules that are other codebases of its project. Where there
// are no others nothing is searched for.
func (s *server) open(codebase string) repos.Repo {
	all := s.submodules()
	w := all.Whole(codebase)
	w.Any = all.Any
	return repos.Of(w)
}

// view is the repository of a push, with what is not yet part of it.
func (s *server) view(in gitserver.Push) repos.Repo {
	r := s.open(slipway.CodebaseKey(in.Project, in.Codebase))
	r.Dir, r.Env, r.Readers = in.Dir, in.Env, nil
	return r
}

// pushes turns what the git server tells into acts.
type pushes struct {
	server *server

	mu       sync.Mutex
	recorded map[string]slipway.Push // received and not yet moved, by codebase, ref and commit
}

func key(codebase, ref, commit string) string { return codebase + " " + ref + " " + commit }

func (p *pushes) remember(push slipway.Push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded[key(slipway.CodebaseKey(push.Project, push.Codebase), push.Ref, push.New)] = push
}

// take returns the recorded pushes of commands, in their order.
func (p *pushes) take(in gitserver.Push) []slipway.Push {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []slipway.Push
	for _, c := range in.Commands {
		k := key(slipway.CodebaseKey(in.Project, in.Codebase), c.Ref, c.New)
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
	view := p.server.view(in)
	recorded, err := p.server.actions.Receive(ctx, by, slipway.CodebaseKey(in.Project, in.Codebase), commands, view.Tree)
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
	push, lines, err := p.server.actions.Propose(ctx, by, act.Proposal{Project: in.Project, Codebase: in.Codebase, Base: in.Base, Topic: in.Topic, Title: in.Title, Head: in.Head})
	if err != nil {
		return gitserver.Proposed{}, err
	}
	if push.ID != 0 {
		p.remember(push)
	}
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
