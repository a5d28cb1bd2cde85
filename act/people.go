package act

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Users is where users are kept.
type Users interface {
	CreateUser(ctx context.Context, name string, admin bool, actor string) (slipway.User, error)
	// RemoveUser forgets a person with all credentials and roles; not the last admin of the server.
	RemoveUser(ctx context.Context, name, actor string) error
	Users(ctx context.Context) ([]slipway.User, error)
	User(ctx context.Context, name string) (slipway.User, error)
	SetRole(ctx context.Context, user, project string, role slipway.Role, actor string) error
}

// Tokens is where tokens are kept, as hashes.
type Tokens interface {
	CreateToken(ctx context.Context, user, name string, expires time.Time, actor string) (string, slipway.Token, error)
	Tokens(ctx context.Context, user string) ([]slipway.Token, error)
	RevokeToken(ctx context.Context, user string, id int64, actor string) error
}

// Credentials is where what else proves a user is kept, as hashes.
type Credentials interface {
	CreateLink(ctx context.Context, user string, ttl time.Duration) (string, error)
	// LinkSession and LinkToken use up a code for a session or a token: both, or nothing.
	LinkSession(ctx context.Context, code string, ttl time.Duration) (string, error)
	LinkToken(ctx context.Context, code, name string) (slipway.User, string, error)
	CreateSession(ctx context.Context, user string, ttl time.Duration) (string, error)
	UserByToken(ctx context.Context, secret string) (slipway.User, error)
}

// LinkTTL is how long a one-time sign-in link may be used.
const LinkTTL = 24 * time.Hour

const sessionTTL = 30 * 24 * time.Hour

// People does what concerns users and their credentials.
type People struct {
	Store       Users
	Credentials Credentials
	Keys        Tokens
	URL         string
}

// Users lists the users, for those who manage the server.
func (x *People) Users(ctx context.Context, by slipway.User) ([]slipway.User, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return nil, err
	}
	return x.Store.Users(ctx)
}

// CreateUser adds a user without roles, or an admin of the server.
func (x *People) CreateUser(ctx context.Context, by slipway.User, name string, admin bool) (slipway.User, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.User{}, err
	}
	if err := slipway.CheckName("user", name); err != nil {
		return slipway.User{}, err
	}
	return x.Store.CreateUser(ctx, name, admin, by.Name)
}

// RemoveUser takes a person off the server, with every role, token, link and session. What they did stays
// recorded under their name.
func (x *People) RemoveUser(ctx context.Context, by slipway.User, name string) error {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return err
	}
	return x.Store.RemoveUser(ctx, name, by.Name)
}

// SetRole gives a user a role in a project, "" takes it away.
func (x *People) SetRole(ctx context.Context, by slipway.User, user, project string, role slipway.Role) (slipway.User, error) {
	if err := auth.Check(by, auth.ManageProject, project); err != nil {
		return slipway.User{}, err
	}
	known := role == ""
	for _, r := range slipway.Roles() {
		known = known || r == role
	}
	if !known {
		return slipway.User{}, slipway.Errorf(slipway.Invalid, "role %q: expected one of %v, or none", role, slipway.Roles())
	}
	if err := x.Store.SetRole(ctx, user, project, role, by.Name); err != nil {
		return slipway.User{}, err
	}
	return x.Store.User(ctx, user)
}

// CreateToken makes a token of a user: one's own, or anybody's for those who manage the server. Its
// value is shown only now.
func (x *People) CreateToken(ctx context.Context, by slipway.User, user, name string) (string, error) {
	if err := x.mayCredit(ctx, by, user); err != nil {
		return "", err
	}
	name, err := tokenName(name)
	if err != nil {
		return "", err
	}
	secret, _, err := x.Keys.CreateToken(ctx, user, name, time.Time{}, by.Name)
	return secret, err
}

// Tokens lists the tokens of a user, oldest first, without their values: one's own, or anybody's for those
// who manage the server.
func (x *People) Tokens(ctx context.Context, by slipway.User, user string) ([]slipway.Token, error) {
	if err := x.mayCredit(ctx, by, user); err != nil {
		return nil, err
	}
	return x.Keys.Tokens(ctx, user)
}

// RevokeToken takes a token away: one's own, or anybody's for those who manage the server.
func (x *People) RevokeToken(ctx context.Context, by slipway.User, user string, id int64) error {
	if err := x.mayCredit(ctx, by, user); err != nil {
		return err
	}
	return x.Keys.RevokeToken(ctx, user, id, by.Name)
}

// mayCredit reports whether by may keep the credentials of a user: a person their own, an
// admin everybody's, nobody those of a robot.
func (x *People) mayCredit(ctx context.Context, by slipway.User, user string) error {
	if by.Name == "" || by.Name != user || by.Robot != nil {
		if err := auth.Check(by, auth.ManageServer, ""); err != nil {
			return err
		}
	}
	u, err := x.Store.User(ctx, user)
	if err == nil && u.Robot != nil {
		err = slipway.Errorf(slipway.Forbidden, "%s is a robot: Slipway alone keeps its token", user)
	}
	return err
}

const maxTokenName = 100 // characters

func tokenName(s string) (string, error) {
	if s = strings.TrimSpace(s); utf8.RuneCountInString(s) > maxTokenName || strings.ContainsFunc(s, unicode.IsControl) {
		return s, slipway.Errorf(slipway.Invalid, "the name of a token has at most %d characters, and no control characters", maxTokenName)
	}
	return first(s, "token"), nil
}

// CreateLink makes a one-time sign-in link of a user, for those who manage the server; a person may
// make one for themselves, to sign in elsewhere.
func (x *People) CreateLink(ctx context.Context, by slipway.User, user string) (string, error) {
	if err := x.mayCredit(ctx, by, user); err != nil {
		return "", err
	}
	code, err := x.Credentials.CreateLink(ctx, user, LinkTTL)
	if err != nil {
		return "", err
	}
	return x.URL + "/signin/" + code, nil
}

// Redeem uses up a one-time code and returns a new token of its user.
func (x *People) Redeem(ctx context.Context, code, name string) (slipway.User, string, error) {
	name, err := tokenName(name)
	if err != nil {
		return slipway.User{}, "", err
	}
	return x.Credentials.LinkToken(ctx, code, name)
}

// SignIn makes a session of a token, or of a one-time code, which is used up.
func (x *People) SignIn(ctx context.Context, token, code string) (string, error) {
	if code != "" {
		return x.Credentials.LinkSession(ctx, code, sessionTTL)
	}
	u, err := x.Credentials.UserByToken(ctx, token)
	if err != nil {
		return "", err
	}
	if u.Robot != nil {
		return "", slipway.Errorf(slipway.Forbidden, "%s is a robot and does not sign in", u.Name)
	}
	return x.Credentials.CreateSession(ctx, u.Name, sessionTTL)
}

// ClusterStore is where registered clusters and their credentials are kept.
type ClusterStore interface {
	SaveCluster(ctx context.Context, c slipway.Cluster, kubeconfig []byte, actor string) error
	Clusters(ctx context.Context) ([]slipway.Cluster, error)
	DeleteCluster(ctx context.Context, name, actor string) error
}

// Clusters registers the clusters that Slipway may deploy to (D19).
type Clusters struct {
	Store ClusterStore
	// Read checks a kubeconfig, cuts it down to one context ("" for its current one) and says
	// which context and server that is.
	Read func(kubeconfig []byte, context string) (cut []byte, name, server string, err error)
	Now  func() time.Time
}

// Clusters lists them; their credentials stay here.
func (x *Clusters) Clusters(ctx context.Context, by slipway.User) ([]slipway.Cluster, error) {
	if by.Name == "" || by.Robot != nil {
		return nil, auth.Check(by, auth.View, "")
	}
	return x.Store.Clusters(ctx)
}

// AddCluster registers a cluster, or gives a registered one new credentials.
func (x *Clusters) AddCluster(ctx context.Context, by slipway.User, name, contextName string, kubeconfig []byte) (slipway.Cluster, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Cluster{}, err
	}
	if err := slipway.CheckName("cluster", name); err != nil {
		return slipway.Cluster{}, err
	}
	cut, chosen, server, err := x.Read(kubeconfig, contextName)
	if err != nil {
		return slipway.Cluster{}, err
	}
	c := slipway.Cluster{Name: name, Context: chosen, Server: server, Created: x.Now()}
	return c, x.Store.SaveCluster(ctx, c, cut, by.Name)
}

// RemoveCluster forgets a cluster; nothing in it changes.
func (x *Clusters) RemoveCluster(ctx context.Context, by slipway.User, name string) error {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return err
	}
	return x.Store.DeleteCluster(ctx, name, by.Name)
}
