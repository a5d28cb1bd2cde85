package plan

import (
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// cause is why code counts as changed: an area, and on the way to it the services and folders that are
// depended on.
type cause struct {
	area int
	via  string // what is depended on or copied; "" for code of its own
	line int    // of the Dockerfile that copies it; 0 for dependsOn
	next *cause // of via
}

// graph is who depends on what. Its nodes are the services and, behind them, the paths they name.
type graph struct {
	*areas
	needs   map[string][]string // shared folder -> what it depends on
	folders []string            // the keys of needs, sorted
	nodes   []node
	ids     map[sharedKey]int // paths -> nodes
}

type node struct {
	area  int
	users []user // nodes that depend on this one
	cause *cause // set by spread; nil for unchanged
}

type user struct {
	node int
	name string // of this node, as the user says it
	line int
}

// newGraph prepares every area that a change of a service may be found in.
func newGraph(c slipway.Config) *graph {
	g := &graph{areas: newAreas(c.Services), needs: c.Shared, ids: map[sharedKey]int{}, nodes: make([]node, len(c.Services))}
	for folder := range c.Shared {
		g.folders = append(g.folders, folder)
	}
	slices.Sort(g.folders)
	index := make(map[string]int, len(g.services))
	for i, s := range g.services {
		g.nodes[i].area, index[s.Name] = s.code, i
	}
	for i, s := range g.services {
		if s.own {
			for _, c := range s.Copies {
				key := g.keyOf(c.Path, s)
				if c.Line > 0 { // else it is the ignore file itself
					key.ignore = s.skips
				}
				n := g.pathNode(key)
				g.use(n, user{i, c.Path, c.Line})
				if key.ignore != 0 {
					g.services[i].copies = append(g.services[i].copies, g.nodes[n].area)
				}
			}
		}
		for _, p := range s.Shared {
			g.use(g.pathNode(g.keyOf(p, s)), user{node: i, name: p})
		}
		for _, name := range s.DependsOn {
			if j, ok := index[name]; ok {
				g.use(j, user{node: i, name: name})
			}
		}
	}
	return g
}

func (g *graph) use(n int, u user) { g.nodes[n].users = append(g.nodes[n].users, u) }

// pathNode is the node of a path, with all that the shared folders on it depend on.
func (g *graph) pathNode(key sharedKey) int {
	if n, ok := g.ids[key]; ok {
		return n
	}
	n := len(g.nodes)
	g.ids[key] = n
	g.nodes = append(g.nodes, node{area: g.path(key)})
	for _, need := range needsOf(g.needs, g.folders, key.path) {
		g.use(g.pathNode(sharedKey{path: need, exclude: key.exclude}), user{node: n, name: need})
	}
	return n
}

// needsOf is what the shared folders depend on that are on a path, above it or below it.
func needsOf(needs map[string][]string, sorted []string, p string) (out []string) {
	if len(sorted) == 0 {
		return nil
	}
	fixed := newPattern(p).fixed
	for dir := fixed; ; dir = parent(dir) {
		out = append(out, needs[dir]...)
		if dir == "." {
			break
		}
	}
	at := 0
	if fixed != "." {
		at, _ = slices.BinarySearch(sorted, fixed+"/")
	}
	for _, folder := range sorted[at:] {
		if fixed != "." && !strings.HasPrefix(folder, fixed+"/") {
			break
		}
		if folder != "." {
			out = append(out, needs[folder]...)
		}
	}
	return out
}

// spread takes each change to all that depends on it, on the shortest way.
func (g *graph) spread() {
	var queue []int
	for i := range g.nodes {
		if n := &g.nodes[i]; g.all[n.area].files > 0 {
			n.cause = &cause{area: n.area}
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		n := g.nodes[queue[0]]
		queue = queue[1:]
		for _, u := range n.users {
			if to := &g.nodes[u.node]; to.cause == nil {
				to.cause = &cause{area: n.cause.area, via: u.name, line: u.line, next: n.cause}
				queue = append(queue, u.node)
			}
		}
	}
}
