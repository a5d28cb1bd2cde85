package slipway

import (
	"strings"
	"time"
)

// Codebase is a git repository of a project. Each project has a main one, whose name is "": its default
// branch governs environments, registries, approvals, pins and limits (D14). Further ones hold services
// of the same project; they are hosted here as well, or mirrored: polled, and connected with a forge of
// their own where they have a Connection.
type Codebase struct {
	ID            int64  `json:"id"`
	Project       string `json:"project"`
	Name          string `json:"name"` // unique in the project, as names of projects are written; "": the main one
	DefaultBranch string `json:"defaultBranch"`
	GitURL        string `json:"gitURL,omitempty"` // empty: hosted here
	// Linked is one that others of the project link as a submodule, and that is built and deployed from
	// there: a push to it makes no run.
	Linked    bool      `json:"linked,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
}

// MainCodebase is the word for the main codebase, which no further one has as its name.
const MainCodebase = "main"

// Main is the main codebase of the project.
func (p Project) Main() Codebase {
	return Codebase{ID: p.ID, Project: p.Name, DefaultBranch: p.DefaultBranch, GitURL: p.GitURL, CreatedAt: p.CreatedAt}
}

// Key is CodebaseKey of c.
func (c Codebase) Key() string { return CodebaseKey(c.Project, c.Name) }

// Title names the codebase in a sentence for people: "the main codebase", "codebase web".
func (c Codebase) Title() string { return CodebaseTitle(c.Name) }

// CodebaseTitle names a codebase in a sentence for people.
func CodebaseTitle(name string) string {
	if name == "" {
		return "the main codebase"
	}
	return "codebase " + name
}

// CodebaseKey names a codebase on the whole server, in paths and URLs: <project>, or <project>/<name> for a
// further one.
func CodebaseKey(project, name string) string {
	if name == "" {
		return project
	}
	return project + "/" + name
}

// SplitCodebase is the project and the name of a codebase of which s is the key.
func SplitCodebase(key string) (project, name string) {
	project, name, _ = strings.Cut(key, "/")
	return project, name
}
