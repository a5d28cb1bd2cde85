package slipway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ForgeKind says which API a forge speaks: where a team keeps its repositories and pull requests.
//
// Each kind has a driver of one shape: Receive(Connection, secret, http.Header, body) (Delivery, error)
// reads a request of a webhook, New(Connection, token, Options) makes a Client (Repository, Pulls, Pull,
// Heads, SetStatus, Comment, MayWrite, CreateHooks), and HookText(Connection, url, secret) is what a
// person pastes where the forge's API cannot be used.
type ForgeKind string

const (
	GitHub      ForgeKind = "github" // GitHub Enterprise Server too
	GitLab      ForgeKind = "gitlab"
	Gitea       ForgeKind = "gitea" // Forgejo too
	AzureDevOps ForgeKind = "azure-devops"
)

// ForgeKinds lists every kind.
func ForgeKinds() []ForgeKind { return []ForgeKind{GitHub, GitLab, Gitea, AzureDevOps} }

// Connection joins a codebase with its repository on a forge. It holds no credential: Credential and
// HookSecret are the names under which the store keeps them, sealed.
type Connection struct {
	Project  string    `json:"project"`
	Codebase string    `json:"codebase,omitempty"` // name; "": the main one
	Forge    ForgeKind `json:"forge"`
	// API is where the API is, without a slash at the end: https://api.github.com,
	// https://gitlab.com/api/v4, https://git.example.com/api/v1, https://dev.azure.com.
	API string `json:"api"`
	// Repository is its name as the forge writes it: owner/name; for GitLab group/.../name; for Azure
	// DevOps organization/project/repository.
	Repository string `json:"repository"`
	// RepositoryID is the forge's own id, which a new name does not change. Once it is known, a
	// webhook's payload is compared with it; before, with Repository.
	RepositoryID string `json:"repositoryID,omitempty"`
	Credential   string `json:"credential,omitempty"` // "": no token, so that the API is never asked
	// Shared is set when Credential is the one of the main codebase, which is on the same forge.
	Shared     bool      `json:"shared,omitempty"`
	HookSecret string    `json:"hookSecret,omitempty"`
	HookIDs    []string  `json:"hookIDs,omitempty"` // the webhooks that Slipway made there; none: pasted by a person
	CreatedAt  time.Time `json:"createdAt"`
}

// Key is CodebaseKey of what is connected.
func (c Connection) Key() string { return CodebaseKey(c.Project, c.Codebase) }

// forgeAPIs are the public APIs; a kind without one must be given its address.
func forgeAPIs() map[ForgeKind]string {
	return map[ForgeKind]string{GitHub: "https://api.github.com", GitLab: "https://gitlab.com/api/v4", AzureDevOps: "https://dev.azure.com"}
}

// DefaultAPI is where a forge's public API is, "" for one that everybody hosts at another place.
func (k ForgeKind) DefaultAPI() string { return forgeAPIs()[k] }

var (
	repositoryPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	azurePart      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9 ._-]*$`)
)

// Check reports what is wrong with a connection, before anything is sent to where it points.
func (c Connection) Check() error {
	if c.Forge == "" {
		return Errorf(Invalid, "the host of the git URL does not tell which forge it is: say so, github, gitlab, gitea (Forgejo too) or azure-devops (--forge)")
	}
	if !slices.Contains(ForgeKinds(), c.Forge) {
		return Errorf(Invalid, "forge %q: must be github, gitlab, gitea or azure-devops", c.Forge)
	}
	if err := checkAPI(c.API); err != nil {
		return err
	}
	parts := strings.Split(c.Repository, "/")
	want, least, most, part := "owner/name", 2, 2, repositoryPart
	switch c.Forge {
	case GitLab:
		want, most = "group/name, with as many subgroups as there are", 20
	case AzureDevOps:
		want, least, most, part = "organization/project/repository", 3, 3, azurePart
	}
	bad := len(parts) < least || len(parts) > most || len(c.Repository) > 300
	for _, p := range parts {
		bad = bad || !part.MatchString(p) || strings.Contains(p, "..") || strings.HasSuffix(p, " ")
	}
	if bad {
		return Errorf(Invalid, "repository %q of a %s forge: expected %s", c.Repository, c.Forge, want)
	}
	return nil
}

func checkAPI(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		return Errorf(Invalid, "address of the forge's API: expected a URL such as https://git.example.com/api/v1")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return Errorf(Invalid, "address of the forge's API at %s: must have no user, password, query or fragment", u.Host)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return Errorf(Invalid, "address of the forge's API at %s: must begin with https:// (http is for this machine only)", u.Host)
	case strings.HasSuffix(u.Path, "/"):
		return Errorf(Invalid, "address of the forge's API at %s: must not end with a slash", u.Host)
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// DeliveryKind says what a delivery tells of.
type DeliveryKind string

const (
	DeliveryPush    DeliveryKind = "push"         // Refs is set: branches and tags
	DeliveryPull    DeliveryKind = "pull-request" // Pull and Event are set
	DeliveryComment DeliveryKind = "comment"      // Comment is set: a new comment on a pull request
	DeliveryPing    DeliveryKind = "ping"         // the webhook was made or tried
	DeliveryIgnored DeliveryKind = "ignored"      // genuine, and nothing follows: Reason says why. Acknowledge it
)

// Delivery is a request of a webhook after its sender was verified and its content was checked: what
// the forge says happened. It is a reason to look, not the truth: what changed is asked of git (D4),
// and a payload's lists of files are not read.
//
// Signatures cover the body and not the headers, so a delivery may be replayed under another ID. Treat
// it as a repetition when ID or Digest was seen; beyond that, refs are compared with git, and a
// comment is obeyed once by its own ID.
type Delivery struct {
	// ID is the forge's, the same when it sends again; Digest if the forge gives none.
	ID string `json:"id"`
	// Digest is the SHA-256, in hex, of what tells this delivery from others: the body; with GitLab, which
	// signs nothing and whose bodies have no time, ID and body.
	Digest string       `json:"digest"`
	Kind   DeliveryKind `json:"kind"`
	Name   string       `json:"name"` // what the forge calls it, for logs: push, Merge Request Hook, git.push

	Refs    []RefMove     `json:"refs,omitempty"`
	Pull    *ForgePull    `json:"pull,omitempty"`
	Event   PullEvent     `json:"event,omitempty"`
	Label   string        `json:"label,omitempty"` // PullEventLabelled: one that was added, "" where the forge does not say which; Pull.Labels has all
	Comment *ForgeComment `json:"comment,omitempty"`
	Actor   Account       `json:"actor"` // who did it
	Reason  string        `json:"reason,omitempty"`
}

// BodyDigest is the Digest of a delivery with that body.
func BodyDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Account is somebody on a forge. It is not a user of Slipway.
type Account struct {
	ID   string `json:"id,omitempty"`   // the forge's own id, if the payload has it
	Name string `json:"name"`           // the name it is called by there, one line
	Bot  bool   `json:"bot,omitempty"`  // where the forge says so
	Link string `json:"link,omitempty"` // its page
}

// RefMove is a branch or a tag that moved on the forge. Old or New is ZeroHash for a ref that was made
// or removed; Old is "" where the forge does not say where a removed branch was (Gitea).
type RefMove struct {
	Ref string `json:"ref"` // full: refs/heads/main, refs/tags/v1
	Old string `json:"old"`
	New string `json:"new"`
}

// Created reports whether the ref was not there before.
func (m RefMove) Created() bool { return m.Old == ZeroHash }

// Deleted reports whether the ref is gone.
func (m RefMove) Deleted() bool { return m.New == ZeroHash }

// Tag reports whether it is a tag.
func (m RefMove) Tag() bool { return strings.HasPrefix(m.Ref, "refs/tags/") }

// PullEvent is what happened to a pull request.
type PullEvent string

const (
	PullEventOpened PullEvent = "opened" // or opened again
	// PullEventUpdated says that its head moved or that it is for another base branch. Azure DevOps says
	// it of votes too: nothing follows when head and base are as they were.
	PullEventUpdated  PullEvent = "updated"
	PullEventEdited   PullEvent = "edited"   // title, draft, a label removed: nothing that is built
	PullEventLabelled PullEvent = "labelled" // a label was added: Delivery.Label
	PullEventMerged   PullEvent = "merged"
	PullEventClosed   PullEvent = "closed" // without a merge
)

// ForgePull is a pull request (a merge request on GitLab) as the forge has it.
type ForgePull struct {
	Number int64     `json:"number"` // what people call it by: GitLab's iid
	Title  string    `json:"title"`  // one line
	Author Account   `json:"author"`
	State  PullState `json:"state"`
	Draft  bool      `json:"draft,omitempty"`
	Labels []string  `json:"labels,omitempty"`
	Link   string    `json:"link,omitempty"` // its page

	// Repository is the forge's id of the repository that it is for; "" where that is not said.
	Repository string `json:"repository,omitempty"`
	Base       string `json:"base"`                 // branch name
	BaseCommit string `json:"baseCommit,omitempty"` // where the base branch was then, if the forge says so
	// Head is the commit to build; "" if this delivery does not say it (ask Pull).
	Head string `json:"head,omitempty"`
	// Topic is the name of the head's branch; "" for one whose name Slipway does not allow.
	Topic string `json:"topic,omitempty"`
	// Fork reports whether the head is of another repository: its runs get no secrets and no push
	// rights. True as well when the forge does not say or the repository is gone.
	Fork           bool   `json:"fork,omitempty"`
	HeadRepository string `json:"headRepository,omitempty"` // its name; "" when it is gone
	// FetchRef is the ref of the base's repository whose history holds Head: refs/pull/3/head,
	// refs/merge-requests/3/head; with Azure DevOps refs/pull/3/merge for a fork, else the branch.
	FetchRef  string    `json:"fetchRef"`
	MergedAs  string    `json:"mergedAs,omitempty"` // the commit in the base branch, once it is merged
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
}

// ForgeComment is what somebody wrote on a pull request. Comments that were edited are not delivered:
// a command is what was written when it was written.
type ForgeComment struct {
	ID     string  `json:"id"`
	Pull   int64   `json:"pull"`
	Author Account `json:"author"`
	Text   string  `json:"text"` // lines; no other control characters, at most 64 KiB
	Link   string  `json:"link,omitempty"`
}

// StatusState is what a commit status says.
type StatusState string

const (
	StatusPending StatusState = "pending"
	StatusSuccess StatusState = "success" // also for a service that was skipped: the description says why
	StatusFailure StatusState = "failure" // red
	StatusError   StatusState = "error"   // Slipway or its surroundings
)

// StatusStates lists every state.
func StatusStates() []StatusState {
	return []StatusState{StatusPending, StatusSuccess, StatusFailure, StatusError}
}

// CommitStatus is what a forge shows beside a commit, and what a branch protection may require. A later
// one of the same Context replaces it.
type CommitStatus struct {
	Commit  string      `json:"commit"`
	Context string      `json:"context"` // slipway for the aggregate, slipway/<service> for a service
	State   StatusState `json:"state"`
	// Description is a sentence; the driver cuts it to what the forge takes.
	Description string `json:"description"`
	URL         string `json:"url,omitempty"` // the run's page
	// Pull is the pull request that it is about, 0 for none. Azure DevOps protects branches by statuses
	// of pull requests alone, so the driver gives it there too.
	Pull int64 `json:"pull,omitempty"`
	// Branch is the name of the branch that was pushed, "" for none or a fork's; GitLab shows it.
	Branch string `json:"branch,omitempty"`
}

// PullComment is the one comment of Slipway on a pull request: made once, then updated in place. It is
// found again by Marker, which readers do not see, among the comments that Slipway's own account wrote.
type PullComment struct {
	Pull   int64  `json:"pull"`
	Marker string `json:"marker"` // lower-case letters, digits and dashes: unique for what writes it
	Text   string `json:"text"`   // Markdown
	// ID is what the driver returned for it before, "" if that is not known.
	ID string `json:"id,omitempty"`
}

const cutNote = "\n\n…(cut: the rest is on the run's page)"

// Hidden is the line that makes the comment known: Markdown of every forge shows nothing of it.
func (c PullComment) Hidden() string { return "<!-- slipway:" + c.Marker + " -->" }

// Markdown is the whole comment, marker first, of at most limit bytes.
func (c PullComment) Markdown(limit int) string {
	text := c.Hidden() + "\n" + CleanText(c.Text, len(c.Text))
	if len(text) <= limit {
		return text
	}
	text = cutBytes(text, limit-len(cutNote))
	if end := strings.LastIndexByte(text, '\n'); end > len(text)-8<<10 && end > len(c.Hidden()) { // a row of a table stays whole
		text = text[:end]
	}
	return text + cutNote
}

// Check reports a marker that would not stay hidden, and a comment on nothing.
func (c PullComment) Check() error {
	if !ValidName(c.Marker) || c.Pull < 1 {
		return Errorf(Invalid, "comment with the marker %q on pull request %d: the marker must be lower-case letters, digits and dashes, the number at least 1", c.Marker, c.Pull)
	}
	return nil
}

// Check reports what no forge would take.
func (s CommitStatus) Check() error {
	if err := CheckHash(s.Commit); err != nil {
		return err
	}
	if s.Context == "" || s.Context != CleanLine(s.Context, 100) || !slices.Contains(StatusStates(), s.State) {
		return Errorf(Invalid, "commit status %q of %s: the context must be one line of at most 100 characters, the state pending, success, failure or error", s.Context, ShortHash(s.Commit))
	}
	return nil
}

// ForgeRepository is what a forge says of a repository.
type ForgeRepository struct {
	ID            string `json:"id"`
	Name          string `json:"name"` // as Connection.Repository
	DefaultBranch string `json:"defaultBranch"`
	CloneURL      string `json:"cloneURL"` // https, without credentials
	Link          string `json:"link,omitempty"`
	Private       bool   `json:"private"`
}

// BranchHead is a branch and where it is.
type BranchHead struct {
	Branch string `json:"branch"`
	Commit string `json:"commit"`
}

// RetryAfter is how long whatever gave err wants to be left alone; 0 if it did not say. The error is
// Temporary then.
func RetryAfter(err error) time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(err, &r) {
		return max(0, r.RetryAfter())
	}
	return 0
}

// CheckHash reports what is not the full name of a commit: 40 or 64 lower-case hexadecimal digits.
func CheckHash(s string) error {
	if len(s) == 40 || len(s) == 64 {
		if strings.Trim(s, "0123456789abcdef") == "" {
			return nil
		}
	}
	return Errorf(Invalid, "commit %q: must be 40 or 64 lower-case hexadecimal digits", CleanLine(s, 64))
}
