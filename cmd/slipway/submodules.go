package main

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/hosting/gitserver"
)

// submodules finds the codebases that the submodules of a project's codebases stand for. None of another
// project is ever found, and nothing outside is asked.
type submodules struct {
	repos     repos
	codebases func(ctx context.Context, project string) ([]slipway.Codebase, error) // further ones
	project   func(ctx context.Context, name string) (slipway.Project, error)
	url       string // of this server
}

// find is the repository of the codebase that a submodule's URL names, as the codebase of a key has it.
func (s submodules) find(ctx context.Context, from, raw string) (string, git.Repo, bool, error) {
	project, _ := slipway.SplitCodebase(from)
	p, err := s.project(ctx, project)
	if err != nil {
		return "", git.Repo{}, false, err
	}
	all, err := s.codebases(ctx, project)
	if err != nil {
		return "", git.Repo{}, false, err
	}
	all = append(all, p.Main())
	var meant []address
	for _, c := range all {
		if c.Key() == from {
			meant = resolved(raw, s.addresses(c))
		}
	}
	for _, c := range all {
		for _, have := range s.addresses(c) {
			for _, want := range meant {
				if have == want {
					return c.Key(), s.repos.git(c.Key()), true, nil
				}
			}
		}
	}
	return "", git.Repo{}, false, nil
}

// foreign says of each submodule that stays an empty folder that it does.
func (s submodules) foreign(ctx context.Context, codebase, commit string) ([]string, error) {
	list, err := s.whole(codebase).Foreign(ctx, commit)
	var lines []string
	for _, m := range list {
		lines = append(lines, fmt.Sprintf("submodule %s is an empty folder: %s is no codebase of the project, and nothing else is fetched",
			slipway.CleanLine(m.Path, 200), slipway.CleanLine(withoutUser(m.URL), 200)))
	}
	return lines, err
}

// whole is a codebase's repository with its submodules.
func (s submodules) whole(codebase string) git.Whole {
	return git.Whole{Repo: s.repos.git(codebase), Key: codebase, Find: s.find}
}

// any reports whether the project of a codebase has another one.
func (s submodules) any(ctx context.Context, from string) (bool, error) {
	project, _ := slipway.SplitCodebase(from)
	further, err := s.codebases(ctx, project)
	return len(further) > 0, err
}

// address is where a repository is, whatever protocol it is asked with.
type address struct{ host, path string }

// addresses are where a codebase may be cloned from.
func (s submodules) addresses(c slipway.Codebase) (out []address) {
	for _, raw := range []string{s.url + "/git/" + c.Key() + ".git", c.GitURL} {
		if a, ok := parseAddress(raw); ok {
			out = append(out, a)
		}
	}
	return out
}

var scpExpr = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^/:][^:]*)$`)

// parseAddress reads the URL of a repository that is reached over a network.
func parseAddress(raw string) (address, bool) {
	if len(raw) > 2000 {
		return address{}, false
	}
	if m := scpExpr.FindStringSubmatch(raw); m != nil && !strings.Contains(raw, "://") {
		return address{strings.ToLower(m[1]), trimmed("/" + m[2])}, true
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return address{}, false
	}
	switch u.Scheme {
	case "https", "http", "ssh", "git":
		return address{strings.ToLower(u.Host), trimmed(u.Path)}, true
	}
	return address{}, false
}

func trimmed(p string) string { return strings.TrimSuffix(path.Clean("/"+p), ".git") }

// resolved is what a submodule's URL means in a repository with these addresses: relative ones begin with
// ./ or ../, as git has it.
func resolved(raw string, bases []address) []address {
	if !strings.HasPrefix(raw, "./") && !strings.HasPrefix(raw, "../") {
		a, ok := parseAddress(raw)
		if !ok {
			return nil
		}
		return []address{a}
	}
	var out []address
	for _, b := range bases {
		out = append(out, address{b.host, trimmed(b.path + "/" + raw)})
	}
	return out
}

// withoutUser is a URL without what might be a password in it.
func withoutUser(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		u.User = nil
		return u.String()
	}
	return raw
}

func (s *server) submodules() submodules {
	return submodules{repos: s.repos, codebases: s.store.Codebases, project: s.store.Project, url: s.opts.url}
}

// open is the repository of a codebase, with submodules that are other codebases of its project. Where there
// are no others nothing is searched for.
func (s *server) open(codebase string) repo {
	all := s.submodules()
	w := all.whole(codebase)
	w.Any = all.any
	return repo{w}
}

// view is the repository of a push, with what is not yet part of it.
func (s *server) view(in gitserver.Push) repo {
	r := s.open(slipway.CodebaseKey(in.Project, in.Codebase))
	r.Dir, r.Env, r.Readers = in.Dir, in.Env, nil
	return r
}
