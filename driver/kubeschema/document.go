package kubeschema

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Snapshot is what is kept of an OpenAPI document of version 2: what a manifest is checked against.
type Snapshot struct {
	Version     string                     `json:"version"` // v1.36.3
	Kinds       []Kind                     `json:"kinds"`
	Definitions map[string]json.RawMessage `json:"definitions"`
}

// Kind is a kind that can be created.
type Kind struct {
	Group      string `json:"group,omitempty"`
	Version    string `json:"version"`
	Kind       string `json:"kind"`
	Definition string `json:"definition"`
	Namespaced bool   `json:"namespaced,omitempty"`
}

func (k Kind) apiVersion() string { return strings.TrimPrefix(k.Group+"/"+k.Version, "/") }

type gvk struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type document struct {
	Info struct {
		Version string `json:"version"`
	} `json:"info"`
	Definitions map[string]json.RawMessage `json:"definitions"`
	Paths       map[string]struct {
		Post *struct {
			Action string `json:"x-kubernetes-action"`
			GVK    *gvk   `json:"x-kubernetes-group-version-kind"`
		} `json:"post"`
	} `json:"paths"`
}

// Reduce reads an OpenAPI document of version 2, as the Kubernetes API serves it, and keeps of it what
// manifests are checked against, in the form that the validator reads. edit, when not nil, may change a
// definition before it is kept.
func Reduce(doc []byte, edit func(name string, definition map[string]any)) (Snapshot, error) {
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return Snapshot{}, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	snap := Snapshot{Version: d.Info.Version, Definitions: map[string]json.RawMessage{}}
	served, namespaced := d.scopes()
	for name, raw := range d.Definitions {
		var def struct {
			Kinds []gvk `json:"x-kubernetes-group-version-kind"`
		}
		if err := json.Unmarshal(raw, &def); err != nil {
			continue // of another form: nothing is said of it
		}
		for _, k := range def.Kinds {
			// Options of requests and lists share definitions with every group; only what has a path of its
			// own can stand in a manifest.
			if served[k] {
				snap.Kinds = append(snap.Kinds, Kind{k.Group, k.Version, k.Kind, name, namespaced[k]})
			}
		}
	}
	sort.Slice(snap.Kinds, func(i, j int) bool {
		a, b := snap.Kinds[i], snap.Kinds[j]
		return a.Group+"/"+a.Version+"/"+a.Kind < b.Group+"/"+b.Version+"/"+b.Kind
	})
	for _, k := range snap.Kinds {
		if err := d.keep(snap.Definitions, k.Definition, edit); err != nil {
			return Snapshot{}, err
		}
	}
	return snap, nil
}

// scopes says which kinds can be created, and which of them live in a namespace.
func (d document) scopes() (served, namespaced map[gvk]bool) {
	served, namespaced = map[gvk]bool{}, map[gvk]bool{}
	for path, ops := range d.Paths {
		op := ops.Post
		if op == nil || op.GVK == nil || op.Action != "post" || strings.HasSuffix(path, "}/eviction") || strings.HasSuffix(path, "}/binding") || strings.HasSuffix(path, "}/token") {
			continue
		}
		served[*op.GVK] = true
		if strings.Contains(path, "/namespaces/{namespace}/") {
			namespaced[*op.GVK] = true
		}
	}
	return served, namespaced
}

const refPrefix = "#/definitions/"

// keep copies a definition and all it refers to.
func (d document) keep(out map[string]json.RawMessage, name string, edit func(string, map[string]any)) error {
	if _, done := out[name]; done {
		return nil
	}
	switch name {
	case "io.k8s.apimachinery.pkg.util.intstr.IntOrString":
		out[name] = json.RawMessage(`{"type":["string","integer"]}`)
		return nil
	case "io.k8s.apimachinery.pkg.api.resource.Quantity":
		out[name] = json.RawMessage(`{"type":["string","number"],"format":"quantity"}`)
		return nil
	}
	var full map[string]any
	if raw := d.Definitions[name]; raw != nil {
		if err := json.Unmarshal(raw, &full); err != nil {
			full = nil
		}
	}
	def, ok := shrink(full).(map[string]any)
	if !ok {
		def = map[string]any{}
	}
	if edit != nil {
		edit(name, def)
	}
	raw, err := json.Marshal(def)
	if err != nil {
		return fmt.Errorf("write definition %s: %w", name, err)
	}
	out[name] = raw
	for _, ref := range refs(def, nil) {
		if err := d.keep(out, ref, edit); err != nil {
			return err
		}
	}
	return nil
}

func refs(v any, list []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && k == "$ref" {
				list = append(list, s)
				continue
			}
			list = refs(e, list)
		}
	case []any:
		for _, e := range v {
			list = refs(e, list)
		}
	}
	return list
}

// shrink drops what validation does not need, closes objects that list their properties unless they
// keep what they do not know, and makes references relative names.
func shrink(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if m["x-kubernetes-int-or-string"] == true {
		return map[string]any{"type": []any{"string", "integer"}}
	}
	out := map[string]any{}
	for k, e := range m {
		switch k {
		case "type", "format", "required", "enum":
			out[k] = e
		case "$ref":
			ref, _ := e.(string)
			out[k] = strings.TrimPrefix(ref, refPrefix)
		case "items", "additionalProperties":
			out[k] = shrink(e)
		case "properties":
			props := map[string]any{}
			all, _ := e.(map[string]any)
			for name, p := range all {
				props[name] = shrink(p)
			}
			out[k] = props
		}
	}
	open := m["x-kubernetes-preserve-unknown-fields"] == true || m["x-kubernetes-embedded-resource"] == true
	if _, has := out["properties"]; has && !open {
		if _, said := out["additionalProperties"]; !said {
			out["additionalProperties"] = false
		}
	}
	return out
}
