package config

import (
	"encoding/json"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of slipway.yaml, for editors. It accepts what Parse finds
// no fault with in keys, types, patterns and bounds; what only the whole repository can tell (a
// service that does not exist, a cycle) is Load's to find.
func Schema() []byte {
	s := root().schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://slipway-cd.github.io/slipway.schema.json"
	s["title"] = "slipway.yaml"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config: the schema has no JSON form: " + err.Error()) // maps of texts and numbers always have
	}
	return append(b, '\n')
}

func (s *shape) schema() map[string]any {
	out := map[string]any{"description": s.doc}
	switch s.kind {
	case object:
		properties, required := map[string]any{}, []string{}
		for _, k := range s.keys {
			p := k.shape.schema()
			if k.fallback != "" {
				p["description"] = strings.TrimSpace(k.shape.doc + " Default: " + k.fallback + ".")
			}
			properties[k.name] = p
			if k.required {
				required = append(required, k.name)
			}
		}
		out["type"] = []string{"object", "null"}
		out["properties"] = properties
		out["additionalProperties"] = false
		if len(required) > 0 {
			out["type"] = "object"
			out["required"] = required
		}
	case table:
		out["type"] = []string{"object", "null"}
		out["propertyNames"] = map[string]any{"pattern": s.keyMatch.expr}
		out["additionalProperties"] = s.elem.schema()
		out["maxProperties"] = s.most
	case list:
		out["type"] = []string{"array", "null"}
		out["items"] = s.elem.schema()
		out["maxItems"] = s.most
	case text:
		out["type"] = "string"
		if s.match != nil {
			out["pattern"] = s.match.expr
		}
		if s.most > 0 {
			out["maxLength"] = s.most
		}
		if len(s.enum) > 0 {
			out["enum"] = s.enum
		}
	case integer:
		out["type"] = "integer"
		out["minimum"], out["maximum"] = s.min, s.max
	case number:
		out["type"] = "number"
		out["minimum"], out["maximum"] = s.min, s.max
	case boolean:
		out["type"] = "boolean"
	}
	if s.orFalse != "" {
		return map[string]any{"description": s.doc + " false: " + s.orFalse + ".",
			"anyOf": []any{map[string]any{"const": false}, out}}
	}
	return out
}
