package manifest

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var plainKey = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$-]*$`)

// Path writes keys and indexes as people do: spec.containers[web].image, metadata.labels["a/b"]. An item
// of a list is called by its name when it alone has it, else by its index.
func Path(fields map[string]any, keys []string) string {
	var b strings.Builder
	var v any = fields
	for _, k := range keys {
		switch n := v.(type) {
		case []any:
			i, err := strconv.Atoi(k)
			v = nil
			if err == nil && i >= 0 && i < len(n) {
				if name := ownName(n, i); name != "" {
					k = name
				}
				v = n[i]
			}
			b.WriteString("[" + k + "]")
			if err == nil && i >= 0 && i < len(n) {
				v = n[i]
			}
			continue
		case map[string]any:
			v = n[k]
		default:
			v = nil
		}
		switch {
		case !plainKey.MatchString(k):
			b.WriteString("[" + strconv.Quote(k) + "]")
		case b.Len() > 0:
			b.WriteString("." + k)
		default:
			b.WriteString(k)
		}
	}
	return b.String()
}

// ownName is the name of an item that no other item of the list has, or "".
func ownName(list []any, i int) string {
	name := text(object(list[i])["name"])
	if !plainKey.MatchString(name) {
		return ""
	}
	for j, other := range list {
		if j != i && text(object(other)["name"]) == name {
			return ""
		}
	}
	return name
}

// Keys reads what Path wrote: keys of maps and indexes of lists. What is not there keeps the words of the
// path.
func Keys(fields map[string]any, path string) []string {
	var out []string
	var v any = fields
	for path != "" {
		var k string
		var bracket bool
		k, path, bracket = nextKey(path)
		switch n := v.(type) {
		case map[string]any:
			v = n[k]
		case []any:
			i, err := strconv.Atoi(k)
			if err != nil {
				i = slices.IndexFunc(n, func(e any) bool { return text(object(e)["name"]) == k })
			}
			v = nil
			if bracket && i >= 0 && i < len(n) {
				k, v = strconv.Itoa(i), n[i]
			}
		default:
			v = nil
		}
		out = append(out, k)
	}
	return out
}

func nextKey(path string) (key, rest string, bracket bool) {
	if quoted, err := strconv.QuotedPrefix(strings.TrimPrefix(path, "[")); err == nil && path[0] == '[' {
		key, err = strconv.Unquote(quoted)
		if err == nil {
			return key, strings.TrimPrefix(strings.TrimPrefix(path[1+len(quoted):], "]"), "."), true
		}
	}
	if path[0] == '[' {
		key, rest, _ = strings.Cut(path[1:], "]")
		return key, strings.TrimPrefix(rest, "."), true
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, "", false
	}
	if path[end] == '.' {
		return path[:end], path[end+1:], false
	}
	return path[:end], path[end:], false
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// isTrue and isFalse: a value that is set, and so.
func isTrue(v any) bool {
	b, ok := v.(bool)
	return ok && b
}

func isFalse(v any) bool {
	b, ok := v.(bool)
	return ok && !b
}

// number is a whole number.
func number(v any) (int64, bool) {
	switch n := v.(type) {
	case json.Number:
		i, err := n.Int64()
		return i, err == nil
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	case int64:
		return n, true
	case int:
		return int64(n), true
	}
	return 0, false
}
