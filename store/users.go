package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const userColumns = `u.id, u.name, u.admin, u.created_at, coalesce(r.project, ''), coalesce(r.environment, '')`
const userTables = `users u LEFT JOIN robots r ON r.user_id = u.id`

func scanUser(r scanner) (u slipway.User, err error) {
	var robot slipway.Robot
	err = r.Scan(&u.ID, &u.Name, &u.Admin, stamp{&u.Created}, &robot.Project, &robot.Environment)
	if robot.Project != "" {
		u.Robot = &robot
	}
	return u, err
}

// CreateUser adds a person. A taken name is a Conflict.
func (s *Store) CreateUser(ctx context.Context, name string, admin bool, actor string) (slipway.User, error) {
	if err := slipway.CheckName("user", name); err != nil {
		return slipway.User{}, err
	}
	u := slipway.User{Name: name, Admin: admin}
	err := s.write(ctx, func(t *tx) error {
		if err := t.createUser(&u); err != nil {
			return err
		}
		return t.audit(slipway.Event{Kind: "user.created", Actor: actor, Message: "user " + name + " created"})
	})
	return u, err
}

// RemoveUser forgets a person with every role, token, link and session. What they did stays in the
// events under their name. The last admin of the server and robots are not removed: a Conflict.
func (s *Store) RemoveUser(ctx context.Context, name, actor string) error {
	return s.write(ctx, func(t *tx) error {
		u, ok, err := s.userWhere(ctx, t, `u.name = $1`, name)
		switch {
		case err != nil:
			return err
		case !ok:
			return slipway.Errorf(slipway.NotFound, "user %q does not exist", name)
		case u.Robot != nil:
			return slipway.Errorf(slipway.Conflict, "%s is a robot: clusters pull with it, and Slipway alone keeps it", name)
		}
		if err := t.keepAdmin(name); err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM users WHERE id = $1`, u.ID); err != nil { // and by reference all that is theirs
			return fmt.Errorf("remove user %s: %w", name, err)
		}
		return t.audit(slipway.Event{Kind: "user.removed", Actor: actor, Message: "user " + name + " removed"})
	})
}

// keepAdmin refuses to do without a user who is the last admin of the server.
func (t *tx) keepAdmin(name string) error {
	last, _, err := one(t.ctx, t, scanInt, `SELECT count(*) FROM users WHERE name = $1 AND admin = 1
		AND NOT EXISTS (SELECT 1 FROM users WHERE name <> $2 AND admin = 1)`, name, name)
	if err == nil && last > 0 {
		err = slipway.Errorf(slipway.Conflict, "%s is the last admin of the server: make another one first with `slipway users add NAME --admin`", name)
	}
	return err
}

func (t *tx) createUser(u *slipway.User) error {
	u.Created = t.now
	err := t.QueryRowContext(t.ctx, `INSERT INTO users (name, admin, created_at) VALUES ($1, $2, $3) RETURNING id`,
		u.Name, bit(u.Admin), ms(t.now)).Scan(&u.ID)
	if unique(err) {
		return slipway.Errorf(slipway.Conflict, "user %q exists already", u.Name)
	}
	if err != nil {
		return fmt.Errorf("create user %s: %w", u.Name, err)
	}
	return nil
}

// Users returns every user by name, robots too.
func (s *Store) Users(ctx context.Context) ([]slipway.User, error) {
	users, err := list(ctx, s.reader, scanUser, `SELECT `+userColumns+` FROM `+userTables+` ORDER BY u.name`)
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]map[string]slipway.Role, len(users))
	for i := range users {
		users[i].Roles = map[string]slipway.Role{}
		byID[users[i].ID] = users[i].Roles
	}
	members, err := list(ctx, s.reader, scanMember, `SELECT user_id, project, role FROM members`)
	for _, m := range members {
		if roles := byID[m.user]; roles != nil { // a user may have come since
			roles[m.project] = m.role
		}
	}
	return users, err
}

// User returns the user of that name.
func (s *Store) User(ctx context.Context, name string) (slipway.User, error) {
	u, ok, err := s.userWhere(ctx, s.reader, `u.name = $1`, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "user %q does not exist", name)
	}
	return u, err
}

func (s *Store) userWhere(ctx context.Context, q querier, cond string, args ...any) (slipway.User, bool, error) {
	u, ok, err := one(ctx, q, scanUser, `SELECT `+userColumns+` FROM `+userTables+` WHERE `+cond, args...)
	if err != nil || !ok {
		return u, false, err
	}
	u.Roles, err = roles(ctx, q, u.ID)
	return u, true, err
}

// member is a role of a user in a project.
type member struct {
	user    int64
	project string
	role    slipway.Role
}

func scanMember(r scanner) (m member, err error) { return m, r.Scan(&m.user, &m.project, &m.role) }

func roles(ctx context.Context, q querier, user int64) (map[string]slipway.Role, error) {
	members, err := list(ctx, q, scanMember, `SELECT user_id, project, role FROM members WHERE user_id = $1`, user)
	out := make(map[string]slipway.Role, len(members))
	for _, m := range members {
		out[m.project] = m.role
	}
	return out, err
}

// SetRole gives a user a role in a project; the empty role takes it away.
func (s *Store) SetRole(ctx context.Context, user, project string, role slipway.Role, actor string) error {
	if role != "" && !slices.Contains(slipway.Roles(), role) {
		return slipway.Errorf(slipway.Invalid, "role %q: expected viewer, developer, approver or admin", role)
	}
	return s.write(ctx, func(t *tx) error {
		id, err := t.userID(user)
		if err != nil {
			return err
		}
		if _, ok, err := one(ctx, t, scanInt, `SELECT id FROM projects WHERE name = $1`, project); err != nil {
			return err
		} else if !ok {
			return slipway.Errorf(slipway.NotFound, "project %q does not exist", project)
		}
		message := fmt.Sprintf("%s is now %s of %s", user, role, project)
		if role == "" {
			message = fmt.Sprintf("%s has no role in %s any more", user, project)
			_, err = t.exec(`DELETE FROM members WHERE user_id = $1 AND project = $2`, id, project)
		} else {
			_, err = t.exec(`INSERT INTO members (user_id, project, role) VALUES ($1, $2, $3)
				ON CONFLICT (user_id, project) DO UPDATE SET role = excluded.role`, id, project, role)
		}
		if err != nil {
			return fmt.Errorf("set role of %s: %w", user, err)
		}
		return t.audit(slipway.Event{Kind: "user.role", Project: project, Actor: actor, Message: message})
	})
}

// SetAdmin makes a user admin of the server, or takes that away; not from the last one.
func (s *Store) SetAdmin(ctx context.Context, user string, admin bool, actor string) error {
	return s.write(ctx, func(t *tx) error {
		if !admin {
			if err := t.keepAdmin(user); err != nil {
				return err
			}
		}
		n, err := t.exec(`UPDATE users SET admin = $1 WHERE name = $2`, bit(admin), user)
		if err != nil {
			return fmt.Errorf("set admin %s: %w", user, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.NotFound, "user %q does not exist", user)
		}
		return t.audit(slipway.Event{Kind: "user.role", Actor: actor, Message: fmt.Sprintf("%s: admin of the server: %t", user, admin)})
	})
}

func (t *tx) userID(name string) (int64, error) {
	id, ok, err := one(t.ctx, t, scanInt, `SELECT id FROM users WHERE name = $1`, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "user %q does not exist", name)
	}
	return id, err
}

// CreateToken makes a credential of a user. The secret is returned this once; only its hash is kept.
// A zero expires never expires.
func (s *Store) CreateToken(ctx context.Context, user, name string, expires time.Time, actor string) (string, slipway.Token, error) {
	secret := "slp_" + newSecret()
	token := slipway.Token{User: user, Name: name, Expires: expires}
	err := s.write(ctx, func(t *tx) error {
		id, err := t.userID(user)
		if err != nil {
			return err
		}
		return t.tokenMade(id, secret, &token, actor)
	})
	if err != nil {
		return "", token, err
	}
	return secret, token, nil
}

// tokenMade makes a token, with its event.
func (t *tx) tokenMade(user int64, secret string, token *slipway.Token, actor string) error {
	if err := t.createToken(user, secret, token); err != nil {
		return err
	}
	return t.audit(slipway.Event{Kind: "token.created", Actor: actor, Message: fmt.Sprintf("token %q of %s created", token.Name, token.User)})
}

func (t *tx) createToken(user int64, secret string, token *slipway.Token) error {
	token.Created = t.now
	err := t.QueryRowContext(t.ctx, `INSERT INTO tokens (user_id, name, hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5) RETURNING id`,
		user, token.Name, hashSecret(secret), ms(t.now), ms(token.Expires)).Scan(&token.ID)
	if err != nil {
		return fmt.Errorf("create token: %w", err)
	}
	return nil
}

// Tokens returns the tokens of a user, oldest first.
func (s *Store) Tokens(ctx context.Context, user string) ([]slipway.Token, error) {
	return list(ctx, s.reader, func(r scanner) (k slipway.Token, err error) {
		return k, r.Scan(&k.ID, &k.User, &k.Name, stamp{&k.Created}, stamp{&k.Expires}, stamp{&k.Used})
	}, `SELECT k.id, u.name, k.name, k.created_at, k.expires_at, k.used_at
		FROM tokens k JOIN users u ON u.id = k.user_id WHERE u.name = $1 ORDER BY k.id`, user)
}

// RevokeToken takes a token of a user away; from then on it opens nothing.
func (s *Store) RevokeToken(ctx context.Context, user string, id int64, actor string) error {
	return s.write(ctx, func(t *tx) error {
		name, ok, err := one(ctx, t, scanString, `DELETE FROM tokens WHERE id = $1 AND user_id = (SELECT id FROM users WHERE name = $2) RETURNING name`, id, user)
		if err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
		if !ok {
			return slipway.Errorf(slipway.NotFound, "token %d of %s does not exist", id, user)
		}
		return t.audit(slipway.Event{Kind: "token.revoked", Actor: actor, Message: fmt.Sprintf("token %q (%d) of %s revoked", name, id, user)})
	})
}

// usedEvery is how often the use of a token is written down.
const usedEvery = 5 * time.Minute

// UserByToken returns whose token it is. An unknown or expired one is Unauthorized.
func (s *Store) UserByToken(ctx context.Context, secret string) (slipway.User, error) {
	if !strings.HasPrefix(secret, "slp_") {
		return slipway.User{}, slipway.Errorf(slipway.Unauthorized, "the token is not one of Slipway's: they begin with slp_")
	}
	hash, now := hashSecret(secret), s.now()
	u, ok, err := s.userWhere(ctx, s.reader,
		`u.id = (SELECT user_id FROM tokens WHERE hash = $1 AND (expires_at = 0 OR expires_at > $2))`, hash, ms(now))
	if err != nil {
		return u, err
	}
	if !ok {
		return u, slipway.Errorf(slipway.Unauthorized, "the token is unknown, expired or was deleted")
	}
	stale, _, err := one(ctx, s.reader, scanInt, `SELECT count(*) FROM tokens WHERE hash = $1 AND used_at < $2`, hash, ms(now.Add(-usedEvery)))
	if err != nil || stale == 0 {
		return u, err
	}
	return u, s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE tokens SET used_at = $1 WHERE hash = $2`, ms(now), hash)
		return err
	})
}

// CreateLink makes a code that signs a user in once within ttl.
func (s *Store) CreateLink(ctx context.Context, user string, ttl time.Duration) (string, error) {
	code := newSecret()
	err := s.write(ctx, func(t *tx) error {
		id, err := t.userID(user)
		if err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM links WHERE expires_at < $1`, ms(t.now)); err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO links (hash, user_id, expires_at) VALUES ($1, $2, $3)`, hashSecret(code), id, ms(t.now.Add(ttl)))
		return err
	})
	if err != nil {
		return "", err
	}
	return code, nil
}

// LinkSession signs in a browser with a one-time code, and returns the secret of its session. Code and session go
// together: a code that made none can be used again. Of two at once one wins; the other, and any unknown or expired
// code, is Unauthorized.
func (s *Store) LinkSession(ctx context.Context, code string, ttl time.Duration) (string, error) {
	secret := newSecret()
	err := s.write(ctx, func(t *tx) error {
		u, err := t.useLink(code)
		if err != nil {
			return err
		}
		return t.createSession(u.ID, secret, ttl)
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// LinkToken is LinkSession for programs: the user whom the code is for, and the secret of a new token of theirs.
func (s *Store) LinkToken(ctx context.Context, code, name string) (slipway.User, string, error) {
	secret := "slp_" + newSecret()
	var u slipway.User
	err := s.write(ctx, func(t *tx) (err error) {
		if u, err = t.useLink(code); err != nil {
			return err
		}
		return t.tokenMade(u.ID, secret, &slipway.Token{User: u.Name, Name: name}, u.Name)
	})
	if err != nil {
		return slipway.User{}, "", err
	}
	return u, secret, nil
}

// useLink makes a code worthless, and returns whom it signs in.
func (t *tx) useLink(code string) (slipway.User, error) {
	id, ok, err := one(t.ctx, t, scanInt, `UPDATE links SET used_at = $1 WHERE hash = $2 AND used_at = 0 AND expires_at > $3 RETURNING user_id`,
		ms(t.now), hashSecret(code), ms(t.now))
	if err != nil {
		return slipway.User{}, err
	}
	if !ok {
		return slipway.User{}, slipway.Errorf(slipway.Unauthorized, "the sign-in link was used already or has expired; make a new one with `slipway users link NAME`")
	}
	u, _, err := t.s.userWhere(t.ctx, t, `u.id = $1`, id)
	if err != nil {
		return u, err
	}
	if u.Robot != nil {
		return u, slipway.Errorf(slipway.Forbidden, "%s is a robot and does not sign in", u.Name)
	}
	return u, t.audit(slipway.Event{Kind: "user.signed-in", Actor: u.Name, Message: u.Name + " signed in"})
}

// CreateSession returns the secret of a session of the browser.
func (s *Store) CreateSession(ctx context.Context, user string, ttl time.Duration) (string, error) {
	secret := newSecret()
	err := s.write(ctx, func(t *tx) error {
		id, err := t.userID(user)
		if err != nil {
			return err
		}
		return t.createSession(id, secret, ttl)
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

func (t *tx) createSession(user int64, secret string, ttl time.Duration) error {
	if _, err := t.exec(`DELETE FROM sessions WHERE expires_at < $1`, ms(t.now)); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO sessions (hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)`,
		hashSecret(secret), user, ms(t.now), ms(t.now.Add(ttl)))
	return err
}

// UserBySession returns whose session it is. An unknown or expired one is Unauthorized.
func (s *Store) UserBySession(ctx context.Context, secret string) (slipway.User, error) {
	u, ok, err := s.userWhere(ctx, s.reader,
		`u.id = (SELECT user_id FROM sessions WHERE hash = $1 AND expires_at > $2)`, hashSecret(secret), ms(s.now()))
	if err == nil && !ok {
		err = slipway.Errorf(slipway.Unauthorized, "you are not signed in, or not any more")
	}
	return u, err
}

// DeleteSession ends a session; one that does not exist is no error.
func (s *Store) DeleteSession(ctx context.Context, secret string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`DELETE FROM sessions WHERE hash = $1`, hashSecret(secret))
		return err
	})
}

// Robot returns the identity with which an environment of a project pulls, and its token, which is
// kept sealed with the key file so that the image pull secret can be written again. It is made when
// it is first asked for.
func (s *Store) Robot(ctx context.Context, project, environment string) (slipway.User, string, error) {
	if err := slipway.CheckName("environment", environment); err != nil {
		return slipway.User{}, "", err
	}
	name := "robot-" + project + "." + environment // a dot is in no other name, so that no two are one
	u, ok, err := s.userWhere(ctx, s.reader, `r.project = $1 AND r.environment = $2`, project, environment)
	if err != nil {
		return u, "", err
	}
	if !ok {
		if err := s.createRobot(ctx, name, project, environment); err != nil {
			return u, "", err
		}
		if u, _, err = s.userWhere(ctx, s.reader, `r.project = $1 AND r.environment = $2`, project, environment); err != nil {
			return u, "", err
		}
	}
	sealed, _, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) },
		`SELECT sealed FROM robots WHERE user_id = $1`, u.ID)
	if err != nil {
		return u, "", err
	}
	secret, err := s.unseal(sealed, "robot "+name)
	return u, string(secret), err
}

func (s *Store) createRobot(ctx context.Context, name, project, environment string) error {
	return s.write(ctx, func(t *tx) error {
		if _, ok, err := one(ctx, t, scanInt, `SELECT user_id FROM robots WHERE project = $1 AND environment = $2`, project, environment); err != nil || ok {
			return err
		}
		if _, ok, err := one(ctx, t, scanInt, `SELECT id FROM projects WHERE name = $1`, project); err != nil {
			return err
		} else if !ok {
			return slipway.Errorf(slipway.NotFound, "project %q does not exist", project)
		}
		u := slipway.User{Name: name}
		if err := t.createUser(&u); err != nil {
			return err
		}
		secret := "slp_" + newSecret()
		if err := t.createToken(u.ID, secret, &slipway.Token{Name: "pull"}); err != nil {
			return err
		}
		sealed, err := s.seal([]byte(secret), "robot "+name)
		if err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO robots (user_id, project, environment, sealed) VALUES ($1, $2, $3, $4)`, u.ID, project, environment, sealed); err != nil {
			return fmt.Errorf("create robot of %s: %w", environment, err)
		}
		return t.audit(slipway.Event{Kind: "user.created", Project: project, Message: "robot that pulls for " + environment + " created"})
	})
}
