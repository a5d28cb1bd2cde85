package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	tomlTable      = regexp.MustCompile(`^\[+\s*([^\]]+?)\s*\]+`)
	tomlWorkspace  = regexp.MustCompile(`^"?([A-Za-z0-9_.-]+?)"?(?:\.workspace\s*=\s*true|\s*=\s*\{[^}]*\bworkspace\s*=\s*true)`)
	tomlWithPath   = regexp.MustCompile(`^"?([A-Za-z0-9_.-]+)"?\s*=\s*\{[^}]*\bpath\s*=\s*"([^"]+)"`)
	tomlName       = regexp.MustCompile(`^name\s*=\s*["']([^"']+)["']`)
	pythonUnwanted = regexp.MustCompile(`[-_.]+`)
)

// tables reads a TOML file as lines by the table that they stand in, which is all that is asked of it here.
func (t *tree) tables(file string) map[string][]string {
	text, in := t.read(file), ""
	all := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := tomlTable.FindStringSubmatch(line); m != nil {
			in = m[1]
			all[in] = append(all[in], "")
			continue
		}
		all[in] = append(all[in], line)
	}
	return all
}

// ofWorkspace follows what Cargo.toml and pyproject.toml take from the workspace that their folder is in.
func (t *tree) ofWorkspace(dir string, add func(why, to string)) {
	if slices.Contains(t.files[dir], "Cargo.toml") {
		t.ofCargoWorkspace(dir, add)
	}
	if slices.Contains(t.files[dir], "pyproject.toml") {
		t.ofPythonWorkspace(dir, add)
	}
}

// ofCargoWorkspace follows dependencies that the workspace's Cargo.toml gives a path.
func (t *tree) ofCargoWorkspace(dir string, add func(why, to string)) {
	paths := map[string]string{}
	for at := dir; len(paths) == 0; at = path.Dir(at) {
		for _, line := range t.tables(path.Join(at, "Cargo.toml"))["workspace.dependencies"] {
			if m := tomlWithPath.FindStringSubmatch(line); m != nil {
				paths[m[1]] = path.Join(at, m[2])
			}
		}
		if at == "." {
			break
		}
	}
	for table, lines := range t.tables(path.Join(dir, "Cargo.toml")) {
		if !strings.HasSuffix(table, "dependencies") || table == "workspace.dependencies" {
			continue
		}
		for _, line := range lines {
			if m := tomlWorkspace.FindStringSubmatch(line); m != nil && paths[m[1]] != "" {
				add("Cargo.toml needs "+m[1]+", which is in the workspace", relative(dir, paths[m[1]]))
			}
		}
	}
}

// ofPythonWorkspace follows the sources of uv that are members of the workspace.
func (t *tree) ofPythonWorkspace(dir string, add func(why, to string)) {
	for _, line := range t.tables(path.Join(dir, "pyproject.toml"))["tool.uv.sources"] {
		m := tomlWorkspace.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for _, folder := range t.folders {
			if folder != dir && slices.Contains(t.files[folder], "pyproject.toml") && t.pythonName(folder) == pythonPlain(m[1]) {
				add("pyproject.toml needs "+m[1]+", which is in the workspace", relative(dir, folder))
			}
		}
	}
}

// pythonName is the name of the project in a folder.
func (t *tree) pythonName(dir string) string {
	for _, line := range t.tables(path.Join(dir, "pyproject.toml"))["project"] {
		if m := tomlName.FindStringSubmatch(line); m != nil {
			return pythonPlain(m[1])
		}
	}
	return ""
}

// pythonPlain is a name as Python compares it.
func pythonPlain(name string) string {
	return pythonUnwanted.ReplaceAllString(strings.ToLower(name), "-")
}
