package act

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// confirmed is what a forge said last of the name by which a codebase is fetched.
type confirmed struct {
	own   time.Time // when the repository was found under its own name; zero when the name only leads to it
	taken error     // the name is another repository's
}

// standsFor is for how long a repository that was found under its own name counts as found while its forge's API
// does not answer. In that time somebody would have to give it another name, and somebody else take the old one,
// with the API away all along.
const standsFor = 24 * time.Hour

// Confirm asks the forge whether the name by which a codebase is fetched is still that of the repository that was
// connected, by the forge's own id. A repository that was renamed or moved leaves its name to whoever takes it, and
// git is then given the stranger's. It is to be asked after something was fetched and before that is taken: so a
// poll that finds nothing asks nothing, and no time is left in which another repository would be taken unseen.
//
// The error is Conflict for a name that is another repository's. While the API does not answer, a repository that was
// found under its own name in the last day is taken to be there still; else the error is Unavailable, and what was
// fetched waits: the next poll finds it again. Without a token, and for what is on no forge, there is nobody to ask.
func (f *Forges) Confirm(ctx context.Context, codebase string) error {
	c, err := f.Connections.Connection(ctx, codebase)
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && (c.Credential == "" || c.RepositoryID == "") {
		return nil
	}
	if err != nil {
		return err
	}
	at, err := f.x.o.Planner.Codebase(ctx, codebase)
	if err != nil {
		return err
	}
	f.mu.Lock()
	before, anew := f.names[codebase], f.anew[codebase]
	f.mu.Unlock()
	name, repository, err := f.lookUp(ctx, c, at.GitURL)
	if slipway.ErrorCode(err) == slipway.Unavailable && before.taken == nil && f.now().Sub(before.own) < standsFor {
		f.log.WarnContext(ctx, "the forge does not say whose name this is; it was the repository's own a while ago", "codebase", codebase, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("is %s still the repository that was connected? What was fetched waits until the forge says so: %w", name, err)
	}
	now := confirmed{}
	switch {
	case repository.ID != c.RepositoryID:
		now.taken = slipway.Errorf(slipway.Conflict, "%s on %s is another repository than the one that was connected (id %s, not %s): it has taken over the name. Nothing of it is taken. "+
			"Say where the repository is now: %s --git URL --token-file FILE; with the URL of today, if that other one is meant",
			name, c.Forge.Title(), slipway.CleanLine(repository.ID, 40), c.RepositoryID, connectCommand(at))
	case strings.EqualFold(repository.Name, name):
		now.own = f.now()
	}
	f.mu.Lock()
	if f.anew[codebase] == anew { // else that was about what it was connected with before
		f.names[codebase] = now
	}
	f.mu.Unlock()
	return now.taken
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

// Taken is why nothing may be told to the forge of a codebase nor taken from it: Confirm found its name to be another
// repository's, and has not found anything else since. It asks nobody.
func (f *Forges) Taken(codebase string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[codebase].taken
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
