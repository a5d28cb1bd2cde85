package git

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/slipway-cd/slipway"
)

const (
	maxEntries    = 1_000_000
	maxLinkTarget = 4096
	maxLinkHops   = 40 // as Linux
)

// Kinds of entries, by the first two digits of git's mode.
const (
	modeFile      = "100644"
	modeExec      = "100755"
	modeLink      = "120000"
	modeSubmodule = "160000"
	modeDir       = "040000"
)

// entry is a file, link, submodule or folder of a tree.
type entry struct {
	mode, hash, path string
}

// entries lists a commit's tree, folders before what is in them.
func (r Repo) entries(ctx context.Context, commit string) ([]entry, error) {
	if err := checkHash(commit); err != nil {
		return nil, err
	}
	out, err := r.output(ctx, "ls-tree", "-r", "-t", "-z", "--full-tree", commit)
	if err != nil {
		return nil, r.missing(ctx, err, commit)
	}
	list, err := parseEntries(splitNUL(out))
	if err != nil {
		return nil, fmt.Errorf("list files of %s: %w", commit, err)
	}
	return list, nil
}

func parseEntries(lines []string) ([]entry, error) {
	if len(lines) > maxEntries {
		return nil, slipway.Errorf(slipway.Invalid, "more than %d files", maxEntries)
	}
	list := make([]entry, 0, len(lines))
	for _, line := range lines {
		meta, name, ok := strings.Cut(line, "\t")
		mode, rest, ok2 := strings.Cut(meta, " ")
		_, hash, ok3 := strings.Cut(rest, " ")
		if !ok || !ok2 || !ok3 || hash == "" || strings.Contains(hash, " ") {
			return nil, fmt.Errorf("unexpected line %q of git ls-tree", line)
		}
		switch {
		case mode == modeLink, mode == modeSubmodule, mode == modeDir:
		case strings.HasPrefix(mode, "100") && len(mode) == 6:
			if mode[3]&1 != 0 { // the owner may execute it
				mode = modeExec
			} else {
				mode = modeFile
			}
		default:
			return nil, slipway.Errorf(slipway.Invalid, "%q has the unknown mode %s", name, mode)
		}
		list = append(list, entry{mode: mode, hash: hash, path: name})
	}
	return list, nil
}

// checkPath refuses names that no checkout may have.
func checkPath(p string) error {
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return slipway.Errorf(slipway.Invalid, "%q: a tree must not have a file or folder named %q", p, part)
		}
	}
	return nil
}

// links follows the symbolic links of a tree without touching a file system.
type links struct {
	targets map[string]string // path of the link -> what it points to
}

// resolve returns where a path leads once all links on the way, the last part included, are
// followed: "." for the root. The second result is false if it leaves the tree. A loop leads to
// itself.
func (l links) resolve(p string) (string, bool) {
	var at []string
	todo := strings.Split(p, "/")
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return "", false
			}
			at = at[:len(at)-1]
			continue
		}
		here := strings.Join(append(at[:len(at):len(at)], part), "/")
		target, ok := l.targets[here]
		if !ok {
			at = append(at, part)
			continue
		}
		if strings.HasPrefix(target, "/") {
			return "", false
		}
		if hops++; hops > maxLinkHops {
			return p, true
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return path.Join(".", strings.Join(at, "/")), true
}

// outside is the error for a link out of the tree.
func outside(link, target string) error {
	return slipway.Errorf(slipway.Invalid, "the symbolic link %q points to %q, out of the repository: make it point to a file inside, or remove it", link, target)
}
