package plan

import (
	"slices"

	"github.com/slipway-cd/slipway"
)

// Inputs is where the files of a service are, as folders and files without wildcards: where a pattern
// has one, all that is in the folder before it. A file is an input when it is in one of the sets.
type Inputs struct {
	Code  []Set // what the image is made of
	Chart []Set // of the chart, empty for the standard chart
}

// Set is the files that are in one of Include and in none of Exclude, and that are not Unseen.
type Set struct {
	Include, Exclude []string
	// Unseen reports whether the build does not see a file, as its ignore file says; nil: it sees all. It is for one
	// goroutine at a time.
	Unseen func(file string) bool
}

// InputsOf finds the inputs of services of a configuration, by name; those that it does not have are left
// out.
func InputsOf(c slipway.Config, names ...string) map[string]Inputs {
	c.Services = slices.Clone(c.Services)
	index := make(map[string]int, len(c.Services))
	for i := range c.Services {
		s := &c.Services[i]
		s.Dir, index[s.Name] = clean(s.Dir), i
		if s.Chart != "" {
			s.Chart = clean(s.Chart)
		}
	}
	var folders []string
	for folder := range c.Shared {
		folders = append(folders, folder)
	}
	slices.Sort(folders)
	out := make(map[string]Inputs, len(names))
	for _, name := range names {
		if i, ok := index[name]; ok {
			in := inputs{c: c, index: index, folders: folders, done: map[string]bool{}}
			out[name] = in.of(c.Services[i])
		}
	}
	return out
}

// inputs gathers what a service is made of.
type inputs struct {
	c       slipway.Config
	index   map[string]int  // services by name
	folders []string        // shared ones, sorted
	done    map[string]bool // services and paths
	parts   []Set
	whole   []string // folders and files of which nothing is left out
}

func (in *inputs) of(s slipway.Service) Inputs {
	in.service(s)
	out := Inputs{Code: in.parts}
	if len(in.whole) > 0 {
		slices.Sort(in.whole)
		out.Code = append(out.Code, Set{Include: slices.Compact(in.whole)})
	}
	if s.Chart != "" {
		out.Chart = []Set{{Include: []string{s.Chart}, Exclude: foldersIn(in.c.Services, s.Chart)}}
	}
	return out
}

func (in *inputs) service(s slipway.Service) {
	if in.done["service "+s.Name] {
		return
	}
	in.done["service "+s.Name] = true
	if len(s.Trigger.Paths.Include) > 0 {
		for _, p := range s.Trigger.Paths.Include {
			in.add(newPattern(p).fixed)
		}
		in.whole = append(in.whole, definitions(s)...)
	} else {
		in.code(s)
	}
	for _, p := range s.Shared {
		in.path(p)
	}
	for _, name := range s.DependsOn {
		if i, ok := in.index[name]; ok {
			in.service(in.c.Services[i])
		}
	}
}

// code is a service's folder and what its Dockerfile copies, less what its build does not see.
func (in *inputs) code(s slipway.Service) {
	own := in.own(s)
	own.Unseen = unseenBy(s)
	if len(own.Exclude) == 0 && own.Unseen == nil {
		in.whole = append(in.whole, own.Include...)
	} else {
		in.parts = append(in.parts, own)
	}
	if own.Unseen != nil {
		in.whole = append(in.whole, definitions(s)...)
	}
	for _, c := range s.Copies {
		if own.Unseen == nil || c.Line == 0 {
			in.path(c.Path)
			continue
		}
		in.parts = append(in.parts, Set{Include: []string{newPattern(c.Path).fixed}, Unseen: own.Unseen})
		for _, need := range needsOf(in.c.Shared, in.folders, c.Path) {
			in.path(need)
		}
	}
}

func (in *inputs) add(p string) { in.whole = append(in.whole, p) }

func (in *inputs) path(p string) {
	if in.done[p] {
		return
	}
	in.done[p] = true
	in.add(newPattern(p).fixed)
	for _, need := range needsOf(in.c.Shared, in.folders, p) {
		in.path(need)
	}
}

// own is the folder of a service, without what belongs to others and without charts.
func (in *inputs) own(s slipway.Service) Set {
	dir := s.Dir
	f := Set{Include: []string{dir}, Exclude: foldersIn(in.c.Services, dir)}
	for _, other := range in.c.Services {
		if other.Chart == "" {
			continue
		}
		beside := other.Dir == dir && chartApart(other) && within(other.Chart, dir)
		if beside || (dir == "." && other.Chart != ".") {
			f.Exclude = append(f.Exclude, other.Chart)
		}
	}
	slices.Sort(f.Exclude)
	f.Exclude = slices.Compact(f.Exclude)
	return f
}

// foldersIn is the folders of services below a folder.
func foldersIn(all []slipway.Service, dir string) (list []string) {
	for _, s := range all {
		if s.Dir != dir && within(s.Dir, dir) {
			list = append(list, s.Dir)
		}
	}
	return list
}
