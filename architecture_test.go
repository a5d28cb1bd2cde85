package slipway_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/slipway-cd/slipway"

// mayImport is the table of ARCHITECTURE.md: which packages of the module a package may import. The
// first row that fits a package is its own. "stage/*" stands for every package below stage, "." for
// the root. A package that no row fits is a finding too: it needs a row here and in ARCHITECTURE.md.
func mayImport() []rule {
	return []rule{
		{".", nil},
		{"stage", []string{"."}},
		// What policies find in manifests is part of what a chart step says, and judged after it.
		{"stage/chart", []string{".", "stage", "gate/manifest"}},
		// What a build does not see of its context is found out in one place: where it is read, where it is planned
		// and where results are reused.
		{"stage/plan", []string{".", "stage", "ignore"}},
		{"stage/reuse", []string{".", "stage", "ignore"}},
		// What gates make of the evidence that this gathers.
		{"stage/judge", []string{".", "stage", "gate"}},
		{"stage/*", []string{".", "stage"}},
		// A rule that does not type-check, and a policy that there is not, are problems of the file: the
		// configuration must not be readable without the question.
		{"config", []string{".", "gate", "gate/manifest", "ignore"}},
		{"ignore", nil},
		{"gate", []string{"."}},
		{"auth", []string{"."}},
		{"engine", []string{".", "stage"}},
		{"react", []string{"."}},
		{"hosting/*", []string{"."}},
		// Four forges differ in fields and scopes, not in how a JSON API is called and a webhook verified.
		{"driver/github", []string{".", "driver/rest"}},
		{"driver/gitlab", []string{".", "driver/rest"}},
		{"driver/gitea", []string{".", "driver/rest"}},
		{"driver/azuredevops", []string{".", "driver/rest"}},
		// Both ask a program of ours that is kept away from this process.
		{"driver/grype", []string{".", "stage", "stage/*", "driver/subprocess"}},
		{"driver/helmchart", []string{".", "stage", "stage/*", "driver/subprocess"}},
		// Both talk to clusters; that a connection is kept and when it is made anew is the same.
		{"driver/helm", []string{".", "stage", "stage/*", "driver/kubeconn"}},
		{"driver/kube", []string{".", "stage", "stage/*", "driver/kubeconn"}},
		{"driver/*", []string{".", "stage", "stage/*"}},
		{"store", []string{"."}},
		{"store/storetest", []string{"store"}},
		{"api", []string{"."}},
		{"web", []string{"."}},
		{"client", []string{"."}},
		// What people ask for is planned at once: act composes configuration, change and planners.
		{"act", []string{".", "auth", "config", "gate", "ignore", "stage", "stage/source", "stage/plan", "stage/promote", "stage/rollback"}},
		{"slipwaytest", []string{".", "store", "driver/*"}},
		{"slipwaytest/tools", []string{"slipwaytest", "driver/*"}},
		{"starter", []string{"."}},
		// What people look at is read from where it is kept.
		{"see", []string{".", "act", "auth", "store"}},
		// A repository as act asks for it, on a server and on a laptop.
		{"repos", []string{".", "act", "driver/git"}},
		{"worktree", []string{".", "driver/git"}},
		// A laptop does what a server does, with the stages and drivers for it and without the server's records.
		{"laptop", []string{".", "act", "config", "stage", "stage/*", "driver/buildkit", "driver/git", "driver/helm", "driver/kube", "driver/oci", "repos", "worktree"}},
		// What is elsewhere is fetched, and becomes pushes.
		{"mirror", []string{".", "act", "driver/git", "repos"}},
		// What is removed, for whom, and where.
		{"retention", []string{".", "auth", "hosting/registry"}},
		// A survey writes what the configuration reads back.
		{"survey", []string{".", "config"}},
		{"demo", []string{".", "client", "slipwaytest"}},
		{"demo/screenshots", []string{".", "client", "slipwaytest"}},
		{"bench", []string{"*"}}, // measures every part, alone and in the whole
		{"cmd/*", []string{"*"}},
		{"gate/manifest", []string{"."}},
		{"driver/kubeschema/generate", []string{"driver/kubeschema"}},
		{"e2e", []string{".", "client", "slipwaytest"}},
		{"e2e/deploy", []string{".", "stage", "stage/*", "driver/*", "slipwaytest"}},
	}
}

type rule struct {
	pkg string
	may []string
}

// pure are the packages that plan: they have no way to the world.
func pure() []string {
	return []string{"stage/plan", "stage/promote", "stage/rollback", "gate", "gate/manifest", "ignore"}
}

func impure() []string { return []string{"os", "net", "os/exec", "database/sql"} }

// families says where an SDK is at home: its types appear nowhere else. The first row that fits an
// import decides.
func families() []rule {
	anyDriver := []string{"driver/*", "bench"}
	return []rule{
		{"github.com/moby/buildkit/frontend/dockerfile/", []string{"config", "driver/*"}},
		{"github.com/moby/buildkit", []string{"driver/buildkit", "bench"}},
		{"helm.sh/helm", anyDriver},
		{"github.com/google/go-containerregistry", []string{"driver/*", "hosting/registry", "slipwaytest", "bench"}},
		{"github.com/sigstore/", []string{"driver/cosign"}},
		{"k8s.io/", []string{"driver/*", "slipwaytest", "demo", "bench"}},
		{"github.com/olareg/olareg", []string{"hosting/registry"}},
		{"github.com/riverqueue/river", []string{"engine", "store"}},
		{"modernc.org/sqlite", []string{"store"}},
		{"github.com/google/cel-go", []string{"gate"}},
		{"github.com/pressly/goose", []string{"store"}},
		{"github.com/spf13/cobra", []string{"cmd/*"}},
		{"charm.land/lipgloss", []string{"cmd/*"}},
	}
}

// source is one Go file of the module.
type source struct {
	path string // relative to the module's root
	pkg  string // its folder
	test bool
	file *ast.File
	fset *token.FileSet
	size int // lines
}

// finding is file:line: and what is wrong there.
func (s source) finding(at token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(at).Line, fmt.Sprintf(format, args...))
}

// checks are what is asked of each file.
func checks() map[string]func(source) []string {
	return map[string]func(source) []string{
		"imports":             checkImports,
		"no init":             checkInit,
		"constructors":        checkConstructors,
		"interfaces":          checkInterfaces,
		"docstrings":          checkDocstrings,
		"error texts":         checkErrorTexts,
		"errors are types":    checkErrorMatching,
		"return or log":       checkLogAndReturn,
		"no sleep in tests":   checkSleep,
		"background contexts": checkBackground,
		"the clock is given":  checkClock,
		"file size":           checkSize,
	}
}

// TestArchitecture walks the files of the module itself: go test would answer from its cache if the
// go command were asked for them.
func TestArchitecture(t *testing.T) {
	t.Parallel()
	files := parseTree(t, ".")
	if len(files) < 40 {
		t.Fatalf("only %d Go files were found", len(files))
	}
	for name, check := range checks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range files {
				for _, finding := range check(f) {
					t.Error(finding)
				}
			}
		})
	}
	for file, why := range realClock() {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s may call the clock (%s) and is not there: %v", file, why, err)
		}
	}
	t.Run("package comments", func(t *testing.T) {
		t.Parallel()
		for _, finding := range checkPackageComments(files) {
			t.Error(finding)
		}
	})
}

func parseTree(t *testing.T, root string) []source {
	t.Helper()
	var out []source
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			_, err := os.Stat(path.Join(root, name, "go.mod"))
			if name != "." && (err == nil || skipped(e.Name())) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(path.Join(root, name))
		if err != nil {
			return err
		}
		f, err := parseSource(name, string(text))
		if err != nil {
			return err
		}
		if !ast.IsGenerated(f.file) {
			out = append(out, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// skipped are folders that are not part of the module's code.
func skipped(folder string) bool {
	return folder == "cluster" || folder == "internal_warm" || folder == "testdata" || strings.HasPrefix(folder, ".")
}

func parseSource(name, text string) (source, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return source{path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), file: f, fset: fset, size: strings.Count(text, "\n")}, err
}

func fits(pkg, pattern string) bool {
	if base, ok := strings.CutSuffix(pattern, "/*"); ok {
		rest, below := strings.CutPrefix(pkg, base+"/")
		return below && !strings.Contains(rest, "/")
	}
	return pattern == "*" || pkg == pattern
}

// checkImports leaves tests alone: they are run against the real parts.
func checkImports(s source) (out []string) {
	if s.test {
		return nil
	}
	rules := mayImport()
	at := slices.IndexFunc(rules, func(r rule) bool { return fits(s.pkg, r.pkg) })
	if at < 0 {
		return []string{s.finding(s.file.Name.Pos(), "the package %s is not in the table of who may import whom", s.pkg)}
	}
	for _, i := range s.file.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return append(out, s.finding(i.Pos(), "%v", err))
		}
		if inside, ok := strings.CutPrefix(name+"/", module+"/"); ok {
			inside = path.Clean("./" + inside)
			if !slices.ContainsFunc(rules[at].may, func(p string) bool { return fits(inside, p) }) {
				out = append(out, s.finding(i.Pos(), "%s may not import %s; it may import %s", s.pkg, inside, strings.Join(append([]string{"the standard library"}, rules[at].may...), ", ")))
			}
			continue
		}
		out = append(out, outside(s, i, name)...)
	}
	return out
}

func outside(s source, i *ast.ImportSpec, name string) (out []string) {
	first, _, _ := strings.Cut(name, "/")
	if s.pkg == "." && strings.Contains(first, ".") {
		out = append(out, s.finding(i.Pos(), "the root package imports only the standard library, not %s", name))
	}
	if slices.Contains(pure(), s.pkg) && slices.ContainsFunc(impure(), func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }) {
		out = append(out, s.finding(i.Pos(), "%s is pure: it may not import %s", s.pkg, name))
	}
	for _, f := range families() {
		if strings.HasPrefix(name+"/", f.pkg) || strings.HasPrefix(name, f.pkg) {
			if !slices.ContainsFunc(f.may, func(p string) bool { return fits(s.pkg, p) }) {
				out = append(out, s.finding(i.Pos(), "%s is at home in %s, not in %s", name, strings.Join(f.may, ", "), s.pkg))
			}
			break
		}
	}
	return out
}

func checkInit(s source) (out []string) {
	for _, f := range functions(s) {
		if f.Recv == nil && f.Name.Name == "init" {
			out = append(out, s.finding(f.Pos(), "no init: what a package needs is made by its constructor"))
		}
	}
	return out
}

func checkConstructors(s source) (out []string) {
	for _, f := range functions(s) {
		if s.test || f.Recv != nil || !(strings.HasPrefix(f.Name.Name, "New") || strings.HasPrefix(f.Name.Name, "Open")) {
			continue
		}
		if n := f.Type.Params.NumFields(); n > 5 {
			out = append(out, s.finding(f.Pos(), "%s has %d parameters: at most 5, the rest belongs into an options struct", f.Name.Name, n))
		}
	}
	return out
}

func checkInterfaces(s source) (out []string) {
	if s.test {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if i, ok := n.(*ast.InterfaceType); ok && i.Methods.NumFields() > 5 {
			out = append(out, s.finding(i.Pos(), "the interface has %d methods: at most 5, declared where they are called", i.Methods.NumFields()))
		}
		return true
	})
	return out
}

func checkDocstrings(s source) (out []string) {
	if s.test {
		return nil
	}
	missing := func(n *ast.Ident) {
		if n.IsExported() {
			out = append(out, s.finding(n.Pos(), "%s has no comment that says what it promises", n.Name))
		}
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
				missing(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						missing(spec.Name)
					}
				case *ast.ValueSpec:
					if d.Doc == nil && spec.Doc == nil && spec.Comment == nil && !typed(d, spec) {
						missing(spec.Names[0])
					}
				}
			}
		}
	}
	return out
}

// typed reports whether a constant stands in a group of one named type, which has the comment.
func typed(d *ast.GenDecl, spec *ast.ValueSpec) bool {
	return d.Tok == token.CONST && d.Lparen.IsValid() && spec.Type != nil
}

func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	for {
		switch u := t.(type) {
		case *ast.StarExpr:
			t = u.X
		case *ast.IndexExpr:
			t = u.X
		case *ast.IndexListExpr:
			t = u.X
		case *ast.Ident:
			return u.Name
		default:
			return ""
		}
	}
}

var badStart = regexp.MustCompile(`(?i)^(failed to|cannot|can't|could not|unable to|error )`)

// checkErrorTexts wants errors to say what was being done, not that it failed.
func checkErrorTexts(s source) (out []string) {
	each(s, func(c *ast.CallExpr, name string) {
		switch name {
		case "fmt.Errorf", "errors.New", "slipway.Errorf", "Errorf":
		default:
			return
		}
		for _, a := range c.Args {
			lit, ok := a.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				continue
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && badStart.MatchString(text) {
				out = append(out, s.finding(c.Pos(), "the error begins with %q: say what was being done", badStart.FindString(text)))
			}
			break // the first text is the format
		}
	})
	return out
}

// checkErrorMatching refuses to tell errors apart by their text.
func checkErrorMatching(s source) (out []string) {
	if s.test {
		return nil
	}
	each(s, func(c *ast.CallExpr, name string) {
		switch name {
		case "strings.Contains", "strings.HasPrefix", "strings.HasSuffix", "strings.EqualFold", "strings.Index":
		default:
			return
		}
		for _, a := range c.Args {
			if inner, ok := a.(*ast.CallExpr); ok && strings.HasSuffix(callee(inner), "err.Error") {
				out = append(out, s.finding(c.Pos(), "%s on the text of an error: ask the error with errors.Is, errors.As or slipway.Temporary", name))
			}
		}
	})
	return out
}

var logCall = regexp.MustCompile(`(?i)(^|\.)(log|logger|slog|l)\.(debug|info|warn|error|print|printf|println)(context)?$`)

// checkLogAndReturn finds blocks that log an error and return it as well. It is a heuristic: it looks
// for both statements with the same identifier in one block.
func checkLogAndReturn(s source) (out []string) {
	if s.test {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		block, ok := n.(*ast.BlockStmt)
		if !ok {
			return true
		}
		logged := map[string]bool{}
		for _, stmt := range block.List {
			switch stmt := stmt.(type) {
			case *ast.ExprStmt:
				if c, ok := stmt.X.(*ast.CallExpr); ok && logCall.MatchString(callee(c)) {
					for _, a := range c.Args {
						mentioned(a, logged)
					}
				}
			case *ast.ReturnStmt:
				returned := map[string]bool{}
				for _, r := range stmt.Results {
					handedOn(r, returned)
				}
				for name := range returned {
					if logged[name] && strings.HasPrefix(strings.ToLower(name), "err") {
						out = append(out, s.finding(stmt.Pos(), "%s is logged and returned: do one of the two", name))
					}
				}
			}
		}
		return true
	})
	return out
}

// handedOn collects what a result returns as an error: a name, or a name that is wrapped.
func handedOn(result ast.Expr, names map[string]bool) {
	switch r := result.(type) {
	case *ast.Ident:
		names[r.Name] = true
	case *ast.CallExpr:
		if name := callee(r); strings.HasSuffix(name, "Errorf") || name == "errors.Join" {
			for _, a := range r.Args {
				handedOn(a, names)
			}
		}
	}
}

func mentioned(n ast.Node, names map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if i, ok := n.(*ast.Ident); ok {
			names[i.Name] = true
		}
		return true
	})
}

func checkSleep(s source) (out []string) {
	each(s, func(c *ast.CallExpr, name string) {
		if s.test && name == "time.Sleep" {
			out = append(out, s.finding(c.Pos(), "a test that sleeps is slow or wrong: wait for a signal"))
		}
	})
	return out
}

// checkBackground keeps contexts whole: what ends a run must reach everything it started.
func checkBackground(s source) (out []string) {
	if s.test || program(s) {
		return nil
	}
	each(s, func(c *ast.CallExpr, name string) {
		if name == "context.Background" || name == "context.TODO" {
			out = append(out, s.finding(c.Pos(), "%s outside main: take a context, or context.WithoutCancel of one", name))
		}
	})
	return out
}

// realClock are the files that wait for the machine's own clock, each with the reason.
func realClock() map[string]string {
	return map[string]string{
		"engine/queue.go":           "River's jobs are due by the machine's clock",
		"engine/schedule.go":        "timers run by the machine's clock",
		"driver/kube/watch.go":      "the age of a connection's last trouble",
		"hosting/gitserver/http.go": "deadlines of connections",
	}
}

// checkClock wants the time as a field: time.Now may be named as a default, and not be called.
func checkClock(s source) (out []string) {
	if s.test || program(s) || realClock()[s.path] != "" {
		return nil
	}
	each(s, func(c *ast.CallExpr, name string) {
		if name == "time.Now" || name == "time.Since" || name == "time.Until" {
			out = append(out, s.finding(c.Pos(), "%s is called: time comes in as a field (Now func() time.Time)", name))
		}
	})
	return out
}

// program reports whether the file is part of a program rather than a library.
func program(s source) bool {
	return s.file.Name.Name == "main" || s.pkg == "slipwaytest"
}

func checkSize(s source) []string {
	if s.size > 600 {
		return []string{s.finding(s.file.Name.Pos(), "%d lines: at most 600", s.size)}
	}
	return nil
}

func checkPackageComments(files []source) (out []string) {
	first, good := map[string]source{}, map[string]bool{}
	var order []string
	for _, f := range files {
		if f.test {
			continue
		}
		if _, ok := first[f.pkg]; !ok {
			first[f.pkg] = f
			order = append(order, f.pkg)
		}
		if f.file.Doc == nil {
			continue
		}
		text := f.file.Doc.Text()
		if strings.HasPrefix(text, "Package "+f.file.Name.Name+" ") || (f.file.Name.Name == "main" && len(text) > 20) {
			good[f.pkg] = true
		}
	}
	for _, pkg := range order {
		if f := first[pkg]; !good[pkg] {
			out = append(out, f.finding(f.file.Package, "package %s has no comment that begins with its name and says what it does and what not", f.file.Name.Name))
		}
	}
	return out
}

func functions(s source) (out []*ast.FuncDecl) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			out = append(out, f)
		}
	}
	return out
}

// each calls f for every call in the file, with what is called as it is written: fmt.Errorf.
func each(s source, f func(c *ast.CallExpr, name string)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			f(c, callee(c))
		}
		return true
	})
}

func callee(c *ast.CallExpr) string { return written(c.Fun) }

func written(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return written(e.X) + "." + e.Sel.Name
	}
	return ""
}
