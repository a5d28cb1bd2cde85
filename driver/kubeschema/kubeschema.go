// Package kubeschema checks Kubernetes objects against the schema of the Kubernetes API without a
// cluster and without a network: unknown fields, wrong types, missing fields, words that are not
// allowed, kinds that moved to another API version. The schema is a snapshot of one Kubernetes
// version that is part of the binary.
//
// It knows nothing of custom resources, and none of the rules that the API server has in code (that
// a selector matches its labels, that a name is free).
package kubeschema

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/slipway-cd/slipway/stage/chart"
)

//go:embed data/kubernetes.json.gz
var snapshotGz []byte

type snapshot struct {
	Version     string                     `json:"version"`
	Kinds       []apiKind                  `json:"kinds"`
	Definitions map[string]json.RawMessage `json:"definitions"`
}

type apiKind struct {
	Group      string `json:"group"`
	Version    string `json:"version"`
	Kind       string `json:"kind"`
	Definition string `json:"definition"`
	Namespaced bool   `json:"namespaced"`
}

func (k apiKind) apiVersion() string { return strings.TrimPrefix(k.Group+"/"+k.Version, "/") }

// Schema is the schema of one Kubernetes version. It is safe for concurrent use; the schema of a kind
// is compiled when the first object of that kind comes.
type Schema struct {
	version string
	defs    map[string]json.RawMessage
	byKind  map[string]map[string]apiKind // kind -> apiVersion -> entry
	groups  map[string]bool

	mu       sync.Mutex // guards what follows
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema // by definition
}

// New reads the snapshot that is part of the binary.
func New() (*Schema, error) {
	z, err := gzip.NewReader(bytes.NewReader(snapshotGz))
	if err != nil {
		return nil, fmt.Errorf("open the Kubernetes schema: %w", err)
	}
	var snap snapshot
	if err := json.NewDecoder(z).Decode(&snap); err != nil {
		return nil, fmt.Errorf("read the Kubernetes schema: %w", err)
	}
	s := &Schema{
		version:  snap.Version,
		defs:     snap.Definitions,
		byKind:   map[string]map[string]apiKind{},
		groups:   map[string]bool{"extensions": true},
		compiled: map[string]*jsonschema.Schema{},
	}
	for _, k := range snap.Kinds {
		if s.byKind[k.Kind] == nil {
			s.byKind[k.Kind] = map[string]apiKind{}
		}
		s.byKind[k.Kind][k.apiVersion()] = k
		s.groups[k.Group] = true
	}
	s.compiler = newCompiler(s.defs)
	return s, nil
}

// Version is the Kubernetes version of the snapshot, such as v1.36.3.
func (s *Schema) Version() string { return s.version }

// APIVersions lists the stable API versions and their kinds, as .Capabilities.APIVersions has them:
// alpha and beta versions are left out, a cluster does not serve them unless told to.
func (s *Schema) APIVersions() []string {
	set := map[string]bool{}
	for _, versions := range s.byKind {
		for av, k := range versions {
			if strings.Contains(k.Version, "alpha") || strings.Contains(k.Version, "beta") {
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
		return chart.Verdict{Known: true, Problems: []string{"not a Kubernetes object: apiVersion and kind are required and must be text"}}
	}
	k, ok := s.byKind[name][apiVersion]
	if !ok {
		return s.unknown(apiVersion, name)
	}
	v := chart.Verdict{Known: true, Namespaced: k.Namespaced}
	compiled, err := s.compile(k.Definition)
	if err != nil {
		v.Problems = []string{fmt.Sprintf("the schema of %s %s does not compile: %v", apiVersion, name, err)}
		return v
	}
	clean := withoutNulls(object).(map[string]any)
	if err := compiled.Validate(clean); err != nil {
		v.Problems = s.explain(err, clean)
	}
	return v
}

// unknown judges a kind that is not in the snapshot: one of a group that Kubernetes itself has is
// wrong, any other may be a custom resource.
func (s *Schema) unknown(apiVersion, name string) chart.Verdict {
	group, _, hasGroup := strings.Cut(apiVersion, "/")
	if !hasGroup {
		group = ""
	}
	if !s.groups[group] {
		return chart.Verdict{}
	}
	v := chart.Verdict{Known: true, Namespaced: true}
	var versions []string
	for av, k := range s.byKind[name] {
		versions = append(versions, av)
		v.Namespaced = k.Namespaced
	}
	slices.Sort(versions)
	if len(versions) > 0 {
		v.Problems = []string{fmt.Sprintf("apiVersion: %s is in %s, not %s (Kubernetes %s)", name, strings.Join(versions, " and "), apiVersion, s.version)}
	} else {
		v.Problems = []string{fmt.Sprintf("kind: Kubernetes %s has no %s in %s", s.version, name, apiVersion)}
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
