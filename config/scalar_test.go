package config_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway/config"
)

// Whatever the style of the YAML text is, a problem of an expression is at its own line and column.
func TestAnExpressionIsWrongWhereItIs(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"plain":                    " evidence.tests.failed == 0 && evidence.tests@.pased > 1",
		"plain on several lines":   " evidence.tests.failed == 0 &&\n\n        evidence.tests@.pased > 1",
		"begins on the next line":  "\n        evidence.tests.failed == 0 && evidence.tests@.pased > 1",
		"single quotes":            " 'evidence.ref != ''a'' && evidence.tests@.pased > 1'",
		"single, several lines":    " 'evidence.ref != ''a''\n\n        && evidence.tests@.pased > 1'",
		"double quotes":            ` "evidence.ref != \"\x61\u00e4\\n\" && evidence.tests@.pased > 1"`,
		"double, several lines":    " \"evidence.ref != \\\"a\\\" \\\n        && \\\n        evidence.tests@.pased > 1\"",
		"literal":                  " |\n        evidence.tests.failed == 0 &&\n          evidence.tests@.pased > 1",
		"literal with empty lines": " |\n\n        evidence.tests.failed == 0 &&\n\n          evidence.tests@.pased > 1\n\n",
		"literal with a comment":   " |- # two lines\n        evidence.tests.failed == 0 &&\n        evidence.tests@.pased > 1",
		"literal, indented more":   " |2\n              evidence.tests.failed == 0 &&\n        evidence.tests@.pased > 1",
		"literal with tabs":        " |\n        evidence.tests.failed == 0 &&\n        \tevidence.tests@.pased > 1",
		"folded":                   " >-\n        evidence.tests.failed == 0 &&\n        evidence.tests@.pased > 1",
		"folded with paragraphs":   " >\n        evidence.tests.failed == 0\n\n\n        &&\n          evidence.ref != \"é\" &&\n        evidence.tests@.pased > 1",
		"an anchor":                " &rule |\n        evidence.tests@.pased > 1",
		"beyond ASCII":             " |\n        evidence.ref != \"grün\" && evidence.tests@.pased > 1",
	} {
		yaml := "gates:\n  rules:\n    - name: r\n      message: m\n      expression:" + text + "\n      level: warn\n"
		before, _, _ := strings.Cut(yaml, "@")
		lines := strings.Split(before, "\n")
		want := fmt.Sprintf("slipway.yaml:%d:%d: gates.rules[0].expression: rule r: there is no field \"pased\"; did you mean passed?", len(lines), len([]rune(lines[len(lines)-1]))+1)
		_, problems := config.Load(fstest.MapFS{"slipway.yaml": {Data: []byte(strings.Replace(yaml, "@", "", 1))}}, options())
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
			t.Errorf("%s:\n%s\ngot  %v\nwant %s", name, yaml, problems, want)
		}
	}
}

// An expression that ends too early is wrong after its last character.
func TestAnExpressionThatEndsTooEarly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"evidence.production ||":                           "slipway.yaml:5:41:",
		"'evidence.production ||'":                         "slipway.yaml:5:42:",
		"|\n        evidence.production\n        ||  \n":   "slipway.yaml:7:11:",
		">\n        evidence.production\n        ||\n\n\n": "slipway.yaml:7:11:",
	} {
		_, problems := config.Load(fstest.MapFS{"slipway.yaml": {Data: []byte("gates:\n  rules:\n    - name: s\n      message: m\n      expression: " + text + "\n")}}, options())
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) || !strings.Contains(problems[0].Message, "ends too early") {
			t.Errorf("%q: got %v, want %s", text, problems, want)
		}
	}
}
