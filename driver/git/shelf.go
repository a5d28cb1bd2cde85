package git

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

const (
	aheadFolders = 256
	aheadFiles   = 64
	aheadSize    = 64 << 10 // of a file that is read ahead, in bytes
	maxAhead     = 4 << 20  // of all of them
)

// shelf is what of a tree was listed: all of it by git ls-tree, or folder by folder through a reader. Who
// reads chart/Chart.yaml of one folder does of the next one too: what has the same name is read with it.
type shelf struct {
	mu      sync.Mutex
	nodes   map[string]*node
	read    *folders // nil: everything is listed
	waiting map[string][]*node
	alike   map[string][]*node

	blobs   map[string][]byte // that were read ahead, by hash; guarded by Tree.mu
	blobbed int
}

// open prepares to list through a reader; false means that there is none.
func (s *shelf) open(ctx context.Context, r Repo, commit string) bool {
	f, err := r.reading()
	if err != nil {
		return false
	}
	known, err := f.commits(ctx, commit)
	if err != nil || f.get(ctx, known[commit].tree) != nil {
		return false
	}
	root := &node{entry: entry{mode: modeDir, path: ".", hash: known[commit].tree}}
	s.nodes, s.read = map[string]*node{".": root}, f
	s.waiting, s.alike = map[string][]*node{}, map[string][]*node{}
	return true
}

// fill lists everything. The caller has the lock, or is alone.
func (s *shelf) fill(t *Tree) error {
	list, err := t.repo.entries(t.ctx, t.commit)
	if err != nil {
		return err
	}
	nodes := make(map[string]*node, len(list)+1)
	nodes["."] = &node{entry: entry{mode: modeDir, path: "."}, listed: true}
	all := make([]node, len(list))
	for i, e := range list {
		dir := "."
		if at := strings.LastIndexByte(e.path, '/'); at >= 0 {
			dir = e.path[:at]
		}
		parent := nodes[dir]
		if parent == nil || !fs.ValidPath(e.path) || nodes[e.path] != nil {
			continue
		}
		n := &all[i]
		n.entry, n.listed = e, true
		nodes[e.path] = n
		parent.children = append(parent.children, dirEntry{t, n})
	}
	for _, n := range nodes {
		sortByName(n.children)
	}
	s.nodes, s.read, s.waiting = nodes, nil, nil
	return nil
}

func sortByName(children []fs.DirEntry) {
	slices.SortFunc(children, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
}

// node is what is under a name, nil for nothing.
func (s *shelf) node(t *Tree, name string) (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := 0; s.read != nil && s.nodes[name] == nil; {
		dir := s.nodes[above(name, at)]
		if dir == nil || dir.mode != modeDir {
			return nil, nil
		}
		if err := s.list(t, dir); err != nil {
			return nil, err
		}
		next := strings.IndexByte(name[at:], '/')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return s.nodes[name], nil
}

// above is the folder of the part of a name that begins at an index.
func above(name string, at int) string {
	if at == 0 {
		return "."
	}
	return name[:at-1]
}

func (s *shelf) children(t *Tree, n *node) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read != nil && n.mode == modeDir {
		if err := s.list(t, n); err != nil {
			return nil, err
		}
	}
	if !n.listed { // before everything was
		n = s.nodes[n.path]
	}
	return n.children, nil
}

// links are all links of the tree.
func (s *shelf) links(t *Tree) (found []*node, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read != nil {
		if err := s.fill(t); err != nil {
			return nil, err
		}
	}
	for _, n := range s.nodes {
		if n.mode == modeLink {
			found = append(found, n)
		}
	}
	return found, nil
}

// list makes the children of a folder known, or everything if the reader does not answer.
func (s *shelf) list(t *Tree, n *node) error {
	if n.listed {
		return nil
	}
	items, ok := s.read.read[n.hash]
	if !ok {
		if s.read.get(t.ctx, s.ahead(n)...) != nil {
			return s.fill(t)
		}
		items = s.read.read[n.hash]
	}
	n.listed = true
	all := make([]node, len(items))
	for i, it := range items {
		name := path.Join(n.path, it.name)
		if it.name == "." || it.name == ".." || !fs.ValidPath(name) {
			continue
		}
		c := &all[i]
		c.entry = entry{mode: it.shown(), hash: it.hash, path: name}
		s.nodes[name] = c
		n.children = append(n.children, dirEntry{t, c})
		switch c.mode {
		case modeDir:
			s.waiting[it.name] = append(s.waiting[it.name], c)
		case modeFile, modeExec:
			s.alike[it.name] = append(s.alike[it.name], c)
		}
	}
	sortByName(n.children)
	return nil
}

// shown is the mode as entries have it.
func (i item) shown() string {
	switch i.mode {
	case isDir:
		return modeDir
	case isLink:
		return modeLink
	case isSub:
		return modeSubmodule
	case isFile | 0o755:
		return modeExec
	}
	return modeFile
}

// ahead is a folder and those that are likely to be asked for next: folders of the same name, or when there
// are none, those beside it.
func (s *shelf) ahead(n *node) []string {
	hashes := []string{n.hash}
	next := s.waiting[path.Base(n.path)]
	if len(next) < 2 {
		next = nil
		for _, e := range s.nodes[path.Dir(n.path)].children {
			next = append(next, e.(dirEntry).n)
		}
	}
	for _, c := range next {
		if _, known := s.read.read[c.hash]; c.mode == modeDir && !known && len(hashes) < aheadFolders {
			hashes = append(hashes, c.hash)
		}
	}
	return hashes
}

// blob is the content of a file through the reader. Others of the same name that are small are read with it.
// The caller has Tree's lock.
func (s *shelf) blob(ctx context.Context, n *node) ([]byte, error) {
	if data, ok := s.blobs[n.hash]; ok {
		return slices.Clone(data), nil
	}
	s.mu.Lock()
	f, next := s.read, s.alike[path.Base(n.path)]
	s.mu.Unlock()
	if f == nil {
		return nil, errUnread
	}
	questions := []question{{about, n.hash}}
	for _, c := range next {
		if _, known := s.blobs[c.hash]; !known && c.hash != n.hash && len(questions) < aheadFiles {
			questions = append(questions, question{about, c.hash})
		}
	}
	sizes, err := f.rd.ask(ctx, questions)
	if err != nil {
		return nil, err
	}
	if sizes[0].kind != "blob" {
		return nil, errUnread
	}
	if sizes[0].size > maxTreeFile {
		return nil, errTooLarge
	}
	questions = questions[:0]
	for i, o := range sizes {
		if i == 0 || (o.kind == "blob" && o.size <= aheadSize) {
			questions = append(questions, question{contents, o.hash})
		}
	}
	found, err := f.rd.ask(ctx, questions)
	if err != nil {
		return nil, err
	}
	if found[0].kind != "blob" {
		return nil, errUnread
	}
	for _, o := range found {
		if o.kind == "blob" && o.size <= aheadSize {
			s.keep(o)
		}
	}
	return []byte(found[0].content), nil
}

func (s *shelf) keep(o object) {
	if s.blobs == nil || s.blobbed > maxAhead {
		s.blobs, s.blobbed = map[string][]byte{}, 0
	}
	s.blobs[o.hash] = []byte(o.content)
	s.blobbed += len(o.content)
}
