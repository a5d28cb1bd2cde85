package plan

import (
	"slices"
	"strings"
)

// trie holds patterns and folders by the parts of their paths, so that finding those that fit a file
// takes time that grows with the depth of the file and not with their number.
type trie struct {
	nodes []trieNode
	edges map[edge]int32
	now   []int32 // states while a file is walked down, kept for the next file
	next  []int32
	way   []int32 // of folders, without wildcards
}

type trieNode struct {
	areas  []int       // of patterns that end here
	always []int       // those of areas for which the file itself counts, although the build may not see it
	dirs   []int       // services with this folder
	charts []int       // services with this chart
	globs  []globChild // parts with wildcards
	any    int32       // child for a whole part, *; 0 for none
	deep   int32       // child for any number of parts, **; 0 for none
	loop   bool        // this is such a child
	mark   int         // number of the walk and part that reached it last
}

type edge struct {
	from int32
	part string
}

type globChild struct {
	part string
	node int32
}

func newTrie() *trie {
	return &trie{nodes: make([]trieNode, 1), edges: map[edge]int32{}}
}

// add returns the node of a path's parts, which it makes if need be.
func (t *trie) add(parts []string) *trieNode {
	at := int32(0)
	for _, part := range parts {
		at = t.child(at, part)
	}
	return &t.nodes[at]
}

// folder returns the node of a folder, whatever characters its name has.
func (t *trie) folder(dir string) *trieNode {
	at := int32(0)
	for part := range strings.SplitSeq(dir, "/") {
		if part != "." {
			at = t.named(at, part)
		}
	}
	return &t.nodes[at]
}

// named is the child of a part without wildcards.
func (t *trie) named(at int32, part string) int32 {
	if to, ok := t.edges[edge{at, part}]; ok {
		return to
	}
	fresh := int32(len(t.nodes))
	t.edges[edge{at, part}] = fresh
	t.nodes = append(t.nodes, trieNode{})
	return fresh
}

// child is the child of a part of a pattern.
func (t *trie) child(at int32, part string) int32 {
	if !strings.ContainsAny(part, "*?") {
		return t.named(at, part)
	}
	fresh := int32(len(t.nodes))
	n := &t.nodes[at]
	switch {
	case part == "**":
		if n.deep != 0 {
			return n.deep
		}
		n.deep = fresh
	case part == "*":
		if n.any != 0 {
			return n.any
		}
		n.any = fresh
	default:
		for _, g := range n.globs {
			if g.part == part {
				return g.node
			}
		}
		n.globs = append(n.globs, globChild{part, fresh})
	}
	t.nodes = append(t.nodes, trieNode{loop: part == "**"})
	return fresh
}

// walk goes down a file's path and calls hit with the areas whose pattern fits it or a folder it is in,
// perhaps more than once, and with always where the file counts for an area in any case. It returns the nodes of the folders on the way, the root first; -1 for one that
// is not known. mark is a number that no walk had before, and neither have the len(file) numbers after it.
func (t *trie) walk(file string, mark int, hit func(area int, always bool)) []int32 {
	t.now, t.way = t.now[:0], t.way[:0]
	t.now = t.enter(t.now, 0, mark, hit)
	folder := int32(0)
	for rest, more := file, true; more; {
		var part string
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			part, more = rest, false
		}
		mark++
		t.way = append(t.way, folder)
		if to, ok := t.edges[edge{folder, part}]; ok && folder >= 0 {
			folder = to
		} else {
			folder = -1
		}
		t.next = t.next[:0]
		for _, at := range t.now {
			n := &t.nodes[at]
			if n.loop {
				t.next = t.enter(t.next, at, mark, hit)
			}
			if n.any != 0 {
				t.next = t.enter(t.next, n.any, mark, hit)
			}
			if to, ok := t.edges[edge{at, part}]; ok {
				t.next = t.enter(t.next, to, mark, hit)
			}
			for _, g := range n.globs {
				if partFits(g.part, part) {
					t.next = t.enter(t.next, g.node, mark, hit)
				}
			}
		}
		t.now, t.next = t.next, t.now
	}
	return t.way
}

// enter adds a node to the states, and the node behind its **.
func (t *trie) enter(states []int32, at int32, mark int, hit func(area int, always bool)) []int32 {
	for {
		n := &t.nodes[at]
		if n.mark == mark {
			return states
		}
		n.mark = mark
		for _, a := range n.areas {
			hit(a, slices.Contains(n.always, a))
		}
		states = append(states, at)
		if n.deep == 0 {
			return states
		}
		at = n.deep
	}
}
