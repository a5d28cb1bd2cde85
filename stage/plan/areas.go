package plan

import (
	"path"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// area is files whose changes are counted together: the code of a service, its chart, a shared folder.
type area struct {
	files   int    // changed ones
	example string // the first of them by name
	hidden  hidden // by the trigger
	unseen  hidden // by the build, which leaves them out of its context
	last    int    // number of the file counted last, from 1
	exclude int    // set of exclusions, 0 for none
	ignore  int    // what the build leaves out, 0 for nothing
	chart   string // folder of the service's chart, which is no part of its code; "" for none
}

// hidden are changed files that would be in an area, and are left out.
type hidden struct {
	files   int
	example string // the first of them by name
}

func (h *hidden) add(file string) {
	h.files++
	if h.example == "" || file < h.example {
		h.example = file
	}
}

func (h *hidden) join(other hidden) {
	h.files += other.files
	if h.example == "" || other.example != "" && other.example < h.example {
		h.example = other.example
	}
}

// areas finds the areas of a path. It is made for one list of changed files.
type areas struct {
	all      []area
	trie     *trie // patterns, and the folders of services and charts
	services []serviceAreas
	excludes []exclusions
	sets     map[string]int // text of exclusions -> index
	ignores  ignores
	marks    int   // numbers that walks have used
	charts   []int // services whose chart a file is in, kept for the next file
}

// serviceAreas are the indices of a service's areas.
type serviceAreas struct {
	slipway.Service
	code   int
	skips  int   // what its build leaves out of the context, 0 for nothing
	own    bool  // the code is its folder, less those of other services
	apart  bool  // its chart's folder is one of its own, so that what is in it is not code
	chart  int   // -1: the standard chart
	copies []int // what it copies from elsewhere, of which its build may leave something out
}

// exclusions are patterns that several services may have in common; each is asked once for a file.
type exclusions struct {
	patterns []pattern
	last     int // number of the file asked last, from 1
	fits     bool
}

// sharedKey is a path, and what of it does not count.
type sharedKey struct {
	path    string
	exclude int
	ignore  int
	chart   string
}

func newAreas(services []slipway.Service) *areas {
	a := &areas{
		trie: newTrie(), excludes: make([]exclusions, 1), sets: map[string]int{"": 0},
		services: make([]serviceAreas, len(services)),
	}
	for i, s := range services {
		s.Dir = clean(s.Dir)
		if s.Chart != "" {
			s.Chart = clean(s.Chart)
		}
		n := a.trie.folder(s.Dir)
		n.dirs = append(n.dirs, i)
		set := a.exclusions(s.Trigger.Paths.Exclude)
		sa := serviceAreas{Service: s, code: a.add(set), chart: -1, own: len(s.Trigger.Paths.Include) == 0, apart: chartApart(s), skips: a.ignores.of(s)}
		a.codeOf(sa)
		if s.Chart != "" {
			sa.chart = a.add(set)
			n := a.trie.folder(s.Chart)
			n.charts = append(n.charts, i)
		}
		a.services[i] = sa
	}
	return a
}

// codeOf fills in the area of a service's own code.
func (a *areas) codeOf(s serviceAreas) {
	if s.apart {
		a.all[s.code].chart = s.Chart
	}
	if s.own {
		a.all[s.code].ignore = s.skips // what paths name counts, whatever the build sees of it
	}
	for _, p := range s.Trigger.Paths.Include {
		a.reach(newPattern(p), s.code)
	}
	if s.own && s.skips == 0 {
		return
	}
	for _, file := range definitions(s.Service) {
		n := a.trie.folder(file)
		n.areas = append(n.areas, s.code)
		n.always = append(n.always, s.code)
	}
}

// definitions are the files that say what is built, and those that are evidence about it, whatever else counts and
// whatever the build sees of them.
func definitions(s slipway.Service) []string {
	if s.Dockerfile == "" {
		return nil
	}
	file := join(clean(s.Dir), s.Dockerfile)
	out := []string{file, file + ".dockerignore"}
	context, _ := s.BuildContext()
	if ignore := join(clean(context), ".dockerignore"); within(ignore, clean(s.Dir)) || len(s.Trigger.Paths.Include) > 0 {
		out = append(out, ignore)
	}
	for _, report := range s.Scan.Reports {
		if file := join(clean(context), clean(report)); within(file, clean(s.Dir)) {
			out = append(out, file)
		}
	}
	return out // an ignore file outside of the service's folder is one of Copies
}

// chartApart reports whether a chart's folder is one of its own, so that what is in it is not code.
func chartApart(s slipway.Service) bool {
	return s.Chart != "" && !within(s.Dir, s.Chart)
}

// clean is a folder relative to the repository, as all of them are compared.
func clean(p string) string {
	if c := path.Clean(p); c == p && p[0] != '/' && !strings.HasPrefix(p, "..") {
		return p
	}
	return path.Join(".", path.Clean("/" + p)[1:])
}

func (a *areas) add(exclude int) int {
	a.all = append(a.all, area{exclude: exclude})
	return len(a.all) - 1
}

func (a *areas) reach(p pattern, area int) {
	n := a.trie.add(p.parts)
	n.areas = append(n.areas, area)
}

// keyOf is a path as the service that names it sees it: less its exclusions, and less a chart of its own.
func (a *areas) keyOf(p string, s serviceAreas) sharedKey {
	key := sharedKey{path: p, exclude: a.all[s.code].exclude}
	if s.apart && s.Chart != p && within(s.Chart, p) {
		key.chart = s.Chart
	}
	return key
}

func (a *areas) exclusions(list []string) int {
	if len(list) == 0 {
		return 0
	}
	key := strings.Join(list, "\x00")
	if i, ok := a.sets[key]; ok {
		return i
	}
	var e exclusions
	for _, p := range list {
		e.patterns = append(e.patterns, newPattern(p))
	}
	a.excludes = append(a.excludes, e)
	a.sets[key] = len(a.excludes) - 1
	return len(a.excludes) - 1
}

// path is the area of a folder, file or pattern that services name.
func (a *areas) path(key sharedKey) int {
	i := a.add(key.exclude)
	a.all[i].chart, a.all[i].ignore = key.chart, key.ignore
	a.reach(newPattern(key.path), i)
	return i
}

// count counts changed files, in time that grows with their number and not with that of the services.
func (a *areas) count(files []string) {
	for n, file := range files {
		way := a.trie.walk(file, a.marks+1, func(area int, always bool) { a.hit(area, n+1, file, always) })
		a.marks += len(file) + 2
		a.nearest(n+1, file, way)
	}
}

// nearest counts a file for the services whose folder is the nearest above it, and for those whose
// chart it is part of. What is in a chart is no code of the services beside that chart, and what is in
// no other service's folders belongs to the service at the root. way are the folders down to the file.
func (a *areas) nearest(n int, file string, way []int32) {
	charts := a.charts[:0]
	for depth := len(way) - 1; depth > 0; depth-- {
		if way[depth] < 0 {
			continue
		}
		at := &a.trie.nodes[way[depth]]
		for _, i := range at.charts {
			charts = append(charts, i)
			a.hit(a.services[i].chart, n, file, false)
		}
		if len(at.dirs) == 0 {
			continue
		}
		for _, i := range at.dirs {
			s := &a.services[i]
			beside := func(c int) bool { return a.services[c].Dir == s.Dir && a.services[c].apart }
			if s.own && !slices.ContainsFunc(charts, beside) {
				a.hit(s.code, n, file, false)
			}
		}
		a.charts = charts
		return
	}
	a.charts = charts
	root := &a.trie.nodes[0]
	for _, i := range root.charts {
		a.hit(a.services[i].chart, n, file, false)
	}
	if len(charts) > 0 {
		return
	}
	for _, i := range root.dirs {
		if a.services[i].own {
			a.hit(a.services[i].code, n, file, false)
		}
	}
}

// hit counts a file for an area, once. With always, it counts although the build may not see it.
func (a *areas) hit(i, n int, file string, always bool) {
	r := &a.all[i]
	if r.last == n || (r.chart != "" && within(file, r.chart)) {
		return
	}
	r.last = n
	if a.excluded(r.exclude, n, file) {
		r.hidden.add(file)
		return
	}
	if !always && r.ignore != 0 && a.ignores.hides(r.ignore, n, file) {
		r.unseen.add(file)
		return
	}
	r.files++
	if r.example == "" || file < r.example {
		r.example = file
	}
}

func (a *areas) excluded(set, n int, file string) bool {
	if set == 0 {
		return false
	}
	e := &a.excludes[set]
	if e.last != n {
		e.last, e.fits = n, slices.ContainsFunc(e.patterns, func(p pattern) bool { return p.fits(file) })
	}
	return e.fits
}
