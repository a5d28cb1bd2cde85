// Command generate writes the snapshot of the Kubernetes API schema that package kubeschema embeds.
// It fetches the k8s.io/kubernetes module through the go command, keeps of its OpenAPI v2 document
// what a manifest is checked against, and adds the allowed words of enumerated fields, which that
// document leaves out. It runs when the supported Kubernetes version moves, never at build time:
//
//	go run ./driver/kubeschema/generate -version v1.36.3
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

type snapshot struct {
	Version     string                    `json:"version"`
	Kinds       []kind                    `json:"kinds"`
	Definitions map[string]map[string]any `json:"definitions"`
}

type kind struct {
	Group      string `json:"group,omitempty"`
	Version    string `json:"version"`
	Kind       string `json:"kind"`
	Definition string `json:"definition"`
	Namespaced bool   `json:"namespaced,omitempty"`
}

type gvk struct{ Group, Version, Kind string }

type swagger struct {
	Definitions map[string]map[string]any             `json:"definitions"`
	Paths       map[string]map[string]json.RawMessage `json:"paths"`
}

func main() {
	version := flag.String("version", "v1.36.3", "version of the k8s.io/kubernetes module")
	out := flag.String("out", "driver/kubeschema/data/kubernetes.json.gz", "file to write")
	flag.Parse()
	if err := run(*version, *out); err != nil {
		log.Fatal(err)
	}
}

func run(version, out string) error {
	dir, err := download(version)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		return err
	}
	var doc swagger
	if err := json.Unmarshal(b, &doc); err != nil {
		return fmt.Errorf("read swagger.json: %w", err)
	}
	enums, err := enumerations(filepath.Join(dir, "pkg/generated/openapi/zz_generated.openapi.go"))
	if err != nil {
		return err
	}
	snap := snapshot{Version: version, Definitions: map[string]map[string]any{}}
	served, namespaced, err := scopes(doc)
	if err != nil {
		return err
	}
	for name, def := range doc.Definitions {
		for _, k := range kindsOf(def) {
			// Options of requests and lists share definitions with every group; only what has a
			// path of its own can stand in a manifest.
			if !served[k] {
				continue
			}
			snap.Kinds = append(snap.Kinds, kind{k.Group, k.Version, k.Kind, name, namespaced[k]})
		}
	}
	sort.Slice(snap.Kinds, func(i, j int) bool {
		a, b := snap.Kinds[i], snap.Kinds[j]
		return a.Group+"/"+a.Version+"/"+a.Kind < b.Group+"/"+b.Version+"/"+b.Kind
	})
	for _, k := range snap.Kinds {
		keep(snap.Definitions, doc.Definitions, k.Definition)
	}
	used := 0
	for name, def := range snap.Definitions {
		used += addEnums(def, enums[goName(name)])
	}
	if used < 80 {
		return fmt.Errorf("only %d enumerations found: the form of zz_generated.openapi.go has changed", used)
	}
	return write(out, snap)
}

func download(version string) (string, error) {
	tmp, err := os.MkdirTemp("", "kubeschema")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "go.mod"), []byte("module snapshot\n"), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes@"+version)
	cmd.Dir = tmp
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download k8s.io/kubernetes@%s: %w", version, err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("read what go mod download said: %w", err)
	}
	return m.Dir, nil
}

func kindsOf(def map[string]any) []gvk {
	list, _ := def["x-kubernetes-group-version-kind"].([]any)
	var out []gvk
	for _, e := range list {
		m := e.(map[string]any)
		out = append(out, gvk{m["group"].(string), m["version"].(string), m["kind"].(string)})
	}
	return out
}

// scopes says which kinds can be created, and which of them live in a namespace.
func scopes(doc swagger) (served, namespaced map[gvk]bool, err error) {
	served, namespaced = map[gvk]bool{}, map[gvk]bool{}
	for path, ops := range doc.Paths {
		raw, ok := ops["post"]
		if !ok || strings.HasSuffix(path, "}/eviction") || strings.HasSuffix(path, "}/binding") || strings.HasSuffix(path, "}/token") {
			continue
		}
		var op struct {
			Action string `json:"x-kubernetes-action"`
			GVK    *gvk   `json:"x-kubernetes-group-version-kind"`
		}
		if err := json.Unmarshal(raw, &op); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", path, err)
		}
		if op.GVK == nil || op.Action != "post" {
			continue
		}
		served[*op.GVK] = true
		if strings.Contains(path, "/namespaces/{namespace}/") {
			namespaced[*op.GVK] = true
		}
	}
	return served, namespaced, nil
}

const refPrefix = "#/definitions/"

// keep copies a definition and all it refers to, in the form that the validator reads.
func keep(out, in map[string]map[string]any, name string) {
	if _, done := out[name]; done {
		return
	}
	switch name {
	case "io.k8s.apimachinery.pkg.util.intstr.IntOrString":
		out[name] = map[string]any{"type": []any{"string", "integer"}}
		return
	case "io.k8s.apimachinery.pkg.api.resource.Quantity":
		out[name] = map[string]any{"type": []any{"string", "number"}, "format": "quantity"}
		return
	}
	def := shrink(in[name]).(map[string]any)
	out[name] = def
	for _, ref := range refs(def, nil) {
		keep(out, in, ref)
	}
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

// shrink drops what validation does not need, closes objects that list their properties, and makes
// references relative names.
func shrink(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, e := range m {
		switch k {
		case "type", "format", "required":
			out[k] = e
		case "$ref":
			out[k] = strings.TrimPrefix(e.(string), refPrefix)
		case "items", "additionalProperties":
			out[k] = shrink(e)
		case "properties":
			props := map[string]any{}
			for name, p := range e.(map[string]any) {
				props[name] = shrink(p)
			}
			out[k] = props
		}
	}
	if _, has := out["properties"]; has {
		if _, open := out["additionalProperties"]; !open {
			out["additionalProperties"] = false
		}
	}
	return out
}

var (
	funcLine = regexp.MustCompile(`^func schema_(\w+)\(ref common\.ReferenceCallback\)`)
	propLine = regexp.MustCompile(`^\t{5}"([^"]+)": \{$`)
	enumLine = regexp.MustCompile(`^(\t+)Enum:\s+\[\]interface\{\}\{(.*)\},$`)
)

// enumerations reads the allowed words of fields from the generated Go code: by the name of its
// function, then by property.
func enumerations(file string) (map[string]map[string][]any, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string][]any{}
	fn, prop := "", ""
	for _, line := range strings.Split(string(b), "\n") {
		if m := funcLine.FindStringSubmatch(line); m != nil {
			fn, prop = m[1], ""
		} else if m := propLine.FindStringSubmatch(line); m != nil {
			prop = m[1]
		} else if m := enumLine.FindStringSubmatch(line); m != nil && prop != "" {
			var words []any
			if err := json.Unmarshal([]byte("["+m[2]+"]"), &words); err != nil {
				return nil, fmt.Errorf("read enumeration of %s.%s: %w", fn, prop, err)
			}
			if out[fn] == nil {
				out[fn] = map[string][]any{}
			}
			out[fn][prop] = words
		}
	}
	return out, nil
}

// goName is the name that the generated code gives to a definition:
// io.k8s.api.core.v1.Container is k8sio_api_core_v1_Container.
func goName(definition string) string {
	s, ok := strings.CutPrefix(definition, "io.k8s.")
	if !ok {
		return ""
	}
	s = strings.NewReplacer(".", "_", "-", "_").Replace(s)
	return "k8sio_" + s
}

// addEnums sets the words on string properties and on lists of strings.
func addEnums(def map[string]any, words map[string][]any) int {
	props, _ := def["properties"].(map[string]any)
	n := 0
	for name, w := range words {
		p, _ := props[name].(map[string]any)
		if items, ok := p["items"].(map[string]any); ok {
			p = items
		}
		if p["type"] == "string" {
			p["enum"] = w
			n++
		}
	}
	return n
}

func write(file string, snap snapshot) error {
	b, err := json.Marshal(snap)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	log.Printf("%s: %d kinds, %d definitions, %d bytes, %d compressed", snap.Version, len(snap.Kinds), len(snap.Definitions), len(b), buf.Len())
	return os.WriteFile(file, buf.Bytes(), 0o644)
}
