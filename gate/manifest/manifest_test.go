package manifest_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
)

var update = flag.Bool("update", false, "rewrite what the cases want")

func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestCases: one file for each policy, with objects (good and bad) and what is found. A document's first
// line may be a comment: "hook: test", "generated", "crd". The comment of the file has the settings.
func TestCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := settings(string(ar.Comment))
			policy := strings.TrimSuffix(filepath.Base(file), ".txtar")
			var got strings.Builder
			for _, f := range ar.Files {
				if f.Name == "want" {
					continue
				}
				fmt.Fprintf(&got, "%s:", f.Name)
				n := 0
				for _, p := range manifest.Check([]manifest.Object{objectOf(t, string(f.Data))}, s) {
					if p.Policy == policy {
						fmt.Fprintf(&got, "\n  %s %s: %s", p.Object, p.Path, p.Message)
						n++
					}
				}
				if n == 0 {
					got.WriteString(" good")
				}
				got.WriteString("\n")
			}
			last := &ar.Files[len(ar.Files)-1]
			if last.Name != "want" {
				t.Fatal("the last file is not want")
			}
			if got.String() == string(last.Data) {
				return
			}
			if !*update {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), last.Data)
				return
			}
			last.Data = []byte(got.String())
			if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func settings(comment string) manifest.Settings {
	s := manifest.Settings{Image: slipway.Repository{Registry: slipway.Registry{Host: "registry.slipway.test"}, Name: "shop/web"}}
	for _, line := range strings.Split(comment, "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "registries":
			s.Registries = strings.Fields(value)
		case "podSecurity":
			s.PodSecurity = value
		}
	}
	return s
}

func objectOf(t testing.TB, text string) manifest.Object {
	t.Helper()
	o := manifest.Object{Fields: decode(t, text)}
	first, _, _ := strings.Cut(text, "\n")
	switch key, value, _ := strings.Cut(strings.TrimPrefix(first, "# "), ": "); key {
	case "hook":
		o.Hook = value
	case "generated":
		o.Generated = true
	case "crd":
		o.CRD = true
	}
	return o
}

func TestLevels(t *testing.T) {
	t.Parallel()
	g := slipway.ManifestGate{Policies: map[string]slipway.Level{manifest.Probes: slipway.LevelOff}}
	for _, p := range manifest.Policies() {
		want, production := p.Level, p.ProductionLevel
		if p.Name == manifest.Probes {
			want, production = slipway.LevelOff, slipway.LevelOff
		}
		if got := manifest.LevelOf(p.Name, g, false); got != want {
			t.Errorf("%s: %s", p.Name, got)
		}
		if got := manifest.LevelOf(p.Name, g, true); got != production {
			t.Errorf("%s in production: %s", p.Name, got)
		}
	}
	if got := manifest.LevelOf("of-a-newer-slipway", slipway.ManifestGate{}, false); got != slipway.LevelFail {
		t.Errorf("an unknown policy: %s", got)
	}
}

// TestEveryPolicyIsFound keeps the list and the checks together.
func TestEveryPolicyIsFound(t *testing.T) {
	t.Parallel()
	found := map[string]bool{manifest.Schema: true, manifest.RemovedAPI: true, manifest.DeprecatedAPI: true}
	for _, text := range []string{
		`{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostPID: true, containers: [{name: a, image: busybox}]}}`,
		`{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {PASSWORD: hunter22}}`,
	} {
		for _, p := range manifest.Check([]manifest.Object{{Fields: decode(t, text)}}, manifest.Settings{Registries: []string{"ghcr.io"}}) {
			found[p.Policy] = true
		}
	}
	for _, p := range manifest.Policies() {
		if !found[p.Name] {
			t.Errorf("%s: nothing was found", p.Name)
		}
		delete(found, p.Name)
	}
	if len(found) > 0 {
		t.Errorf("found for policies that are not listed: %v", found)
	}
}

func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-Val-9"
	for _, text := range []string{
		`{kind: ConfigMap, metadata: {name: a}, data: {DB_PASSWORD: s3cr3t-Val-9, u: "postgres://u:s3cr3t-Val-9@h/db", file: "a: 1\npassword: s3cr3t-Val-9\n"}}`,
		`{kind: Secret, metadata: {name: a}, stringData: {a: s3cr3t-Val-9}}`,
		`{kind: ConfigMap, metadata: {name: a}, binaryData: {settings: YTogMQpwYXNzd29yZDogczNjcjN0LVZhbC05Cg==}}`,
		`{kind: Ingress, metadata: {name: a, annotations: {db-password: off, upstream: "https://u:s3cr3t-Val-9@h/"}}}`,
		`{kind: Deployment, metadata: {name: a}, spec: {template: {metadata: {annotations: {x: "https://u:s3cr3t-Val-9@h/"}}, spec: {containers: []}}}}`,
		`{kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, env: [{name: TOKEN, value: s3cr3t-Val-9}], args: ["--password=s3cr3t-Val-9"]}]}}`,
	} {
		n := 0
		for _, p := range manifest.Check([]manifest.Object{{Fields: decode(t, text)}}, manifest.Settings{}) {
			if p.Policy == manifest.PlainSecret {
				n++
			}
			if strings.Contains(fmt.Sprint(p), secret) {
				t.Errorf("told: %+v", p)
			}
		}
		if n == 0 {
			t.Errorf("not found in %s", text)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	fields := decode(t, `{metadata: {labels: {a/b: x, "it's ]": z}}, spec: {list: [{name: web, v: 1}, {name: two}, {name: two}, 7, {name: "1"}]}}`)
	for path, keys := range map[string][]string{
		`metadata.labels["a/b"]`:     {"metadata", "labels", "a/b"},
		`metadata.labels["it's ]"]`:  {"metadata", "labels", "it's ]"},
		`spec.list[web].v`:           {"spec", "list", "0", "v"},
		`spec.list[1].name`:          {"spec", "list", "1", "name"},
		`spec.list[3]`:               {"spec", "list", "3"},
		`spec.list[9].gone[0].there`: {"spec", "list", "9", "gone", "0", "there"},
		`spec.list[web].none.deep`:   {"spec", "list", "0", "none", "deep"},
	} {
		if got := manifest.Keys(fields, path); !slices.Equal(got, keys) {
			t.Errorf("keys of %s: %q", path, got)
		}
		if got := manifest.Path(fields, keys); got != path && !strings.Contains(path, "gone") {
			t.Errorf("path of %q: %s", keys, got)
		}
	}
}

// TestOddObjects: whatever the shape, nothing panics, and paths can be read back.
func TestOddObjects(t *testing.T) {
	t.Parallel()
	words := []string{"kind", "Pod", "Deployment", "CronJob", "ConfigMap", "Secret", "metadata", "name", "labels", "annotations", "spec", "template", "jobTemplate",
		"containers", "initContainers", "ephemeralContainers", "securityContext", "runAsNonRoot", "runAsUser", "windowsOptions", "capabilities", "add", "drop",
		"volumes", "image", "reference", "env", "value", "args", "data", "stringData", "resources", "limits", "seccompProfile", "type", "os", "ports", "hostPort",
		"command", "binaryData", "https://u:hunter22@h/", "aHR0cHM6Ly91Omh1bnRlcjIyQGgv", "DB_PASSWORD", "hunter22", "--token=hunter22", "", "a.b", "a]b", `"`, "[", "\x00", "password", "latest", "nginx@", ":", "@", "://", "windows"}
	word := rapid.SampledFrom(words)
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Bool().AsAny(), word.AsAny(), rapid.String().AsAny(), rapid.Just[any](json.Number("0")), rapid.Just[any](json.Number("1e99")), rapid.Float64().AsAny())
	value := leaf
	for range 6 {
		inner := value
		value = rapid.OneOf(leaf, rapid.MapOfN(word, inner, 0, 5).AsAny(), rapid.SliceOfN(inner, 0, 4).AsAny())
	}
	object := rapid.MapOfN(word, value, 0, 8)
	rapid.Check(t, func(t *rapid.T) {
		fields := object.Draw(t, "object")
		fields["kind"] = rapid.SampledFrom(words).Draw(t, "kind")
		for _, level := range []string{"", manifest.Restricted} {
			for _, p := range manifest.Check([]manifest.Object{{Fields: fields}}, manifest.Settings{PodSecurity: level, Registries: []string{"a"}}) {
				if p.Policy == "" || p.Message == "" || p.Path == "" {
					t.Fatalf("incomplete: %+v", p)
				}
				if v := at(fields, manifest.Keys(fields, p.Path)); p.Policy == manifest.PlainSecret && v == nil {
					t.Fatalf("%s leads to nothing, so that it cannot be masked", p.Path)
				}
			}
		}
	})
}

// at is the text at keys, nil when there is none.
func at(v any, keys []string) any {
	for _, k := range keys {
		switch n := v.(type) {
		case map[string]any:
			v = n[k]
		case []any:
			i, err := strconv.Atoi(k)
			if err != nil || i >= len(n) {
				return nil
			}
			v = n[i]
		default:
			return nil
		}
	}
	switch v.(type) {
	case string, json.Number:
		return v
	}
	return nil
}

func TestDeepObject(t *testing.T) {
	t.Parallel()
	var v any = "x"
	for range 100_000 {
		v = map[string]any{"spec": v, "template": v, "containers": []any{v}}
	}
	manifest.Check([]manifest.Object{{Fields: v.(map[string]any)}, {Fields: nil}}, manifest.Settings{PodSecurity: manifest.Restricted})
}

func FuzzKeys(f *testing.F) {
	f.Add(`spec.list[web]["a/b"].x`)
	f.Add(`["`)
	f.Fuzz(func(_ *testing.T, path string) {
		manifest.Keys(map[string]any{"spec": map[string]any{"list": []any{map[string]any{"name": "web"}}}}, path)
	})
}

func Benchmark100Deployments(b *testing.B) {
	o := manifest.Object{Fields: decode(b, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: a, image: "a:latest"}, {name: b, image: b}]}}}}`)}
	objects := slices.Repeat([]manifest.Object{o}, 100)
	for b.Loop() {
		if len(manifest.Check(objects, manifest.Settings{PodSecurity: manifest.Restricted})) < 1000 {
			b.Fatal("too few")
		}
	}
}
