package config_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/gate/manifest"
)

const (
	reference = "../docs/reference/slipway.yaml.md"
	keysBegin = "<!-- keys: written by go test ./config -run TestReference -update -->\n"
	keysEnd   = "<!-- /keys -->"
)

// The table of keys on the reference page is that of the shapes, and the page's examples are valid.
func TestReference(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), keysBegin)
	_, after, ok2 := strings.Cut(rest, keysEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the keys", reference)
	}
	var b strings.Builder
	b.WriteString("\n| Key | Value | Default | |\n|---|---|---|---|\n")
	keyRows(&b, config.Root(), "")
	want := before + keysBegin + b.String() + "\n" + keysEnd + after
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s does not have the keys as they are: run go test ./config -run TestReference -update", reference)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(want, -1)
	if len(blocks) == 0 {
		t.Errorf("%s has no example", reference)
	}
	for _, block := range blocks {
		if _, problems := config.Parse("example", []byte(block[1])); len(problems) > 0 {
			t.Errorf("%s: %v", reference, problems)
		}
	}
}

func keyRows(b *strings.Builder, s *config.Shape, path string) {
	for _, k := range s.Keys() {
		at := strings.TrimPrefix(path+"."+k.Name(), ".")
		fallback := k.Fallback()
		if k.Required() {
			fallback = "required"
		}
		row(b, at, k.Shape(), fallback)
		if at == "environments[].gates" {
			continue // the same keys as gates
		}
		switch k.Shape().Kind() {
		case config.KindObject:
			keyRows(b, k.Shape(), at)
		case config.KindTable:
			keyRows(b, k.Shape().Elem(), at+".<name>")
		case config.KindList:
			keyRows(b, k.Shape().Elem(), at+"[]")
		}
	}
}

func row(b *strings.Builder, at string, s *config.Shape, fallback string) {
	value := s.Expected()
	switch {
	case s.Kind() == config.KindTable && s.Elem().Kind() == config.KindObject, s.Kind() == config.KindObject:
		value = "keys"
	case len(s.Enum()) > 0:
		value = "`" + strings.Join(s.Enum(), "` or `") + "`"
	case (s.Kind() == config.KindInteger || s.Kind() == config.KindNumber) && at != "version":
		least, most := s.Range()
		value = fmt.Sprintf("%d to %d", least, most)
	}
	if s.OrFalse() != "" && !strings.HasSuffix(value, "or false") {
		value += ", or false"
	}
	if e := s.Elem(); s.Kind() == config.KindTable && e.OrFalse() != "" {
		value += "; a name may have `false`: " + e.OrFalse()
	}
	doc := s.Doc()
	if s.OrFalse() != "" {
		doc += " `false`: " + s.OrFalse() + "."
	}
	plain := strings.NewReplacer("<", "&lt;", ">", "&gt;", "|", "\\|")
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", at, plain.Replace(value), plain.Replace(fallback), plain.Replace(doc))
}

// The example on the reference page is valid for the repository that it is about, and each of its services is one.
func TestReferenceExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(data), "## An example\n\n```yaml\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok {
		t.Fatalf("%s has no example", reference)
	}
	tree := fstest.MapFS{"slipway.yaml": file(example), "libs/money/m.go": file(""), "libs/decimal/d.go": file("")}
	for _, dir := range []string{"src/shipping/delivery", "src/orders", "src/warehouse", "src/ci-tools"} {
		tree[dir+"/Dockerfile"] = file("FROM golang:1.26-bookworm AS testrunner\nFROM scratch AS worker\nFROM scratch\n")
	}
	c, problems := config.Load(tree, options())
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range c.Services {
		got = append(got, s.Name+" in "+s.Dir)
	}
	want := []string{"delivery in src/shipping/delivery", "orders in src/orders", "warehouse in src/warehouse", "worker in src/orders"}
	if !slices.Equal(got, want) {
		t.Errorf("the example has %q, want %q", got, want)
	}
}

// The table of policies on the page about gates is that of the policies, and its examples, as those of the how-to,
// are valid, rules and waivers included.
func TestGatesPage(t *testing.T) {
	t.Parallel()
	const page = "../docs/reference/gates.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- policies: written by go test ./config -run TestGatesPage -update -->\n", "<!-- /policies -->"
	before, rest, ok := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the policies", page)
	}
	var b strings.Builder
	b.WriteString("\n| Policy | Level | In production |\n|---|---|---|\n")
	for _, p := range manifest.Policies() {
		fmt.Fprintf(&b, "| [`%s`](policies.md#%s) | %s | %s |\n", p.Name, p.Name, p.Level, p.ProductionLevel)
	}
	want := before + begin + b.String() + "\n" + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(data) {
		t.Errorf("%s does not have the policies as they are: run go test ./config -run TestGatesPage -update", page)
	}
	howto, err := os.ReadFile("../docs/howto/quality-gates.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(want+string(howto), -1)
	if len(examples) < 8 {
		t.Errorf("only %d examples", len(examples))
	}
	for _, e := range examples {
		// A waiver may be for an environment or a service that another part of the file would name.
		tree := fstest.MapFS{"slipway.yaml": {Data: []byte(e[1])}, "web/Dockerfile": {Data: []byte("FROM scratch\nEXPOSE 80\n")}}
		if _, problems := config.Load(tree, options()); len(problems) > 0 {
			t.Errorf("%s%v", e[1], problems)
		}
	}
}

// Every YAML key is a word of the glossary.
func TestKeysAreInTheGlossary(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	var top []string
	for _, k := range config.Root().Keys() {
		top = append(top, k.Name())
	}
	if !slices.Contains(top, "services") {
		t.Fatalf("keys: %v", top)
	}
	for _, name := range top {
		if !strings.Contains(string(data), "`"+name) {
			t.Errorf("the key %s is not in docs/glossary.md", name)
		}
	}
}
