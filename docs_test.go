package slipway_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
	"github.com/slipway-cd/slipway/auth"
)

var update = flag.Bool("update", false, "rewrite the generated parts of docs")

// pages are the Markdown files of the repository, by their path with slashes.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && name != "." && (e.Name() == "internal_warm" || e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".")) {
			return fs.SkipDir
		}
		if !e.IsDir() && strings.HasSuffix(name, ".md") {
			b, err := os.ReadFile(filepath.FromSlash(name))
			out[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var (
	fenced    = regexp.MustCompile("(?ms)^ *```.*?^ *```[ \t]*$")
	inline    = regexp.MustCompile("`[^`\n]*`")
	linkExpr  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	headings  = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// Every link inside the repository leads to a file, and to a heading where it names one.
func TestLinks(t *testing.T) {
	t.Parallel()
	all, found := pages(t), 0
	for page, text := range all {
		for _, problem := range brokenLinks(all, page, text, &found) {
			t.Error(problem)
		}
	}
	if found < 30 {
		t.Errorf("only %d links were found", found)
	}
}

func brokenLinks(all map[string]string, page, text string, found *int) (out []string) {
	prose := inline.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
	for _, m := range linkExpr.FindAllStringSubmatch(prose, -1) {
		to := m[1]
		if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
			continue
		}
		*found++
		file, anchor, _ := strings.Cut(to, "#")
		target := page
		if file != "" {
			target = path.Join(path.Dir(page), file)
		}
		if strings.HasPrefix(target, "../shared/") {
			continue
		}
		if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
			out = append(out, fmt.Sprintf("%s: the link to %s leads to no file", page, to))
			continue
		}
		if other, ok := all[target]; anchor != "" && ok && !slices.Contains(anchors(other), anchor) {
			out = append(out, fmt.Sprintf("%s: the link to %s leads to no heading", page, to))
		}
	}
	return out
}

// anchors are the headings of a page as links name them.
func anchors(text string) (out []string) {
	for _, m := range headings.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		out = append(out, strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return out
}

func TestLinksAreChecked(t *testing.T) {
	t.Parallel()
	all := map[string]string{"docs/a.md": "# The first one\n", "LICENSE": ""}
	text := "[a](a.md) [b](a.md#the-first-one) [c](../LICENSE) [d](https://example.com/x.md) `[e](nowhere.md)`\n```\n[f](nowhere.md)\n```\n"
	found := 0
	for _, problem := range brokenLinks(all, "docs/glossary.md", text+"[g](nowhere.md) [h](glossary.md) [i](#here)", &found) {
		if !strings.Contains(problem, "nowhere.md") && !strings.Contains(problem, "a.md leads") && !strings.Contains(problem, "a.md#the-first-one") {
			t.Errorf("found %q", problem)
		}
	}
	if found != 6 {
		t.Errorf("%d links were looked at, want 6", found)
	}
	if got := anchors("# A `b`, and C-d!\n```\n# no\n```\n## E\n"); !slices.Equal(got, []string{"a-b-and-c-d", "e"}) {
		t.Errorf("headings are %q", got)
	}
}

// generated compares the part of a page between its markers with what the code says. With -update it
// rewrites the part.
func generated(t *testing.T, page, name, want string) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	begin := fmt.Sprintf("<!-- %s: written by go test . -run TestDocs -update -->\n", name)
	end := fmt.Sprintf("<!-- /%s -->\n", name)
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no part between %q and %q", page, begin, end)
	}
	want = "\n" + strings.TrimSpace(want) + "\n\n"
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says (go test . -run TestDocs -update rewrites it)\nis:\n%s\nshould be:\n%s", page, got, want)
	}
	if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The parts of the documentation that follow from the code. They are not parallel: two may rewrite one
// page.
func TestDocs(t *testing.T) {
	t.Run("states", func(t *testing.T) { generated(t, "docs/reference/states.md", "steps", stepDiagram()) })
	t.Run("imports", func(t *testing.T) { generated(t, "ARCHITECTURE.md", "imports", importTable()) })
	t.Run("roles", func(t *testing.T) { generated(t, "docs/howto/roles-and-tokens.md", "roles", roleTable()) })
	t.Run("errors", func(t *testing.T) { generated(t, "docs/reference/api.md", "errors", errorTable()) })
}

func stepDiagram() string {
	b := &strings.Builder{}
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> blocked\n")
	for _, from := range slipway.StepStates() {
		for _, to := range slipway.StepMoves()[from] {
			if from.Final() {
				fmt.Fprintf(b, "    %s --> %s: retry\n", from, to)
			} else {
				fmt.Fprintf(b, "    %s --> %s\n", from, to)
			}
		}
		if from.Final() {
			fmt.Fprintf(b, "    %s --> [*]\n", from)
		}
	}
	b.WriteString("```\n")
	return b.String()
}

func importTable() string {
	b := &strings.Builder{}
	b.WriteString("| Package | May import, of this module |\n|---|---|\n")
	name := func(p string) string {
		switch p {
		case ".":
			return "root"
		case "*":
			return "everything"
		}
		return "`" + p + "`"
	}
	for _, r := range mayImport() {
		var may []string
		for _, p := range r.may {
			may = append(may, name(p))
		}
		if len(may) == 0 {
			may = []string{"nothing"}
		}
		fmt.Fprintf(b, "| %s | %s |\n", name(r.pkg), strings.Join(may, ", "))
	}
	return b.String()
}

func roleTable() string {
	b := &strings.Builder{}
	b.WriteString("| Action |")
	for _, r := range slipway.Roles() {
		fmt.Fprintf(b, " %s |", r)
	}
	b.WriteString(" server admin |\n|---|" + strings.Repeat("---|", len(slipway.Roles())+1) + "\n")
	mark := func(may bool) string {
		if may {
			return "yes"
		}
		return "-"
	}
	for _, a := range auth.Actions() {
		fmt.Fprintf(b, "| `%s` |", a)
		for _, r := range slipway.Roles() {
			fmt.Fprintf(b, " %s |", mark(auth.Allowed(r, a)))
		}
		fmt.Fprintf(b, " %s |\n", mark(auth.Check(slipway.User{Name: "admin", Admin: true}, a, "shop") == nil))
	}
	return b.String()
}

func errorTable() string {
	b := &strings.Builder{}
	b.WriteString("| Code | HTTP status | Trying again may help |\n|---|---|---|\n")
	for _, c := range slipway.Codes() {
		again := "no"
		if slipway.Temporary(slipway.Errorf(c, "x")) {
			again = "yes"
		}
		fmt.Fprintf(b, "| `%s` | %d %s | %s |\n", c, c.HTTPStatus(), http.StatusText(c.HTTPStatus()), again)
	}
	return b.String()
}

// nobody is an identity that knows no one.
type nobody struct{}

func (nobody) Identify(*http.Request) (slipway.User, error) { return slipway.User{}, nil }

func (nobody) Redeem(context.Context, string, string) (slipway.User, string, error) {
	return slipway.User{}, "", slipway.Errorf(slipway.Unauthorized, "no such link")
}

var (
	documented = regexp.MustCompile("(?m)^\\| `(GET|POST|PUT|DELETE) (/api/v1/[^` ?]*)")
	registered = regexp.MustCompile(`"(GET|POST|PUT|DELETE) (/api/v1/[^"]*)"`)
	blank      = regexp.MustCompile(`\{[a-z]+\}`)
)

// The reference has every path of the API and no other.
func TestAPIReference(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/reference/api.md")
	if err != nil {
		t.Fatal(err)
	}
	server := api.New(api.Options{Identity: nobody{}, Log: slog.New(slog.DiscardHandler)})
	var known []string
	for _, m := range documented.FindAllStringSubmatch(string(page), -1) {
		known = append(known, m[1]+" "+m[2])
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(m[1], blank.ReplaceAllString(m[2], "1"), strings.NewReader("{}")))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s %s of the reference answers a stranger with %d: there is no such path", m[1], m[2], w.Code)
		}
	}
	for route := range apiRoutes(t) {
		// A path that ends in a slash is completed by the verbs of a loop.
		if !slices.ContainsFunc(known, func(k string) bool { return k == route || strings.HasSuffix(route, "/") && strings.HasPrefix(k, route) }) {
			t.Errorf("docs/reference/api.md does not have %s", route)
		}
	}
}

func apiRoutes(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("api/*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range registered.FindAllStringSubmatch(string(text), -1) {
			out[m[1]+" "+m[2]] = true
		}
	}
	if len(out) < 15 {
		t.Fatalf("only %d paths were found in api: %v", len(out), out)
	}
	return out
}

// Every state has a row in the reference of states.
func TestStatesReference(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/reference/states.md")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, s := range slipway.RunStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.StepStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.DeploymentStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.ApprovalStates() {
		states = append(states, string(s))
	}
	for _, s := range states {
		if !strings.Contains(string(page), "| `"+s+"` |") {
			t.Errorf("docs/reference/states.md has no row for %s", s)
		}
	}
}

var treeLine = regexp.MustCompile(`^( *)([a-z0-9]+)/ `)

// The tree in ARCHITECTURE.md is the tree: each folder in it is there, and each package is in it.
func TestTree(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tree, _ := strings.Cut(string(page), "## The tree\n")
	_, tree, _ = strings.Cut(tree, "```\n")
	tree, _, _ = strings.Cut(tree, "```\n")
	shown := map[string]bool{".": true}
	parent := ""
	for line := range strings.Lines(tree) {
		m := treeLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		dir := m[2]
		if m[1] == "" {
			parent = dir
		} else {
			dir = parent + "/" + dir
		}
		shown[dir] = true
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			t.Errorf("ARCHITECTURE.md shows %s/, which is not there", dir)
		}
	}
	for _, s := range parseTree(t, ".") {
		top, rest, below := strings.Cut(s.pkg, "/")
		if below && (strings.Contains(rest, "/") || !slices.Contains([]string{"stage", "driver", "hosting", "cmd"}, top)) {
			continue
		}
		if !shown[s.pkg] {
			t.Errorf("ARCHITECTURE.md does not show %s/", s.pkg)
			shown[s.pkg] = true
		}
	}
}

// Decisions are numbered without a gap, and each is in the list.
func TestDecisions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("docs/decisions/[0-9]*.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("docs/decisions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for i, file := range files {
		name := path.Base(filepath.ToSlash(file))
		if !strings.HasPrefix(name, fmt.Sprintf("%04d-", i+1)) {
			t.Errorf("%s: the next number is %04d", name, i+1)
		}
		if !strings.Contains(string(list), "]("+name+")") {
			t.Errorf("%s is not in docs/decisions/README.md", name)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"\n## Context\n", "\n## Decision\n", "\n## Consequences\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s has no part %q", name, strings.TrimSpace(part))
			}
		}
	}
	if len(files) < 12 {
		t.Errorf("only %d decisions were found", len(files))
	}
}

// make build makes every program that its own line in make help names, and each that has a folder in a cmd/.
func TestMakeBuildsEveryProgram(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(b), "\nbuild: ")
	help, recipe, _ := strings.Cut(rule, "\n")
	recipe, _, _ = strings.Cut(recipe, "\n\n")
	for _, name := range []string{"slipway", "slipway-scanner", "slipway-cluster"} {
		if !regexp.MustCompile(`bin/`+name+`\b[^-]`).MatchString(help+"\n") || !strings.Contains(recipe, "bin/"+name+" ./cmd/"+name+"\n") && !strings.HasSuffix(recipe, "bin/"+name+" ./cmd/"+name) {
			t.Errorf("make build does not make bin/%s:\n%s\n%s", name, help, recipe)
		}
	}
}
