package registry

import (
	"regexp"
	"strings"
)

// Namespace is a part of the registry with rules of its own.
type Namespace string

const (
	Candidates Namespace = "candidates" // <project>/<service>, <project>/charts/<service>: tags are written once
	Production Namespace = "production" // the same under prod/: written by promotions only
	Mirror     Namespace = "mirror"     // mirror/<registry host>/<path>: base images, tags may move
)

// Names that no project may have: they begin the other namespaces.
const (
	productionPrefix = "prod"
	mirrorPrefix     = "mirror"
)

// Place is what the name of a repository says.
type Place struct {
	Namespace Namespace
	Project   string // empty for mirrored images
}

// Parse reads the name of a repository.
func Parse(repository string) Place {
	first, rest, _ := strings.Cut(repository, "/")
	switch first {
	case mirrorPrefix:
		return Place{Namespace: Mirror}
	case productionPrefix:
		project, _, _ := strings.Cut(rest, "/")
		return Place{Namespace: Production, Project: project}
	}
	return Place{Namespace: Candidates, Project: first}
}

func candidateOf(repository string) string {
	return strings.TrimPrefix(repository, productionPrefix+"/")
}

// fallbackTag is a tag with which clients that know no referrers API attach things to a digest: it
// has to move whenever one is added.
var fallbackTag = regexp.MustCompile(`^sha256-([0-9a-f]{64})(\.[a-z0-9]+)?$`)

// immutable reports whether the tag, once written in the repository, stays where it is.
func immutable(repository, tag string) bool {
	return Parse(repository).Namespace != Mirror && !fallbackTag.MatchString(tag)
}

// attachedTo is the digest that a tag attaches to, "" when the tag is a name of its own.
func attachedTo(tag string) string {
	if m := fallbackTag.FindStringSubmatch(tag); m != nil {
		return "sha256:" + m[1]
	}
	return ""
}
