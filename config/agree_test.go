package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway/config"
)

func TestSchemaGolden(t *testing.T) {
	t.Parallel()
	const file = "testdata/slipway.schema.json"
	if *update {
		if err := os.WriteFile(file, config.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, config.Schema()) {
		t.Errorf("%s is not what Schema returns: look at the difference, then run with -update", file)
	}
}

func compile(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("slipway.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("slipway.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disagreement says in which way parser and schema differ on a file, nil when they do not. A file
// without a JSON form is the parser's alone to refuse.
func disagreement(schema *jsonschema.Schema, data []byte) error {
	_, problems := config.Parse("slipway.yaml", data)
	if slices.ContainsFunc(problems, config.Syntactic) {
		return nil
	}
	value, ok, err := toJSON(data)
	if err != nil {
		return fmt.Errorf("the parser takes it for YAML with a JSON form, and it has none: %w", err)
	}
	if !ok {
		return nil // an empty file
	}
	fault := schema.Validate(value)
	if structural := slices.ContainsFunc(problems, config.Structural); structural != (fault != nil) {
		return fmt.Errorf("parser: %v\nschema: %v", problems, fault)
	}
	return nil
}

// toJSON converts YAML to what encoding/json would read, apart from the code under test.
func toJSON(data []byte) (any, bool, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, false, err
	}
	if len(doc.Content) == 0 {
		return nil, false, nil
	}
	v, err := nodeJSON(doc.Content[0])
	return v, true, err
}

func nodeJSON(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return nodeJSON(n.Alias)
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind == yaml.AliasNode {
				k = k.Alias
			}
			if k.Kind != yaml.ScalarNode {
				return nil, errors.New("a key is no text")
			}
			v, err := nodeJSON(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			out[k.Value] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			v, err := nodeJSON(c)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!str", "!!timestamp":
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(b))
}

// Every slipway.yaml of the corpus.
func TestSchemaAgreesOnCorpus(t *testing.T) {
	t.Parallel()
	schema, valid, faulty := compile(t), 0, 0
	for file, data := range corpus(t) {
		if err := disagreement(schema, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if _, problems := config.Parse(file, data); len(problems) == 0 {
			valid++
		} else {
			faulty++
		}
	}
	if valid < 8 || faulty < 15 {
		t.Errorf("the corpus has %d valid and %d faulty files: too few to tell", valid, faulty)
	}
}

func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if f.Name == "slipway.yaml" {
				out[file] = f.Data
			}
		}
	}
	return out
}

// Files made from the shapes, right in most places and wrong in some.
func TestSchemaAgreesAlways(t *testing.T) {
	t.Parallel()
	schema, valid, faulty := compile(t), 0, 0
	rapid.Check(t, func(t *rapid.T) {
		right := rapid.IntRange(0, 1).Draw(t, "right") == 1
		v := draw(t, config.Root(), right, "")
		data, err := yaml.Marshal(v)
		if err != nil {
			t.Skip(err)
		}
		_, problems := config.Parse("slipway.yaml", data)
		if right && len(problems) > 0 {
			t.Fatalf("a file made to fit has problems: %v\n%s", problems, data)
		}
		if len(problems) == 0 {
			valid++
		} else {
			faulty++
		}
		if err := disagreement(schema, data); err != nil {
			t.Fatalf("%v\n%s", err, data)
		}
	})
	if valid < 10 || faulty < 10 {
		t.Errorf("%d valid and %d faulty files were made: too few to tell", valid, faulty)
	}
}

// draw makes a value of a shape, or in one place of ten, when it need not be right, any value.
func draw(t *rapid.T, s *config.Shape, right bool, at string) any {
	if !right && rapid.IntRange(0, 9).Draw(t, at+"?") == 0 {
		return rapid.SampledFrom([]any{
			nil, true, false, 0, 1, -1, 2.5, 8080.0, 99999999, "", "x", "..", "-x", "a/../b", "5m", "5", "true", "~",
			[]any{}, []any{"a"}, []any{nil}, map[string]any{}, map[string]any{"name": "qa"}, map[string]any{"x": 1},
			time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "é", "sha256:00", 1e300,
		}).Draw(t, at)
	}
	if s.OrFalse() != "" && rapid.IntRange(0, 4).Draw(t, at+" false") == 0 {
		return false
	}
	switch s.Kind() {
	case config.KindObject:
		out := map[string]any{}
		for _, k := range s.Keys() {
			if (k.Required() && right) || rapid.Bool().Draw(t, at+"."+k.Name()+"?") {
				out[k.Name()] = draw(t, k.Shape(), right, at+"."+k.Name())
			}
		}
		if !right && rapid.IntRange(0, 9).Draw(t, at+" more") == 0 {
			out[rapid.StringMatching(`[a-zA-Z]{0,8}`).Draw(t, at+" key")] = 1
		}
		return out
	case config.KindTable:
		out := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, at+" size") {
			key := rapid.StringMatching(s.KeyExpr()).Draw(t, at+" key")
			if !right {
				key = rapid.OneOf(rapid.Just(key), rapid.StringN(0, 5, 20)).Draw(t, at+" any key")
			}
			out[key] = draw(t, s.Elem(), right, at+"."+key)
		}
		return out
	case config.KindList:
		out := []any{}
		for range rapid.IntRange(0, 3).Draw(t, at+" size") {
			out = append(out, draw(t, s.Elem(), right, at+"[]"))
		}
		return out
	case config.KindInteger:
		least, most := s.Range()
		return rapid.IntRange(least, most).Draw(t, at)
	case config.KindNumber:
		least, most := s.Range()
		return rapid.Float64Range(float64(least), float64(most)).Draw(t, at)
	case config.KindBoolean:
		return rapid.Bool().Draw(t, at)
	}
	if len(s.Enum()) > 0 {
		return rapid.SampledFrom(s.Enum()).Draw(t, at)
	}
	if s.Expr() != "" {
		return rapid.StringMatching(s.Expr()).Filter(func(x string) bool { return (len(x) <= 30 || s.Expr()[1] == 's') && writable(x) }).Draw(t, at)
	}
	return rapid.StringN(0, 20, -1).Filter(writable).Draw(t, at)
}

// writable reports whether the YAML writer can write a text: what it makes of lines of which the first is
// empty or begins with a space, no reader takes.
func writable(s string) bool {
	return !strings.Contains(s, "\n") || strings.TrimLeft(s, " \t\r\n") == s
}

// What strangers write does not crash, hang or split parser and schema, and problems point into the
// file.
func FuzzParse(f *testing.F) {
	for _, data := range corpus(f) {
		f.Add(data)
	}
	schema := compile(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, problems := config.Parse("slipway.yaml", data)
		lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + bytes.Count(data, []byte("\u2028")) +
			bytes.Count(data, []byte("\u2029")) + bytes.Count(data, []byte("\u0085")) + 2
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Message == "" {
				t.Errorf("a problem that points nowhere: %+v", p)
			}
		}
		if err := disagreement(schema, data); err != nil {
			t.Error(err)
		}
	})
}
