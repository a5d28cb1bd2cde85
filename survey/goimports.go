package survey

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mostGoFiles bounds how many Go files are read of a repository.
const mostGoFiles = 20_000

// goPackage is what the Go files of a folder say, whatever their build tags, those of its tests included.
type goPackage struct {
	imports  []goImport // each path once
	embeds   string     // a file that embeds others
	foreign  string     // a file that is compiled with C
	unlisted bool       // there are more files than are read
}

type goImport struct{ path, file string }

// goPackageIn reads what the Go files of a folder import. Each folder is read once.
func (t *tree) goPackageIn(dir string) goPackage {
	if p, ok := t.packages[dir]; ok {
		return p
	}
	if t.packages == nil {
		t.packages = map[string]goPackage{}
	}
	var p goPackage
	entries, err := fs.ReadDir(t.fsys, dir)
	p.unlisted = err != nil
	known := map[string]bool{}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || path.Ext(name) != ".go" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			continue
		}
		if t.goFiles++; t.goFiles > mostGoFiles {
			p.unlisted = true
			break
		}
		file := path.Join(dir, name)
		text := t.read(file)
		if strings.Contains(text, "//go:embed ") {
			p.embeds = file
		}
		parsed, _ := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly) // what does not parse is the build's to say
		if parsed == nil {
			continue
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil || known[imported] {
				continue
			}
			known[imported] = true
			if imported == "C" {
				p.foreign = file
			}
			p.imports = append(p.imports, goImport{path: imported, file: file})
		}
	}
	t.packages[dir] = p
	return p
}

// goModule is the module that a folder without a go.mod of its own is part of.
type goModule struct {
	dir string
	at  map[string]string // import paths -> folders of the modules that the repository has for it, its own included
}

// goModuleAbove is the module of a folder, if its go.mod is in a folder above.
func (t *tree) goModuleAbove(dir string) (m goModule, ok bool) {
	for dir != "." && !slices.Contains(t.files[dir], "go.mod") {
		above := path.Dir(dir)
		if slices.Contains(t.files[above], "go.mod") {
			m.dir, ok = above, true
			break
		}
		dir = above
	}
	if !ok {
		return m, false
	}
	m.at = map[string]string{}
	for name, at := range t.goWork(m.dir) {
		m.at[name] = at
	}
	text := t.read(path.Join(m.dir, "go.mod"))
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "//")
		if r := goReplace.FindStringSubmatch(line); r != nil {
			if to := path.Join(m.dir, r[2]); to != ".." && !strings.HasPrefix(to, "../") {
				m.at[r[1]] = to
			}
		}
	}
	name := goModuleLine.FindStringSubmatch(text)
	if name == nil {
		return m, false
	}
	m.at[name[1]] = m.dir
	return m, true
}

// folderOf is the folder of the package that an import path names, and that of its module; "" when the repository does
// not have it.
func (t *tree) folderOf(m goModule, imported string) (dir, module string) {
	for name := imported; name != "." && name != "/"; name = path.Dir(name) {
		at, ok := m.at[name]
		if !ok {
			continue
		}
		dir = path.Join(at, strings.TrimPrefix(imported, name))
		for nested := dir; nested != at; nested = path.Dir(nested) {
			if t.isFile(path.Join(nested, "go.mod")) {
				return "", "" // a module that is taken from elsewhere
			}
		}
		if info, err := fs.Stat(t.fsys, dir); err != nil || !info.IsDir() {
			return "", ""
		}
		return dir, at
	}
	return "", ""
}

func (t *tree) isFile(name string) bool {
	info, err := fs.Stat(t.fsys, name)
	return err == nil && info.Mode().IsRegular()
}

// goCode is what a service's Go code is made of, besides its own folder.
type goCode struct {
	module string // folder of its module; "" when there is no such code
	needs  []Dependency
	more   []string // patterns of what is no folder: the files of packages that are above the service
	doubt  string   // why it may be made of more than that; "" when it is not
}

// goCodeOf follows the imports of the packages in a folder, and of further ones that its Dockerfile builds, through the
// packages of its module and of those that go.mod and go.work have in the repository.
func (t *tree) goCodeOf(dir string, m goModule, built []Dependency) goCode {
	var code goCode
	seen, open := map[string]bool{}, t.goFolders(dir)
	for _, d := range open {
		seen[d] = true
	}
	add := func(d Dependency, module string) {
		if seen[d.Path] {
			return
		}
		seen[d.Path] = true
		open = append(open, d.Path)
		switch {
		case under(d.Path, dir):
		case under(dir, d.Path):
			code.more = append(code.more, path.Join(d.Path, "*.go"))
			if p := t.goPackageIn(d.Path); p.embeds != "" {
				code.doubt = p.embeds + " embeds files"
			}
		case module != m.dir && !under(dir, module):
			code.needs = append(code.needs, Dependency{Path: module, Why: d.Why})
		default:
			code.needs = append(code.needs, d)
		}
	}
	for _, d := range built {
		add(d, m.dir)
	}
	for len(open) > 0 {
		p := t.goPackageIn(open[0])
		open = open[1:]
		switch {
		case p.unlisted:
			code.doubt = "there are more Go files than are read"
		case p.foreign != "":
			code.doubt = p.foreign + " is compiled with C, which includes what it likes"
		}
		for _, i := range p.imports {
			if to, module := t.folderOf(m, i.path); to != "" {
				add(Dependency{Path: to, Why: i.file + " imports it"}, module)
			}
		}
	}
	code.needs = outermostOf(code.needs)
	return code
}

// outermostOf are those dependencies that are not in the folder of another one, by their paths.
func outermostOf(all []Dependency) (out []Dependency) {
	slices.SortStableFunc(all, func(a, b Dependency) int { return strings.Compare(a.Path, b.Path) })
	for _, d := range all {
		if !slices.ContainsFunc(out, func(o Dependency) bool { return under(d.Path, o.Path) }) {
			out = append(out, d)
		}
	}
	return out
}

// goFolders are the folders with Go files of the module that a folder is part of, from that folder down.
func (t *tree) goFolders(dir string) (out []string) {
	other := map[string]bool{} // folders of other modules
	for _, f := range t.folders {
		if !under(f, dir) {
			continue
		}
		if f != dir && (other[path.Dir(f)] || slices.Contains(t.files[f], "go.mod")) {
			other[f] = true
			continue
		}
		if slices.ContainsFunc(t.files[f], func(name string) bool { return path.Ext(name) == ".go" }) {
			out = append(out, f)
		}
	}
	return out
}

// moduleFiles are the files of a module that count for everything in it.
func (t *tree) moduleFiles(m goModule) (out []string) {
	for _, name := range []string{"go.mod", "go.sum", "vendor/modules.txt"} {
		if file := path.Join(m.dir, name); t.isFile(file) {
			if name == "vendor/modules.txt" {
				file = path.Dir(file) + "/"
			}
			out = append(out, file)
		}
	}
	for dir := m.dir; ; dir = path.Dir(dir) {
		if t.isFile(path.Join(dir, "go.work")) {
			out = append(out, path.Join(dir, "go.work"))
			if t.isFile(path.Join(dir, "go.work.sum")) {
				out = append(out, path.Join(dir, "go.work.sum"))
			}
			return out
		}
		if dir == "." {
			return out
		}
	}
}

var goBuilds = regexp.MustCompile(`\bgo\s+(?:build|install|run)\b([^&|;]*)`)

// goBuilt are the folders of the packages that the commands of a Dockerfile build, and what of that is not known.
func (t *tree) goBuilt(b build, m goModule) (out []Dependency, doubt string) {
	for _, step := range b.steps {
		for _, command := range goBuilds.FindAllStringSubmatch(step.Run, -1) {
			for _, word := range goPackagesOf(command[1]) {
				p, sure := b.expand(word)
				dir := path.Join(b.context, b.inside(step.Dir), p)
				if named, _ := t.folderOf(m, word); named != "" {
					dir = named
				}
				switch {
				case !sure || strings.Contains(p, "..."):
					doubt = fmt.Sprintf("line %d builds %s", step.Line, word)
				case slices.ContainsFunc(t.files[dir], func(name string) bool { return path.Ext(name) == ".go" }):
					out = append(out, Dependency{Path: dir, Why: fmt.Sprintf("line %d of its Dockerfile builds it", step.Line)})
				default:
					doubt = fmt.Sprintf("line %d builds %s, where no Go file is", step.Line, word)
				}
			}
		}
	}
	return out, doubt
}

// goPackagesOf are the packages that arguments of go build name; with a version they are not of this repository.
func goPackagesOf(arguments string) (out []string) {
	words := strings.Fields(arguments)
	for i, word := range words {
		word = strings.Trim(word, `"'`)
		switch {
		case strings.HasPrefix(word, "-") || strings.Contains(word, "=") || (i > 0 && words[i-1] == "-o"):
		case strings.Contains(word, "@"):
			return nil
		case word == "." || strings.HasPrefix(word, "./") || strings.Contains(word, "/"):
			out = append(out, word)
		}
	}
	if len(out) == 0 {
		return []string{"."}
	}
	return out
}
