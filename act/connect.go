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

// Forge is what is asked of a codebase's forge.
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

// Connections is where it is kept how codebases, given by their keys, are connected with forges.
type Connections interface {
	Connection(ctx context.Context, codebase string) (slipway.Connection, error)
	// SaveConnection connects a codebase. Without a token it keeps the one it has or, Shared, has that of the main
	// one; with neither it takes a deploy key in use.
	SaveConnection(ctx context.Context, d slipway.CodebaseDetail, token, actor string) (slipway.Connection, error)
	SetHooks(ctx context.Context, codebase string, ids []string, actor string) error
	// Credential opens a credential by the name that a connection has for it.
	Credential(ctx context.Context, name string) (string, error)
}

// Details is where it is kept how codebases and projects are connected, and how their forges answer.
type Details interface {
	ProjectDetail(ctx context.Context, project string) (slipway.ProjectDetail, error)
	CodebaseDetail(ctx context.Context, codebase string) (slipway.CodebaseDetail, error)
}

// Deliveries is where what the webhooks of codebases sent is kept until it is processed.
type Deliveries interface {
	ReceiveDelivery(ctx context.Context, codebase string, d slipway.Delivery) (fresh bool, err error)
	DueDeliveries(ctx context.Context, codebase string, limit int) (due []slipway.Received, next time.Time, err error)
	FinishDeliveries(ctx context.Context, ids []int64, reason string) error
	DelayDeliveries(ctx context.Context, ids []int64, until time.Time, reason string) error
}

// ForgePulls is where the pull requests of forges are kept.
type ForgePulls interface {
	SaveForgePull(ctx context.Context, p slipway.PullRequest) (slipway.PullRequest, error)
	// RunHeld lets the held head of a fork run.
	RunHeld(ctx context.Context, codebase string, number int64, head, actor string, run slipway.Run, plan slipway.Plan) (slipway.Run, error)
	Synced(ctx context.Context, codebase string) (bool, error)
	SetSynced(ctx context.Context, codebase string) error
	// NameActor says who moved a ref to a commit, where it was put down to somebody else.
	NameActor(ctx context.Context, codebase, ref, commit, from, actor string) error
}

// Commands is where it is kept which comments were obeyed, and whose the accounts of forges are.
type Commands interface {
	Command(ctx context.Context, codebase, comment string) (slipway.ForgeCommand, bool, error)
	SaveCommand(ctx context.Context, c slipway.ForgeCommand) error
	UserByAccount(ctx context.Context, api string, a slipway.Account) (slipway.User, error)
	LinkAccount(ctx context.Context, api, account, user, actor string) error
}

// ForgeOptions is what a codebase on a forge is followed with; functions take its key.
type ForgeOptions struct {
	Connections Connections
	Details     Details
	Deliveries  Deliveries
	Pulls       ForgePulls
	Commands    Commands
	Keys        DeployKeys
	SSH         SSH
	// Problem keeps what a forge refuses in an area, "" for nothing.
	Problem func(ctx context.Context, codebase, area, problem string) error
	// Open speaks with the forge of a connection; token is the credential.
	Open func(c slipway.Connection, token string) (Forge, error)
	// Receive verifies a webhook's request, and only then reads it.
	Receive func(c slipway.Connection, secret string, h http.Header, body []byte) (slipway.Delivery, error)
	// HookText is what a person enters where the webhook cannot be made through the API.
	HookText func(c slipway.Connection, address, secret string) string
	// Unhook removes the webhooks that Slipway made.
	Unhook func(ctx context.Context, c slipway.Connection, token string) error
	// Mirror fetches branches and tags and takes what moved as pushes. actors says who moved a ref, by
	// ref and commit with a blank between.
	Mirror func(ctx context.Context, codebase string, actors map[string]string) error
	// FetchPull fetches the ref of a pull request and returns its commit; nothing else moves.
	FetchPull func(ctx context.Context, codebase string, number int64, ref string) (string, error)
	// Wake has the deliveries of a codebase worked off; it does not block.
	Wake func(codebase string)
	// Polled is the last poll of a codebase, nil when none is known.
	Polled func(codebase string) *slipway.Poll
	// Connected has what waits for a better token tried again; it does not block.
	Connected func(codebase string)
}

// Forges follows what happens to codebases on forges: webhooks are kept and then worked off, and polling
// finds what they missed. What a forge says is a hint; git and the forge's API are asked for the truth.
// Its methods are safe for concurrent use.
type Forges struct {
	ForgeOptions
	x   *Actions
	url string
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	hooks map[string]hooked // by codebase
	taken map[string]error  // by codebase
	anew  map[string]int    // how often codebases were connected: what was read before is not acted on after
	under map[string]map[*context.CancelCauseFunc]bool
	// receiving is held for reading while a webhook is verified and kept, for writing while its codebase is connected
	// anew: what was verified with the secret of before is kept before that, or not at all.
	receiving map[string]*sync.RWMutex
	stuck     map[string]map[int64]stuck
}

// hooked is what a webhook's request is verified with.
type hooked struct {
	connection slipway.Connection
	secret     string
}

// NewForges returns Forges that act through x.
func NewForges(x *Actions, o ForgeOptions) *Forges {
	return &Forges{ForgeOptions: o, x: x, url: x.o.URL, log: x.o.Log, now: x.o.Now, hooks: map[string]hooked{}, taken: map[string]error{}, anew: map[string]int{},
		under: map[string]map[*context.CancelCauseFunc]bool{}, receiving: map[string]*sync.RWMutex{}, stuck: map[string]map[int64]stuck{}}
}

// HookURL is where the forge of a codebase sends to.
func (f *Forges) HookURL(codebase string) string { return f.url + "/hooks/" + codebase }

// Project is a project with the connections of its codebases.
func (f *Forges) Project(ctx context.Context, by slipway.User, project string) (slipway.ProjectDetail, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.ProjectDetail{}, err
	}
	return f.detail(ctx, project)
}

func (f *Forges) detail(ctx context.Context, project string) (slipway.ProjectDetail, error) {
	d, err := f.Details.ProjectDetail(ctx, project)
	if err != nil {
		return d, err
	}
	f.complete(&d.CodebaseDetail)
	for i := range d.Codebases {
		f.complete(&d.Codebases[i])
	}
	return d, nil
}

// complete adds what is not kept: where webhooks go to, and the last poll.
func (f *Forges) complete(d *slipway.CodebaseDetail) {
	f.addHook(d)
	if f.Polled != nil && d.Codebase.GitURL != "" {
		d.Poll = f.Polled(d.Codebase.Key())
	}
}

func (f *Forges) addHook(d *slipway.CodebaseDetail) {
	if d.Connection != nil {
		d.HookURL = f.HookURL(d.Connection.Key())
	}
}

// Connect connects a mirrored codebase with its repository on a forge, or gives it a new token: the forge
// is asked first, then the connection is kept, then the webhook is made. If the webhook cannot be made,
// the answer says what a person has to paste where. A further codebase without a token shares that of the
// main one. With a deploy key and no token, only git is asked.
func (f *Forges) Connect(ctx context.Context, by slipway.User, r slipway.ConnectRequest) (slipway.Connected, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Connected{}, err
	}
	at, err := f.x.o.Planner.Codebase(ctx, slipway.CodebaseKey(r.Project, r.Codebase))
	if err != nil {
		return slipway.Connected{}, err
	}
	if at.GitURL == "" {
		return slipway.Connected{}, slipway.Errorf(slipway.Invalid, "%s of project %s is hosted here: only what mirrors a repository (--git URL) is connected with a forge", at.Title(), at.Project)
	}
	if at, err = moves(r, at); err != nil {
		return slipway.Connected{}, err
	}
	if r.ByKeyAlone() {
		return f.connectByKey(ctx, by, at, r)
	}
	c, repository, err := f.Probe(ctx, by, r, at.GitURL)
	if err != nil {
		return slipway.Connected{}, err
	}
	if err := f.same(ctx, r, at, c); err != nil {
		return slipway.Connected{}, err
	}
	key, err := f.tried(ctx, r, at.GitURL)
	if err != nil {
		return slipway.Connected{}, err
	}
	forks := r.Forks
	if forks == "" {
		if forks = slipway.ForksApprove; repository.Private {
			forks = slipway.ForksRun
		}
	}
	err = f.change(at.Key(), func() (err error) {
		if r.ByKey() {
			if err := f.Keys.SaveDeployKey(ctx, key.DeployKey, key.private, by.Name); err != nil {
				return err
			}
		}
		d := slipway.CodebaseDetail{Codebase: slipway.Codebase{GitURL: r.GitURL}, Connection: &c, Forks: forks, Link: repository.Link}
		c, err = f.Connections.SaveConnection(ctx, d, strings.TrimSpace(r.Token), by.Name)
		return err
	})
	if err != nil {
		return slipway.Connected{}, err
	}
	out, err := f.hook(ctx, by, c)
	if err != nil {
		return out, err
	}
	if err := f.describe(ctx, &out, at); err != nil {
		return out, err
	}
	f.Connected(at.Key())
	for _, d := range out.Project.Codebases {
		if at.Name == "" && d.Connection != nil && d.Connection.Shared {
			f.Connected(d.Codebase.Key())
		}
	}
	return out, nil
}

// describe says in out how a codebase is connected.
func (f *Forges) describe(ctx context.Context, out *slipway.Connected, at slipway.Codebase) (err error) {
	if out.Project, err = f.detail(ctx, at.Project); err != nil {
		return err
	}
	for i, d := range out.Project.Codebases {
		if d.Codebase.Name == at.Name {
			out.Codebase = &out.Project.Codebases[i]
		}
	}
	return nil
}

// Probe says which repository on which forge is meant, and what the forge says of it; nothing is kept.
func (f *Forges) Probe(ctx context.Context, by slipway.User, r slipway.ConnectRequest, gitURL string) (slipway.Connection, slipway.ForgeRepository, error) {
	none := slipway.ForgeRepository{}
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.Connection{}, none, err
	}
	token, err := f.token(ctx, &r, gitURL)
	if err != nil {
		return slipway.Connection{}, none, err
	}
	c, err := connectionOf(r, gitURL)
	if err != nil {
		return c, none, err
	}
	key, err := f.tried(ctx, r, gitURL)
	if err != nil || r.ByKeyAlone() {
		return c, slipway.ForgeRepository{DefaultBranch: key.branch}, err
	}
	client, err := f.Open(c, token)
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

// token is what is shown to the forge of a request: its own token or, for a further codebase without one, that
// of the main codebase; "" for one with a deploy key alone. A credential is shown to nobody but the forge that it
// is for, so the address must be the same, and git's host too.
func (f *Forges) token(ctx context.Context, r *slipway.ConnectRequest, gitURL string) (string, error) {
	if token := strings.TrimSpace(r.Token); token != "" || r.Codebase == "" || r.ByKeyAlone() {
		return token, nil
	}
	main, err := f.Connections.Connection(ctx, r.Project)
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && main.Credential == "" {
		return "", slipway.Errorf(slipway.Invalid, "codebase %s needs a token for its forge (--token-file), or a deploy key (--deploy-key): project %s has no token that it could share", r.Codebase, r.Project)
	}
	if err != nil {
		return "", err
	}
	p, err := f.x.o.Projects.Project(ctx, r.Project)
	if err != nil {
		return "", err
	}
	if r.Forge == "" && r.Address == "" {
		r.Forge, r.Address = main.Forge, main.API
	}
	c, err := connectionOf(*r, gitURL)
	if err != nil {
		return "", err
	}
	if c.API != main.API || c.Forge != main.Forge || !mayShow(gitURL, p.GitURL, main.API) {
		return "", slipway.Errorf(slipway.Invalid, "codebase %s needs a token of its own (--token-file): that of project %s is for %s, and is shown to no other host", r.Codebase, r.Project, main.API)
	}
	return f.Connections.Credential(ctx, main.Credential)
}

// SameOrigin reports whether two git URLs are asked with one protocol at one host, so that a credential for
// one may be shown to the other.
func SameOrigin(a, b string) bool {
	u, uerr := url.Parse(a)
	v, verr := url.Parse(b)
	return uerr == nil && verr == nil && u.Host != "" && u.Scheme == v.Scheme && strings.EqualFold(u.Host, v.Host)
}

// mayShow reports whether the token of a main codebase, for the API at an address, may be used for another codebase
// by its git URL: where both are asked by HTTP, of the same origin; else by the name of the host. By SSH git is shown
// no token; by HTTPS it is, so that beside a main codebase by SSH it must be at the usual port, or the API's.
func mayShow(gitURL, mainURL, api string) bool {
	u, v := repositoryURL(gitURL), repositoryURL(mainURL)
	switch {
	case u.Scheme != "ssh" && v.Scheme != "ssh":
		return SameOrigin(gitURL, mainURL)
	case hostName(u) == "" || hostName(u) != hostName(v):
		return false
	case u.Scheme == "ssh":
		return true
	}
	return u.Scheme == "https" && u.Port() == "" || SameOrigin(gitURL, api)
}

// hostName is the host of a git URL; public forges have another name for SSH by way of HTTPS's port.
func hostName(u *url.URL) string {
	name := strings.ToLower(u.Hostname())
	if u.Scheme == "ssh" {
		name = strings.TrimPrefix(name, "ssh.")
	}
	return name
}

// hook makes the webhook, or says what to paste.
func (f *Forges) hook(ctx context.Context, by slipway.User, c slipway.Connection) (slipway.Connected, error) {
	secret, err := f.Connections.Credential(ctx, c.HookSecret)
	if err != nil {
		return slipway.Connected{}, err
	}
	client, err := f.open(ctx, c)
	if err != nil {
		return slipway.Connected{}, err
	}
	address := f.HookURL(c.Key())
	ids, err := client.CreateHooks(ctx, address, secret)
	if err != nil {
		return slipway.Connected{Paste: f.HookText(c, address, secret), Problem: err.Error() + f.afar(c)}, nil
	}
	return slipway.Connected{}, f.Connections.SetHooks(ctx, c.Key(), ids, by.Name)
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

// LinkAccount says whose an account of a codebase's forge is; user "" takes that back. It holds for everything
// on that forge, so it takes an admin of the server.
func (f *Forges) LinkAccount(ctx context.Context, by slipway.User, codebase, account, user string) error {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return err
	}
	if account == "" || account != slipway.CleanLine(account, 100) {
		return slipway.Errorf(slipway.Invalid, "account: expected a name on the forge, in one line of at most 100 characters")
	}
	c, err := f.Connections.Connection(ctx, codebase)
	if err != nil {
		return err
	}
	return f.Commands.LinkAccount(ctx, c.API, account, user, by.Name)
}

// connectionOf reads from a request and the git URL which repository on which forge is meant. With a deploy key
// alone there may be no forge, just a host.
func connectionOf(r slipway.ConnectRequest, gitURL string) (slipway.Connection, error) {
	blank := strings.TrimSpace(r.Token) == ""
	c := slipway.Connection{Project: r.Project, Codebase: r.Codebase, Forge: r.Forge, Repository: r.Repository, Shared: r.Codebase != "" && blank && !r.ByKeyAlone()}
	if r.Codebase == "" && blank && !r.ByKeyAlone() || len(r.Token) > 16<<10 {
		return c, slipway.Errorf(slipway.Invalid, "a token for the forge is needed, of at most 16 KiB (--token-file), or a deploy key (--deploy-key)")
	}
	if r.Forks != "" && r.Forks != slipway.ForksRun && r.Forks != slipway.ForksApprove {
		return c, slipway.Errorf(slipway.Invalid, "forks %q: must be run or approve", r.Forks)
	}
	u := azureURL(repositoryURL(gitURL))
	if c.Forge == "" {
		c.Forge = map[string]slipway.ForgeKind{"github.com": slipway.GitHub, "gitlab.com": slipway.GitLab, "dev.azure.com": slipway.AzureDevOps, "codeberg.org": slipway.Gitea}[strings.TrimPrefix(u.Hostname(), "ssh.")]
	}
	if r.ByKeyAlone() && c.Forge == "" && r.Address == "" {
		return c, nil
	}
	address := strings.TrimSuffix(r.Address, "/")
	if c.Forge == slipway.AzureDevOps && strings.HasSuffix(hostName(repositoryURL(address)), visualStudio) {
		address = slipway.AzureDevOps.DefaultAPI()
	}
	c.API = apiOf(c.Forge, address, u)
	if c.Repository == "" {
		c.Repository = repositoryOf(c.Forge, address, u)
	}
	if c.Forge == slipway.AzureDevOps && address == "" { // a server's folder, as in https://host/tfs/collection/project/_git/repository
		for strings.Count(c.Repository, "/") > 2 {
			folder, rest, _ := strings.Cut(c.Repository, "/")
			c.API, c.Repository = c.API+"/"+url.PathEscape(folder), rest
		}
	}
	return c, c.Check()
}

const visualStudio = ".visualstudio.com"

// azureURL gives a repository of Azure DevOps Services its name of today: organizations that are older are called
// organization.visualstudio.com as well. Any other URL stays.
func azureURL(u *url.URL) *url.URL {
	organization, ok := strings.CutSuffix(strings.ToLower(u.Hostname()), visualStudio)
	switch {
	case !ok:
		return u
	case organization == "vs-ssh":
		return &url.URL{Scheme: u.Scheme, Host: "ssh.dev.azure.com", Path: u.Path}
	}
	return &url.URL{Scheme: u.Scheme, Host: "dev.azure.com", Path: "/" + organization + strings.TrimPrefix(u.Path, "/DefaultCollection")}
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
		if kind == slipway.GitHub && strings.HasSuffix(host, ".ghe.com") { // with data residency
			return scheme + "://api." + host
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
	if kind != slipway.AzureDevOps {
		return path
	}
	if plain, err := url.PathUnescape(path); err == nil && git.Scheme == "ssh" {
		path = plain
	}
	path = strings.TrimPrefix(path, "v3/") // of ssh.dev.azure.com
	project, name, ok := strings.Cut(path, "/_git/")
	if !ok {
		return path
	}
	if strings.Count(project, "/") == 0 { // the repository that is called as its project
		project += "/" + name
	}
	return project + "/" + name
}
