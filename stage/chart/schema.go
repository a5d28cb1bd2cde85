package chart

import (
	"context"
	"fmt"
)

// Schema is what the stage needs of the Kubernetes API's schema. It is safe for concurrent use.
type Schema interface {
	// Version is the Kubernetes version of the schema, such as v1.36.3.
	Version() string
	// APIVersions lists what charts find in .Capabilities.APIVersions: apps/v1, apps/v1/Deployment.
	APIVersions() []string
	// Check says what is wrong with an object, as decoded from JSON.
	Check(object map[string]any) Verdict
}

// Schemas has the schemas of Kubernetes versions and of clusters. It is safe for concurrent use.
type Schemas interface {
	// Shipped is the schema of the version nearest to that one, among those that are part of Slipway;
	// empty: the newest.
	Shipped(version string) (Schema, error)
	// Served reads the schema out of what a cluster serves.
	Served(doc OpenAPI) (Schema, error)
	// Lifecycle says since when a kind of an API version is deprecated; false: no end is known.
	Lifecycle(apiVersion, kind string) (Lifecycle, bool)
}

// Clusters asks registered clusters for their API.
type Clusters interface {
	// OpenAPI is the document of all kinds that the cluster serves, its custom resources among them. Its
	// Data is nil when the document still has that tag.
	OpenAPI(ctx context.Context, cluster, tag string) (OpenAPI, error)
}

// OpenAPI is a document of a cluster's API, of version 2 and in JSON.
type OpenAPI struct {
	Tag  string // another one when the document is another
	Data []byte
}

// Verdict is what the schema says of an object.
type Verdict struct {
	Known      bool // the kind is part of the API; for others nothing else is said
	Namespaced bool // objects of the kind live in a namespace
	// Unserved: the API has the group, and no such kind in that version of it. Problems says so.
	Unserved bool
	Problems []FieldProblem
}

// FieldProblem is something about a field of an object.
type FieldProblem struct {
	Path    string // spec.containers[0].image; empty: the object
	Message string
}

// String is path and message.
func (p FieldProblem) String() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// Lifecycle is when a kind of an API version comes, is deprecated and goes. The zero of a version means
// that none is known.
type Lifecycle struct {
	Introduced, Deprecated, Removed Minor
	Replacement                     string // apps/v1 Deployment; empty: there is none
}

// Minor is a version of Kubernetes without its patch.
type Minor struct{ Major, Minor int }

// ParseMinor reads v1.36.3, 1.36 or v1.36.3-gke.1; the zero value when it is none of them.
func ParseMinor(version string) Minor {
	var m Minor
	if len(version) > 0 && version[0] == 'v' {
		version = version[1:]
	}
	if n, err := fmt.Sscanf(version, "%d.%d", &m.Major, &m.Minor); err != nil || n != 2 || m.Major < 0 || m.Minor < 0 {
		return Minor{}
	}
	return m
}

// Reached reports whether v is known and at is that version or a later one.
func (v Minor) Reached(at Minor) bool {
	return v != Minor{} && (at.Major > v.Major || at.Major == v.Major && at.Minor >= v.Minor)
}

// String is v1.36.
func (v Minor) String() string { return fmt.Sprintf("v%d.%d", v.Major, v.Minor) }
