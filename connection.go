package slipway

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
)

// ForkPolicy says what happens to pull requests whose head is in another repository. Their runs get no
// secrets, no caches of others and no push rights, whichever it is.
type ForkPolicy string

const (
	ForksRun     ForkPolicy = "run"     // each head is built and tested at once
	ForksApprove ForkPolicy = "approve" // each head waits for a member's approval
)

// ConnectRequest asks for a codebase to be connected with its repository on a forge. Forge, Address and
// Repository may be left empty where they follow from the git URL of the codebase.
type ConnectRequest struct {
	Project    string    `json:"project"`
	Codebase   string    `json:"codebase,omitempty"` // name; "": the main one
	Forge      ForgeKind `json:"forge"`
	Address    string    `json:"address,omitempty"`    // of the forge or of its API; empty: from the git URL
	Repository string    `json:"repository,omitempty"` // as Connection.Repository; empty: from the git URL
	// GitURL is where the repository is from now on, for a codebase that is there; empty: where it is known to be.
	// Said, it also means that another repository than before is meant, if it is another one.
	GitURL string     `json:"gitURL,omitempty"`
	Forks  ForkPolicy `json:"forks,omitempty"` // empty: approve for a public repository, run for a private one
	// Token is what Slipway shows the forge: an access token, or for a GitHub App what docs/howto/forge.md
	// says. It is kept sealed and never shown again. It may be left out with a deploy key: then git is all that
	// is asked. A further codebase may do without, when it is on the forge of the main one: then it is that one's.
	Token string `json:"token,omitempty"`
	// DeployKey is the private key with which git fetches by SSH, kept as Token is, or NewDeployKey for the one
	// that Slipway prepared. Empty with KnownHosts or HostKey: the one it has.
	DeployKey string `json:"deployKey,omitempty"`
	// KnownHosts is a file known_hosts that has the host's keys; HostKey the fingerprint of the one it has,
	// SHA256:... Neither: the keys that are trusted already, or that a public forge publishes.
	KnownHosts string `json:"knownHosts,omitempty"`
	HostKey    string `json:"hostKey,omitempty"`
}

// NewDeployKey stands for a key pair that Slipway makes.
const NewDeployKey = "new"

// Key is CodebaseKey of what is to be connected.
func (r ConnectRequest) Key() string { return CodebaseKey(r.Project, r.Codebase) }

// ByKey reports whether the request is about a deploy key.
func (r ConnectRequest) ByKey() bool {
	return r.DeployKey != "" || r.KnownHosts != "" || r.HostKey != ""
}

// ByKeyAlone reports whether it is about a deploy key and no token: the forge's API is not asked.
func (r ConnectRequest) ByKeyAlone() bool { return r.ByKey() && r.Token == "" }

// DeployKey is a key pair with which one repository is fetched by SSH, without its private half, and which
// keys its host must have.
type DeployKey struct {
	Codebase string `json:"codebase"` // CodebaseKey of what is fetched
	GitURL   string `json:"gitURL"`   // what it is for, and nothing else
	Public   string `json:"public"`   // as in authorized_keys
	Hosts    string `json:"hosts"`    // as in known_hosts: every other key of the host is refused
	// Accepted reports whether it is in use. One that Slipway prepared is not until the host takes it.
	Accepted bool `json:"accepted"`
	// Where says where Public is to be entered on the forge; it is not kept.
	Where     string    `json:"where,omitempty"`
	Problem   string    `json:"problem,omitempty"` // why the last fetch did nothing; "" if it did
	CreatedAt time.Time `json:"createdAt,omitzero"`
}

// HostKeys are the trusted keys of the host for people: host, kind and fingerprint; of an authority that signs
// keys of hosts, with that word.
func (k DeployKey) HostKeys() (out []string) {
	for line := range strings.Lines(k.Hosts) {
		f := strings.Fields(line)
		note := ""
		if len(f) > 0 && f[0] == "@cert-authority" {
			f, note = f[1:], " (certificate authority)"
		}
		if len(f) >= 3 && !strings.HasPrefix(f[0], "@") {
			out = append(out, f[0]+" "+KeyFingerprint(f[1]+" "+f[2])+note)
		}
	}
	return out
}

// KeyFingerprint is the kind and the fingerprint of a public SSH key, given as a line of authorized_keys.
func KeyFingerprint(public string) string {
	kind, rest, _ := strings.Cut(strings.TrimSpace(public), " ")
	data, _, _ := strings.Cut(rest, " ")
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return kind
	}
	sum := sha256.Sum256(raw)
	return kind + " SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Connected is what came of a ConnectRequest.
type Connected struct {
	Project ProjectDetail `json:"project"`
	// Codebase is the further one that was connected, or was not because of Problem; nil for the main one.
	Codebase *CodebaseDetail `json:"codebase,omitempty"`
	// Paste is what a person enters on the forge's pages because the webhook could not be made through
	// its API, with the webhook's secret; it is shown now and not again. Empty: the webhook is made.
	Paste string `json:"paste,omitempty"`
	// Problem is why Paste is needed, or why a codebase is not connected.
	Problem string `json:"problem,omitempty"`
}

// Of is what was connected.
func (c Connected) Of() CodebaseDetail {
	if c.Codebase != nil {
		return *c.Codebase
	}
	return c.Project.CodebaseDetail
}

// Removed is what is left of a codebase that was taken away from its project.
type Removed struct {
	// Problem is why the webhook is still on the forge; "" if it is not.
	Problem string `json:"problem,omitempty"`
}

// ProjectDetail is a project and how its codebases are connected: the main one, and the further ones by
// name.
type ProjectDetail struct {
	Project Project `json:"project"`
	CodebaseDetail
	Codebases []CodebaseDetail `json:"codebases,omitempty"`
}

// CodebaseDetail is a codebase and how it is connected.
type CodebaseDetail struct {
	Codebase   Codebase     `json:"codebase"`
	Connection *Connection  `json:"connection,omitempty"`
	Forks      ForkPolicy   `json:"forks,omitempty"`
	HookURL    string       `json:"hookURL,omitempty"` // where the forge sends to
	Link       string       `json:"link,omitempty"`    // the repository's page on the forge
	DeployKey  *DeployKey   `json:"deployKey,omitempty"`
	Health     *ForgeHealth `json:"health,omitempty"`
	// Poll is nil for what is hosted here.
	Poll *Poll `json:"poll,omitempty"`
}

// Poll is when a mirrored repository was asked last what is new there, whatever webhooks said.
type Poll struct {
	Time    time.Time `json:"time,omitzero"`     // zero until there was one since the server started
	Since   time.Time `json:"since,omitzero"`    // when the server started: it knows of no poll before
	Problem string    `json:"problem,omitempty"` // why that found out nothing; "" if it did
}

// ForgeHealth says how a codebase's forge answers and what it sent.
type ForgeHealth struct {
	// Problems are what the forge refuses and what to do; none while it answers as it should.
	Problems  []ForgeProblem `json:"problems,omitempty"`
	Since     time.Time      `json:"since,omitzero"`     // of the first of Problems
	Delivered time.Time      `json:"delivered,omitzero"` // newest delivery of the webhook
	Waiting   int            `json:"waiting"`            // deliveries that are not processed yet
	Behind    int            `json:"behind"`             // events whose statuses and comments are not on the forge yet
}

// ForgeLinks are the pages of a run's subjects on its codebase's forge.
type ForgeLinks struct {
	Forge  ForgeKind `json:"forge"`
	Commit string    `json:"commit"`
	Pull   string    `json:"pull,omitempty"`
}

// Title is the forge's name for people.
func (k ForgeKind) Title() string {
	switch k {
	case GitHub:
		return "GitHub"
	case GitLab:
		return "GitLab"
	case Gitea:
		return "Gitea"
	case AzureDevOps:
		return "Azure DevOps"
	}
	return string(k)
}

// CommitLink is the page of a commit of the repository whose page is at link; "" if that is not known.
func (k ForgeKind) CommitLink(link, commit string) string {
	switch {
	case link == "" || CheckHash(commit) != nil:
		return ""
	case k == GitLab:
		return link + "/-/commit/" + commit
	}
	return link + "/commit/" + commit
}

// ForgeProblem is something that a forge refuses.
type ForgeProblem struct {
	Area    string `json:"area"` // fetch, read, write or webhook
	Message string `json:"message"`
}

// ForgeCommand is what a comment on a pull request asked for, and what was answered. One comment is
// obeyed once.
type ForgeCommand struct {
	Project  string    `json:"project"`
	Codebase string    `json:"codebase,omitempty"` // name; "": the main one
	Comment  string    `json:"comment"`            // the forge's id of the comment
	Pull     int64     `json:"pull"`
	Text     string    `json:"text"`   // retry, approve
	Author   string    `json:"author"` // on the forge
	Allowed  bool      `json:"allowed"`
	Answer   string    `json:"answer"`
	Time     time.Time `json:"time"`
}

// Received is a delivery as it was kept before it was answered.
type Received struct {
	ID       int64     `json:"id"`
	Codebase string    `json:"codebase"` // key
	Delivery Delivery  `json:"delivery"`
	Attempts int       `json:"attempts"` // tries that ended in an error
	Time     time.Time `json:"time"`
}
