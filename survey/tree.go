package survey

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	mostFolders = 50_000 // that are looked at
	mostDepth   = 8      // folders below the root, as services are searched for
	mostBytes   = 1 << 20
)

// tree is what a repository holds of the files that init looks for.
type tree struct {
	fsys        fs.FS
	folders     []string             // sorted
	files       map[string][]string  // folder -> names of its files
	unsearched  []string             // Dockerfiles in folders that are not searched for services
	charts      []chart              // without those that are part of another
	dockerfiles []string             // folders with a file named Dockerfile that are services by convention
	unfit       []string             // what could be a service and is none, and why
	modules     map[string]string    // of Maven: artifact -> folder; nil until asked for
	packages    map[string]goPackage // of Go, by folder, as far as they were asked for
	goFiles     int                  // that were read
}

// chart is a chart's folder.
type chart struct{ dir, name string }

// notSearched are folders that are not searched for services, as config has it.
func notSearched(name string) bool {
	return strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "vendor", "node_modules", "examples"}, name)
}

// walk reads the names of a repository's files.
func walk(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys, files: map[string][]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			return fs.SkipDir // what cannot be read is config's to report
		case !e.IsDir():
			dir := path.Dir(name)
			t.files[dir] = append(t.files[dir], e.Name())
			return nil
		case name != "." && (notSearched(e.Name()) || strings.Count(name, "/") >= mostDepth):
			if ok, _ := t.has(name, "Dockerfile"); ok {
				t.unsearched = append(t.unsearched, path.Join(name, "Dockerfile"))
			}
			return fs.SkipDir
		}
		if t.folders = append(t.folders, name); len(t.folders) > mostFolders {
			return fmt.Errorf("more than %d folders", mostFolders)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("search the repository: %w", err)
	}
	slices.Sort(t.folders)
	t.findCharts()
	t.findDockerfiles()
	return t, nil
}

// has reports whether a folder, searched or not, has a file.
func (t *tree) has(dir, name string) (bool, error) {
	info, err := fs.Stat(t.fsys, path.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Mode().IsRegular(), err
}

// read is a file's text, "" when it is not there, is no file, or is too long to be what it is taken for.
func (t *tree) read(name string) string {
	info, err := fs.Stat(t.fsys, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > mostBytes {
		return ""
	}
	data, err := fs.ReadFile(t.fsys, name)
	if err != nil {
		return ""
	}
	return string(data)
}

// isFolder reports whether the repository has a folder that was searched and that slipway.yaml can name.
func (t *tree) isFolder(dir string) bool {
	_, ok := slices.BinarySearch(t.folders, dir)
	return ok && !unfitPath.MatchString(dir)
}

var (
	chartName    = regexp.MustCompile(`(?m)^name:[ \t]*["']?([^"'\s#]+)`)
	libraryChart = regexp.MustCompile(`(?m)^type:[ \t]*["']?library`)
)

// findCharts finds the charts that are deployed: neither libraries nor parts of other charts.
func (t *tree) findCharts() {
	for _, dir := range t.outermost("Chart.yaml", true) {
		text := t.read(path.Join(dir, "Chart.yaml"))
		if libraryChart.MatchString(text) || unfitPath.MatchString(dir) {
			continue
		}
		c := chart{dir: dir, name: path.Base(dir)}
		if m := chartName.FindStringSubmatch(text); m != nil {
			c.name = m[1]
		}
		t.charts = append(t.charts, c)
	}
}

// findDockerfiles finds the services that convention finds: below one of them no other is searched for,
// except below the root.
func (t *tree) findDockerfiles() { t.dockerfiles = t.outermost("Dockerfile", false) }

// outermost are the folders with a file of that name that are below no other; the root counts as one that
// others are below only if root is set.
func (t *tree) outermost(file string, root bool) (out []string) {
	inside := map[string]bool{}     // folders that hold it, and those below them
	for _, dir := range t.folders { // each after those above it
		parent := path.Dir(dir)
		if dir != "." && inside[parent] && (root || parent != ".") {
			inside[dir] = true
			continue
		}
		if slices.Contains(t.files[dir], file) {
			inside[dir] = true
			out = append(out, dir)
		}
	}
	return out
}

// holds reports whether the repository has a path, or, of one with wildcards, the folder before them.
func (t *tree) holds(p string) bool {
	if i := strings.IndexAny(p, "*?["); i >= 0 {
		p = path.Clean(p[:strings.LastIndexByte(p[:i], '/')+1])
	}
	_, err := fs.Stat(t.fsys, p)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// under reports whether a path is a folder or below it.
func under(p, dir string) bool { return dir == "." || p == dir || strings.HasPrefix(p, dir+"/") }

// languages are the files by which a language is known, the surest first.
func languages() []struct{ file, language string } {
	return []struct{ file, language string }{
		{"go.mod", "Go"}, {"Cargo.toml", "Rust"}, {"pom.xml", "Java"}, {"build.gradle", "Java"}, {"build.gradle.kts", "Kotlin"},
		{"*.csproj", "C#"}, {"*.fsproj", "F#"}, {"pyproject.toml", "Python"}, {"setup.py", "Python"}, {"requirements.txt", "Python"},
		{"composer.json", "PHP"}, {"Gemfile", "Ruby"}, {"mix.exs", "Elixir"}, {"tsconfig.json", "TypeScript"}, {"package.json", "JavaScript"},
		{"*.go", "Go"}, {"*.py", "Python"}, {"index.html", "HTML"},
	}
}

// language is what a folder is written in, and the file that says so; empty when none does.
func (t *tree) language(dir string) (language, file string) {
	for _, l := range languages() {
		for _, name := range t.files[dir] {
			if ok, _ := path.Match(l.file, name); ok { // the patterns are ours
				return l.language, name
			}
		}
	}
	if slices.Contains(t.files[path.Join(dir, "public")], "index.html") {
		return "HTML", "public/index.html"
	}
	return "", ""
}

// withFile is a tree in which one file at the root is another one, or is not there at all.
type withFile struct {
	fs.FS
	name string
	data []byte // nil: the file is not there
}

func (w withFile) instead(op, name string) (fs.File, error) {
	if w.data == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return &memoryFile{name: w.name, data: string(w.data), rest: strings.NewReader(string(w.data))}, nil
}

// Open opens a file.
func (w withFile) Open(name string) (fs.File, error) {
	if name == w.name {
		return w.instead("open", name)
	}
	return w.FS.Open(name)
}

// Lstat describes a file, or a link itself.
func (w withFile) Lstat(name string) (fs.FileInfo, error) {
	if name == w.name {
		f, err := w.instead("lstat", name)
		if err != nil {
			return nil, err
		}
		return f.Stat()
	}
	return fs.Lstat(w.FS, name)
}

// ReadLink is what a link leads to.
func (w withFile) ReadLink(name string) (string, error) { return fs.ReadLink(w.FS, name) }

// memoryFile is a file in memory, and its description.
type memoryFile struct {
	name, data string
	rest       *strings.Reader
}

// Stat describes the file.
func (m *memoryFile) Stat() (fs.FileInfo, error) { return m, nil }

// Read reads it.
func (m *memoryFile) Read(b []byte) (int, error) { return m.rest.Read(b) }

// Close does nothing.
func (m *memoryFile) Close() error { return nil }

// Name and the rest are its description.
func (m *memoryFile) Name() string       { return m.name }
func (m *memoryFile) Size() int64        { return int64(len(m.data)) }
func (m *memoryFile) Mode() fs.FileMode  { return 0o644 }
func (m *memoryFile) ModTime() time.Time { return time.Time{} }
func (m *memoryFile) IsDir() bool        { return false }
func (m *memoryFile) Sys() any           { return nil }

var _ fs.ReadLinkFS = withFile{}
