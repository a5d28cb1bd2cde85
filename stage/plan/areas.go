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
	hidden  int    // changed files that would be in it and are excluded
	masked  string // the first of those by name
	last    int    // number of the file counted last, from 1
	exclude int    // set of exclusions, 0 for none
	chart   string // folder of the service's chart, which is no part of its code; "" for none
}

// areas finds the areas of a path. It is made for one list of changed files.
type areas struct {
	all      []area
	trie     *trie // patterns, and the folders of services and charts
	services []serviceAreas
	excludes []exclusions
	sets     map[string]int // text of exclusions -> index
	marks    int            // numbers that walks have used
	charts   []int          // services whose chart a file is in, kept for the next file
}

// serviceAreas are the indices of a service's areas.
type serviceAreas struct {
	slipway.Service
	code  int
	own   bool // the code is its folder, less those of other services
	apart bool // its chart's folder is one of its own, so that what is in it is not code
	chart int  // -1: the standard chart
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
		sa := serviceAreas{Service: s, code: a.add(set), chart: -1, own: len(s.Trigger.Paths.Include) == 0, apart: chartApart(s)}
		if sa.apart {
			a.all[sa.code].chart = s.Chart
		}
		for _, p := range s.Trigger.Paths.Include {
			a.reach(newPattern(p), sa.code)
		}
		if !sa.own && s.Dockerfile != "" {
			n := a.trie.folder(join(s.Dir, s.Dockerfile)) // whatever else counts
			n.areas = append(n.areas, sa.code)
		}
		if s.Chart != "" {
			sa.chart = a.add(set)
			n := a.trie.folder(s.Chart)
			n.charts = append(n.charts, i)
		}
		a.services[i] = sa
	}
	return a
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
	a.all[i].chart = key.chart
	a.reach(newPattern(key.path), i)
	return i
}

// count counts changed files, in time that grows with their number and not with that of the services.
func (a *areas) count(files []string) {
	for n, file := range files {
		way := a.trie.walk(file, a.marks+1, func(area int) { a.hit(area, n+1, file) })
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
			a.hit(a.services[i].chart, n, file)
		}
		if len(at.dirs) == 0 {
			continue
		}
		for _, i := range at.dirs {
			s := &a.services[i]
			beside := func(c int) bool { return a.services[c].Dir == s.Dir && a.services[c].apart }
			if s.own && !slices.ContainsFunc(charts, beside) {
				a.hit(s.code, n, file)
			}
		}
		a.charts = charts
		return
	}
	a.charts = charts
	root := &a.trie.nodes[0]
	for _, i := range root.charts {
		a.hit(a.services[i].chart, n, file)
	}
	if len(charts) > 0 {
		return
	}
	for _, i := range root.dirs {
		if a.services[i].own {
			a.hit(a.services[i].code, n, file)
		}
	}
}

// hit counts a file for an area, once.
func (a *areas) hit(i, n int, file string) {
	r := &a.all[i]
	if r.last == n || (r.chart != "" && within(file, r.chart)) {
		return
	}
	r.last = n
	if a.excluded(r.exclude, n, file) {
		r.hidden++
		if r.masked == "" || file < r.masked {
			r.masked = file
		}
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
