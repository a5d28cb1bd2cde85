package gitea

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// Gitea's columns have no limit; these keep its pages readable. It answers with at most 50 items a page.
const (
	maxDescription = 255
	maxComment     = 65536
	perPage        = 50
)

// Scopes of a token.
const (
	needRead    = `the scope "read:repository"`
	needWrite   = `the scope "write:repository", and the right to write to the repository`
	needComment = `the scopes "write:issue" and "write:repository"`
	needUser    = `the scope "read:user"`
	needAdmin   = `the scope "write:repository", of an administrator of the repository`
)

// Client speaks with Gitea or Forgejo about one repository. It may be used by several goroutines.
type Client struct {
	c     slipway.Connection
	owner string
	name  string
	api   *rest.Client
	token string

	mu   sync.Mutex
	self int64 // id of the token's account, once it is known
}

// New makes a client with an access token.
func New(c slipway.Connection, token string, o rest.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	token, err := rest.Credential("Gitea", token)
	if err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(c.Repository, "/")
	api, err := rest.New("Gitea", c.API, func(_ context.Context, h http.Header) error {
		h.Set("Authorization", "token "+token)
		return nil
	}, o)
	if err != nil {
		return nil, err
	}
	return &Client{c: c, owner: owner, name: name, api: api, token: token}, nil
}

// GitAuth is the user and the password that git takes over HTTP.
func (g *Client) GitAuth(context.Context) (user, password string, err error) {
	return "slipway", g.token, nil
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
	list := rest.Request{Path: g.path("pulls"), Query: url.Values{"state": {"open"}}, What: g.what("list the pull requests of"), Scope: needRead}
	for p, err := range rest.List[pull](ctx, g.api, "limit", perPage, list) {
		if err != nil {
			return nil, err
		}
		if n, why, err := rest.Pull(p.noun()); err == nil && why == "" {
			out = append(out, n)
		}
	}
	return out, nil
}

// Pull reads one pull request, open or not.
func (g *Client) Pull(ctx context.Context, number int64) (slipway.ForgePull, error) {
	var p pull
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("pulls", rest.ID(number)), Into: &p, What: g.what("read pull request " + rest.ID(number) + " of"), Scope: needRead})
	if err != nil {
		return slipway.ForgePull{}, err
	}
	return rest.ReadPull("pull request", g.c.Repository, p.noun())
}

// Heads lists the branches and where they are, but for those whose names Slipway does not take.
func (g *Client) Heads(ctx context.Context) ([]slipway.BranchHead, error) {
	var out []slipway.BranchHead
	type branch struct {
		Name   string `json:"name"`
		Commit struct {
			ID string `json:"id"`
		} `json:"commit"`
	}
	list := rest.Request{Path: g.path("branches"), What: g.what("list the branches of"), Scope: needRead}
	for b, err := range rest.List[branch](ctx, g.api, "limit", perPage, list) {
		if err != nil {
			return nil, err
		}
		out = rest.Head(out, b.Name, b.Commit.ID)
	}
	return out, nil
}

// SetStatus sets a commit status; the description is cut to 255 characters. For a commit that is not
// there Gitea answers 500, as for trouble of its own: then the commit is asked for.
func (g *Client) SetStatus(ctx context.Context, s slipway.CommitStatus) error {
	if err := s.Check(); err != nil {
		return err
	}
	body := map[string]string{"state": string(s.State), "context": s.Context, "description": slipway.CleanLine(s.Description, maxDescription), "target_url": s.URL}
	what := g.what("set the status " + s.Context + " on " + slipway.ShortHash(s.Commit) + " of")
	a, err := g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("statuses", s.Commit), Body: body, What: what, Scope: needWrite})
	if a.Status == http.StatusInternalServerError {
		_, gone := g.api.Do(ctx, rest.Request{Path: g.path("git", "commits", s.Commit), What: what, Scope: needWrite})
		if slipway.ErrorCode(gone) == slipway.NotFound {
			return gone
		}
	}
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

// find reads all comments at once: Gitea does not page them.
func (g *Client) find(ctx context.Context, c slipway.PullComment) (string, error) {
	self, err := g.me(ctx)
	if err != nil {
		return "", err
	}
	var all []comment
	_, err = g.api.Do(ctx, rest.Request{Path: g.path("issues", rest.ID(c.Pull), "comments"), Into: &all, What: g.what("read the comments on pull request " + rest.ID(c.Pull) + " of"), Scope: needComment})
	if err != nil {
		return "", err
	}
	for _, x := range all {
		if x.User.ID == self && strings.HasPrefix(x.Body, c.Hidden()) {
			return rest.ID(x.ID), nil
		}
	}
	return "", nil
}

// me is the id of the account that the token belongs to.
func (g *Client) me(ctx context.Context) (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.self != 0 {
		return g.self, nil
	}
	var u user
	if _, err := g.api.Do(ctx, rest.Request{Path: []string{"user"}, Into: &u, What: "ask Gitea whose token it is", Scope: needUser}); err != nil {
		return 0, err
	}
	g.self = u.ID
	return g.self, nil
}

// MayWrite reports whether somebody may push to the repository: asked of Gitea now, not remembered. The
// token must be of an administrator of the repository.
func (g *Client) MayWrite(ctx context.Context, a slipway.Account) (bool, error) {
	if a.Name == "" || a.Bot {
		return false, nil
	}
	var p struct {
		Permission string `json:"permission"`
		User       *user  `json:"user"`
	}
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("collaborators", a.Name, "permission"), Into: &p, What: g.what("ask for the rights of " + a.Name + " in"), Scope: needAdmin})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	same := a.ID == "" || p.User == nil || rest.ID(p.User.ID) == a.ID
	return same && (p.Permission == "owner" || p.Permission == "admin" || p.Permission == "write"), nil
}

// CreateHooks makes the webhook that sends to address and returns its id. One that was there before is
// removed: Gitea's API changes everything of a webhook but its secret.
func (g *Client) CreateHooks(ctx context.Context, address, secret string) ([]string, error) {
	old, err := g.hooks(ctx, address)
	if err != nil {
		return nil, err
	}
	hook := map[string]any{
		"type": "gitea", "active": true,
		"events": []string{"push", "delete", "pull_request", "pull_request_sync", "pull_request_label", "issue_comment", "pull_request_comment"},
		"config": map[string]string{"url": address, "content_type": "json", "secret": secret, "http_method": "post"},
	}
	var made struct {
		ID int64 `json:"id"`
	}
	_, err = g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("hooks"), Body: hook, Into: &made, What: g.what("make a webhook of"), Scope: needAdmin})
	if err != nil {
		return nil, err
	}
	for _, id := range old {
		if err := g.DeleteHook(ctx, id); err != nil {
			return []string{rest.ID(made.ID)}, err
		}
	}
	return []string{rest.ID(made.ID)}, nil
}

func (g *Client) hooks(ctx context.Context, address string) ([]string, error) {
	var found []string
	type hook struct {
		ID     int64 `json:"id"`
		Config struct {
			URL string `json:"url"`
		} `json:"config"`
	}
	list := rest.Request{Path: g.path("hooks"), What: g.what("list the webhooks of"), Scope: needAdmin}
	for h, err := range rest.List[hook](ctx, g.api, "limit", perPage, list) {
		if err != nil {
			return nil, err
		}
		if h.Config.URL == address {
			found = append(found, rest.ID(h.ID))
		}
	}
	return found, nil
}

// DeleteHook removes a webhook; one that is gone already is no error.
func (g *Client) DeleteHook(ctx context.Context, id string) error {
	_, err := g.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: g.path("hooks", id), What: g.what("remove the webhook of"), Scope: needAdmin})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	return err
}

// HookText says what to enter on the pages of Gitea or Forgejo for a webhook that is not made through
// the API. It holds the secret.
func HookText(c slipway.Connection, address, secret string) string {
	return strings.Join([]string{
		"In " + c.Repository + " on Gitea or Forgejo, open Settings, Webhooks, Add webhook, Gitea, and enter:",
		"  Target URL:        " + address,
		"  HTTP method:       POST",
		"  POST content type: application/json",
		"  Secret:            " + secret,
		`  Trigger on:        "Custom events": Push, Delete; Pull request: Modification, Synchronized, Labeled, Comment`,
		"  Branch filter:     *",
		"  Active:            yes",
		"",
	}, "\n")
}
