package act

import (
	"context"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Codebases lists the codebases of a project, the main one first.
func (f *Forges) Codebases(ctx context.Context, by slipway.User, project string) ([]slipway.Codebase, error) {
	return f.x.Codebases(ctx, by, project)
}

// CreateCodebase adds a further codebase to a project and connects it as r says. Without r, one that is on
// the host of the project's forge is connected there with the project's credential, if that may; else it
// is mirrored by polling alone, and Problem says why. The forge is asked before anything is made.
func (f *Forges) CreateCodebase(ctx context.Context, by slipway.User, c slipway.Codebase, r *slipway.ConnectRequest) (slipway.Connected, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Connected{}, err
	}
	if err := slipway.CheckName("codebase", c.Name); err != nil {
		return slipway.Connected{}, err
	}
	asked := r != nil
	if asked && c.GitURL == "" {
		return slipway.Connected{}, slipway.Errorf(slipway.Invalid, "codebase %s: --git URL is needed to connect it with a forge: the repository there", c.Name)
	}
	if !asked {
		shares, err := f.mayShare(ctx, c)
		if err != nil {
			return slipway.Connected{}, err
		}
		if shares {
			r = &slipway.ConnectRequest{}
		}
	}
	out := slipway.Connected{}
	if r != nil {
		r.Project, r.Codebase = c.Project, c.Name
		_, repository, err := f.Probe(ctx, by, *r, c.GitURL)
		switch {
		case err == nil:
			c.DefaultBranch = first(c.DefaultBranch, repository.DefaultBranch)
		case asked:
			return out, err
		default:
			out.Problem, r = err.Error(), nil
		}
	}
	c, err := f.x.CreateCodebase(ctx, by, c)
	if err != nil {
		return out, err
	}
	if r == nil {
		return out, f.describe(ctx, &out, c)
	}
	out, err = f.Connect(ctx, by, *r)
	if code := slipway.ErrorCode(err); err != nil {
		return out, slipway.Errorf(code, "codebase %s is added and polled, but not connected (slipway codebase connect %s): %w", c.Name, c.Name, err)
	}
	return out, nil
}

// mayShare reports whether a new codebase is on the host of the project's forge, for which there is a token.
func (f *Forges) mayShare(ctx context.Context, c slipway.Codebase) (bool, error) {
	if c.GitURL == "" {
		return false, nil
	}
	p, err := f.x.o.Projects.Project(ctx, c.Project)
	if err != nil {
		return false, err
	}
	main, err := f.Connections.Connection(ctx, c.Project)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	return main.Credential != "" && mayShow(c.GitURL, p.GitURL, main.API), err
}

// unhookTimeout bounds how long the removal of a codebase waits for its forge.
const unhookTimeout = 20 * time.Second

// RemoveCodebase takes a further codebase away from its project, with its connection and the webhooks that
// Slipway made for it. If the forge does not remove those, the answer says so: they are refused from now on.
func (f *Forges) RemoveCodebase(ctx context.Context, by slipway.User, project, name string) (slipway.Removed, error) {
	key := slipway.CodebaseKey(project, name)
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Removed{}, err
	}
	c, token, err := f.connected(ctx, key)
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return slipway.Removed{}, err
	}
	if err := f.change(key, func() error { return f.x.RemoveCodebase(ctx, by, project, name) }); err != nil {
		return slipway.Removed{}, err
	}
	if len(c.HookIDs) == 0 {
		return slipway.Removed{}, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unhookTimeout)
	defer cancel()
	if err := f.Unhook(ctx, c, token); err != nil {
		f.log.WarnContext(ctx, "remove the webhook of a codebase that was removed", "codebase", key, "error", err)
		return slipway.Removed{Problem: "its webhook in " + c.Repository + " is still there: remove it on " + c.Forge.Title() + "'s pages: " + err.Error()}, nil
	}
	return slipway.Removed{}, nil
}

// connected is the connection of a codebase, if it has one, and its credential.
func (f *Forges) connected(ctx context.Context, codebase string) (slipway.Connection, string, error) {
	if project, name := slipway.SplitCodebase(codebase); name == "" || project == "" {
		return slipway.Connection{}, "", nil // RemoveCodebase says that the main one cannot be removed
	}
	c, err := f.Connections.Connection(ctx, codebase)
	if err != nil || c.Credential == "" {
		return c, "", err
	}
	token, err := f.Connections.Credential(ctx, c.Credential)
	return c, token, err
}
