package survey

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
)

// writeSettings is slipway.yaml with what the services differ in from the conventions; "" when they do
// not.
func writeSettings(services []Service) string {
	b := &strings.Builder{}
	for _, s := range services {
		if len(s.Settings) == 0 {
			continue
		}
		b.WriteString("  " + yamlText(s.Name) + ":\n")
		for _, set := range s.Settings {
			if set.Why != "" {
				b.WriteString("    # " + comment(set.Why) + "\n")
			}
			if len(set.List) == 0 {
				value := set.Value
				if !strings.HasPrefix(value, "{") && set.Key != "port" {
					value = yamlText(value)
				}
				b.WriteString("    " + set.Key + ": " + value + "\n")
				continue
			}
			b.WriteString("    " + set.Key + ":\n")
			for _, item := range set.List {
				b.WriteString("      - " + yamlText(item))
				for _, d := range s.DependsOn {
					if d.Path == strings.TrimPrefix(item, "./") || (d.Service != "" && d.Service == item) {
						b.WriteString(" # " + comment(d.Why))
						break
					}
				}
				b.WriteString("\n")
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "# What differs here from Slipway's conventions; all else needs no word. `slipway schema` describes every\n" +
		"# key, `slipway validate` checks this file. Written by `slipway init`.\nversion: 1\nservices:\n" + b.String()
}

var plainText = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)

// yamlText is a text as YAML reads it back, in quotes where that could be doubted.
func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n", ".", "..":
	default:
		if plainText.MatchString(s) && !strings.HasPrefix(s, ".") {
			return s
		}
	}
	b, err := json.Marshal(s) // a JSON text is a YAML text
	if err != nil {
		return `""`
	}
	return string(b)
}

// comment is a text that stays on its line.
func comment(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(slipway.Printable(s), "\n", " "), "\t", " ")
}
