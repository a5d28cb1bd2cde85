package kubeschema

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Every definition is a document of its own, so that only what an object needs is ever decoded.
const scheme = "kube:///"

type definitions map[string]json.RawMessage

// Load implements jsonschema.URLLoader.
func (d definitions) Load(url string) (any, error) {
	raw, ok := d[strings.TrimPrefix(url, scheme)]
	if !ok {
		return nil, fmt.Errorf("no definition %s", url)
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
}

func newCompiler(defs map[string]json.RawMessage) *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(definitions(defs))
	c.AssertFormat()
	for name, check := range map[string]func(any) error{
		"quantity": checkQuantity, "byte": checkBase64, "int32": checkInt32, "int64": nil, "double": nil,
	} {
		if check == nil {
			check = func(any) error { return nil }
		}
		c.RegisterFormat(&jsonschema.Format{Name: name, Validate: check})
	}
	return c
}

var quantityExpr = regexp.MustCompile(`^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$`)

func checkQuantity(v any) error {
	if s, ok := v.(string); ok && !quantityExpr.MatchString(s) {
		return errors.New("must be a number with a unit that Kubernetes knows, such as 100m, 0.5, 128Mi or 1G")
	}
	return nil
}

func checkBase64(v any) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	if _, err := base64.StdEncoding.DecodeString(s); err != nil {
		return errors.New("must be base64 (b64enc in a template, or stringData instead of data)")
	}
	return nil
}

func checkInt32(v any) error {
	n, ok := v.(json.Number)
	if !ok {
		return nil
	}
	if i, err := n.Int64(); err == nil && (i < math.MinInt32 || i > math.MaxInt32) {
		return errors.New("does not fit into 32 bits")
	}
	return nil
}
