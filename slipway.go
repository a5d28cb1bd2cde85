// Package slipway holds the nouns of Slipway: what a person who uses it would name. A project has
// services; a push, a pull request or a release branch is an event; an event makes a run; a run
// executes a plan of steps; steps make artifacts; a release is a version of a service with its image
// and chart digests; a deployment is that release in an environment.
//
// It imports nothing but the standard library and does no input or output. docs/glossary.md holds
// the words; every state is a typed string with one table of allowed moves.
package slipway

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Project is a repository (hosted here or mirrored) and everything delivered from it. It may have further
// ones: a Codebase each.
type Project struct {
	ID            int64     `json:"id"`
	Name          string    `json:"name"` // lower-case DNS label, at most 40 characters
	DefaultBranch string    `json:"defaultBranch"`
	GitURL        string    `json:"gitURL,omitempty"` // empty: hosted here; else mirrored and polled
	CreatedAt     time.Time `json:"createdAt"`
}

var nameExpr = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// ValidName reports whether s may name a project, a service, an environment or a cluster: a
// lower-case DNS label (RFC 1123) of at most 40 characters, so that it also fits a namespace, an OCI
// repository and a Helm release.
func ValidName(s string) bool { return nameExpr.MatchString(s) }

// CheckName is ValidName with an error that says what thing the name was for.
func CheckName(what, s string) error {
	if !ValidName(s) {
		return Errorf(Invalid, "%s name %q: must be lower-case letters, digits and dashes, at most 40, beginning and ending with a letter or digit", what, start(s))
	}
	return nil
}

// PullRequest proposes to merge Head into the Base branch.
type PullRequest struct {
	Project  string    `json:"project"`
	Codebase string    `json:"codebase,omitempty"` // name; "": the main one
	Number   int64     `json:"number"`             // unique in the codebase; the forge's, where it is on one
	Title    string    `json:"title"`
	Base     string    `json:"base"` // branch name
	Topic    string    `json:"topic,omitempty"`
	Head     string    `json:"head"` // commit
	Author   string    `json:"author"`
	State    PullState `json:"state"`
	MergedAs string    `json:"mergedAs,omitempty"` // merge commit
	// Reviewers approved Head; a new head starts from none.
	Reviewers []string `json:"reviewers,omitempty"`
	// Forge is set for one that is kept on a forge: it is merged and closed there.
	Forge bool   `json:"forge,omitempty"`
	Link  string `json:"link,omitempty"` // its page on the forge
	Fork  bool   `json:"fork,omitempty"` // Head is of another repository: not trusted
	// Held is the head of a fork that runs only when a member approves it, "" for none.
	Held      string    `json:"held,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Ref is where the pull request's head is kept: refs/pull/<n>/head.
func (p PullRequest) Ref() string { return fmt.Sprintf("refs/pull/%d/head", p.Number) }

// Name is PullName of p.
func (p PullRequest) Name() string { return PullName(p.Codebase, p.Number) }

// PullName is what people call a pull request by in its project: 3 in the main codebase, web#3 in a
// further one.
func PullName(codebase string, number int64) string {
	if codebase == "" {
		return strconv.FormatInt(number, 10)
	}
	return codebase + "#" + strconv.FormatInt(number, 10)
}

// ParsePull reads what PullName writes, main#3 for the main codebase too.
func ParsePull(s string) (codebase string, number int64, err error) {
	name, digits, further := strings.Cut(s, "#")
	if !further {
		name, digits = MainCodebase, s
	}
	number, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || number < 1 || !ValidName(name) {
		return "", 0, Errorf(Invalid, "pull request %q: expected its number, such as 3, or web#3 for one of codebase web", CleanLine(s, 60))
	}
	if name == MainCodebase {
		name = ""
	}
	return name, number, nil
}

// PullState is the state of a pull request.
type PullState string

const (
	PullOpen   PullState = "open"
	PullMerged PullState = "merged"
	PullClosed PullState = "closed"
)
