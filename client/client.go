// Package client is the Go client of Slipway's API, as the command line uses it. It holds no state but
// the address and the token, and is safe for concurrent use.
package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Client calls one server as one user.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	most  int64 // bytes of an answer
}

// New returns a client of the server at address (a URL), with a token or, before signing in, "".
func New(address, token string) (*Client, error) {
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, slipway.Errorf(slipway.Invalid, "the server's address is not one: expected a URL such as http://127.0.0.1:8080, without user and password")
	}
	u = &url.URL{Scheme: u.Scheme, Host: u.Host}
	return &Client{base: u, token: token, http: &http.Client{}, most: maxAnswer}, nil
}

// Address is the server's URL.
func (c *Client) Address() string { return c.base.String() }

func (c *Client) request(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.silent(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, decodeError(resp)
	}
	return resp, nil
}

// silent is the error of a server that does not answer, or not any more.
func (c *Client) silent(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("ask %s: %w", c.base, context.Cause(ctx))
	}
	var why *url.Error
	if errors.As(err, &why) {
		err = why.Err
	}
	return slipway.Errorf(slipway.Unavailable, "Slipway at %s does not answer: %w", c.base, err)
}

func decodeError(resp *http.Response) error {
	var body struct {
		Error struct {
			Code    slipway.Code `json:"code"`
			Message string       `json:"message"`
		} `json:"error"`
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(b, &body) != nil || body.Error.Code == "" {
		return slipway.Errorf(slipway.Internal, "the server answered %s, which is not Slipway's API", resp.Status)
	}
	return &slipway.Error{Code: body.Error.Code, Message: body.Error.Message}
}

// unreadable is the error of an answer that broke off, or that is not what was asked for.
func (c *Client) unreadable(ctx context.Context, err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return slipway.Errorf(slipway.Internal, "%s answered more than %d bytes, which is not Slipway's API", c.base, large.Limit)
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return slipway.Errorf(slipway.Internal, "%s answered what is not Slipway's API: %w", c.base, err)
	}
	return c.silent(ctx, err)
}

// patience is how long an answer may take that is not a stream.
const patience = 2 * time.Minute

// maxAnswer is how large an answer may be that is not a stream: twice what is read of the result files of a step,
// whose report is the largest there is.
const maxAnswer = 512 << 20

func do[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.request(ctx, method, path, query, in)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, c.most)).Decode(&out); err != nil {
		return out, c.unreadable(ctx, err)
	}
	return out, nil
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return do[T](ctx, c, http.MethodGet, path, query, nil)
}

func post[T any](ctx context.Context, c *Client, path string, in any) (T, error) {
	return do[T](ctx, c, http.MethodPost, path, nil, in)
}

func (c *Client) remove(ctx context.Context, path string) error {
	_, err := do[struct{}](ctx, c, http.MethodDelete, path, nil, nil)
	return err
}

func project(name string) string { return "/api/v1/projects/" + url.PathEscape(name) }

// pull is the path of what is done to a pull request of a codebase, given by its key; verb "" shows it.
func pull(codebase string, number int64, verb string) string {
	of, name := slipway.SplitCodebase(codebase)
	path := project(of) + "/pulls/" + strconv.FormatInt(number, 10) + verb
	if name != "" {
		path += "?codebase=" + url.QueryEscape(name)
	}
	return path
}

func user(name string) string { return "/api/v1/users/" + url.PathEscape(name) }

func run(id int64) string { return "/api/v1/runs/" + strconv.FormatInt(id, 10) }

// Board returns the services of a project by environments.
func (c *Client) Board(ctx context.Context, name string) (slipway.Board, error) {
	return get[slipway.Board](ctx, c, project(name)+"/board", nil)
}

// Runs lists runs, newest first.
func (c *Client) Runs(ctx context.Context, f slipway.RunFilter) ([]slipway.Run, error) {
	q := url.Values{}
	if f.Codebase != "" {
		project, name := slipway.SplitCodebase(f.Codebase)
		f.Project = project
		q.Set("codebase", cmp.Or(name, slipway.MainCodebase))
	}
	for k, v := range map[string]string{"project": f.Project, "service": f.Service, "ref": f.Ref, "commit": f.Commit, "state": string(f.State)} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Before > 0 {
		q.Set("before", strconv.FormatInt(f.Before, 10))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return get[[]slipway.Run](ctx, c, "/api/v1/runs", q)
}

// Run returns a run with all that belongs to it.
func (c *Client) Run(ctx context.Context, id int64) (slipway.RunDetail, error) {
	return get[slipway.RunDetail](ctx, c, run(id), nil)
}

// Report returns the test report of a step.
func (c *Client) Report(ctx context.Context, id int64, step string) (slipway.TestReport, error) {
	return get[slipway.TestReport](ctx, c, run(id)+"/report", url.Values{"step": {step}})
}

// Trace finds what an id belongs to, in every project that the user may see. It is a Conflict, which
// names them, when several projects know it.
func (c *Client) Trace(ctx context.Context, query string) (slipway.Trace, error) {
	return get[slipway.Trace](ctx, c, "/api/v1/trace", url.Values{"q": {query}})
}

// TraceIn finds what an id belongs to in a project.
func (c *Client) TraceIn(ctx context.Context, name, query string) (slipway.Trace, error) {
	return get[slipway.Trace](ctx, c, "/api/v1/trace", url.Values{"q": {query}, "project": {name}})
}

// Vote approves or rejects.
func (c *Client) Vote(ctx context.Context, approval int64, approve bool, reason string) (slipway.Approval, error) {
	verb := "reject"
	if approve {
		verb = "approve"
	}
	return post[slipway.Approval](ctx, c, "/api/v1/approvals/"+strconv.FormatInt(approval, 10)+"/"+verb, map[string]string{"reason": reason})
}

// CancelRun stops a run.
func (c *Client) CancelRun(ctx context.Context, id int64, reason string) (slipway.Run, error) {
	return post[slipway.Run](ctx, c, run(id)+"/cancel", map[string]string{"reason": reason})
}

// RetryRun runs again what did not succeed.
func (c *Client) RetryRun(ctx context.Context, id int64) (slipway.Run, error) {
	return post[slipway.Run](ctx, c, run(id)+"/retry", nil)
}

// Rollback starts a rollback run.
func (c *Client) Rollback(ctx context.Context, r slipway.RollbackRequest) (slipway.Run, error) {
	return post[slipway.Run](ctx, c, project(r.Project)+"/rollback", r)
}

// LiftQuarantine lets a quarantined version be deployed again.
func (c *Client) LiftQuarantine(ctx context.Context, name, service, version string) (slipway.Release, error) {
	return post[slipway.Release](ctx, c, project(name)+"/releases/"+url.PathEscape(service)+"/"+url.PathEscape(version)+"/lift-quarantine", nil)
}

// Pulls lists the pull requests of a project, newest first.
func (c *Client) Pulls(ctx context.Context, name string) ([]slipway.PullRequest, error) {
	return get[[]slipway.PullRequest](ctx, c, project(name)+"/pulls", nil)
}

// Pull returns a pull request: that with a number in a codebase, given by its key. With a project's name it is
// also the one of another codebase, where only one has that number.
func (c *Client) Pull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	return get[slipway.PullRequest](ctx, c, pull(codebase, number, ""), nil)
}

// Merge merges a pull request, named as for Pull.
func (c *Client) Merge(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	return post[slipway.PullRequest](ctx, c, pull(codebase, number, "/merge"), nil)
}

// ReviewPull approves the head of a pull request that was looked at, by its whole hash; it is a Conflict
// when the pull request has moved since.
func (c *Client) ReviewPull(ctx context.Context, codebase string, number int64, head string) (slipway.PullRequest, error) {
	return post[slipway.PullRequest](ctx, c, pull(codebase, number, "/approve"), map[string]string{"head": head})
}

// ClosePull closes a pull request without merging it.
func (c *Client) ClosePull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error) {
	return post[slipway.PullRequest](ctx, c, pull(codebase, number, "/close"), nil)
}

// Releases lists releases of a project, newest first; of the filter Service, Before and Limit count.
func (c *Client) Releases(ctx context.Context, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	q := url.Values{}
	if f.Service != "" {
		q.Set("service", f.Service)
	}
	if f.Before > 0 {
		q.Set("before", strconv.FormatInt(f.Before, 10))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return get[[]slipway.Release](ctx, c, project(f.Project)+"/releases", q)
}

// Projects lists the projects the user may see.
func (c *Client) Projects(ctx context.Context) ([]slipway.Project, error) {
	return get[[]slipway.Project](ctx, c, "/api/v1/projects", nil)
}

// CreateProject creates a hosted project, or with GitURL a mirrored one.
func (c *Client) CreateProject(ctx context.Context, p slipway.Project) (slipway.Project, error) {
	return post[slipway.Project](ctx, c, "/api/v1/projects", p)
}

// Project returns a project and how it is connected.
func (c *Client) Project(ctx context.Context, name string) (slipway.ProjectDetail, error) {
	return get[slipway.ProjectDetail](ctx, c, project(name), nil)
}

// CreateConnected creates a project that mirrors a repository on a forge, and connects it.
func (c *Client) CreateConnected(ctx context.Context, p slipway.Project, r slipway.ConnectRequest) (slipway.Connected, error) {
	return post[slipway.Connected](ctx, c, "/api/v1/projects", struct {
		slipway.Project
		Connection slipway.ConnectRequest `json:"connection"`
	}{p, r})
}

// PrepareKey has a deploy key made for a codebase that is, or will be, fetched from gitURL. Asked again, it answers
// with the same one, accepted once the host takes it.
func (c *Client) PrepareKey(ctx context.Context, r slipway.ConnectRequest, gitURL string) (slipway.DeployKey, error) {
	return post[slipway.DeployKey](ctx, c, connected(r)+"/deploy-key", struct {
		slipway.ConnectRequest
		GitURL string `json:"gitURL,omitempty"`
	}{r, gitURL})
}

// Connect connects a codebase with its forge, or gives it a new token.
func (c *Client) Connect(ctx context.Context, r slipway.ConnectRequest) (slipway.Connected, error) {
	return do[slipway.Connected](ctx, c, http.MethodPut, connected(r)+"/connection", nil, r)
}

// connected is the path of what is to be connected.
func connected(r slipway.ConnectRequest) string {
	path := project(r.Project)
	if r.Codebase != "" {
		path += "/codebases/" + url.PathEscape(r.Codebase)
	}
	return path
}

// LinkAccount says whose an account of the forge of a codebase, given by its key, is; user "" takes that back.
func (c *Client) LinkAccount(ctx context.Context, codebase, account, user string) error {
	of, name := slipway.SplitCodebase(codebase)
	q := url.Values{}
	if name != "" {
		q.Set("codebase", name)
	}
	_, err := do[struct{}](ctx, c, http.MethodPut, project(of)+"/accounts/"+url.PathEscape(account), q, map[string]string{"user": user})
	return err
}

// Codebases lists the git repositories of a project, the main one first.
func (c *Client) Codebases(ctx context.Context, name string) ([]slipway.Codebase, error) {
	return get[[]slipway.Codebase](ctx, c, project(name)+"/codebases", nil)
}

// CreateCodebase adds a further codebase to the project that it names, and connects it with its forge as r
// says; without r, where the project's credential is for that forge.
func (c *Client) CreateCodebase(ctx context.Context, b slipway.Codebase, r *slipway.ConnectRequest) (slipway.Connected, error) {
	return post[slipway.Connected](ctx, c, project(b.Project)+"/codebases", struct {
		slipway.Codebase
		Connection *slipway.ConnectRequest `json:"connection,omitempty"`
	}{b, r})
}

// RemoveCodebase takes a further codebase away from its project; one of which services are deployed is a
// Conflict.
func (c *Client) RemoveCodebase(ctx context.Context, name, codebase string) (slipway.Removed, error) {
	return do[slipway.Removed](ctx, c, http.MethodDelete, project(name)+"/codebases/"+url.PathEscape(codebase), nil, nil)
}

// Clusters lists the registered clusters.
func (c *Client) Clusters(ctx context.Context) ([]slipway.Cluster, error) {
	return get[[]slipway.Cluster](ctx, c, "/api/v1/clusters", nil)
}

// AddCluster registers a cluster under a name.
func (c *Client) AddCluster(ctx context.Context, name, contextName string, kubeconfig []byte) (slipway.Cluster, error) {
	return post[slipway.Cluster](ctx, c, "/api/v1/clusters", map[string]string{"name": name, "context": contextName, "kubeconfig": string(kubeconfig)})
}

// RemoveCluster forgets a cluster; nothing in it changes.
func (c *Client) RemoveCluster(ctx context.Context, name string) error {
	return c.remove(ctx, "/api/v1/clusters/"+url.PathEscape(name))
}

// Whoami returns the user of the token.
func (c *Client) Whoami(ctx context.Context) (slipway.User, error) {
	return get[slipway.User](ctx, c, "/api/v1/whoami", nil)
}

// Users lists the users.
func (c *Client) Users(ctx context.Context) ([]slipway.User, error) {
	return get[[]slipway.User](ctx, c, "/api/v1/users", nil)
}

// CreateUser creates a user.
func (c *Client) CreateUser(ctx context.Context, name string, admin bool) (slipway.User, error) {
	return post[slipway.User](ctx, c, "/api/v1/users", map[string]any{"name": name, "admin": admin})
}

// RemoveUser takes a user off the server, with every role and credential.
func (c *Client) RemoveUser(ctx context.Context, name string) error { return c.remove(ctx, user(name)) }

// SetRole gives a user a role in a project; "" takes it away.
func (c *Client) SetRole(ctx context.Context, who, name string, role slipway.Role) (slipway.User, error) {
	return do[slipway.User](ctx, c, http.MethodPut, project(name)+"/members/"+url.PathEscape(who), nil, map[string]slipway.Role{"role": role})
}

type secret struct{ User, Value string }

// CreateToken makes a token of a user; its value is shown only now.
func (c *Client) CreateToken(ctx context.Context, who, name string) (string, error) {
	s, err := post[secret](ctx, c, user(who)+"/tokens", map[string]string{"name": name})
	return s.Value, err
}

// Tokens lists the tokens of a user, oldest first, without their values.
func (c *Client) Tokens(ctx context.Context, who string) ([]slipway.Token, error) {
	return get[[]slipway.Token](ctx, c, user(who)+"/tokens", nil)
}

// RevokeToken takes a token of a user away.
func (c *Client) RevokeToken(ctx context.Context, who string, id int64) error {
	return c.remove(ctx, user(who)+"/tokens/"+strconv.FormatInt(id, 10))
}

// CreateLink makes a one-time sign-in link of a user.
func (c *Client) CreateLink(ctx context.Context, who string) (string, error) {
	s, err := post[secret](ctx, c, user(who)+"/links", nil)
	return s.Value, err
}

// Login trades a one-time code for a token.
func (c *Client) Login(ctx context.Context, code, tokenName string) (who, token string, err error) {
	s, err := post[secret](ctx, c, "/api/v1/login", map[string]string{"code": code, "name": tokenName})
	return s.User, s.Value, err
}

// Log calls line for each line of a step's log; with follow until the step ends. A log that breaks off
// is Unavailable.
func (c *Client) Log(ctx context.Context, id int64, step string, follow bool, line func(slipway.LogLine) error) error {
	q := url.Values{"step": {step}}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.request(ctx, http.MethodGet, run(id)+"/log", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var l slipway.LogLine
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return c.unreadable(ctx, err)
		}
		if err := line(l); err != nil {
			return err
		}
	}
}

// Events calls each with what happens after the event with that id, until each returns an error or the
// stream ends: with ctx, or with the connection (Unavailable; go on after the last event).
func (c *Client) Events(ctx context.Context, name string, after int64, each func(slipway.Event) error) error {
	q := url.Values{"follow": {"1"}, "after": {strconv.FormatInt(after, 10)}}
	if name != "" {
		q.Set("project", name)
	}
	resp, err := c.request(ctx, http.MethodGet, "/api/v1/events", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e slipway.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return c.unreadable(ctx, err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return c.silent(ctx, cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}
