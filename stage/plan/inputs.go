package plan

import (
	"slices"

	"github.com/slipway-cd/slipway"
)

// Inputs is where the files of a service are, as folders and files without wildcards: where a pattern
// has one, all that is in the folder before it. A file is an input when it is in one of the sets: in one
// of its Include and in none of its Exclude.
type Inputs struct {
	Code  []slipway.Filter // what the image is made of
	Chart []slipway.Filter // of the chart, empty for the standard chart
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
	parts   []slipway.Filter
	whole   []string // folders and files of which nothing is left out
}

func (in *inputs) of(s slipway.Service) Inputs {
	in.service(s)
	out := Inputs{Code: in.parts}
	if len(in.whole) > 0 {
		slices.Sort(in.whole)
		out.Code = append(out.Code, slipway.Filter{Include: slices.Compact(in.whole)})
	}
	if s.Chart != "" {
		out.Chart = []slipway.Filter{{Include: []string{s.Chart}, Exclude: foldersIn(in.c.Services, s.Chart)}}
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
		if s.Dockerfile != "" {
			in.add(join(s.Dir, s.Dockerfile))
		}
	} else {
		own := in.own(s)
		if len(own.Exclude) == 0 {
			in.whole = append(in.whole, own.Include...)
		} else {
			in.parts = append(in.parts, own)
		}
		for _, c := range s.Copies {
			in.path(c.Path)
		}
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
func (in *inputs) own(s slipway.Service) slipway.Filter {
	dir := s.Dir
	f := slipway.Filter{Include: []string{dir}, Exclude: foldersIn(in.c.Services, dir)}
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
