package azuredevops

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// Limits: comments of Azure DevOps have 150,000 characters; the others keep its pages readable.
const (
	maxDescription = 250
	maxComment     = 100_000
	perPage        = 100
	maxPages       = 30
	version        = "7.0"
	preview        = "7.0-preview"
)

// Scopes of a personal access token, as Azure DevOps' pages name them.
const (
	needRead     = `the scope "Code (Read)"`
	needStatus   = `the scopes "Code (Status)" and "Code (Read)"`
	needComment  = `the scope "Code (Read & write)"`
	needSecurity = `the scopes "Security (Manage)" and "Identity (Read)"`
	needHook     = `the scopes "Code (Read)" and all of "Service hooks", of an administrator of the project`
)

// Client speaks with Azure DevOps about one repository. It may be used by several goroutines.
type Client struct {
	c                          slipway.Connection
	organization, project, git string
	api                        *rest.Client
	identities                 *rest.Client
	token                      string

	mu   sync.Mutex
	self string // id of the token's account, once it is known
	repo repository
}

// New makes a client with a personal access token.
func New(c slipway.Connection, token string, o rest.Options) (*Client, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	token, err := rest.Credential("Azure DevOps", token)
	if err != nil {
		return nil, err
	}
	authorize := func(_ context.Context, h http.Header) error {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(":"+token)))
		h.Set("X-TFS-FedAuthRedirect", "Suppress") // 401 instead of a page to sign in with
		return nil
	}
	api, err := rest.New("Azure DevOps", c.API, authorize, o)
	if err != nil {
		return nil, err
	}
	identities := api
	if c.API == slipway.AzureDevOps.DefaultAPI() {
		identities, err = rest.New("Azure DevOps", "https://vssps.dev.azure.com", authorize, o)
	}
	parts := strings.Split(c.Repository, "/")
	return &Client{c: c, organization: parts[0], project: parts[1], git: parts[2], api: api, identities: identities, token: token}, err
}

// GitAuth is the user and the password that git takes over HTTPS.
func (g *Client) GitAuth(context.Context) (user, password string, err error) {
	return "slipway", g.token, nil
}

func (g *Client) path(more ...string) []string {
	return append([]string{g.organization, g.project, "_apis", "git", "repositories", g.git}, more...)
}

func (g *Client) pullPath(number int64, more ...string) []string {
	return append(g.path("pullRequests", rest.ID(number)), more...)
}

func (g *Client) what(doing string) string { return doing + " " + g.c.Repository }

// do adds the version and reads every answer, for a wrong token is answered with 203 and a page.
func (g *Client) do(ctx context.Context, r rest.Request) (rest.Answer, error) {
	if r.Query == nil {
		r.Query = url.Values{}
	}
	if r.Query.Get("api-version") == "" {
		r.Query.Set("api-version", version)
	}
	if r.Into == nil && r.Method != http.MethodDelete {
		r.Into = &struct{}{}
	}
	return g.api.Do(ctx, r)
}

// Repository reads the repository's id, default branch and address for cloning.
func (g *Client) Repository(ctx context.Context) (slipway.ForgeRepository, error) {
	r, err := g.read(ctx)
	if err != nil {
		return slipway.ForgeRepository{}, err
	}
	clone := r.RemoteURL
	if u, err := url.Parse(clone); err == nil {
		u.User = nil // Azure DevOps puts the organization there
		clone = u.String()
	}
	return slipway.ForgeRepository{
		ID: r.ID, Name: g.organization + "/" + r.Project.Name + "/" + r.Name, DefaultBranch: strings.TrimPrefix(r.DefaultBranch, "refs/heads/"),
		CloneURL: rest.Link(clone), Link: rest.Link(r.WebURL), Private: r.Project.Visibility != "public",
	}, nil
}

func (g *Client) read(ctx context.Context) (repository, error) {
	var r repository
	_, err := g.do(ctx, rest.Request{Path: g.path(), Into: &r, What: g.what("read the repository"), Scope: needRead})
	if err == nil {
		g.mu.Lock()
		g.repo = r
		g.mu.Unlock()
	}
	return r, err
}

// known is read, once.
func (g *Client) known(ctx context.Context) (repository, error) {
	g.mu.Lock()
	r := g.repo
	g.mu.Unlock()
	if r.ID != "" {
		return r, nil
	}
	return g.read(ctx)
}

// Pulls lists the open pull requests, at most 3,000. One that does not say it is of a fork is believed if
// its branch is in the repository with that very commit, else read alone: whether runs are trusted hangs
// on it.
func (g *Client) Pulls(ctx context.Context) ([]slipway.ForgePull, error) {
	listed, err := g.list(ctx)
	if err != nil {
		return nil, err
	}
	heads, err := g.Heads(ctx)
	if err != nil {
		return nil, err
	}
	here := map[string]string{}
	for _, h := range heads {
		here[h.Branch] = h.Commit
	}
	var out []slipway.ForgePull
	for _, p := range listed {
		n, why, err := rest.Pull(p.noun(g.c))
		if err != nil || why != "" {
			continue
		}
		if !n.Fork && (n.Head == "" || here[n.Topic] != n.Head) {
			if n, err = g.Pull(ctx, n.Number); err != nil {
				return nil, err
			}
		}
		out = append(out, n)
	}
	return out, nil
}

func (g *Client) list(ctx context.Context) ([]pull, error) {
	var out []pull
	for page := range maxPages {
		q := url.Values{"searchCriteria.status": {"active"}, "$top": {strconv.Itoa(perPage)}, "$skip": {strconv.Itoa(page * perPage)}}
		var list struct {
			Value []pull `json:"value"`
		}
		_, err := g.do(ctx, rest.Request{Path: g.path("pullrequests"), Query: q, Into: &list, What: g.what("list the pull requests of"), Scope: needRead})
		if err != nil {
			return nil, err
		}
		out = append(out, list.Value...)
		if len(list.Value) < perPage {
			break
		}
	}
	return out, nil
}

// Pull reads one pull request, open or not.
func (g *Client) Pull(ctx context.Context, number int64) (slipway.ForgePull, error) {
	var p pull
	_, err := g.do(ctx, rest.Request{Path: g.pullPath(number), Into: &p, What: g.what("read pull request " + rest.ID(number) + " of"), Scope: needRead})
	if err != nil {
		return slipway.ForgePull{}, err
	}
	return rest.ReadPull("pull request", g.c.Repository, p.noun(g.c))
}

// Heads lists the branches and where they are, but for those whose names Slipway does not take.
func (g *Client) Heads(ctx context.Context) ([]slipway.BranchHead, error) {
	var out []slipway.BranchHead
	more := ""
	for range maxPages {
		q := url.Values{"filter": {"heads/"}, "$top": {"1000"}}
		if more != "" {
			q.Set("continuationToken", more)
		}
		var list struct {
			Value []struct {
				Name     string `json:"name"`
				ObjectID string `json:"objectId"`
			} `json:"value"`
		}
		a, err := g.do(ctx, rest.Request{Path: g.path("refs"), Query: q, Into: &list, What: g.what("list the branches of"), Scope: needRead})
		if err != nil {
			return nil, err
		}
		for _, r := range list.Value {
			if branch, ok := strings.CutPrefix(r.Name, "refs/heads/"); ok {
				out = rest.Head(out, branch, r.ObjectID)
			}
		}
		if more = a.Header.Get("X-MS-ContinuationToken"); more == "" {
			break
		}
	}
	return out, nil
}

type status struct {
	State       string        `json:"state"`
	Description string        `json:"description"`
	TargetURL   string        `json:"targetUrl,omitempty"`
	Context     statusContext `json:"context"`
	Iteration   int64         `json:"iterationId,omitempty"`
}

type statusContext struct {
	Name  string `json:"name"`
	Genre string `json:"genre,omitempty"`
}

func statusOf(s slipway.CommitStatus) status {
	states := map[slipway.StatusState]string{
		slipway.StatusPending: "pending", slipway.StatusSuccess: "succeeded", slipway.StatusFailure: "failed", slipway.StatusError: "error",
	}
	out := status{State: states[s.State], Description: slipway.CleanLine(s.Description, maxDescription), TargetURL: s.URL, Context: statusContext{Name: s.Context}}
	if genre, name, ok := strings.Cut(s.Context, "/"); ok {
		out.Context = statusContext{Name: name, Genre: genre}
	}
	return out
}

// SetStatus sets a status of the commit and, for a pull request, of that too: of the iteration that
// brought the commit, so that what was said of an older one says nothing of a newer. slipway/delivery is
// the name delivery in the genre slipway.
func (g *Client) SetStatus(ctx context.Context, s slipway.CommitStatus) error {
	if err := s.Check(); err != nil {
		return err
	}
	what := g.what("set the status " + s.Context + " on " + slipway.ShortHash(s.Commit) + " of")
	out := statusOf(s)
	_, err := g.do(ctx, rest.Request{Method: http.MethodPost, Path: g.path("commits", s.Commit, "statuses"), Body: out, What: what, Scope: needStatus})
	// The commit of a fork is not among the repository's own: then the pull request's status says it.
	if s.Pull == 0 || err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return err
	}
	if out.Iteration, err = g.iteration(ctx, s); err != nil || out.Iteration == 0 {
		return err
	}
	_, err = g.do(ctx, rest.Request{Method: http.MethodPost, Path: g.pullPath(s.Pull, "statuses"), Body: out, What: what, Scope: needStatus})
	return err
}

// iteration is the newest of a pull request's that has the commit as its head; 0 for none.
func (g *Client) iteration(ctx context.Context, s slipway.CommitStatus) (int64, error) {
	var list struct {
		Value []struct {
			ID     int64  `json:"id"`
			Source commit `json:"sourceRefCommit"`
		} `json:"value"`
	}
	_, err := g.do(ctx, rest.Request{Path: g.pullPath(s.Pull, "iterations"), Into: &list, What: g.what("read the iterations of pull request " + rest.ID(s.Pull) + " of"), Scope: needRead})
	newest := int64(0)
	for _, i := range list.Value {
		if i.Source.ID == s.Commit {
			newest = max(newest, i.ID)
		}
	}
	return newest, err
}

type thread struct {
	ID       int64     `json:"id"`
	Comments []comment `json:"comments"`
	Deleted  bool      `json:"isDeleted"`
}

// Comment makes the comment, or updates the one that is there, and returns its id, thread/comment. Its
// thread is closed, so that it holds up no merge. Only a comment that this token's own account wrote is
// updated.
func (g *Client) Comment(ctx context.Context, c slipway.PullComment) (string, error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	text := c.Markdown(maxComment)
	what := g.what("comment on pull request " + rest.ID(c.Pull) + " of")
	update := func(ctx context.Context, id string) error {
		t, n, ok := strings.Cut(id, "/")
		if !ok {
			return slipway.Errorf(slipway.NotFound, "%s: %q is no comment's id", what, id)
		}
		_, err := g.do(ctx, rest.Request{Method: http.MethodPatch, Path: g.pullPath(c.Pull, "threads", t, "comments", n), Body: map[string]string{"content": text}, What: what, Scope: needComment})
		return err
	}
	id, err := rest.Place(ctx, c, update, g.find)
	if err != nil || id != "" {
		return id, err
	}
	body := map[string]any{"status": "closed", "comments": []any{map[string]any{"parentCommentId": 0, "content": text, "commentType": "text"}}}
	var made thread
	_, err = g.do(ctx, rest.Request{Method: http.MethodPost, Path: g.pullPath(c.Pull, "threads"), Body: body, Into: &made, What: what, Scope: needComment})
	if err != nil {
		return "", err
	}
	if len(made.Comments) == 0 {
		return "", slipway.Errorf(slipway.Invalid, "%s: the answer holds no comment", what)
	}
	return rest.ID(made.ID) + "/" + rest.ID(made.Comments[0].ID), nil
}

func (g *Client) find(ctx context.Context, c slipway.PullComment) (string, error) {
	self, err := g.me(ctx)
	if err != nil {
		return "", err
	}
	var list struct {
		Value []thread `json:"value"`
	}
	_, err = g.do(ctx, rest.Request{Path: g.pullPath(c.Pull, "threads"), Into: &list, What: g.what("read the comments on pull request " + rest.ID(c.Pull) + " of"), Scope: needRead})
	if err != nil {
		return "", err
	}
	for _, t := range list.Value {
		for _, x := range t.Comments {
			if !t.Deleted && !x.IsDeleted && x.Author.ID == self && strings.HasPrefix(x.Content, c.Hidden()) {
				return rest.ID(t.ID) + "/" + rest.ID(x.ID), nil
			}
		}
	}
	return "", nil
}

// me is the id of the account that the token belongs to.
func (g *Client) me(ctx context.Context) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.self != "" {
		return g.self, nil
	}
	var data struct {
		User identity `json:"authenticatedUser"`
	}
	_, err := g.do(ctx, rest.Request{Path: []string{g.organization, "_apis", "connectionData"}, Query: url.Values{"api-version": {preview}}, Into: &data, What: "ask Azure DevOps whose token it is"})
	g.self = data.User.ID
	return g.self, err
}
