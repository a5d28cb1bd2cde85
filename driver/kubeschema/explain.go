package kubeschema

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/slipway-cd/slipway/stage/chart"
)

// maxProblems bounds what is said of one object.
const maxProblems = 50

// explain turns the validator's tree of errors into one sentence per field, in the order of the
// fields' paths.
func (s *Schema) explain(err error, object map[string]any) []chart.FieldProblem {
	var root *jsonschema.ValidationError
	if !errors.As(err, &root) {
		return []chart.FieldProblem{{Message: err.Error()}}
	}
	var out []chart.FieldProblem
	secret := object["kind"] == "Secret"
	for _, leaf := range leaves(root, nil) {
		out = append(out, s.sentences(leaf, object, secret)...)
	}
	slices.SortFunc(out, func(a, b chart.FieldProblem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
	})
	out = slices.Compact(out)
	if len(out) > maxProblems {
		more := len(out) - maxProblems
		out = append(out[:maxProblems], chart.FieldProblem{Message: fmt.Sprintf("and %d more", more)})
	}
	return out
}

func leaves(e *jsonschema.ValidationError, list []*jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return append(list, e)
	}
	for _, c := range e.Causes {
		list = leaves(c, list)
	}
	return list
}

func (s *Schema) sentences(e *jsonschema.ValidationError, object map[string]any, secret bool) []chart.FieldProblem {
	at := e.InstanceLocation
	one := func(format string, args ...any) []chart.FieldProblem {
		return []chart.FieldProblem{{Path: pathOf(at), Message: fmt.Sprintf(format, args...)}}
	}
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		var out []chart.FieldProblem
		for _, p := range k.Properties {
			msg := "unknown field"
			if near := nearest(p, s.properties(e.SchemaURL)); near != "" {
				msg += fmt.Sprintf(", did you mean %s?", near)
			}
			out = append(out, chart.FieldProblem{Path: pathOf(append(slices.Clone(at), p)), Message: msg})
		}
		return out
	case *kind.Required:
		var out []chart.FieldProblem
		for _, p := range k.Missing {
			out = append(out, chart.FieldProblem{Path: pathOf(append(slices.Clone(at), p)), Message: "required, but missing"})
		}
		return out
	case *kind.Type:
		return one("must be %s, is %s", typeNames(k.Want), shown(k.Got, object, at, secret))
	case *kind.Enum:
		if k.Got == "" { // counts as not set
			return nil
		}
		var words []string
		for _, w := range k.Want {
			words = append(words, fmt.Sprint(w))
		}
		return one("must be one of %s, is %s", strings.Join(words, ", "), shown("another value", object, at, secret))
	case *kind.Format:
		return one("%v", k.Err)
	}
	return one("does not match the schema")
}

// properties lists the fields of the definition that a validator's URL points into.
func (s *Schema) properties(url string) []string {
	name, _, _ := strings.Cut(strings.TrimPrefix(url, scheme), "#")
	var def struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(s.defs[name], &def); err != nil {
		return nil
	}
	var out []string
	for p := range def.Properties {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

var plainKey = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$-]*$`)

// pathOf writes a path as people do: spec.containers[0].name, metadata.labels["a/b"]; "" is the object.
func pathOf(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		switch _, err := strconv.Atoi(t); {
		case err == nil:
			b.WriteString("[" + t + "]")
		case !plainKey.MatchString(t):
			b.WriteString("[" + strconv.Quote(t) + "]")
		case b.Len() > 0:
			b.WriteString("." + t)
		default:
			b.WriteString(t)
		}
	}
	return b.String()
}

func typeNames(want []string) string {
	var out []string
	for _, w := range want {
		out = append(out, article(w))
	}
	return strings.Join(out, " or ")
}

func article(t string) string {
	switch t {
	case "string":
		return "text"
	case "integer":
		return "a whole number"
	case "array":
		return "a list"
	case "null":
		return "empty"
	case "object":
		return "a map"
	case "boolean":
		return "true or false"
	}
	return "a " + t
}

// shown names what stands at a path: its type, and its value when it is short and no secret can be
// in it.
func shown(got string, object any, at []string, secret bool) string {
	v := object
	for _, t := range at {
		switch n := v.(type) {
		case map[string]any:
			v = n[t]
		case []any:
			i, err := strconv.Atoi(t)
			if err != nil || i < 0 || i >= len(n) {
				return article(got)
			}
			v = n[i]
		}
	}
	hidden := secret || (len(at) > 0 && at[len(at)-1] == "value")
	switch v := v.(type) {
	case string:
		if !hidden && len(v) <= 40 {
			return "the text " + strconv.Quote(v)
		}
		return "a text"
	case json.Number:
		if hidden {
			return "a number (put quotes around it)"
		}
		return "the number " + v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return article(got)
}
