package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-cd/slipway"
)

var update = flag.Bool("update", false, "rewrite docs/reference/cli.md")

// The reference of the command line is what the commands say of themselves.
func TestCLIReference(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "reference", "cli.md")
	want := cliReference()
	got, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	if !*update {
		line := 0
		is, should := strings.Split(string(got), "\n"), strings.Split(want, "\n")
		for line < len(is) && line < len(should) && is[line] == should[line] {
			line++
		}
		t.Fatalf("%s:%d is not what the commands say (go test ./cmd/slipway -run TestCLIReference -update rewrites it)", file, line+1)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every command says in a line what it is for, and every flag what it means.
func TestCommandsExplainThemselves(t *testing.T) {
	t.Parallel()
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		if cmd.Short == "" {
			t.Errorf("%s says nothing of itself", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing of itself", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

func cliReference() string {
	root := newRoot()
	b := &strings.Builder{}
	b.WriteString("# The command line\n\n<!-- Written by go test ./cmd/slipway -run TestCLIReference -update -->\n\n")
	b.WriteString(root.Long + "\n\n")
	b.WriteString("`slipway help COMMAND` and `--help` say the same as this page. `slipway completion SHELL` prints completion for\n`bash`, `zsh`, `fish` or `powershell`.\n\n")
	b.WriteString("## Flags of every command\n\n")
	b.WriteString(flagTable(root.PersistentFlags()))
	b.WriteString("\n## Environment\n\n| Variable | Means |\n|---|---|\n")
	for _, v := range [][2]string{
		{"SLIPWAY_SERVER", "address of the server, as `--server`"},
		{"SLIPWAY_TOKEN", "token, instead of the saved one"},
		{"SLIPWAY_PROJECT", "project, as `--project`"},
		{"SLIPWAY_CONFIG", "file of the saved sign-in (default: `slipway/config.json` in the user's folder for settings)"},
		{"NO_COLOR", "no colours"},
	} {
		fmt.Fprintf(b, "| `%s` | %s |\n", v[0], v[1])
	}
	b.WriteString("\nA project that is named nowhere is read from the remotes of the git repository that the command is called in;\nelse it is the only one there is.\n")
	b.WriteString("\n## Exit status\n\n| Status | Means |\n|---|---|\n| 0 | done |\n| 1 | what was asked about did not succeed: a run, a check |\n")
	for _, group := range exitGroups() {
		fmt.Fprintf(b, "| %d | %s |\n", group.status, strings.Join(group.codes, ", "))
	}
	b.WriteString("\nThe words are the [error codes of the API](api.md#errors). Wrong flags and arguments also give 2.\n")
	for _, group := range root.Groups() {
		fmt.Fprintf(b, "\n## %s\n", strings.TrimSuffix(group.Title, ":"))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID {
				writeCommand(b, cmd)
			}
		}
	}
	return b.String()
}

type exitGroup struct {
	status int
	codes  []string
}

// exitGroups are the error codes by their exit status, in the order of the codes.
func exitGroups() []exitGroup {
	var out []exitGroup
	for _, code := range slipway.Codes() {
		status := exitStatus(slipway.Errorf(code, "x"))
		if n := len(out); n > 0 && out[n-1].status == status {
			out[n-1].codes = append(out[n-1].codes, string(code))
			continue
		}
		out = append(out, exitGroup{status, []string{string(code)}})
	}
	return out
}

func writeCommand(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n%s.\n\n```\n%s\n```\n", cmd.CommandPath(), cmd.Short, cmd.UseLine())
	if cmd.Long != "" {
		fmt.Fprintf(b, "\n%s\n", cell(cmd.Long))
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso: `%s`.\n", strings.Join(cmd.Aliases, "`, `"))
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.AddFlagSet(cmd.LocalFlags())
	for above := cmd.Parent(); above.HasParent(); above = above.Parent() {
		own.AddFlagSet(above.PersistentFlags())
	}
	if own.HasAvailableFlags() {
		b.WriteString("\n" + flagTable(own))
	}
	for _, sub := range cmd.Commands() {
		writeCommand(b, sub)
	}
}

func flagTable(flags *pflag.FlagSet) string {
	b := &strings.Builder{}
	b.WriteString("| Flag | Value | Default | Means |\n|---|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		value, def := f.Value.Type(), f.DefValue
		switch value {
		case "bool":
			value, def = "", strings.TrimPrefix(def, "false")
		case "stringArray", "stringSlice":
			value, def = "text, repeatable", strings.Trim(def, "[]")
		case "string":
			value = "text"
		case "int", "int64":
			value, def = "number", strings.TrimPrefix(def, "0")
		}
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, value, def, cell(f.Usage))
	})
	return b.String()
}

// cell keeps what could be read as Markdown or HTML as it is written.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
}
