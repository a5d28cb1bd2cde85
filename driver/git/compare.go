package git

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
)

const (
	maxDepth   = 500     // of folders that are compared or listed through a reader
	maxFolders = 50_000  // at once; git commands do better with more
	maxVisited = 1 << 20 // lines of folders: one folder may be in many places
)

var errOdd = errors.New("not what git itself writes")

// Modes as numbers.
const (
	isDir  = 0o040000
	isLink = 0o120000
	isSub  = 0o160000
	isFile = 0o100000
)

// item is a line of a folder.
type item struct {
	mode uint32 // as git shows it
	name string
	hash string // in hex
}

func (i item) dir() bool { return i.mode == isDir }

// parseFolder reads a tree object. One that is not just as git writes it is errOdd.
func parseFolder(content string, hashLen int) ([]item, error) {
	list := make([]item, 0, len(content)/(hashLen+16))
	for len(content) > 0 {
		mode, rest, ok := strings.Cut(content, " ")
		name, rest, ok2 := strings.Cut(rest, "\x00")
		if !ok || !ok2 || name == "" || strings.Contains(name, "/") || len(rest) < hashLen {
			return nil, errOdd
		}
		it := item{name: name, mode: knownMode(mode), hash: hex.EncodeToString([]byte(rest[:hashLen]))}
		content = rest[hashLen:]
		if it.mode == 0 || (len(list) > 0 && order(list[len(list)-1], it) >= 0) {
			return nil, errOdd
		}
		list = append(list, it)
	}
	return list, nil
}

// knownMode is a mode as git shows it, 0 for one that it does not write.
func knownMode(mode string) uint32 {
	switch mode {
	case "40000":
		return isDir
	case "100644", "100664": // the second from long ago
		return isFile | 0o644
	case "100755":
		return isFile | 0o755
	case "120000":
		return isLink
	case "160000":
		return isSub
	}
	return 0
}

// order is that of git: a folder's name counts as if a slash ended it.
func order(a, b item) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return int(after(a, n)) - int(after(b, n))
}

func after(i item, n int) byte {
	switch {
	case n < len(i.name):
		return i.name[n]
	case i.dir():
		return '/'
	}
	return 0
}

// pair is what two folders have under one name; the zero item is nothing.
type pair struct{ was, is item }

// unequal are the pairs of two folders that are not the same, in git's order.
func unequal(was, is []item) (pairs []pair) {
	for len(was) > 0 || len(is) > 0 {
		c := 0
		switch {
		case len(was) == 0:
			c = 1
		case len(is) == 0:
			c = -1
		default:
			c = order(was[0], is[0])
		}
		switch {
		case c < 0:
			pairs, was = append(pairs, pair{was: was[0]}), was[1:]
		case c > 0:
			pairs, is = append(pairs, pair{is: is[0]}), is[1:]
		default:
			if was[0] != is[0] {
				pairs = append(pairs, pair{was[0], is[0]})
			}
			was, is = was[1:], is[1:]
		}
	}
	return pairs
}

// folders are tree objects that were read, by their hash in hex; "" is the empty one.
type folders struct {
	rd      *reader
	read    map[string][]item
	visited int
}

// visit counts what is walked through.
func (f *folders) visit(n int) error {
	if f.visited += n; f.visited > maxVisited {
		return errUnread
	}
	return nil
}

// get reads folders that were not yet.
func (f *folders) get(ctx context.Context, hashes ...string) error {
	var todo []string
	for _, h := range hashes {
		if _, known := f.read[h]; !known && h != "" && h != emptyTree {
			todo = append(todo, h)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if len(f.read)+len(todo) > maxFolders {
		return errUnread
	}
	found, err := f.rd.objects(ctx, "tree", todo)
	if err != nil {
		return err
	}
	for h, content := range found {
		if f.read[h], err = parseFolder(content, len(h)/2); err != nil {
			return err
		}
	}
	return nil
}

// compared is a pair of folders by their hashes.
type compared struct{ was, is string }

// changed is a path that differs; mode 0 is nothing there.
type changed struct {
	path    string
	was, is uint32
}

// compare reads what is needed to tell the differences of pairs of folders, all pairs at once and level by
// level: only folders that are not the same are read.
func (f *folders) compare(ctx context.Context, pairs []compared) error {
	seen := map[compared]bool{}
	for depth := 0; len(pairs) > 0; depth++ {
		if depth > maxDepth {
			return errUnread
		}
		var hashes []string
		for _, p := range pairs {
			hashes = append(hashes, p.was, p.is)
		}
		if err := f.get(ctx, hashes...); err != nil {
			return err
		}
		var below []compared
		for _, p := range pairs {
			for _, u := range unequal(f.read[p.was], f.read[p.is]) {
				if c := (compared{folder(u.was), folder(u.is)}); c != (compared{}) && !seen[c] {
					seen[c] = true
					below = append(below, c)
				}
			}
		}
		pairs = below
	}
	return nil
}

// folder is the hash of a folder, "" of anything else.
func folder(i item) string {
	if i.dir() {
		return i.hash
	}
	return ""
}

// differences are those of two folders that compare has read, in git's order.
func (f *folders) differences(p compared, prefix string, list []changed) ([]changed, error) {
	pairs := unequal(f.read[p.was], f.read[p.is])
	err := f.visit(len(pairs) + 1)
	for _, u := range pairs {
		if err != nil {
			return nil, err
		}
		name := prefix + u.was.name
		if u.was.name == "" {
			name = prefix + u.is.name
		}
		if u.was.dir() || u.is.dir() { // both, or one and nothing
			list, err = f.differences(compared{folder(u.was), folder(u.is)}, name+"/", list)
			continue
		}
		list = append(list, changed{name, u.was.mode, u.is.mode})
	}
	return list, err
}

// reading is the reader of a repository and what was read for one answer. In quarantine, and where history
// was cut off, there is none.
func (r Repo) reading() (*folders, error) {
	if r.Readers == nil || len(r.Env) > 0 || r.grafted() {
		return nil, errUnread
	}
	rd, err := r.Readers.reader(r)
	if err != nil {
		return nil, err
	}
	return &folders{rd: rd, read: map[string][]item{}}, nil
}

// compareThrough are the differences of the trees of two commits; base "" is the empty tree.
func (r Repo) compareThrough(ctx context.Context, base, head string) ([]changed, error) {
	f, err := r.reading()
	if err != nil {
		return nil, err
	}
	var p compared
	known, err := f.commits(ctx, base, head)
	if err != nil {
		return nil, err
	}
	p.was, p.is = known[base].tree, known[head].tree
	if p.was == p.is {
		return nil, nil
	}
	if err := f.compare(ctx, []compared{p}); err != nil {
		return nil, err
	}
	return f.differences(p, "", nil)
}
