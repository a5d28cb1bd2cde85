package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// The credential is the main codebase's where it is shared, and none where no token is kept.
const connectionColumns = `project, codebase, forge, api, repository, repository_id, shared, hook_ids, created_at,
	EXISTS (SELECT 1 FROM credentials k WHERE k.name = 'forge/' || connections.project ||
		CASE WHEN connections.codebase = '' OR connections.shared = 1 THEN '' ELSE '/' || connections.codebase END || '/token')`

func scanConnection(r scanner) (c slipway.Connection, err error) {
	var ids string
	var token bool
	err = r.Scan(&c.Project, &c.Codebase, &c.Forge, &c.API, &c.Repository, &c.RepositoryID, &c.Shared, &ids, stamp{&c.CreatedAt}, &token)
	c.HookSecret, c.HookIDs = credentialName(c.Key(), "webhook"), strings.Fields(ids)
	switch {
	case !token:
	case c.Shared:
		c.Credential = credentialName(c.Project, "token")
	default:
		c.Credential = credentialName(c.Key(), "token")
	}
	return c, err
}

func credentialName(codebase, what string) string { return "forge/" + codebase + "/" + what }

func connection(ctx context.Context, q querier, codebase string) (slipway.Connection, bool, error) {
	project, name := slipway.SplitCodebase(codebase)
	return one(ctx, q, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE project = $1 AND codebase = $2`, project, name)
}

// SaveConnection connects a codebase, or changes how it is connected. The token is kept sealed. Without one the one
// that was kept stays, or the connection is Shared, which takes a main codebase with a token on the same forge; with
// neither it takes a deploy key in use, else it is Invalid. The secret of the webhook is made the first time, and
// again when the repository is another one; what waits of the deliveries of the one before is not processed any more. A git URL in d.Codebase is where it is fetched from then on. What happened before is not told to the forge.
func (s *Store) SaveConnection(ctx context.Context, d slipway.CodebaseDetail, token, actor string) (slipway.Connection, error) {
	c := *d.Connection
	if err := c.Check(); err != nil {
		return c, err
	}
	if token != "" {
		c.Shared = false
	}
	err := s.write(ctx, func(t *tx) error {
		old, had, err := connection(ctx, t, c.Key())
		if err != nil {
			return err
		}
		if err := t.mayConnect(c); err != nil {
			return err
		}
		if token == "" && !c.Shared {
			if err := t.mayBeWithoutToken(c); err != nil {
				return err
			}
		}
		if err := t.saveConnection(c, d); err != nil {
			return fmt.Errorf("connect %s: %w", c.Key(), err)
		}
		if err := t.saveToken(c, token); err != nil {
			return err
		}
		if err := t.saveGitURL(c, d.Codebase.GitURL, actor); err != nil {
			return err
		}
		another := old.RepositoryID != "" && c.RepositoryID != "" && old.RepositoryID != c.RepositoryID
		if had && (another || old.API != c.API) {
			if err := t.dropDeliveries(c); err != nil {
				return err
			}
		}
		if !had || another || old.API != c.API || old.Repository != c.Repository {
			if err := t.saveCredential(c, "webhook", newSecret()); err != nil {
				return err
			}
		}
		if c, _, err = connection(ctx, t, c.Key()); err != nil {
			return err
		}
		return t.audit(slipway.Event{Kind: "forge.connected", Project: c.Project, Actor: actor, Message: fmt.Sprintf("%sconnected with %s on %s (%s)", about(c.Codebase), c.Repository, c.Forge, c.API)})
	})
	return c, err
}

// about begins a message about a further codebase.
func about(codebase string) string {
	if codebase == "" {
		return ""
	}
	return "codebase " + codebase + ": "
}

// mayConnect refuses a connection of what is not there, a second one with the same repository, one that shares
// what the main codebase does not have, and a main one that would take away what others share.
func (t *tx) mayConnect(c slipway.Connection) error {
	other, had, err := one(t.ctx, t, scanString, `SELECT codebase FROM connections WHERE project = $1 AND codebase <> $2 AND api = $3
		AND (lower(repository) = lower($4) OR repository_id <> '' AND repository_id = $5) ORDER BY codebase LIMIT 1`, c.Project, c.Codebase, c.API, c.Repository, c.RepositoryID)
	if err != nil {
		return err
	}
	if had {
		return slipway.Errorf(slipway.Conflict, "%s is connected with %s of project %s already", c.Repository, slipway.CodebaseTitle(other), c.Project)
	}
	if c.Codebase == "" && c.Shared {
		return slipway.Errorf(slipway.Invalid, "project %s has no other codebase that its token could be of", c.Project)
	}
	if c.Codebase == "" {
		n, _, err := one(t.ctx, t, scanInt, `SELECT count(*) FROM connections WHERE project = $1 AND shared = 1 AND api <> $2`, c.Project, c.API)
		if err == nil && n > 0 {
			err = slipway.Errorf(slipway.Conflict, "project %s has %d codebases that use its token for the forge it leaves: give them their own first (slipway codebase connect NAME --token-file FILE)", c.Project, n)
		}
		return err
	}
	n, _, err := one(t.ctx, t, scanInt, `SELECT count(*) FROM codebases WHERE project = $1 AND name = $2`, c.Project, c.Codebase)
	if err == nil && n == 0 {
		err = slipway.Errorf(slipway.NotFound, "project %s has no codebase %q", c.Project, c.Codebase)
	}
	if err != nil || !c.Shared {
		return err
	}
	main, had, err := connection(t.ctx, t, c.Project)
	if err == nil && (!had || main.Credential == "" || main.API != c.API) {
		err = slipway.Errorf(slipway.Invalid, "codebase %s needs a token of its own: project %s has none for %s", c.Codebase, c.Project, c.API)
	}
	return err
}

// mayBeWithoutToken refuses a connection for which there is neither a token nor a deploy key.
func (t *tx) mayBeWithoutToken(c slipway.Connection) error {
	n, _, err := one(t.ctx, t, scanInt, `SELECT (SELECT count(*) FROM deploy_keys WHERE codebase = $1 AND accepted = 1) + (SELECT count(*) FROM credentials WHERE name = $2)`,
		c.Key(), credentialName(c.Key(), "token"))
	if err == nil && n == 0 {
		err = slipway.Errorf(slipway.Invalid, "%s needs a token for its forge, or a deploy key", c.Key())
	}
	return err
}

func (t *tx) saveConnection(c slipway.Connection, d slipway.CodebaseDetail) error {
	_, err := t.exec(`INSERT INTO connections (project, codebase, forge, api, repository, repository_id, shared, link, forks, reacted, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT coalesce(max(id), 0) FROM events), $10)
		ON CONFLICT (project, codebase) DO UPDATE SET forge = excluded.forge, api = excluded.api, repository = excluded.repository,
			repository_id = excluded.repository_id, shared = excluded.shared, link = excluded.link, forks = excluded.forks, problem = '', problem_at = 0`,
		c.Project, c.Codebase, c.Forge, c.API, c.Repository, c.RepositoryID, bit(c.Shared), d.Link, d.Forks, ms(t.now))
	return err
}

// dropDeliveries finishes what waits of the deliveries of the repository that a codebase was connected with before.
func (t *tx) dropDeliveries(c slipway.Connection) error {
	_, err := t.exec(`UPDATE deliveries SET state = 'processed', reason = 'nothing follows: another repository is connected since' WHERE project = $1 AND codebase = $2 AND state = 'received'`, c.Project, c.Codebase)
	if err != nil {
		return fmt.Errorf("drop the deliveries of what %s was connected with: %w", c.Key(), err)
	}
	return nil
}

// saveGitURL keeps where a mirrored codebase is from now on; "" leaves it where it is.
func (t *tx) saveGitURL(c slipway.Connection, gitURL, actor string) error {
	if gitURL == "" {
		return nil
	}
	set, args := `UPDATE projects SET git_url = $1 WHERE git_url NOT IN ('', $1) AND name = $2`, []any{gitURL, c.Project}
	if c.Codebase != "" {
		set, args = `UPDATE codebases SET git_url = $1 WHERE git_url NOT IN ('', $1) AND project = $2 AND name = $3`, append(args, c.Codebase)
	}
	n, err := t.exec(set, args...)
	if err != nil || n == 0 {
		return err
	}
	return t.audit(slipway.Event{Kind: "project.changed", Project: c.Project, Actor: actor, Message: about(c.Codebase) + "git URL changed"})
}

// saveToken keeps the token of a connection, the one before where there is no new one, and none where it is shared.
func (t *tx) saveToken(c slipway.Connection, token string) error {
	if token != "" {
		return t.saveCredential(c, "token", token)
	}
	if !c.Shared {
		return nil
	}
	_, err := t.exec(`DELETE FROM credentials WHERE name = $1`, credentialName(c.Key(), "token"))
	return err
}

func (t *tx) saveCredential(c slipway.Connection, what, secret string) error {
	name := credentialName(c.Key(), what)
	sealed, err := t.s.seal([]byte(secret), "credential "+name)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO credentials (name, project, sealed) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed`, name, c.Project, sealed); err != nil {
		return fmt.Errorf("save credential %s: %w", name, err)
	}
	return nil
}

// Credential opens a sealed credential by the name that a connection has for it.
func (s *Store) Credential(ctx context.Context, name string) (string, error) {
	sealed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) }, `SELECT sealed FROM credentials WHERE name = $1`, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "there is no credential %s: connect its codebase again", name)
	}
	if err != nil {
		return "", err
	}
	open, err := s.unseal(sealed, "credential "+name)
	return string(open), err
}

// Connection says how a codebase, given by its key, is connected; NotFound if it is not.
func (s *Store) Connection(ctx context.Context, codebase string) (slipway.Connection, error) {
	c, ok, err := connection(ctx, s.reader, codebase)
	if err != nil || ok {
		return c, err
	}
	project, name := slipway.SplitCodebase(codebase)
	if name == "" {
		return c, slipway.Errorf(slipway.NotFound, "project %q is not connected with a forge: `slipway project connect %s` connects it", project, project)
	}
	return c, slipway.Errorf(slipway.NotFound, "codebase %q of %s is not connected with a forge: `slipway codebase connect %s` connects it", name, project, name)
}

// Connections lists the codebases that are connected, by project and name.
func (s *Store) Connections(ctx context.Context) ([]slipway.Connection, error) {
	return list(ctx, s.reader, scanConnection, `SELECT `+connectionColumns+` FROM connections ORDER BY project, codebase`)
}

// ProjectDetail is a project with the connections of its codebases.
func (s *Store) ProjectDetail(ctx context.Context, project string) (slipway.ProjectDetail, error) {
	p, err := s.Project(ctx, project)
	d := slipway.ProjectDetail{Project: p}
	if err != nil {
		return d, err
	}
	if d.CodebaseDetail, err = s.detail(ctx, p.Main()); err != nil {
		return d, err
	}
	further, err := s.Codebases(ctx, project)
	for _, c := range further {
		of, err := s.detail(ctx, c)
		if err != nil {
			return d, err
		}
		d.Codebases = append(d.Codebases, of)
	}
	return d, err
}

// CodebaseDetail is a codebase, given by its key, with its connection.
func (s *Store) CodebaseDetail(ctx context.Context, codebase string) (slipway.CodebaseDetail, error) {
	project, name := slipway.SplitCodebase(codebase)
	if name == "" {
		p, err := s.Project(ctx, project)
		if err != nil {
			return slipway.CodebaseDetail{}, err
		}
		return s.detail(ctx, p.Main())
	}
	c, ok, err := one(ctx, s.reader, scanCodebase, `SELECT `+codebaseColumns+` FROM codebases WHERE project = $1 AND name = $2`, project, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "project %s has no codebase %q", project, name)
	}
	if err != nil {
		return slipway.CodebaseDetail{}, err
	}
	return s.detail(ctx, c)
}

// detail is a codebase with its connection and how the forge answers, if it has one.
func (s *Store) detail(ctx context.Context, of slipway.Codebase) (slipway.CodebaseDetail, error) {
	d := slipway.CodebaseDetail{Codebase: of}
	if k, err := s.DeployKey(ctx, of.Key(), true); err == nil {
		d.DeployKey = &k
	} else if slipway.ErrorCode(err) != slipway.NotFound {
		return d, err
	}
	c, ok, err := connection(ctx, s.reader, of.Key())
	if err != nil || !ok {
		return d, err
	}
	d.Connection = &c
	d.Health = &slipway.ForgeHealth{}
	_, _, err = one(ctx, s.reader, func(r scanner) (struct{}, error) {
		return struct{}{}, r.Scan(&d.Forks, &d.Link, stamp{&d.Health.Since}, stamp{&d.Health.Delivered}, &d.Health.Waiting, &d.Health.Behind)
	}, `SELECT forks, link, problem_at,
		(SELECT coalesce(max(created_at), 0) FROM deliveries d WHERE d.project = c.project AND d.codebase = c.codebase),
		(SELECT count(*) FROM deliveries d WHERE d.project = c.project AND d.codebase = c.codebase AND d.state = 'received'),
		(SELECT count(*) FROM events e WHERE e.project = c.project AND e.id > c.reacted)
		FROM connections c WHERE project = $1 AND codebase = $2`, of.Project, of.Name)
	if err != nil {
		return d, err
	}
	now, err := problems(ctx, s.reader, of.Key())
	for _, area := range slices.Sorted(maps.Keys(now)) {
		d.Health.Problems = append(d.Health.Problems, slipway.ForgeProblem{Area: area, Message: now[area]})
	}
	return d, err
}

// ForgeLinks are the pages of a run on the forge of its codebase, nil if it has none.
func (s *Store) ForgeLinks(ctx context.Context, run slipway.Run) (*slipway.ForgeLinks, error) {
	var repository string
	l, ok, err := one(ctx, s.reader, func(r scanner) (*slipway.ForgeLinks, error) {
		v := &slipway.ForgeLinks{}
		return v, r.Scan(&v.Forge, &repository, &v.Pull)
	}, `SELECT forge, link, coalesce((SELECT p.link FROM pulls p WHERE p.project = c.project AND p.codebase = c.codebase AND p.number = $1), '')
		FROM connections c WHERE project = $2 AND codebase = $3`, run.Pull, run.Project, run.Codebase)
	if err != nil || !ok {
		return nil, err
	}
	l.Commit = l.Forge.CommitLink(repository, run.Commit)
	return l, nil
}

// SetHooks keeps which webhooks were made on the forge of a codebase.
func (s *Store) SetHooks(ctx context.Context, codebase string, ids []string, actor string) error {
	project, name := slipway.SplitCodebase(codebase)
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE connections SET hook_ids = $1 WHERE project = $2 AND codebase = $3`, strings.Join(ids, " "), project, name)
		if err != nil || n == 0 {
			return err
		}
		return t.audit(slipway.Event{Kind: "forge.hooked", Project: project, Actor: actor, Message: fmt.Sprintf("%swebhook %s made", about(name), strings.Join(ids, ", "))})
	})
}

// SetForgeProblem keeps what the forge of a codebase refuses in one area (fetch, read, write, webhook), "" when it answers
// there as it should. Saying the same again changes nothing.
func (s *Store) SetForgeProblem(ctx context.Context, codebase, area, problem string) error {
	project, name := slipway.SplitCodebase(codebase)
	if had, err := problems(ctx, s.reader, codebase); err != nil || had[area] == problem {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		now, err := problems(ctx, t, codebase)
		if err != nil || now[area] == problem {
			return err
		}
		begun := len(now) == 0
		if now[area] = problem; problem == "" {
			delete(now, area)
		}
		text := ""
		if len(now) > 0 {
			text = string(data(now))
		}
		n, err := t.exec(`UPDATE connections SET problem = $1, problem_at = CASE WHEN $2 = 1 THEN $3 WHEN $4 = 1 THEN 0 ELSE problem_at END WHERE project = $5 AND codebase = $6`,
			text, bit(begun), ms(t.now), bit(text == ""), project, name)
		if err != nil || n == 0 {
			return err
		}
		e := slipway.Event{Kind: "forge.refused", Project: project, Message: about(name) + problem}
		if problem == "" {
			e.Kind, e.Message = "forge.answered", about(name)+area+": the forge answers as it should again"
		}
		return t.audit(e)
	})
}

// problems are what a codebase's forge refuses, by area.
func problems(ctx context.Context, q querier, codebase string) (map[string]string, error) {
	project, name := slipway.SplitCodebase(codebase)
	text, _, err := one(ctx, q, scanString, `SELECT problem FROM connections WHERE project = $1 AND codebase = $2`, project, name)
	out := map[string]string{}
	if err != nil || text == "" {
		return out, err
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, fmt.Errorf("decode the problems of %s: %w", codebase, err)
	}
	return out, nil
}

// Synced reports whether the pull requests that were there before a codebase was connected are known.
func (s *Store) Synced(ctx context.Context, codebase string) (bool, error) {
	project, name := slipway.SplitCodebase(codebase)
	n, _, err := one(ctx, s.reader, scanInt, `SELECT synced FROM connections WHERE project = $1 AND codebase = $2`, project, name)
	return n == 1, err
}

// SetSynced says that they are.
func (s *Store) SetSynced(ctx context.Context, codebase string) error {
	project, name := slipway.SplitCodebase(codebase)
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE connections SET synced = 1 WHERE project = $1 AND codebase = $2`, project, name)
		return err
	})
}

// LinkAccount says that an account of a forge is a user; user "" takes that back.
func (s *Store) LinkAccount(ctx context.Context, api, account, user, actor string) error {
	account = strings.ToLower(account)
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM accounts WHERE api = $1 AND account = $2`, api, account); err != nil {
			return err
		}
		if user == "" {
			return t.audit(slipway.Event{Kind: "user.unlinked", Actor: actor, Message: fmt.Sprintf("the account %s on %s is nobody's", account, api)})
		}
		n, err := t.exec(`INSERT INTO accounts (api, account, user_id) SELECT $1, $2, id FROM users WHERE name = $3`, api, account, user)
		if err != nil {
			return fmt.Errorf("link account %s: %w", account, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.NotFound, "user %q does not exist", user)
		}
		return t.audit(slipway.Event{Kind: "user.linked", Actor: actor, Message: fmt.Sprintf("the account %s on %s is %s", account, api, user)})
	})
}

// UserByAccount returns the user whose account of a forge that is, the zero user for nobody's. The forge's
// id of the account is kept when it is first seen; from then on the name with another id is nobody's.
func (s *Store) UserByAccount(ctx context.Context, api string, a slipway.Account) (slipway.User, error) {
	var name, id string
	account := strings.ToLower(a.Name)
	_, ok, err := one(ctx, s.reader, func(r scanner) (struct{}, error) { return struct{}{}, r.Scan(&name, &id) },
		`SELECT u.name, a.account_id FROM accounts a JOIN users u ON u.id = a.user_id WHERE a.api = $1 AND a.account = $2`, api, account)
	if err != nil || !ok || (id != "" && a.ID != "" && id != a.ID) {
		return slipway.User{}, err
	}
	if id == "" && a.ID != "" {
		err := s.write(ctx, func(t *tx) error {
			_, err := t.exec(`UPDATE accounts SET account_id = $1 WHERE api = $2 AND account = $3 AND account_id = ''`, a.ID, api, account)
			return err
		})
		if err != nil {
			return slipway.User{}, fmt.Errorf("keep the id of account %s: %w", account, err)
		}
	}
	return s.User(ctx, name)
}
