package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var (
	// saidExpr is a command as people are told it, up to where the words around it go on.
	saidExpr = regexp.MustCompile("(?:^|[`(>]|(\\w*)\\s+)slipway ([a-z][^`()\n<;,]*)")
	flagExpr = regexp.MustCompile(`\s(--[a-z][a-z-]*)`)
	wordExpr = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// Every command and flag that a message, a page or the docs name is there.
func TestNamedCommandsExist(t *testing.T) {
	t.Parallel()
	checked := 0
	for place, text := range said(t) {
		for _, m := range saidExpr.FindAllStringSubmatch(text, -1) {
			if slices.Contains([]string{"push", "add", "fetch"}, m[1]) { // the remote of that name
				continue
			}
			checked++
			if err := exists(newRoot(), m[2]); err != nil {
				t.Errorf("%s: slipway %s: %v", place, m[2], err)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d commands were found: is the pattern right?", checked)
	}
	for _, bad := range []string{"login-link", "users links ada", "serve --lisen x", "pulls aprove 1", "tokens --user bob remove 3"} {
		if exists(newRoot(), bad) == nil {
			t.Errorf("slipway %s exists", bad)
		}
	}
}

// notCommands are words that follow the name of the program without being a command of it.
func notCommands() []string { return []string{"key", "completion", "help"} }

func exists(root *cobra.Command, said string) error {
	cmd := root
	for _, word := range strings.Fields(said) {
		if strings.HasPrefix(word, "-") {
			continue
		}
		if !cmd.HasSubCommands() {
			break
		}
		word = strings.TrimRight(word, ".:\"'")
		if cmd == root && (slices.Contains(notCommands(), word) || strings.HasPrefix(said, "run %")) {
			return nil
		}
		next := subcommand(cmd, word)
		if next == nil && (cmd == root || wordExpr.MatchString(word)) {
			return fmt.Errorf("there is no command %q below %s", word, cmd.CommandPath())
		}
		if next == nil {
			break
		}
		cmd = next
	}
	for _, m := range flagExpr.FindAllStringSubmatch(" "+said, -1) {
		if name := m[1][2:]; name != "help" && cmd.Flag(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
			return fmt.Errorf("%s has no flag %s", cmd.CommandPath(), m[1])
		}
	}
	return nil
}

func subcommand(cmd *cobra.Command, word string) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if sub.Name() == word || slices.Contains(sub.Aliases, word) {
			return sub
		}
	}
	return nil
}

// said is what people read, by its place: string literals of the programs, pages and docs.
func said(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "cluster" || d.Name() == "bin" || (strings.HasPrefix(d.Name(), ".") && path != top)):
			return fs.SkipDir
		case strings.HasSuffix(path, "_test.go") || d.IsDir():
			return nil
		}
		switch filepath.Ext(path) {
		case ".go":
			return literals(path, out)
		case ".html", ".md":
			b, err := os.ReadFile(path)
			out[path] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func literals(path string, out map[string]string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				out[fset.Position(lit.Pos()).String()] = text
			}
		}
		return true
	})
	return nil
}
