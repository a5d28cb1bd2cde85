package repos

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
)

// Submodules finds the codebases that the submodules of a project's codebases stand for. None of another
// project is ever found, and nothing outside is asked.
type Submodules struct {
	Repos     Folder
	Codebases func(ctx context.Context, project string) ([]slipway.Codebase, error) // further ones
	Project   func(ctx context.Context, name string) (slipway.Project, error)
	URL       string // of this server
}

// Find is the repository of the codebase that a submodule's URL names, as the codebase of a key has it.
func (s Submodules) Find(ctx context.Context, from, raw string) (string, git.Repo, bool, error) {
	project, _ := slipway.SplitCodebase(from)
	p, err := s.Project(ctx, project)
	if err != nil {
		return "", git.Repo{}, false, err
	}
	all, err := s.Codebases(ctx, project)
	if err != nil {
		return "", git.Repo{}, false, err
	}
	all = append(all, p.Main())
	var meant []Address
	for _, c := range all {
		if c.Key() == from {
			meant = Resolve(raw, s.addresses(c))
		}
	}
	for _, c := range all {
		for _, have := range s.addresses(c) {
			for _, want := range meant {
				if have == want {
					return c.Key(), s.Repos.git(c.Key()), true, nil
				}
			}
		}
	}
	return "", git.Repo{}, false, nil
}

// Foreign says of each submodule that stays an empty folder that it does.
func (s Submodules) Foreign(ctx context.Context, codebase, commit string) ([]string, error) {
	list, err := s.Whole(codebase).Foreign(ctx, commit)
	var lines []string
	for _, m := range list {
		lines = append(lines, fmt.Sprintf("submodule %s is an empty folder: %s is no codebase of the project, and nothing else is fetched",
			slipway.CleanLine(m.Path, 200), slipway.CleanLine(withoutUser(m.URL), 200)))
	}
	return lines, err
}

// Whole is a codebase's repository with its submodules.
func (s Submodules) Whole(codebase string) git.Whole {
	return git.Whole{Repo: s.Repos.git(codebase), Key: codebase, Find: s.Find}
}

// Any reports whether the project of a codebase has another one.
func (s Submodules) Any(ctx context.Context, from string) (bool, error) {
	project, _ := slipway.SplitCodebase(from)
	further, err := s.Codebases(ctx, project)
	return len(further) > 0, err
}

// Address is where a repository is, whatever protocol it is asked with.
type Address struct{ Host, Path string }

// addresses are where a codebase may be cloned from.
func (s Submodules) addresses(c slipway.Codebase) (out []Address) {
	for _, raw := range []string{s.URL + "/git/" + c.Key() + ".git", c.GitURL} {
		if a, ok := ParseAddress(raw); ok {
			out = append(out, a)
		}
	}
	return out
}

var scpExpr = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^/:][^:]*)$`)

// ParseAddress reads the URL of a repository that is reached over a network.
func ParseAddress(raw string) (Address, bool) {
	if len(raw) > 2000 {
		return Address{}, false
	}
	if m := scpExpr.FindStringSubmatch(raw); m != nil && !strings.Contains(raw, "://") {
		return Address{strings.ToLower(m[1]), trimmed("/" + m[2])}, true
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return Address{}, false
	}
	switch u.Scheme {
	case "https", "http", "ssh", "git":
		return Address{strings.ToLower(u.Host), trimmed(u.Path)}, true
	}
	return Address{}, false
}

func trimmed(p string) string { return strings.TrimSuffix(path.Clean("/"+p), ".git") }

// Resolve is what a submodule's URL means in a repository with these addresses: relative ones begin with
// ./ or ../, as git has it.
func Resolve(raw string, bases []Address) []Address {
	if !strings.HasPrefix(raw, "./") && !strings.HasPrefix(raw, "../") {
		a, ok := ParseAddress(raw)
		if !ok {
			return nil
		}
		return []Address{a}
	}
	var out []Address
	for _, b := range bases {
		out = append(out, Address{b.Host, trimmed(b.Path + "/" + raw)})
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
