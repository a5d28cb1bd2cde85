package slipway

import "time"

// ForkPolicy says what happens to pull requests whose head is in another repository. Their runs get no
// secrets, no caches of others and no push rights, whichever it is.
type ForkPolicy string

const (
	ForksRun     ForkPolicy = "run"     // each head is built and tested at once
	ForksApprove ForkPolicy = "approve" // each head waits for a member's approval
)

// ForkPolicies lists every policy.
func ForkPolicies() []ForkPolicy { return []ForkPolicy{ForksRun, ForksApprove} }

// ConnectRequest asks for a project to be connected with its repository on a forge. Forge, API and
// Repository may be left empty where they follow from the git URL of the project.
type ConnectRequest struct {
	Project    string     `json:"project"`
	Forge      ForgeKind  `json:"forge"`
	Address    string     `json:"address,omitempty"`    // of the forge or of its API; empty: from the git URL
	Repository string     `json:"repository,omitempty"` // as Connection.Repository; empty: from the git URL
	Forks      ForkPolicy `json:"forks,omitempty"`      // empty: approve for a public repository, run for a private one
	// Token is what Slipway shows the forge: an access token, or for a GitHub App what docs/howto/forge.md
	// says. It is kept sealed and never shown again.
	Token string `json:"token"`
}

// Connected is what came of a ConnectRequest.
type Connected struct {
	Project ProjectDetail `json:"project"`
	// Paste is what a person enters on the forge's pages because the webhook could not be made through
	// its API, with the webhook's secret; it is shown now and not again. Empty: the webhook is made.
	Paste string `json:"paste,omitempty"`
	// Problem is why Paste is needed.
	Problem string `json:"problem,omitempty"`
}

// ProjectDetail is a project and how it is connected.
type ProjectDetail struct {
	Project    Project      `json:"project"`
	Connection *Connection  `json:"connection,omitempty"`
	Forks      ForkPolicy   `json:"forks,omitempty"`
	HookURL    string       `json:"hookURL,omitempty"` // where the forge sends to
	Link       string       `json:"link,omitempty"`    // the repository's page on the forge
	Health     *ForgeHealth `json:"health,omitempty"`
}

// ForgeHealth says how a project's forge answers and what it sent.
type ForgeHealth struct {
	// Problems are what the forge refuses and what to do; none while it answers as it should.
	Problems  []ForgeProblem `json:"problems,omitempty"`
	Since     time.Time      `json:"since,omitzero"`     // of the first of Problems
	Delivered time.Time      `json:"delivered,omitzero"` // newest delivery of the webhook
	Waiting   int            `json:"waiting"`            // deliveries that are not processed yet
	Behind    int            `json:"behind"`             // events whose statuses and comments are not on the forge yet
}

// ForgeLinks are the pages of a run's subjects on the project's forge.
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
	Project string    `json:"project"`
	Comment string    `json:"comment"` // the forge's id of the comment
	Pull    int64     `json:"pull"`
	Text    string    `json:"text"`   // retry, approve
	Author  string    `json:"author"` // on the forge
	Allowed bool      `json:"allowed"`
	Answer  string    `json:"answer"`
	Time    time.Time `json:"time"`
}

// Received is a delivery as it was kept before it was answered.
type Received struct {
	ID       int64     `json:"id"`
	Project  string    `json:"project"`
	Delivery Delivery  `json:"delivery"`
	Attempts int       `json:"attempts"` // tries that ended in an error
	Time     time.Time `json:"time"`
}
