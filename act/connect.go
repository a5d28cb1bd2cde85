package act

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Forge is what is asked of a project's forge.
type Forge interface {
	Repository(ctx context.Context) (slipway.ForgeRepository, error)
	// Pulls lists the open pull requests.
	Pulls(ctx context.Context) ([]slipway.ForgePull, error)
	Pull(ctx context.Context, number int64) (slipway.ForgePull, error)
	// MayWrite reports whether an account may push to the repository.
	MayWrite(ctx context.Context, a slipway.Account) (bool, error)
	// CreateHooks makes the webhook that sends to address, or sets it right if it is there.
	CreateHooks(ctx context.Context, address, secret string) ([]string, error)
}

// Connections is where it is kept how projects are connected with forges.
type Connections interface {
	Connection(ctx context.Context, project string) (slipway.Connection, error)
	ProjectDetail(ctx context.Context, project string) (slipway.ProjectDetail, error)
	SaveConnection(ctx context.Context, d slipway.ProjectDetail, token, actor string) (slipway.Connection, error)
	SetHooks(ctx context.Context, project string, ids []string, actor string) error
	// Credential opens a credential by the name that a connection has for it.
	Credential(ctx context.Context, name string) (string, error)
}

// Deliveries is where what webhooks sent is kept until it is processed.
type Deliveries interface {
	ReceiveDelivery(ctx context.Context, project string, d slipway.Delivery) (fresh bool, err error)
	DueDeliveries(ctx context.Context, project string, limit int) (due []slipway.Received, next time.Time, err error)
	FinishDeliveries(ctx context.Context, ids []int64, reason string) error
	DelayDeliveries(ctx context.Context, ids []int64, until time.Time, reason string) error
}

// ForgePulls is where the pull requests of forges are kept.
type ForgePulls interface {
	SaveForgePull(ctx context.Context, p slipway.PullRequest) (slipway.PullRequest, error)
	// RunHeld lets the held head of a fork run.
	RunHeld(ctx context.Context, project string, number int64, head, actor string, run slipway.Run, plan slipway.Plan) (slipway.Run, error)
	Synced(ctx context.Context, project string) (bool, error)
	SetSynced(ctx context.Context, project string) error
	// NameActor says who moved a ref to a commit, where it was put down to somebody else.
	NameActor(ctx context.Context, project, ref, commit, from, actor string) error
}

// Commands is where it is kept which comments were obeyed, and whose the accounts of forges are.
type Commands interface {
	Command(ctx context.Context, project, comment string) (slipway.ForgeCommand, bool, error)
	SaveCommand(ctx context.Context, c slipway.ForgeCommand) error
	UserByAccount(ctx context.Context, api string, a slipway.Account) (slipway.User, error)
	LinkAccount(ctx context.Context, api, account, user, actor string) error
}

// ForgeOptions is what a project on a forge is followed with.
type ForgeOptions struct {
	Connections Connections
	Deliveries  Deliveries
	Pulls       ForgePulls
	Commands    Commands
	Keys        DeployKeys
	SSH         SSH
	// Problem keeps what a forge refuses in an area, "" for nothing.
	Problem func(ctx context.Context, project, area, problem string) error
	// Open speaks with the forge of a connection; token is the credential.
	Open func(c slipway.Connection, token string) (Forge, error)
	// Receive verifies a webhook's request, and only then reads it.
	Receive func(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error)
	// HookText is what a person enters where the webhook cannot be made through the API.
	HookText func(c slipway.Connection, address, secret string) string
	// Mirror fetches branches and tags and takes what moved as pushes. actors says who moved a ref, by
	// ref and commit with a blank between.
	Mirror func(ctx context.Context, project string, actors map[string]string) error
	// FetchPull fetches the ref of a pull request and returns its commit.
	FetchPull func(ctx context.Context, project string, number int64, ref string) (string, error)
	// Wake has the deliveries of a project worked off; it does not block.
	Wake func(project string)
	// Connected has what waits for a better token tried again; it does not block.
	Connected func(project string)
}

// Forges follows what happens to projects on forges: webhooks are kept and then worked off, and polling
// finds what they missed. What a forge says is a hint; git and the forge's API are asked for the truth.
// Its methods are safe for concurrent use.
type Forges struct {
	ForgeOptions
	x   *Actions
	url string
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	hooks map[string]hooked // by project
}

// hooked is what a webhook's request is verified with.
type hooked struct {
	connection slipway.Connection
	secret     string
}

// NewForges returns Forges that act through x.
func NewForges(x *Actions, o ForgeOptions) *Forges {
	return &Forges{ForgeOptions: o, x: x, url: x.o.URL, log: x.o.Log, now: x.o.Now, hooks: map[string]hooked{}}
}

// HookURL is where the forge of a project sends to.
func (f *Forges) HookURL(project string) string { return f.url + "/hooks/" + project }

// Project is a project with its connection.
func (f *Forges) Project(ctx context.Context, by slipway.User, project string) (slipway.ProjectDetail, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.ProjectDetail{}, err
	}
	return f.detail(ctx, project)
}

func (f *Forges) detail(ctx context.Context, project string) (slipway.ProjectDetail, error) {
	d, err := f.Connections.ProjectDetail(ctx, project)
	if err == nil && d.Connection != nil {
		d.HookURL = f.HookURL(project)
	}
	return d, err
}

// Connect connects a mirrored project with its repository on a forge, or gives it a new token: the forge
// is asked first, then the connection is kept, then the webhook is made. If the webhook cannot be made,
// the answer says what a person has to paste where. With a deploy key and no token, only git is asked.
func (f *Forges) Connect(ctx context.Context, by slipway.User, r slipway.ConnectRequest) (slipway.Connected, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Connected{}, err
	}
	p, err := f.x.o.Projects.Project(ctx, r.Project)
	if err != nil {
		return slipway.Connected{}, err
	}
	if p.GitURL == "" {
		return slipway.Connected{}, slipway.Errorf(slipway.Invalid, "project %s is hosted here: only a project that mirrors a repository (slipway project add NAME --git URL) is connected with a forge", p.Name)
	}
	if r.ByKey() && r.Token == "" {
		return f.connectByKey(ctx, by, p, r)
	}
	c, repository, err := f.Probe(ctx, by, r, p.GitURL)
	if err != nil {
		return slipway.Connected{}, err
	}
	if r.ByKey() {
		key, err := f.keyOf(ctx, r, p.GitURL)
		if err != nil {
			return slipway.Connected{}, err
		}
		if err := f.Keys.SaveDeployKey(ctx, key.DeployKey, key.private, by.Name); err != nil {
			return slipway.Connected{}, err
		}
	}
	forks := r.Forks
	if forks == "" {
		if forks = slipway.ForksApprove; repository.Private {
			forks = slipway.ForksRun
		}
	}
	defer f.forget(p.Name)
	c, err = f.Connections.SaveConnection(ctx, slipway.ProjectDetail{Project: p, Connection: &c, Forks: forks, Link: repository.Link}, strings.TrimSpace(r.Token), by.Name)
	if err != nil {
		return slipway.Connected{}, err
	}
	out, err := f.hook(ctx, by, c, r.Token)
	if err != nil {
		return out, err
	}
	out.Project, err = f.detail(ctx, p.Name)
	f.Connected(p.Name)
	return out, err
}

// Probe says which repository on which forge is meant, and what the forge says of it; nothing is kept.
func (f *Forges) Probe(ctx context.Context, by slipway.User, r slipway.ConnectRequest, gitURL string) (slipway.Connection, slipway.ForgeRepository, error) {
	none := slipway.ForgeRepository{}
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Connection{}, none, err
	}
	c, err := connectionOf(r, gitURL)
	if err != nil {
		return c, none, err
	}
	key, err := f.keyOf(ctx, r, gitURL)
	if err != nil || r.ByKey() && r.Token == "" {
		return c, slipway.ForgeRepository{DefaultBranch: key.branch}, err
	}
	client, err := f.Open(c, r.Token)
	if err != nil {
		return c, none, err
	}
	repository, err := client.Repository(ctx)
	if err != nil {
		return c, none, err
	}
	if c.RepositoryID = repository.ID; repository.Name != "" && strings.EqualFold(repository.Name, c.Repository) {
		c.Repository = repository.Name
	}
	return c, repository, c.Check()
}

// hook makes the webhook, or says what to paste.
func (f *Forges) hook(ctx context.Context, by slipway.User, c slipway.Connection, token string) (slipway.Connected, error) {
	secret, err := f.Connections.Credential(ctx, c.HookSecret)
	if err != nil {
		return slipway.Connected{}, err
	}
	client, err := f.Open(c, token)
	if err != nil {
		return slipway.Connected{}, err
	}
	address := f.HookURL(c.Project)
	ids, err := client.CreateHooks(ctx, address, secret)
	if err != nil {
		return slipway.Connected{Paste: f.HookText(c, address, secret), Problem: err.Error() + f.afar(c)}, nil
	}
	return slipway.Connected{}, f.Connections.SetHooks(ctx, c.Project, ids, by.Name)
}

// afar is what else keeps a webhook from this server, "" for nothing.
func (f *Forges) afar(c slipway.Connection) string {
	if !unreachable(f.url, c.API) {
		return ""
	}
	return "; and " + f.url + " is an address of this machine that the forge does not reach: start the server with --url"
}

// unreachable reports whether a server is on loopback and the forge is not.
func unreachable(server, forge string) bool {
	a, err1 := url.Parse(server)
	b, err2 := url.Parse(forge)
	return err1 == nil && err2 == nil && loopback(a.Hostname()) && !loopback(b.Hostname())
}

func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// LinkAccount says whose an account of a project's forge is; user "" takes that back. It holds for every
// project on that forge, so it takes an admin of the server.
func (f *Forges) LinkAccount(ctx context.Context, by slipway.User, project, account, user string) error {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return err
	}
	if account == "" || account != slipway.CleanLine(account, 100) {
		return slipway.Errorf(slipway.Invalid, "account: expected a name on the forge, in one line of at most 100 characters")
	}
	c, err := f.Connections.Connection(ctx, project)
	if err != nil {
		return err
	}
	return f.Commands.LinkAccount(ctx, c.API, account, user, by.Name)
}

// connectionOf reads from a request and the git URL which repository on which forge is meant. With a deploy key
// alone there may be no forge, just a host.
func connectionOf(r slipway.ConnectRequest, gitURL string) (slipway.Connection, error) {
	c := slipway.Connection{Project: r.Project, Forge: r.Forge, Repository: r.Repository}
	alone := r.ByKey() && r.Token == ""
	if !alone && strings.TrimSpace(r.Token) == "" || len(r.Token) > 16<<10 {
		return c, slipway.Errorf(slipway.Invalid, "a token for the forge is needed, of at most 16 KiB (--token-file), or a deploy key (--deploy-key)")
	}
	if r.Forks != "" && r.Forks != slipway.ForksRun && r.Forks != slipway.ForksApprove {
		return c, slipway.Errorf(slipway.Invalid, "forks %q: must be run or approve", r.Forks)
	}
	u := repositoryURL(gitURL)
	if c.Forge == "" {
		c.Forge = map[string]slipway.ForgeKind{"github.com": slipway.GitHub, "gitlab.com": slipway.GitLab, "dev.azure.com": slipway.AzureDevOps, "codeberg.org": slipway.Gitea}[strings.TrimPrefix(u.Hostname(), "ssh.")]
	}
	if alone && c.Forge == "" && r.Address == "" {
		return c, nil
	}
	address := strings.TrimSuffix(r.Address, "/")
	c.API = apiOf(c.Forge, address, u)
	if c.Repository == "" {
		c.Repository = repositoryOf(c.Forge, address, u)
	}
	return c, c.Check()
}

// Beside is the connection of a project for another repository on the same forge, of which git is fetched
// from gitURL.
func Beside(c slipway.Connection, gitURL string) slipway.Connection {
	c.Repository, c.RepositoryID, c.HookIDs = repositoryOf(c.Forge, c.API, repositoryURL(gitURL)), "", nil
	return c
}

// repositoryURL reads a git URL, that of scp too: git@host:owner/name.git.
func repositoryURL(raw string) *url.URL {
	if host, path, ok := strings.Cut(raw, ":"); ok && !strings.Contains(raw, "://") {
		_, host, _ = strings.Cut("@"+host, "@")
		host = host[strings.LastIndex(host, "@")+1:]
		return &url.URL{Scheme: "ssh", Host: host, Path: "/" + path}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return &url.URL{}
	}
	return u
}

// apiOf is where a forge's API is: at the address that was given, with the path that it always has there,
// else where the git URL's host would have it.
func apiOf(kind slipway.ForgeKind, address string, git *url.URL) string {
	suffix := map[slipway.ForgeKind]string{slipway.GitHub: "/api/v3", slipway.GitLab: "/api/v4", slipway.Gitea: "/api/v1"}[kind]
	switch public := kind.DefaultAPI(); {
	case address == "" && public != "" && strings.HasSuffix("."+strings.TrimPrefix(git.Hostname(), "ssh."), "."+publicHost(kind)):
		return public
	case address == "":
		scheme := "https"
		if git.Scheme == "http" {
			scheme = "http"
		}
		host := git.Host
		if git.Scheme == "ssh" {
			host = git.Hostname() // its port is ssh's
		}
		return scheme + "://" + host + suffix
	case address == public || strings.HasSuffix(address, suffix):
		return address
	case kind == slipway.GitHub && address == "https://github.com":
		return public
	}
	return address + suffix
}

func publicHost(kind slipway.ForgeKind) string {
	return map[slipway.ForgeKind]string{slipway.GitHub: "github.com", slipway.GitLab: "gitlab.com", slipway.AzureDevOps: "dev.azure.com"}[kind]
}

// repositoryOf is the repository's name on the forge, as its git URL has it.
func repositoryOf(kind slipway.ForgeKind, address string, git *url.URL) string {
	path := git.Path
	if a, err := url.Parse(address); err == nil && address != "" {
		base := a.Path
		for _, suffix := range []string{"/api/v1", "/api/v3", "/api/v4"} {
			base = strings.TrimSuffix(base, suffix)
		}
		path = strings.TrimPrefix(path, base)
	}
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if kind == slipway.AzureDevOps {
		path = strings.Replace(path, "/_git/", "/", 1)
		path = strings.TrimPrefix(path, "v3/") // of ssh.dev.azure.com
	}
	return path
}
