package survey

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Dependency is a folder that a service's code needs besides its own, and where that stands.
type Dependency struct {
	Path    string `json:"path"`              // of the repository
	Service string `json:"service,omitempty"` // whose folder it is
	Why     string `json:"why"`
	copied  bool   // the Dockerfile says so too: nothing has to be written
	// imported: packages there are; the service whose folder it is is no part of that beyond the folder.
	imported bool
}

// dependenciesOf are the folders of the repository that the manifests in a folder name, and those that
// the manifests there name, and so on.
func (t *tree) dependenciesOf(dir string) []Dependency {
	var all []Dependency
	seen, open := map[string]bool{dir: true}, []string{dir}
	for len(open) > 0 {
		from := open[0]
		open = open[1:]
		for _, d := range t.direct(from) {
			if seen[d.Path] || under(dir, d.Path) || under(d.Path, dir) {
				continue
			}
			seen[d.Path] = true
			if from != dir {
				d.Why = from + ": " + d.Why
			}
			all, open = append(all, d), append(open, d.Path)
		}
	}
	slices.SortFunc(all, func(a, b Dependency) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// direct are the folders that the manifests in a folder name.
func (t *tree) direct(dir string) []Dependency {
	var all []Dependency
	add := func(why, to string) {
		to = path.Join(dir, strings.ReplaceAll(to, `\`, "/"))
		if !path.IsAbs(to) && !strings.HasPrefix(to, "../") && to != ".." && t.isFolder(to) {
			all = append(all, Dependency{Path: to, Why: why})
		}
	}
	t.goModule(dir, add)
	t.nodePackage(dir, add)
	t.gradleBuild(dir, add)
	t.mavenBuild(dir, add)
	t.ofWorkspace(dir, add)
	for _, name := range t.files[dir] {
		var find *regexp.Regexp
		switch path.Ext(name) {
		case ".toml":
			if name == "Cargo.toml" || name == "pyproject.toml" {
				find = tomlPath
			}
		case ".csproj", ".fsproj":
			find = projectReference
		}
		if find == nil {
			continue
		}
		for _, m := range find.FindAllStringSubmatch(t.read(path.Join(dir, name)), -1) {
			to := m[1]
			if path.Ext(name) != ".toml" {
				to = path.Dir(strings.ReplaceAll(to, `\`, "/"))
			}
			add(name+" refers to "+m[1], to)
		}
	}
	return all
}

var (
	tomlPath         = regexp.MustCompile(`(?m)\bpath\s*=\s*"(\.[^"\n]*)"`)
	projectReference = regexp.MustCompile(`<ProjectReference\s[^>]*Include="([^"\n]+)"`)
	goReplace        = regexp.MustCompile(`^(?:replace\s+)?(\S+)(?:\s+v\S+)?\s+=>\s+"?(\.\.?/[^\s"]*)"?`)
	goRequire        = regexp.MustCompile(`^(?:require\s+)?"?([^\s"]+)"?\s+v\S+`)
	goModuleLine     = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)`)
	goUse            = regexp.MustCompile(`^(?:use\s+)?"?(\.\.?(?:/[^\s"]*)?)"?\s*$`)
)

// goModule follows replace directives with a local path, and requirements that go.work finds in the
// repository.
func (t *tree) goModule(dir string, add func(why, to string)) {
	text := t.read(path.Join(dir, "go.mod"))
	if text == "" {
		return
	}
	members := t.goWork(dir)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "//")
		if m := goReplace.FindStringSubmatch(line); m != nil {
			add("go.mod replaces "+m[1]+" by "+m[2], m[2])
		} else if m := goRequire.FindStringSubmatch(line); m != nil && members[m[1]] != "" {
			add("go.mod requires "+m[1]+", which go.work has here", relative(dir, members[m[1]]))
		}
	}
}

// goWork are the modules of the workspace that a folder is in: module -> folder.
func (t *tree) goWork(dir string) map[string]string {
	for ; ; dir = path.Dir(dir) {
		if text := t.read(path.Join(dir, "go.work")); text != "" {
			members := map[string]string{}
			for line := range strings.Lines(text) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), "//")
				m := goUse.FindStringSubmatch(strings.TrimSpace(line))
				if m == nil {
					continue
				}
				at := path.Join(dir, m[1])
				if name := goModuleLine.FindStringSubmatch(t.read(path.Join(at, "go.mod"))); name != nil {
					members[name[1]] = at
				}
			}
			return members
		}
		if dir == "." {
			return nil
		}
	}
}

// relative is a path of the repository as seen from a folder.
func relative(from, to string) string {
	if from == "." {
		return to
	}
	return strings.Repeat("../", strings.Count(from, "/")+1) + to
}

// nodeManifest is what of a package.json matters.
type nodeManifest struct {
	Name            string            `json:"name"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
	Workspaces      json.RawMessage   `json:"workspaces"`
}

// nodePackage follows dependencies on files and on members of the workspace.
func (t *tree) nodePackage(dir string, add func(why, to string)) {
	var m nodeManifest
	if json.Unmarshal([]byte(t.read(path.Join(dir, "package.json"))), &m) != nil {
		return
	}
	members := t.workspace(dir)
	for _, list := range []map[string]string{m.Dependencies, m.DevDependencies} {
		for name, version := range list {
			scheme, to, ok := strings.Cut(version, ":")
			switch {
			case ok && (scheme == "file" || scheme == "link" || scheme == "portal"):
				add("package.json has "+name+" from "+version, to)
			case members[name] != "":
				add("package.json needs "+name+", which is in the workspace", relative(dir, members[name]))
			}
		}
	}
}

// workspace are the packages of the workspace that a folder is in: name -> folder.
func (t *tree) workspace(dir string) map[string]string {
	for ; ; dir = path.Dir(dir) {
		if patterns := t.workspacePatterns(dir); len(patterns) > 0 {
			members := map[string]string{}
			for _, folder := range t.folders {
				rel, ok := strings.CutPrefix(folder, dir+"/")
				if dir == "." {
					rel, ok = folder, true
				}
				var m nodeManifest
				if ok && slices.ContainsFunc(patterns, func(p string) bool { return fitsWorkspace(p, rel) }) &&
					json.Unmarshal([]byte(t.read(path.Join(folder, "package.json"))), &m) == nil && m.Name != "" {
					members[m.Name] = folder
				}
			}
			return members
		}
		if dir == "." {
			return nil
		}
	}
}

var pnpmPackage = regexp.MustCompile(`(?m)^\s*-\s*["']?([^"'\s#]+)`)

// workspacePatterns are the patterns of npm, yarn and pnpm for the members of a workspace.
func (t *tree) workspacePatterns(dir string) (patterns []string) {
	var m nodeManifest
	if json.Unmarshal([]byte(t.read(path.Join(dir, "package.json"))), &m) == nil && len(m.Workspaces) > 0 {
		var object struct{ Packages []string }
		if json.Unmarshal(m.Workspaces, &patterns) != nil && json.Unmarshal(m.Workspaces, &object) == nil {
			patterns = object.Packages
		}
	}
	for _, p := range pnpmPackage.FindAllStringSubmatch(t.read(path.Join(dir, "pnpm-workspace.yaml")), -1) {
		patterns = append(patterns, p[1])
	}
	return patterns
}

// fitsWorkspace reports whether a folder fits a pattern: * is one part, a last ** any.
func fitsWorkspace(pattern, folder string) bool {
	pattern = strings.TrimSuffix(strings.TrimPrefix(pattern, "./"), "/")
	if base, ok := strings.CutSuffix(pattern, "/**"); ok {
		return strings.HasPrefix(folder, base+"/")
	}
	ok, err := path.Match(pattern, folder)
	return err == nil && ok
}
