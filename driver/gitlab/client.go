package gitlab

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// Limits of GitLab: a description has 255 characters, a comment a million; this keeps pages readable.
const (
	maxDescription = 255
	maxTarget      = 255
	maxComment     = 100_000
	perPage        = 100
	developer      = 30 // access level from which one may push
)

// Scopes of a token.
const (
	needRead  = `the scope "read_api" or "api", and the role Reporter`
	needWrite = `the scope "api", and the role Developer`
	needAdmin = `the scope "api", and the role Maintainer`
)

// Client speaks with GitLab about one project of its. It may be used by several goroutines.
type Client struct {
	c     slipway.Connection
	id    string // of the project: a number, or its path
	api   *rest.Client
	token string

	mu   sync.Mutex
	self int64 // id of the token's account, once it is known
}

// New makes a client with a personal, group or project access token.
func New(c slipway.Connection, token string, o rest.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	token, err := rest.Credential("GitLab", token)
	if err != nil {
		return nil, err
	}
	api, err := rest.New("GitLab", c.API, func(_ context.Context, h http.Header) error {
		h.Set("Authorization", "Bearer "+token)
		return nil
	}, o)
	if err != nil {
		return nil, err
	}
	id := c.RepositoryID
	if id == "" {
		id = c.Repository
	}
	return &Client{c: c, id: id, api: api, token: token}, nil
}

// GitAuth is the user and the password that git takes over HTTPS.
func (g *Client) GitAuth(context.Context) (user, password string, err error) {
	return "oauth2", g.token, nil
}

func (g *Client) path(more ...string) []string {
	return append([]string{"projects", g.id}, more...)
}

func (g *Client) what(doing string) string { return doing + " " + g.c.Repository }

// Repository reads the project's id, default branch and address for cloning.
func (g *Client) Repository(ctx context.Context) (slipway.ForgeRepository, error) {
	var r struct {
		project
		DefaultBranch string `json:"default_branch"`
		HTTPURL       string `json:"http_url_to_repo"`
		WebURL        string `json:"web_url"`
		Visibility    string `json:"visibility"`
	}
	_, err := g.api.Do(ctx, rest.Request{Path: g.path(), Into: &r, What: g.what("read the project"), Scope: needRead})
	if err != nil {
		return slipway.ForgeRepository{}, err
	}
	return slipway.ForgeRepository{
		ID: rest.ID(r.ID), Name: r.Path, DefaultBranch: r.DefaultBranch,
		CloneURL: rest.Link(r.HTTPURL), Link: rest.Link(r.WebURL), Private: r.Visibility != "public",
	}, nil
}

type merge struct {
	IID           int64     `json:"iid"`
	Title         string    `json:"title"`
	State         string    `json:"state"`
	Draft         bool      `json:"draft"`
	WebURL        string    `json:"web_url"`
	Author        user      `json:"author"`
	SourceBranch  string    `json:"source_branch"`
	TargetBranch  string    `json:"target_branch"`
	SourceProject int64     `json:"source_project_id"`
	TargetProject int64     `json:"target_project_id"`
	SHA           string    `json:"sha"`
	MergeCommit   string    `json:"merge_commit_sha"`
	SquashCommit  string    `json:"squash_commit_sha"`
	Labels        []string  `json:"labels"`
	UpdatedAt     time.Time `json:"updated_at"`
	DiffRefs      struct {
		Start string `json:"start_sha"` // where the target branch was
	} `json:"diff_refs"`
}

func (m merge) noun(name string) slipway.ForgePull {
	p := slipway.ForgePull{
		Number: m.IID, Title: m.Title, Author: m.Author.account(), State: state(m.State), Draft: m.Draft, Labels: m.Labels, Link: m.WebURL,
		Base: m.TargetBranch, BaseCommit: m.DiffRefs.Start, Head: m.SHA, Topic: m.SourceBranch,
		Fork:     m.SourceProject != m.TargetProject || m.TargetProject == 0,
		FetchRef: "refs/merge-requests/" + rest.ID(m.IID) + "/head", UpdatedAt: m.UpdatedAt, Repository: rest.ID(m.TargetProject),
	}
	if !p.Fork {
		p.HeadRepository = name
	}
	if p.State == slipway.PullMerged {
		for _, as := range []string{m.MergeCommit, m.SquashCommit, m.SHA} {
			if p.MergedAs == "" {
				p.MergedAs = as
			}
		}
	}
	return p
}

// Pulls lists the open merge requests, at most 3,000.
func (g *Client) Pulls(ctx context.Context) ([]slipway.ForgePull, error) {
	var out []slipway.ForgePull
	list := rest.Request{Path: g.path("merge_requests"), Query: url.Values{"state": {"opened"}}, What: g.what("list the merge requests of"), Scope: needRead}
	for m, err := range rest.List[merge](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return nil, err
		}
		if n, why, err := rest.Pull(m.noun(g.c.Repository)); err == nil && why == "" {
			out = append(out, n)
		}
	}
	return out, nil
}

// Pull reads one merge request, open or not.
func (g *Client) Pull(ctx context.Context, number int64) (slipway.ForgePull, error) {
	var m merge
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("merge_requests", rest.ID(number)), Into: &m, What: g.what("read merge request " + rest.ID(number) + " of"), Scope: needRead})
	if err != nil {
		return slipway.ForgePull{}, err
	}
	return rest.ReadPull("merge request", g.c.Repository, m.noun(g.c.Repository))
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
	list := rest.Request{Path: g.path("repository", "branches"), What: g.what("list the branches of"), Scope: needRead}
	for b, err := range rest.List[branch](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return nil, err
		}
		out = rest.Head(out, b.Name, b.Commit.ID)
	}
	return out, nil
}

func statusState(s slipway.StatusState) string {
	switch s {
	case slipway.StatusSuccess:
		return "success"
	case slipway.StatusPending:
		return "running"
	}
	return "failed"
}

// short is a page's address that GitLab takes: where it is too long, that of the page without the place on it, else none.
func short(page string) string {
	if len(page) > maxTarget {
		page, _, _ = strings.Cut(page, "?")
	}
	if len(page) > maxTarget {
		return ""
	}
	return page
}

// SetStatus sets a commit status; the description is cut to 255 characters. GitLab knows no difference
// between red and trouble: both are failed. It refuses to set a status to what it is; that is no error
// here. It refuses one on a commit that no branch holds, as the head of a fork, but for one with a ref.
func (g *Client) SetStatus(ctx context.Context, s slipway.CommitStatus) error {
	if err := s.Check(); err != nil {
		return err
	}
	body := map[string]string{"state": statusState(s.State), "name": s.Context, "description": slipway.CleanLine(s.Description, maxDescription)}
	if page := short(s.URL); page != "" {
		body["target_url"] = page
	}
	if ref := refOf(s); ref != "" {
		body["ref"] = ref
	}
	what := g.what("set the status " + s.Context + " on " + slipway.ShortHash(s.Commit) + " of")
	a, err := g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("statuses", s.Commit), Body: body, What: what, Scope: needWrite})
	if err != nil && a.Status == http.StatusBadRequest {
		if same, serr := g.hasStatus(ctx, s, what); serr == nil && same {
			return nil
		}
	}
	return err
}

// refOf is the ref whose pipeline a status belongs to, "" to leave it to GitLab, which takes any branch that
// holds the commit.
func refOf(s slipway.CommitStatus) string {
	if s.Branch == "" && s.Pull != 0 {
		return "refs/merge-requests/" + rest.ID(s.Pull) + "/head"
	}
	return s.Branch
}

func (g *Client) hasStatus(ctx context.Context, s slipway.CommitStatus, what string) (bool, error) {
	q := url.Values{"name": {s.Context}, "per_page": {strconv.Itoa(perPage)}}
	if ref := refOf(s); ref != "" {
		q.Set("ref", ref)
	}
	var page []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("repository", "commits", s.Commit, "statuses"), Query: q, Into: &page, What: what, Scope: needRead})
	for _, x := range page {
		if x.Name == s.Context && x.Status == statusState(s.State) {
			return true, err
		}
	}
	return false, err
}

type note struct {
	ID     int64  `json:"id"`
	Body   string `json:"body"`
	Author user   `json:"author"`
	System bool   `json:"system"`
}

// Comment makes the comment, or updates the one that is there, and returns its id. Only a comment that
// this token's own account wrote is updated.
func (g *Client) Comment(ctx context.Context, c slipway.PullComment) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	body := map[string]string{"body": c.Markdown(maxComment)}
	what := g.what("comment on merge request " + rest.ID(c.Pull) + " of")
	notes := g.path("merge_requests", rest.ID(c.Pull), "notes")
	update := func(ctx context.Context, id string) error {
		_, err := g.api.Do(ctx, rest.Request{Method: http.MethodPut, Path: append(notes[:len(notes):len(notes)], id), Body: body, What: what, Scope: needWrite})
		return err
	}
	id, err := rest.Place(ctx, c, update, g.find)
	if err != nil || id != "" {
		return id, err
	}
	var made note
	_, err = g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: notes, Body: body, Into: &made, What: what, Scope: needWrite})
	return rest.ID(made.ID), err
}

func (g *Client) find(ctx context.Context, c slipway.PullComment) (string, error) {
	self, err := g.me(ctx)
	if err != nil {
		return "", err
	}
	list := rest.Request{
		Path: g.path("merge_requests", rest.ID(c.Pull), "notes"), Query: url.Values{"sort": {"asc"}, "order_by": {"created_at"}},
		What: g.what("read the comments on merge request " + rest.ID(c.Pull) + " of"), Scope: needRead,
	}
	for x, err := range rest.List[note](ctx, g.api, "per_page", perPage, list) {
		if err != nil {
			return "", err
		}
		if x.Author.ID == self && !x.System && strings.HasPrefix(x.Body, c.Hidden()) {
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
	if _, err := g.api.Do(ctx, rest.Request{Path: []string{"user"}, Into: &u, What: "ask GitLab whose token it is", Scope: needRead}); err != nil {
		return 0, err
	}
	g.self = u.ID
	return g.self, nil
}

// MayWrite reports whether somebody may push to the project, by whatever group the right comes: asked of
// GitLab now, not remembered. The account's id must be known.
func (g *Client) MayWrite(ctx context.Context, a slipway.Account) (bool, error) {
	if a.ID == "" || a.Bot {
		return false, nil
	}
	var m struct {
		State string `json:"state"`
		Level int    `json:"access_level"`
	}
	_, err := g.api.Do(ctx, rest.Request{Path: g.path("members", "all", a.ID), Into: &m, What: g.what("ask for the rights of " + a.Name + " in"), Scope: needRead})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil
	}
	return err == nil && m.Level >= developer && m.State == "active", err
}

// CreateHooks makes the webhook that sends to address, or sets it right if it is there, and returns its
// id.
func (g *Client) CreateHooks(ctx context.Context, address, secret string) ([]string, error) {
	hook := map[string]any{
		"url": address, "token": secret, "enable_ssl_verification": true, "name": "Slipway",
		"push_events": true, "tag_push_events": true, "merge_requests_events": true, "note_events": true,
		"issues_events": false, "confidential_issues_events": false, "confidential_note_events": false,
		"job_events": false, "pipeline_events": false, "wiki_page_events": false, "push_events_branch_filter": "",
	}
	what := g.what("make a webhook of")
	id, err := g.hook(ctx, address)
	if err != nil {
		return nil, err
	}
	if id != "" {
		_, err := g.api.Do(ctx, rest.Request{Method: http.MethodPut, Path: g.path("hooks", id), Body: hook, What: what, Scope: needAdmin})
		return []string{id}, err
	}
	var made struct {
		ID int64 `json:"id"`
	}
	_, err = g.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("hooks"), Body: hook, Into: &made, What: what, Scope: needAdmin})
	if err != nil {
		return nil, err
	}
	return []string{rest.ID(made.ID)}, nil
}

func (g *Client) hook(ctx context.Context, address string) (string, error) {
	type hook struct {
		ID  int64  `json:"id"`
		URL string `json:"url"`
	}
	list := rest.Request{Path: g.path("hooks"), What: g.what("list the webhooks of"), Scope: needAdmin}
	for h, err := range rest.List[hook](ctx, g.api, "per_page", perPage, list) {
		if err != nil || h.URL == address {
			return rest.ID(h.ID), err
		}
	}
	return "", nil
}

// DeleteHook removes a webhook; one that is gone already is no error.
func (g *Client) DeleteHook(ctx context.Context, id string) error {
	_, err := g.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: g.path("hooks", id), What: g.what("remove the webhook of"), Scope: needAdmin})
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	return err
}

// HookText says what to enter on GitLab's pages for a webhook that is not made through the API. It holds
// the secret.
func HookText(c slipway.Connection, address, secret string) string {
	return strings.Join([]string{
		"In " + c.Repository + " on GitLab, open Settings, Webhooks, Add new webhook, and enter:",
		"  URL:              " + address,
		"  Secret token:     " + secret,
		"                    (or, where GitLab asks for a signing token instead: " + SigningToken(secret) + ")",
		"  Trigger:          Push events (all branches), Tag push events, Comments, Merge request events",
		"  SSL verification: enabled",
		"",
	}, "\n")
}
