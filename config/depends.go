package config

import (
	"path"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// dependencies sorts dependsOn into services and paths, and refuses what does not exist and cycles.
func (d *draft) dependencies() {
	known := map[string]found{}
	var names []string
	for _, s := range d.services {
		known[s.Name] = s
		names = append(names, s.Name)
	}
	for i := range d.services {
		s := &d.services[i]
		for _, item := range s.settings.get("dependsOn").items {
			name := item.text("")
			if _, ok := known[name]; ok || d.noPath(name) && d.elsewhere(s, item) {
				s.DependsOn = append(s.DependsOn, name)
			} else if p, ok := d.dependency(item, names); ok {
				s.Shared = append(s.Shared, p)
				for _, behind := range (&ways{fsys: d.fsys, left: maxMatched}).linked(p) {
					if behind != p && !slices.Contains(s.Shared, behind) {
						s.Shared = append(s.Shared, behind)
					}
				}
			}
		}
		for _, item := range s.settings.get("after").items {
			if _, ok := known[item.text("")]; !ok && !d.elsewhere(s, item) {
				d.problems.add(item.problem(didYouMean(item.text(""), names), "there is no service %s", item.text("")))
			}
		}
		known[s.Name] = *s
	}
	d.serviceCycles(known)
}

// elsewhere takes a name for that of a service of another codebase, where the project has others.
func (d *draft) elsewhere(s *found, item value) bool {
	name := item.text("")
	if !d.several || !slipway.ValidName(name) {
		return false
	}
	s.Elsewhere = append(s.Elsewhere, slipway.Elsewhere{Service: name, Line: item.node.Line, Copied: slices.Contains(s.images, name)})
	return true
}

// noPath reports that nothing in the tree has a name.
func (d *draft) noPath(name string) bool {
	here, err := there(d.fsys, cleanPath(name))
	return !here && err == nil
}

// dependency is a path that dependsOn names.
func (d *draft) dependency(item value, services []string) (string, bool) {
	p := cleanPath(item.text(""))
	there, err := there(d.fsys, p)
	if err != nil {
		d.problems.add(item.problem("expected a path inside the repository", "%s: %s", p, because(err)))
		return "", false
	}
	if !there {
		if strings.Contains(p, "/") || services == nil {
			d.problems.add(item.problem("expected a folder or file of the repository", "%s is not in the repository", p))
		} else {
			d.problems.add(item.problem(didYouMean(p, services), "there is no service %s, and no folder or file of that name", p))
		}
		return "", false
	}
	return p, true
}

// serviceCycles refuses services that are to be deployed after themselves.
func (d *draft) serviceCycles(known map[string]found) {
	state := map[string]int{} // 1: on the way, 2: done
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		if state[name] == 2 {
			return
		}
		if state[name] == 1 {
			cycle := append(way[slices.Index(way, name):], name)
			last := known[way[len(way)-1]]
			at := last.settings.get("dependsOn")
			if !slices.Contains(last.DependsOn, name) {
				at = last.settings.get("after")
			}
			d.problems.add(at.problem("take one of these away", "a cycle: %s", strings.Join(cycle, " -> ")))
			return
		}
		state[name] = 1
		for _, next := range append(slices.Clone(known[name].DependsOn), known[name].After...) {
			visit(next, append(slices.Clone(way), name))
		}
		state[name] = 2
	}
	for _, s := range d.services {
		visit(s.Name, nil)
	}
}

// sharedFolders reads what the shared folders depend on.
func (d *draft) sharedFolders(table value) map[string][]string {
	if len(table.keys) == 0 {
		return nil
	}
	out, settings := map[string][]string{}, map[string]value{}
	for i, k := range table.keys {
		folder, set := cleanPath(k.Value), table.items[i]
		if ok, err := there(d.fsys, folder); err != nil || !ok {
			d.problems.add(set.problem("expected a folder of the repository", "%s is not in the repository", folder))
			continue
		}
		settings[folder] = set.get("dependsOn")
		for _, item := range set.get("dependsOn").items {
			if p, ok := d.dependency(item, nil); ok {
				out[folder] = append(out[folder], p)
			}
		}
	}
	state := map[string]int{}
	var visit func(folder string, way []string)
	visit = func(folder string, way []string) {
		if state[folder] == 1 {
			cycle := append(way[slices.Index(way, folder):], folder)
			d.problems.add(settings[way[len(way)-1]].problem("take one of these away", "a cycle: %s", strings.Join(cycle, " -> ")))
		}
		if state[folder] != 0 {
			return
		}
		state[folder] = 1
		for _, next := range out[folder] {
			visit(next, append(slices.Clone(way), folder))
		}
		state[folder] = 2
	}
	for _, k := range table.keys {
		visit(cleanPath(k.Value), nil)
	}
	return out
}

// cleanPath is a path as it is written in slipway.yaml, relative to the repository.
func cleanPath(p string) string { return path.Join(".", path.Clean("/" + p)[1:]) }
