package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

// model is Affected by brute force, one file and one service at a time.
type model struct {
	c        slipway.Config
	old, now map[string]string // the trees: path -> content
}

// has reports whether a tree has a folder.
func has(tree map[string]string, dir string) bool {
	for f := range tree {
		if below(f, dir) {
			return true
		}
	}
	return false
}

// unseen reports whether a service's build is the same whatever a file is: it does not get the file, and every
// folder above it that it gets is in both trees.
func (m model) unseen(s slipway.Service, file string) bool {
	context, _ := s.BuildContext()
	if s.Ignore == nil || !below(file, context) {
		return false
	}
	excluded := func(p string) bool {
		if context != "." {
			p = strings.TrimPrefix(p, context+"/")
		}
		m, err := patternmatcher.New(s.Ignore.Patterns)
		if err != nil {
			panic(err)
		}
		var out bool
		var above patternmatcher.MatchInfo
		for i := range len(p) + 1 { // as BuildKit walks, which is not always what its other functions say
			if i < len(p) && p[i] != '/' {
				continue
			}
			if out, above, err = m.MatchesUsingParentResults(p[:i], above); err != nil {
				panic(err)
			}
		}
		return out
	}
	if !excluded(file) {
		return false
	}
	for dir := path.Dir(file); dir != context && dir != "."; dir = path.Dir(dir) {
		if !excluded(dir) && has(m.old, dir) != has(m.now, dir) {
			return false
		}
	}
	return true
}

// defines reports whether a file says what is built, whatever else counts.
func defines(s slipway.Service, file string) bool {
	if s.Dockerfile == "" || s.Ignore == nil && len(s.Trigger.Paths.Include) == 0 {
		return false
	}
	dockerfile := clean(s.Dir + "/" + s.Dockerfile)
	context, _ := s.BuildContext()
	ignore := clean(context + "/.dockerignore")
	return file == dockerfile || file == dockerfile+".dockerignore" || file == ignore && (len(s.Trigger.Paths.Include) > 0 || below(ignore, s.Dir))
}

func fitsSlowly(pattern, file []string) bool {
	switch {
	case len(pattern) == 0:
		return true
	case pattern[0] == "**":
		return fitsSlowly(pattern[1:], file) || (len(file) > 0 && fitsSlowly(pattern, file[1:]))
	case len(file) == 0:
		return false
	}
	return wildSlowly([]rune(pattern[0]), []rune(file[0])) && fitsSlowly(pattern[1:], file[1:])
}

func wildSlowly(want, text []rune) bool {
	switch {
	case len(want) == 0:
		return len(text) == 0
	case want[0] == '*':
		return wildSlowly(want[1:], text) || (len(text) > 0 && wildSlowly(want, text[1:]))
	case len(text) == 0:
		return false
	}
	return (want[0] == '?' || want[0] == text[0]) && wildSlowly(want[1:], text[1:])
}

func anyFits(patterns []string, file string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		var parts []string
		for _, part := range strings.Split(p, "/") {
			if part != "" && part != "." {
				parts = append(parts, part)
			}
		}
		return fitsSlowly(parts, strings.Split(file, "/"))
	})
}

func below(file, dir string) bool { return dir == "." || strings.HasPrefix(file, dir+"/") }

// owner is the folder of services that is nearest above a file.
func (m model) owner(file string) string {
	best := "."
	for _, s := range m.c.Services {
		if below(file, s.Dir) && len(s.Dir) > len(best) || (s.Dir != "." && best == "." && below(file, s.Dir)) {
			best = s.Dir
		}
	}
	return best
}

func (m model) inChart(s slipway.Service, file string) bool {
	if s.Chart == "" || !below(file, s.Chart) {
		return false
	}
	owner := m.owner(file)
	return owner == "." || owner == s.Chart || below(s.Chart, owner)
}

func apart(s slipway.Service) bool {
	return s.Chart != "" && s.Dir != s.Chart && !below(s.Dir, s.Chart)
}

func (m model) own(s slipway.Service, file string) bool {
	if apart(s) && below(file, s.Chart) {
		return false
	}
	if defines(s, file) {
		return true
	}
	if len(s.Trigger.Paths.Include) > 0 {
		return anyFits(s.Trigger.Paths.Include, file)
	}
	if m.owner(file) != s.Dir || m.unseen(s, file) {
		return false
	}
	for _, other := range m.c.Services {
		if m.inChart(other, file) && ((s.Dir == "." && other.Chart != ".") || (other.Dir == s.Dir && apart(other))) {
			return false
		}
	}
	return true
}

// uses are the paths that a service is made of besides its own code; false for those that a shared folder
// depends on.
func (m model) uses(s slipway.Service) map[string]use {
	paths, done := map[string]use{}, map[string]bool{}
	var add func(p string, u use)
	add = func(p string, u use) {
		key := fmt.Sprint(p, u)
		if done[key] {
			return
		}
		done[key] = true
		paths[fmt.Sprintf("%v:%s", u, p)] = u
		if i := strings.IndexAny(p, "*?"); i >= 0 {
			p = clean(p[:strings.LastIndexByte(p[:i], '/')+1])
		}
		for folder, needs := range m.c.Shared {
			if folder == p || below(folder, p) || below(p, folder) {
				for _, n := range needs {
					add(n, use{})
				}
			}
		}
	}
	if len(s.Trigger.Paths.Include) == 0 {
		for _, c := range s.Copies {
			add(c.Path, use{direct: true, context: c.Line > 0})
		}
	}
	for _, p := range s.Shared {
		add(p, use{direct: true})
	}
	return paths
}

// use is how a service comes to a path.
type use struct{ direct, context bool }

func (m model) code(s slipway.Service, files []string) bool {
	for _, f := range files {
		if anyFits(s.Trigger.Paths.Exclude, f) {
			continue
		}
		if m.own(s, f) {
			return true
		}
		for p, u := range m.uses(s) {
			_, p, _ = strings.Cut(p, ":")
			if u.context && m.unseen(s, f) {
				continue
			}
			if anyFits([]string{p}, f) && !(u.direct && apart(s) && p != s.Chart && (p == "." || below(s.Chart, p)) && below(f, s.Chart)) {
				return true
			}
		}
	}
	for _, name := range s.DependsOn {
		if other, _ := m.c.Service(name); m.code(other, files) {
			return true
		}
	}
	return false
}

func (m model) chart(s slipway.Service, files []string) bool {
	return slices.ContainsFunc(files, func(f string) bool { return m.inChart(s, f) && !anyFits(s.Trigger.Paths.Exclude, f) })
}

func drawConfig(t *rapid.T) slipway.Config {
	folder := rapid.SampledFrom([]string{".", "a", "a/b", "a/b/c", "ab", "charts", "charts/a", "charts/b", "a/charts", "libs", "libs/x", "libs/y"})
	patterns := rapid.SliceOfN(rapid.SampledFrom([]string{"**/*.md", "/a/", "a/b", "*", "**", "a/*/c", "/a/**/f?", "libs/*", "*.go", "**/chart", "a/**/c/**", "charts/?/*"}), 0, 2)
	c := slipway.Config{Shared: map[string][]string{}}
	for _, d := range rapid.SliceOfN(folder, 1, 6).Draw(t, "dirs") {
		i := len(c.Services)
		s := slipway.Service{Name: fmt.Sprint(i), Dir: d, Target: fmt.Sprint(i), Dockerfile: rapid.SampledFrom([]string{"", "f1", "chart/f1"}).Draw(t, "dockerfile")}
		if rapid.Bool().Draw(t, "chart") {
			s.Chart = rapid.SampledFrom([]string{"charts/a", "charts/b", "charts", "a", ".", "a/charts", strings.TrimPrefix(d+"/chart", "./")}).Draw(t, "at")
		}
		s.Trigger.Paths = slipway.Filter{Include: patterns.Draw(t, "include"), Exclude: patterns.Draw(t, "exclude")}
		if rapid.Bool().Draw(t, "all paths") {
			s.Trigger.Paths.Include = nil
		}
		s.Shared = rapid.SliceOfN(folder, 0, 2).Draw(t, "shared")
		for _, p := range rapid.SliceOfN(rapid.OneOf(folder, rapid.SampledFrom([]string{"libs/*.go", "a/?", s.Dir + "/chart"})), 0, 2).Draw(t, "copies") {
			s.Copies = append(s.Copies, slipway.Copy{Path: clean(p), Line: rapid.SampledFrom([]int{0, 1, 1}).Draw(t, "line")})
		}
		if rapid.Bool().Draw(t, "root context") {
			s.Context = "."
		}
		rules := rapid.SampledFrom([]string{"**/*.md", "b", "a/b", "*", "!*.go", "!b/c", "!a/b", "**/chart", "f1", "c", "!c/f1", "libs", "!libs/x/*.go", "**/f?.go", "!**/é*", "charts/**", "README.md"})
		if ignore := rapid.SliceOfN(rules, 0, 4).Draw(t, "ignore"); len(ignore) > 0 {
			s.Ignore = &slipway.Ignore{File: clean(d + "/.dockerignore"), Patterns: ignore}
		}
		for j := range i {
			if rapid.IntRange(0, 4).Draw(t, "depends") == 0 {
				s.DependsOn = append(s.DependsOn, fmt.Sprint(j))
			}
		}
		c.Services = append(c.Services, s)
	}
	for range rapid.IntRange(0, 3).Draw(t, "shared folders") {
		c.Shared[folder.Draw(t, "folder")] = rapid.SliceOfN(folder, 0, 2).Draw(t, "needs")
	}
	return c
}

// drawTree is a tree: path -> content.
func drawTree(t *rapid.T, name string) map[string]string {
	tree := map[string]string{}
	for range rapid.IntRange(0, 6).Draw(t, name) {
		in := rapid.SampledFrom([]string{".", "a", "a/b", "a/b/c", "ab", "charts/a", "charts/b", "a/charts", "a/b/chart", "libs", "libs/x", "libs/y"}).Draw(t, name+" in")
		tree[clean(in+"/"+rapid.SampledFrom([]string{"f1", "f2.go", "é.md", "README.md", ".dockerignore", "f1.dockerignore"}).Draw(t, name+" file"))] = rapid.StringMatching("[12]").Draw(t, name+" content")
	}
	return tree
}
