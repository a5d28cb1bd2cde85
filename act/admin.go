package act

import (
	"context"
	"net/url"
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

// CreateProject makes a project: its repository is hosted here, or mirrors GitURL.
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
	if p.DefaultBranch = first(p.DefaultBranch, "main"); slipway.CheckRef("refs/heads/"+p.DefaultBranch) != nil {
		return p, slipway.Errorf(slipway.Invalid, "default branch %q: not a valid branch name", p.DefaultBranch)
	}
	if err := checkGitURL(p.GitURL); err != nil {
		return p, err
	}
	if _, err := x.o.Projects.Project(ctx, p.Name); err == nil {
		return p, slipway.Errorf(slipway.Conflict, "project %s exists already", p.Name)
	}
	if err := x.o.Create(ctx, p); err != nil {
		return p, err
	}
	return x.o.Projects.CreateProject(ctx, slipway.Project{Name: p.Name, DefaultBranch: p.DefaultBranch, GitURL: p.GitURL, CreatedAt: x.o.Now()}, by.Name)
}

func checkGitURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh") || strings.HasPrefix(u.Host, "-") {
		return slipway.Errorf(slipway.Invalid, "git URL %q: expected https://, http:// or ssh:// with a host", s)
	}
	if _, secret := u.User.Password(); secret {
		return slipway.Errorf(slipway.Invalid, "the git URL holds a password: it would stand in logs and listings; leave it out")
	}
	return nil
}
