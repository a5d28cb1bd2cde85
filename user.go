package slipway

import "time"

// Role is what a user is in a project. Each role may do all that the ones before it may.
type Role string

const (
	Viewer    Role = "viewer"
	Developer Role = "developer"
	Approver  Role = "approver"
	Admin     Role = "admin"
)

// Roles lists every role, least first.
func Roles() []Role { return []Role{Viewer, Developer, Approver, Admin} }

// User is a person or a robot with one identity for UI, CLI, git and registry.
type User struct {
	ID      int64           `json:"id"`
	Name    string          `json:"name"`
	Admin   bool            `json:"admin"`           // admin of the server and of every project
	Roles   map[string]Role `json:"roles,omitempty"` // by project
	Robot   *Robot          `json:"robot,omitempty"` // set for robots: they may only pull
	Created time.Time       `json:"createdAt"`
}

// Robot is the identity with which one environment of a project pulls images and charts (D18).
type Robot struct {
	Project     string `json:"project"`
	Environment string `json:"environment"`
}

// Role returns the user's role in a project, "" for none.
func (u User) Role(project string) Role {
	if u.Admin {
		return Admin
	}
	return u.Roles[project]
}

// Token is a credential of a user; its secret is shown once and kept only as a hash.
type Token struct {
	ID      int64     `json:"id"`
	User    string    `json:"user"`
	Name    string    `json:"name"`
	Created time.Time `json:"createdAt"`
	Expires time.Time `json:"expiresAt,omitzero"`
	Used    time.Time `json:"usedAt,omitzero"`
}

// Cluster is a Kubernetes cluster registered by name (D19). Its credentials are kept apart.
type Cluster struct {
	Name    string    `json:"name"`
	Context string    `json:"context"`
	Server  string    `json:"server"`
	Created time.Time `json:"createdAt"`
}
