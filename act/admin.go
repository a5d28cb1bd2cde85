package act

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Projects lists the projects in which the user has a role.
func (x *Actions) Projects(ctx context.Context, by slipway.User) ([]slipway.Project, error) {
	all, err := x.o.Projects.Projects(ctx)
	if err != nil {
		return nil, err
	}
	if by.Name == "" {
		return nil, auth.Check(by, auth.View, "")
	}
	var mine []slipway.Project
	for _, p := range all {
		if auth.Check(by, auth.View, p.Name) == nil {
			mine = append(mine, p)
		}
	}
	return mine, nil
}

// CreateProject makes a project: its repository is hosted here, or mirrors GitURL. Without a default
// branch it is main, or the one of what is mirrored.
func (x *Actions) CreateProject(ctx context.Context, by slipway.User, p slipway.Project) (slipway.Project, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return p, err
	}
	if err := slipway.CheckName("project", p.Name); err != nil {
		return p, err
	}
	switch p.Name {
	case "prod", "mirror", "charts", "blobs":
		return p, slipway.Errorf(slipway.Invalid, "project name %q is reserved: choose another", p.Name)
	}
	if p.GitURL == "" {
		p.DefaultBranch = first(p.DefaultBranch, "main")
	}
	if err := checkDefault(p.DefaultBranch); err != nil {
		return p, err
	}
	if err := checkGitURL(p.GitURL); err != nil {
		return p, err
	}
	defer x.lock(p.Name)()
	if _, err := x.o.Projects.Project(ctx, p.Name); err == nil {
		return p, slipway.Errorf(slipway.Conflict, "project %s exists already", p.Name)
	}
	main, keep, err := x.o.Create(ctx, p.Main())
	if err != nil {
		return p, err
	}
	made, err := x.o.Projects.CreateProject(ctx, slipway.Project{Name: p.Name, DefaultBranch: main.DefaultBranch, GitURL: p.GitURL, CreatedAt: x.o.Now()}, by.Name)
	if err != nil {
		return p, err
	}
	if err := keep(); err != nil {
		return made, fmt.Errorf("keep the repository of %s: %w", p.Name, err)
	}
	return made, nil
}

// scpExpr is a git URL as scp has it: user@host:path.
var scpExpr = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:\s-][^:\s]*$`)

func checkGitURL(s string) error {
	if s == "" {
		return nil
	}
	if scpExpr.MatchString(s) && len(s) <= 2000 {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > 2000 || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh") || strings.HasPrefix(u.Host, "-") {
		return slipway.Errorf(slipway.Invalid, "the git URL is not one that can be mirrored: expected https://, http:// or ssh:// with a host, or git@host:path")
	}
	if _, secret := u.User.Password(); secret || (u.User != nil && u.Scheme != "ssh") {
		return slipway.Errorf(slipway.Invalid, "the git URL holds a password or a token: it would stand in logs and listings; leave it out")
	}
	return nil
}

// checkDefault refuses a default branch that could not be one; "" is none yet.
func checkDefault(branch string) error {
	if branch == "" {
		return nil
	}
	if slipway.CheckRef("refs/heads/"+branch) != nil {
		return slipway.Errorf(slipway.Invalid, "default branch %q: not a valid branch name", branch)
	}
	if _, release, _ := slipway.ParseReleaseRef("refs/heads/" + branch); release {
		return slipway.Errorf(slipway.Invalid, "default branch %q: branches release/<service>/<version> are those of releases; choose another", branch)
	}
	return nil
}
