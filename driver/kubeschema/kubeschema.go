// Package kubeschema checks Kubernetes objects against the schema of the Kubernetes API: unknown fields,
// wrong types, missing fields, words that are not allowed, kinds that moved to another API version. The
// schemas of some Kubernetes versions are part of the binary, and that of a cluster can be read from the
// document that it serves, with its custom resources. It also knows when API versions are deprecated and
// removed.
//
// It asks no cluster and no network itself, and knows none of the rules that the API server has in code
// (that a selector matches its labels, that a name is free).
package kubeschema

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/slipway-cd/slipway/stage/chart"
)

// Schema is the schema of one Kubernetes version or cluster. It is safe for concurrent use; the schema of
// a kind is compiled when the first object of that kind comes.
type Schema struct {
	version string
	served  bool // by a cluster
	defs    map[string]json.RawMessage
	byKind  map[string]map[string]Kind // kind -> apiVersion -> entry
	groups  map[string]bool

	mu       sync.Mutex // guards what follows
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema // by definition
}

func newSchema(snap Snapshot) *Schema {
	s := &Schema{
		version:  snap.Version,
		defs:     snap.Definitions,
		byKind:   map[string]map[string]Kind{},
		groups:   map[string]bool{"extensions": true},
		compiled: map[string]*jsonschema.Schema{},
	}
	for _, k := range snap.Kinds {
		if s.byKind[k.Kind] == nil {
			s.byKind[k.Kind] = map[string]Kind{}
		}
		s.byKind[k.Kind][k.apiVersion()] = k
		s.groups[k.Group] = true
	}
	s.compiler = newCompiler(s.defs)
	return s
}

// Version is the Kubernetes version of the schema, such as v1.36.3.
func (s *Schema) Version() string { return s.version }

// APIVersions lists the stable API versions and their kinds, as .Capabilities.APIVersions has them:
// of the versions that are part of the binary, alpha and beta ones are left out, which a cluster does not
// serve unless told to.
func (s *Schema) APIVersions() []string {
	set := map[string]bool{}
	for _, versions := range s.byKind {
		for av, k := range versions {
			if !s.served && (strings.Contains(k.Version, "alpha") || strings.Contains(k.Version, "beta")) {
				continue
			}
			set[av] = true
			set[av+"/"+k.Kind] = true
		}
	}
	out := make([]string, 0, len(set))
	for v := range set {
		out = append(out, v)
	}
	sort.Strings(out)
	return out
}

// Check says what is wrong with an object. Fields that are null count as absent, as they do for the
// API server. Values of Secrets never appear in what it says.
func (s *Schema) Check(object map[string]any) chart.Verdict {
	apiVersion, _ := object["apiVersion"].(string)
	name, _ := object["kind"].(string)
	if apiVersion == "" || name == "" {
		return chart.Verdict{Known: true, Problems: []chart.FieldProblem{{Message: "not a Kubernetes object: apiVersion and kind are required and must be text"}}}
	}
	k, ok := s.byKind[name][apiVersion]
	if !ok {
		return s.unknown(apiVersion, name)
	}
	v := chart.Verdict{Known: true, Namespaced: k.Namespaced}
	compiled, err := s.compile(k.Definition)
	if err != nil && s.served {
		return v // whoever wrote a custom resource may have written a schema that says nothing
	}
	if err != nil {
		v.Problems = []chart.FieldProblem{{Message: fmt.Sprintf("the schema of %s %s does not compile: %v", apiVersion, name, err)}}
		return v
	}
	clean := withoutNulls(object).(map[string]any)
	if err := compiled.Validate(clean); err != nil {
		v.Problems = s.explain(err, clean)
	}
	return v
}

// unknown judges a kind that is not in the schema: one of a group that the schema has is wrong, any other
// may be a custom resource.
func (s *Schema) unknown(apiVersion, name string) chart.Verdict {
	group, _, hasGroup := strings.Cut(apiVersion, "/")
	if !hasGroup {
		group = ""
	}
	if !s.groups[group] {
		return chart.Verdict{}
	}
	v := chart.Verdict{Known: true, Namespaced: true, Unserved: true}
	var versions []string
	for av, k := range s.byKind[name] {
		versions = append(versions, av)
		v.Namespaced = k.Namespaced
	}
	slices.Sort(versions)
	if len(versions) > 0 {
		v.Problems = []chart.FieldProblem{{Path: "apiVersion", Message: fmt.Sprintf("%s is in %s, not %s (Kubernetes %s)", name, strings.Join(versions, " and "), apiVersion, s.version)}}
	} else {
		v.Problems = []chart.FieldProblem{{Path: "kind", Message: fmt.Sprintf("Kubernetes %s has no %s in %s", s.version, name, apiVersion)}}
	}
	return v
}

func (s *Schema) compile(definition string) (*jsonschema.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.compiled[definition]; ok {
		return c, nil
	}
	c, err := s.compiler.Compile(scheme + definition)
	if err != nil {
		return nil, err
	}
	s.compiled[definition] = c
	return c, nil
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if e != nil {
				out[k] = withoutNulls(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = withoutNulls(e)
		}
		return out
	}
	return v
}
