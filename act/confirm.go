package act

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Confirm asks the forge whether the name by which a codebase is fetched is that of the repository that is connected,
// by the forge's own id. A repository that was renamed or moved leaves its name to whoever takes it, and git is then
// given the stranger's. It is to be asked before and after the fetch whose result is to be taken: what was asked for
// another fetch, or is remembered, says nothing of this one.
//
// The error is Conflict for a name that is another repository's; whatever else keeps the forge from saying whose it
// is, is an error too, and what was fetched waits: the next poll finds it again. Where there is nobody to ask (see
// Source.Asked) it is nil.
func (f *Forges) Confirm(ctx context.Context, src Source) error {
	if !src.Asked() {
		return nil
	}
	c := src.Connection
	name, repository, err := f.lookUp(ctx, c, src.Codebase.GitURL)
	if err != nil {
		return fmt.Errorf("is %s still the repository that was connected? What was fetched waits until the forge says so: %w", name, err)
	}
	var taken error
	if repository.ID != c.RepositoryID {
		taken = slipway.Errorf(slipway.Conflict, "%s on %s is another repository than the one that was connected (id %s, not %s): it has taken over the name. Nothing of it is taken. "+
			"Say where the repository is now: %s --git URL --token-file FILE; with the URL of today, if that other one is meant",
			name, c.Forge.Title(), slipway.CleanLine(repository.ID, 40), c.RepositoryID, connectCommand(src.Codebase))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.anew[src.key()] == src.version { // else that was about what it was connected with before
		f.taken[src.key()] = taken
	}
	return taken
}

// lookUp asks a forge for the repository that has the name by which git asks for it, and returns that name. Where the
// URL does not have the forge's name for it, as that of a mirror, it is the connection's.
func (f *Forges) lookUp(ctx context.Context, c slipway.Connection, gitURL string) (string, slipway.ForgeRepository, error) {
	token, err := f.Connections.Credential(ctx, c.Credential)
	if err != nil {
		return c.Repository, slipway.ForgeRepository{}, err
	}
	named := c
	named.RepositoryID = "" // else some are asked by it
	if by, err := connectionOf(slipway.ConnectRequest{Project: c.Project, Forge: c.Forge, Address: c.API, Token: "any"}, gitURL); err == nil {
		named.Repository = by.Repository
	}
	for {
		client, err := f.Open(named, token)
		if err != nil {
			return named.Repository, slipway.ForgeRepository{}, err
		}
		repository, err := client.Repository(ctx)
		if slipway.ErrorCode(err) != slipway.NotFound || named.Repository == c.Repository {
			return named.Repository, repository, err
		}
		named.Repository = c.Repository
	}
}

// Taken is what Confirm said last of a codebase, where that was that its name is another repository's. It asks
// nobody, and is only a reason to ask again.
func (f *Forges) Taken(codebase string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken[codebase]
}

func connectCommand(at slipway.Codebase) string {
	if at.Name == "" {
		return "slipway project connect " + at.Project
	}
	return "slipway codebase connect " + at.Name + " --project " + at.Project
}

// moves is the codebase of a request with the URL at which it is from now on, if the request says one. What else
// it would be connected with must be the same repository: a forge's id of it that differs is a Conflict where no URL
// was said.
func moves(r slipway.ConnectRequest, at slipway.Codebase) (slipway.Codebase, error) {
	if r.GitURL == "" {
		return at, nil
	}
	if r.ByKeyAlone() {
		return at, slipway.Errorf(slipway.Invalid, "%s: another --git URL takes a token as well (--token-file): without one nobody says which repository that is", at.Title())
	}
	at.GitURL = r.GitURL
	return at, checkGitURL(at.GitURL)
}

// same refuses to connect what was connected before with a repository that has taken over its name.
func (f *Forges) same(ctx context.Context, r slipway.ConnectRequest, at slipway.Codebase, c slipway.Connection) error {
	before, err := f.Connections.Connection(ctx, at.Key())
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	if err != nil || r.GitURL != "" || before.API != c.API || before.RepositoryID == "" || before.RepositoryID == c.RepositoryID || !strings.EqualFold(before.Repository, c.Repository) {
		return err
	}
	return slipway.Errorf(slipway.Conflict, "%s on %s is another repository than the one that was connected (id %s, not %s). If it is meant, say so with its URL: %s --git %s --token-file FILE; else give the URL at which the repository is now",
		c.Repository, c.Forge.Title(), slipway.CleanLine(c.RepositoryID, 40), before.RepositoryID, connectCommand(at), at.GitURL)
}
