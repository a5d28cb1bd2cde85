package approve

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// secretKey matches keys whose values are masked wherever they stand.
var secretKey = regexp.MustCompile(`(?i)(pass(word|wd|phrase)?|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|credential|connection[-_]?string|dsn|auth)$`)

// login matches the password in a URL.
var login = regexp.MustCompile(`(://[^/@\s:]*:)([^@/\s]+)@`)

// masker replaces the values that must not be shown by the beginning of their keyed hash, so that a
// change is seen and the value is not, and cannot be guessed by who does not have the key.
type masker struct{ key []byte }

func (m masker) mask(doc *yaml.Node) {
	root := doc
	if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		root = root.Content[0]
	}
	if scalar(root, "kind") == "Secret" {
		for _, key := range []string{"data", "stringData"} {
			if n := field(root, key); n != nil {
				m.all(n, key == "data")
			}
		}
	}
	m.keys(root)
}

// keys masks values under keys that look secret, the value of a name/value pair whose name does
// (environment variables), and passwords in URLs.
func (m masker) keys(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Value = login.ReplaceAllStringFunc(n.Value, func(s string) string {
			parts := login.FindStringSubmatch(s)
			return parts[1] + m.masked(parts[2]) + "@"
		})
	}
	if n.Kind == yaml.MappingNode {
		if v := field(n, "value"); v != nil && secretKey.MatchString(scalar(n, "name")) {
			m.all(v, false)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k, v := n.Content[i], n.Content[i+1]; secretKey.MatchString(k.Value) && v.Kind == yaml.ScalarNode && v.Tag != "!!bool" {
				m.all(v, false)
			}
		}
	}
	for _, c := range n.Content {
		m.keys(c)
	}
}

// all masks every scalar value below n. Data of a Secret is decoded first, so that data and
// stringData of one value look the same.
func (m masker) all(n *yaml.Node, encoded bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		text := n.Value
		if b, err := base64.StdEncoding.DecodeString(text); encoded && err == nil {
			text = string(b)
		}
		n.Value, n.Tag, n.Style = m.masked(text), "!!str", 0
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			m.all(n.Content[i], encoded)
		}
	case yaml.SequenceNode, yaml.DocumentNode:
		for _, c := range n.Content {
			m.all(c, encoded)
		}
	}
}

const maskPrefix = "(masked "

func (m masker) masked(text string) string {
	if text == "" || len(text) > len(maskPrefix) && text[:len(maskPrefix)] == maskPrefix {
		return text
	}
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(text))
	return maskPrefix + hex.EncodeToString(h.Sum(nil))[:8] + ")"
}

func field(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string) string {
	if f := field(n, key); f != nil && f.Kind == yaml.ScalarNode {
		return f.Value
	}
	return ""
}
