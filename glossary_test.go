package slipway_test

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/stage"
)

// A word is in the glossary before it is anywhere else: each root noun, table, noun of a URL and kind
// of step stands there.
func TestGlossary(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	glossary := string(data)
	words := map[string]string{}
	tables(t, words)
	urlNouns(t, words)
	if len(words) < 15 {
		t.Fatalf("only %d tables and nouns of URLs were found: %v", len(words), words)
	}
	for word, where := range words {
		if !strings.Contains(glossary, "`"+word+"`") {
			t.Errorf("%s: %s is not in docs/glossary.md", where, word)
		}
	}
	for _, kind := range stage.Order() {
		if !strings.Contains(glossary, "| `"+string(kind)+"` |") {
			t.Errorf("the kind of step %s is not in docs/glossary.md", kind)
		}
	}
	for noun, where := range nouns(t) {
		if !strings.Contains(glossary, "`"+noun+"`") {
			t.Errorf("%s: %s is not in docs/glossary.md", where, noun)
		}
	}
}

// The kinds of steps stand in the glossary in the order of delivery.
func TestGlossaryOrder(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "## Kinds of steps")
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, m[1])
	}
	for _, kind := range stage.Order() {
		want = append(want, string(kind))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the glossary has %v, and the order of delivery is %v", got, want)
	}
}

func tables(t *testing.T, words map[string]string) {
	t.Helper()
	files, err := filepath.Glob("store/migrations/*/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	create := regexp.MustCompile(`(?i)create table (?:if not exists )?([a-z_]+)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range create.FindAllStringSubmatch(string(text), -1) {
			words[m[1]] = file
		}
	}
}

// urlNouns are the fixed parts of the API's paths, verbs left out.
func urlNouns(t *testing.T, words map[string]string) {
	t.Helper()
	verbs := []string{"api", "v1", "cancel", "retry"}
	route := regexp.MustCompile(`"(?:GET|POST|PUT|DELETE) (/api/v1/[^"]*)"`)
	files, err := filepath.Glob("api/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range route.FindAllStringSubmatch(string(text), -1) {
			for _, part := range strings.Split(strings.Trim(m[1], "/"), "/") {
				if part != "" && !strings.HasPrefix(part, "{") && !slices.Contains(verbs, part) {
					words[part] = file
				}
			}
		}
	}
}

// nouns are the structs of the root package that have an identity: an ID or a Name, and a JSON form.
func nouns(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range parseTree(t, ".") {
		if s.pkg != "." || s.test {
			continue
		}
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				if typ := spec.(*ast.TypeSpec); identified(typ) {
					out[typ.Name.Name] = s.finding(typ.Pos(), "")
				}
			}
		}
	}
	if len(out) < 8 {
		t.Fatalf("only %d nouns were found: %v", len(out), out)
	}
	return out
}

func identified(typ *ast.TypeSpec) bool {
	s, ok := typ.Type.(*ast.StructType)
	if !ok || strings.HasPrefix(typ.Name.Name, "Test") || strings.HasPrefix(typ.Name.Name, "Resource") {
		return false
	}
	for _, f := range s.Fields.List {
		for _, n := range f.Names {
			if (n.Name == "ID" || n.Name == "Name" || n.Name == "Number") && f.Tag != nil {
				return true
			}
		}
	}
	return false
}
