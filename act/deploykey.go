package act

import (
	"context"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// DeployKeys is where the keys are kept with which repositories are fetched by SSH, by codebase.
type DeployKeys interface {
	// DeployKey is the one in use or, not accepted, the one that was prepared; NotFound if there is none.
	DeployKey(ctx context.Context, codebase string, accepted bool) (slipway.DeployKey, error)
	PrivateKey(ctx context.Context, k slipway.DeployKey) (string, error)
	SaveDeployKey(ctx context.Context, k slipway.DeployKey, private, actor string) error
}

// SSH makes keys and tries them.
type SSH interface {
	// Make makes a key pair, the public half as a line of authorized_keys that ends with comment.
	Make(comment string) (private, public string, err error)
	// Public is the public half of a private key.
	Public(private string) (string, error)
	// Hosts says which keys of the host are trusted, as lines of known_hosts: those of a known_hosts file, else
	// the one that has this fingerprint, else one that the host's operator publishes.
	Hosts(ctx context.Context, gitURL, knownHosts, fingerprint string) (string, error)
	// Try reaches the repository and returns its default branch. Forbidden: the host does not take the key.
	Try(ctx context.Context, gitURL, private, hosts string) (string, error)
}

// keyed is a deploy key that reached its repository.
type keyed struct {
	slipway.DeployKey
	private string
	branch  string // default branch there
}

// maxKey bounds a private key, in bytes.
const maxKey = 64 << 10

// PrepareKey makes a key pair for a codebase that is, or will be, fetched from gitURL, and returns its public
// half with where to enter it; asked again, it returns the same one, Accepted once the host takes it. What the
// codebase is fetched with does not change: that is for Connect, with slipway.NewDeployKey.
func (f *Forges) PrepareKey(ctx context.Context, by slipway.User, r slipway.ConnectRequest, gitURL string) (slipway.DeployKey, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return slipway.DeployKey{}, err
	}
	gitURL, err := f.keyURL(ctx, r, gitURL)
	if err != nil {
		return slipway.DeployKey{}, err
	}
	if err := checkGitURL(gitURL); err != nil {
		return slipway.DeployKey{}, err
	}
	r.DeployKey = slipway.NewDeployKey
	c, err := connectionOf(r, gitURL)
	if err != nil {
		return slipway.DeployKey{}, err
	}
	if c.Forge == slipway.AzureDevOps {
		return slipway.DeployKey{}, slipway.Errorf(slipway.Invalid, "Azure DevOps takes RSA keys alone, and Slipway makes Ed25519 ones: make one with `ssh-keygen -t rsa -b 4096`, enter it there under User settings, SSH public keys, and give it with --deploy-key FILE")
	}
	k, err := f.prepared(ctx, r, gitURL, by.Name)
	if err != nil {
		return k, err
	}
	private, err := f.Keys.PrivateKey(ctx, k)
	if err != nil {
		return k, err
	}
	_, err = f.SSH.Try(ctx, gitURL, private, k.Hosts)
	k.Where = keyWhere(c)
	if slipway.ErrorCode(err) == slipway.Forbidden {
		return k, nil
	}
	k.Accepted = err == nil
	return k, err
}

// keyURL is where a codebase is fetched from that a key is for: what it has, or gitURL for one to come.
func (f *Forges) keyURL(ctx context.Context, r slipway.ConnectRequest, gitURL string) (string, error) {
	if err := slipway.CheckName("project", r.Project); err != nil {
		return "", err
	}
	if r.Codebase != "" {
		if err := slipway.CheckName("codebase", r.Codebase); err != nil {
			return "", err
		}
		if _, err := f.x.o.Projects.Project(ctx, r.Project); err != nil {
			return "", err
		}
	}
	at, err := f.x.o.Planner.Codebase(ctx, r.Key())
	if slipway.ErrorCode(err) == slipway.NotFound {
		return gitURL, nil
	}
	return at.GitURL, err
}

// prepared is the prepared key of a codebase, made now if there is none for that URL.
func (f *Forges) prepared(ctx context.Context, r slipway.ConnectRequest, gitURL, actor string) (slipway.DeployKey, error) {
	k, private, err := f.known(ctx, r.Key(), gitURL, false)
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return k, err
	}
	had := err == nil
	if !had {
		k, _, err = f.known(ctx, r.Key(), gitURL, true) // for what is trusted
		if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
			return k, err
		}
	}
	hosts, err := f.hosts(ctx, r, gitURL, k)
	if err != nil || had && hosts == k.Hosts {
		return k, err
	}
	k = slipway.DeployKey{Codebase: r.Key(), GitURL: gitURL, Hosts: hosts, Public: k.Public}
	if !had {
		if private, k.Public, err = f.SSH.Make("slipway " + r.Key()); err != nil {
			return k, err
		}
	}
	return k, f.Keys.SaveDeployKey(ctx, k, private, actor)
}

// known is the key of a codebase that is for this URL, with its private half.
func (f *Forges) known(ctx context.Context, codebase, gitURL string, accepted bool) (slipway.DeployKey, string, error) {
	k, err := f.Keys.DeployKey(ctx, codebase, accepted)
	if err == nil && k.GitURL != gitURL {
		err = slipway.Errorf(slipway.NotFound, "the deploy key of %s is for %s", codebase, k.GitURL)
	}
	if err != nil {
		return slipway.DeployKey{}, "", err
	}
	private, err := f.Keys.PrivateKey(ctx, k)
	return k, private, err
}

// hosts are the trusted keys of the host: what the request says, else those that k has.
func (f *Forges) hosts(ctx context.Context, r slipway.ConnectRequest, gitURL string, k slipway.DeployKey) (string, error) {
	if r.KnownHosts == "" && r.HostKey == "" && k.Hosts != "" {
		return k.Hosts, nil
	}
	return f.SSH.Hosts(ctx, gitURL, r.KnownHosts, r.HostKey)
}

// tried is the deploy key of a request once it has reached the repository; nothing is kept. It is the zero value
// for a request that is not about one.
func (f *Forges) tried(ctx context.Context, r slipway.ConnectRequest, gitURL string) (keyed, error) {
	if !r.ByKey() {
		return keyed{}, nil
	}
	if len(r.DeployKey) > maxKey {
		return keyed{}, slipway.Errorf(slipway.Invalid, "the deploy key has more than %d bytes", maxKey)
	}
	k, private, err := f.known(ctx, r.Key(), gitURL, r.DeployKey != slipway.NewDeployKey)
	given := r.DeployKey != "" && r.DeployKey != slipway.NewDeployKey
	switch code := slipway.ErrorCode(err); {
	case code == slipway.NotFound && r.DeployKey == slipway.NewDeployKey:
		return keyed{}, slipway.Errorf(slipway.NotFound, "no deploy key is prepared for %s and %s: prepare one first", r.Key(), gitURL)
	case code == slipway.NotFound && !given:
		return keyed{}, slipway.Errorf(slipway.NotFound, "%s has no deploy key for %s: give one with --deploy-key FILE, or new", r.Key(), gitURL)
	case err != nil && code != slipway.NotFound:
		return keyed{}, err
	}
	public := k.Public
	if given {
		private = strings.TrimSpace(r.DeployKey) + "\n"
		if public, err = f.SSH.Public(private); err != nil {
			return keyed{}, err
		}
	}
	hosts, err := f.hosts(ctx, r, gitURL, k)
	if err != nil {
		return keyed{}, err
	}
	branch, err := f.SSH.Try(ctx, gitURL, private, hosts)
	return keyed{slipway.DeployKey{Codebase: r.Key(), GitURL: gitURL, Public: public, Hosts: hosts, Accepted: true}, private, branch}, err
}

// withoutToken is why a webhook is to be made by hand.
const withoutToken = "Slipway has a deploy key for the repository and no token for the API"

// connectByKey has a codebase fetched with a key. Where its forge is known, and it has no token for that, webhooks
// are received as well, once somebody made one there. A token that it has or shares stays.
func (f *Forges) connectByKey(ctx context.Context, by slipway.User, at slipway.Codebase, r slipway.ConnectRequest) (out slipway.Connected, err error) {
	key, err := f.tried(ctx, r, at.GitURL)
	if err != nil {
		return out, err
	}
	c, err := connectionOf(r, at.GitURL)
	if err != nil {
		return out, err
	}
	before, err := f.Details.CodebaseDetail(ctx, at.Key())
	if err != nil {
		return out, err
	}
	onForge := c.Forge != "" && (before.Connection == nil || before.Connection.Credential == "")
	err = f.change(at.Key(), func() (err error) {
		if err := f.Keys.SaveDeployKey(ctx, key.DeployKey, key.private, by.Name); err != nil || !onForge {
			return err
		}
		forks := slipway.ForkPolicy(first(string(r.Forks), string(before.Forks), string(slipway.ForksApprove)))
		c, err = f.Connections.SaveConnection(ctx, slipway.CodebaseDetail{Connection: &c, Forks: forks}, "", by.Name)
		return err
	})
	if err != nil {
		return out, err
	}
	defer f.Connected(at.Key())
	if onForge {
		secret, err := f.Connections.Credential(ctx, c.HookSecret)
		if err != nil {
			return out, err
		}
		out.Paste, out.Problem = f.HookText(c, f.HookURL(at.Key()), secret), withoutToken+f.afar(c)
	}
	return out, f.describe(ctx, &out, at)
}

// keyWhere says where the public half of a key is entered.
func keyWhere(c slipway.Connection) string {
	switch c.Forge {
	case slipway.GitHub:
		return "in " + c.Repository + " on GitHub: Settings, Deploy keys, Add deploy key; leave \"Allow write access\" off"
	case slipway.GitLab:
		return "in " + c.Repository + " on GitLab: Settings, Repository, Deploy keys, Add new key; leave \"Grant write permissions\" off"
	case slipway.Gitea:
		return "in " + c.Repository + " on Gitea or Forgejo: Settings, Deploy Keys, Add Deploy Key; leave \"Enable Write Access\" off"
	}
	return "on the host: as a deploy key of the repository that may only read, or in ~/.ssh/authorized_keys of the user in the git URL"
}
