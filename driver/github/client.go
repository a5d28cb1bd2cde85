package github

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// Limits of GitHub: a description has 140 characters, a comment 65536 (counted in bytes here).
const (
	maxDescription = 140
	maxComment     = 65536
	perPage        = 100
)

// Scopes of a classic token, and permissions of a fine-grained one or an app.
const (
	needRead    = `the scope "repo", or the permission "Contents: read"`
	needPulls   = `the scope "repo", or the permission "Pull requests: read"`
	needStatus  = `the scope "repo:status", or the permission "Commit statuses: write"`
	needComment = `the scope "repo", or the permission "Pull requests: write"`
	needHook    = `the scope "admin:repo_hook", or the permission "Webhooks: write"`
	needMember  = `the scope "repo", or the permission "Metadata: read"`
)

// Client speaks with GitHub about one repository. It may be used by several goroutines.
type Client struct {
	c     slipway.Connection
	owner string
	name  string
	api   *rest.Client
	token string // or
	app   *App

	mu   sync.Mutex
	self string // login of the token's account, once it is known
}

// New makes a client. credential is a token, or an app as ParseApp reads it.
func New(c slipway.Connection, credential string, o rest.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(c.Repository, "/")
	g := &Client{c: c, owner: owner, name: name}
	app, ok, err := ParseApp(credential)
	if err != nil {
		return nil, err
	}
	if ok {
		g.app, err = app, app.connect(c.API, o)
	} else {
		g.token, err = rest.Credential("GitHub", credential)
	}
	if err != nil {
		return nil, err
	}
	api, err := rest.New("GitHub", c.API, versioned(func(ctx context.Context, h http.Header) error {
		_, token, err := g.GitAuth(ctx)
		h.Set("Authorization", "Bearer "+token)
		return err
	}), o)
	if err != nil {
		return nil, err
	}
	g.api = api
	return g, nil
}

func versioned(authorize func(context.Context, http.Header) error) func(context.Context, http.Header) error {
	return func(ctx context.Context, h http.Header) error {
		h.Set("Accept", "application/vnd.github+json")
		h.Set("X-GitHub-Api-Version", "2022-11-28")
		return authorize(ctx, h)
	}
}

// GitAuth is the user and the password that git takes over HTTPS, for an hour at least five minutes of
// which are left where it is an app's.
func (g *Client) GitAuth(ctx context.Context) (user, password string, err error) {
	token := g.token
	if g.app != nil {
		token, err = g.app.Token(ctx)
	}
	return "x-access-token", token, err
}

func (g *Client) path(more ...string) []string {
	return append([]string{"repos", g.owner, g.name}, more...)
}

func (g *Client) what(doing string) string { return doing + " " + g.c.Repository }

// Repository reads the repository's id, default branch and address for cloning.
func (g *Client) Repository(ctx context.Context) (slipway.ForgeRepository, error) {
	var r repository
	_, err := g.api.Do(ctx, rest.Request{Path: g.path(), Into: &r, What: g.what("read the repository"), Scope: needRead})
	if err != nil {
		return slipway.ForgeRepository{}, err
	}
	return slipway.ForgeRepository{
		ID: rest.ID(r.ID), Name: r.FullName, DefaultBranch: r.DefaultBranch,
		CloneURL: rest.Link(r.CloneURL), Link: rest.Link(r.HTMLURL), Private: r.Private,
	}, nil
}

// Pulls lists the open pull requests, at most 3,000.
func (g *Client) Pulls(ctx context.Context) ([]slipway.ForgePull, error) {
	var out []slipway.ForgePull
	list := rest.Request{Path: g.path("pulls"), Query: url.Values{"state": {"open"}}, What: g.what("list the pull requests of"), Scope: needPulls}
	for p, err := range rest.List[pull](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return nil, err
		}
		if n, why, err := rest.Pull(p.noun(p.baseID())); err == nil && why == "" {
			out = append(out, n)
		}
	}
	return out, nil
}

func (p pull) baseID() int64 {
	if p.Base.Repo == nil {
		return 0
	}
	return p.Base.Repo.ID
}

// Pull reads one pull request, open or not.
func (g *Client) Pull(ctx context.Context, number int64) (slipway.ForgePull, error) {
	var p pull
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("pulls", rest.ID(number)), Into: &p, What: g.what("read pull request " + rest.ID(number) + " of"), Scope: needPulls})
	if err != nil {
		return slipway.ForgePull{}, err
	}
	return rest.ReadPull("pull request", g.c.Repository, p.noun(p.baseID()))
}

// Heads lists the branches and where they are, but for those whose names Slipway does not take.
func (g *Client) Heads(ctx context.Context) ([]slipway.BranchHead, error) {
	var out []slipway.BranchHead
	type branch struct {
		Name   string `json:"name"`
		Commit struct {
			SHA string `json:"sha"`
		} `json:"commit"`
	}
	list := rest.Request{Path: g.path("branches"), What: g.what("list the branches of"), Scope: needRead}
	for b, err := range rest.List[branch](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return nil, err
		}
		out = rest.Head(out, b.Name, b.Commit.SHA)
	}
	return out, nil
}

// SetStatus sets a commit status; the description is cut to 140 characters.
func (g *Client) SetStatus(ctx context.Context, s slipway.CommitStatus) error {
	if err := s.Check(); err != nil {
		return err
	}
	body := map[string]string{"state": string(s.State), "context": s.Context, "description": slipway.CleanLine(s.Description, maxDescription)}
	if s.URL != "" {
		body["target_url"] = s.URL
	}
	_, err := g.api.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: g.path("statuses", s.Commit), Body: body,
		What: g.what("set the status " + s.Context + " on " + slipway.ShortHash(s.Commit) + " of"), Scope: needStatus,
	})
	return err
}

// Comment makes the comment, or updates the one that is there, and returns its id. Only a comment that
// this token's own account wrote is updated.
func (g *Client) Comment(ctx context.Context, c slipway.PullComment) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	body := map[string]string{"body": c.Markdown(maxComment)}
	what := g.what("comment on pull request " + rest.ID(c.Pull) + " of")
	id, err := rest.Place(ctx, c, g.update(body, what), g.find)
	if err != nil || id != "" {
		return id, err
	}
	var made comment
	_, err = g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("issues", rest.ID(c.Pull), "comments"), Body: body, Into: &made, What: what, Scope: needComment})
	return rest.ID(made.ID), err
}

func (g *Client) update(body map[string]string, what string) func(context.Context, string) error {
	return func(ctx context.Context, id string) error {
		_, err := g.api.Do(ctx, rest.Request{Method: http.MethodPatch, Path: g.path("issues", "comments", id), Body: body, What: what, Scope: needComment})
		return err
	}
}

func (g *Client) find(ctx context.Context, c slipway.PullComment) (string, error) {
	self, err := g.me(ctx)
	if err != nil {
		return "", err
	}
	list := rest.Request{Path: g.path("issues", rest.ID(c.Pull), "comments"), What: g.what("read the comments on pull request " + rest.ID(c.Pull) + " of"), Scope: needPulls}
	for x, err := range rest.List[comment](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return "", err
		}
		if strings.EqualFold(x.User.Login, self) && strings.HasPrefix(x.Body, c.Hidden()) {
			return rest.ID(x.ID), nil
		}
	}
	return "", nil
}

// me is the login of the account that the credential belongs to.
func (g *Client) me(ctx context.Context) (string, error) {
	g.mu.Lock()
	self := g.self
	g.mu.Unlock()
	if self != "" {
		return self, nil
	}
	if g.app != nil {
		slug, err := g.app.slug(ctx)
		if err != nil {
			return "", err
		}
		self = slug + "[bot]"
	} else {
		var u user
		if _, err := g.api.Do(ctx, rest.Request{Path: []string{"user"}, Into: &u, What: "ask GitHub whose token it is"}); err != nil {
			return "", err
		}
		self = u.Login
	}
	g.mu.Lock()
	g.self = self
	g.mu.Unlock()
	return self, nil
}

// MayWrite reports whether somebody may push to the repository: asked of GitHub now, not remembered.
func (g *Client) MayWrite(ctx context.Context, a slipway.Account) (bool, error) {
	if a.Name == "" || a.Bot {
		return false, nil
	}
	var p struct {
		Permission string `json:"permission"`
		User       *user  `json:"user"`
	}
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("collaborators", a.Name, "permission"), Into: &p, What: g.what("ask for the rights of " + a.Name + " in"), Scope: needMember})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	same := a.ID == "" || p.User == nil || rest.ID(p.User.ID) == a.ID
	return same && (p.Permission == "admin" || p.Permission == "write"), nil
}

// CreateHooks makes the webhook that sends to address, or sets it right if it is there, and returns its
// id.
func (g *Client) CreateHooks(ctx context.Context, address, secret string) ([]string, error) {
	hook := map[string]any{
		"name": "web", "active": true, "events": []string{"push", "pull_request", "issue_comment"},
		"config": map[string]string{"url": address, "content_type": "json", "secret": secret, "insecure_ssl": "0"},
	}
	what := g.what("make a webhook of")
	id, err := g.hook(ctx, address)
	if err != nil {
		return nil, err
	}
	if id != "" {
		_, err := g.api.Do(ctx, rest.Request{Method: http.MethodPatch, Path: g.path("hooks", id), Body: hook, What: what, Scope: needHook})
		return []string{id}, err
	}
	var made struct {
		ID int64 `json:"id"`
	}
	_, err = g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("hooks"), Body: hook, Into: &made, What: what, Scope: needHook})
	if err != nil {
		return nil, err
	}
	return []string{rest.ID(made.ID)}, nil
}

func (g *Client) hook(ctx context.Context, address string) (string, error) {
	type hook struct {
		ID     int64 `json:"id"`
		Config struct {
			URL string `json:"url"`
		} `json:"config"`
	}
	list := rest.Request{Path: g.path("hooks"), What: g.what("list the webhooks of"), Scope: needHook}
	for h, err := range rest.List[hook](ctx, g.api, "per_page", perPage, list) {
		if err != nil || h.Config.URL == address {
			return rest.ID(h.ID), err
		}
	}
	return "", nil
}

// DeleteHook removes a webhook; one that is gone already is no error.
func (g *Client) DeleteHook(ctx context.Context, id string) error {
	_, err := g.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: g.path("hooks", id), What: g.what("remove the webhook of"), Scope: needHook})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	return err
}

// HookText says what to enter on GitHub's pages for a webhook that is not made through the API. It holds
// the secret.
func HookText(c slipway.Connection, address, secret string) string {
	return strings.Join([]string{
		"In " + c.Repository + " on GitHub, open Settings, Webhooks, Add webhook, and enter:",
		"  Payload URL:      " + address,
		"  Content type:     application/json",
		"  Secret:           " + secret,
		"  SSL verification: enabled",
		`  Events:           "Let me select individual events": Pushes, Pull requests, Issue comments`,
		"  Active:           yes",
		"",
	}, "\n")
}
