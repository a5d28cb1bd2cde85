// Command generate writes the data that package kubeschema embeds. From each k8s.io/kubernetes module it
// keeps of the OpenAPI v2 document what a manifest is checked against, and adds the allowed words of
// enumerated fields, which that document leaves out. From the k8s.io/api modules it reads when API
// versions come, are deprecated and go: older ones know kinds that newer ones no longer have. It runs when
// the supported Kubernetes versions move, never at build time, and fetches through the go command:
//
//	go run ./driver/kubeschema/generate
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
	"strings"

	"github.com/slipway-cd/slipway/driver/kubeschema"
)

func main() {
	versions := flag.String("versions", "v1.33.13,v1.34.9,v1.35.6,v1.36.3,v1.37.1", "versions of the k8s.io/kubernetes module, one for each minor")
	apis := flag.String("apis", "v0.21.14,v0.24.17,v0.29.15,v0.32.3,v0.37.1", "versions of the k8s.io/api module, oldest first: a newer one wins")
	out := flag.String("out", "driver/kubeschema/data", "folder to write to")
	flag.Parse()
	var kinds []kubeschema.Kind // of the last version
	for _, v := range strings.Split(*versions, ",") {
		snap, err := schema(v, filepath.Join(*out, v+".json.gz"))
		if err != nil {
			log.Fatal(err)
		}
		kinds = snap.Kinds
	}
	if err := lifecycles(strings.Split(*apis, ","), kinds, filepath.Join(*out, "lifecycle.json")); err != nil {
		log.Fatal(err)
	}
}

// schema writes the snapshot of one Kubernetes version.
func schema(version, out string) (kubeschema.Snapshot, error) {
	dir, err := download("k8s.io/kubernetes", version)
	if err != nil {
		return kubeschema.Snapshot{}, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		return kubeschema.Snapshot{}, err
	}
	enums, err := enumerations(filepath.Join(dir, "pkg/generated/openapi/zz_generated.openapi.go"))
	if err != nil {
		return kubeschema.Snapshot{}, err
	}
	used := 0
	snap, err := kubeschema.Reduce(b, func(name string, def map[string]any) {
		used += addEnums(def, enums[goName(name)])
	})
	if err != nil {
		return kubeschema.Snapshot{}, err
	}
	if used < 80 {
		return kubeschema.Snapshot{}, fmt.Errorf("%s: only %d enumerations found: the form of zz_generated.openapi.go has changed", version, used)
	}
	snap.Version = version
	return snap, write(out, snap)
}

func download(module, version string) (string, error) {
	tmp, err := os.MkdirTemp("", "kubeschema")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.WriteFile(filepath.Join(tmp, "go.mod"), []byte("module snapshot\n"), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "mod", "download", "-json", module+"@"+version)
	cmd.Dir = tmp
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s@%s: %w", module, version, err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(b, &m); err != nil {
		return "", fmt.Errorf("read what go mod download said: %w", err)
	}
	return m.Dir, nil
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

func write(file string, snap kubeschema.Snapshot) error {
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
