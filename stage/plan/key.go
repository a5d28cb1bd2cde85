package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Entry is a file, a link or a submodule of a tree.
type Entry struct {
	Path string
	Mode string // git's: 100644, 100755, 120000, 160000
	Hash string // of the content
}

// Key is a hash of all that the image and the tests of a service are made of: its files, as InputsOf finds
// them, and the settings that make another image of the same files. Two commits with one key give one image
// (D15). Entries may be in any order; those that are no input of the service's code do not count. Base
// images that are not pinned are not in it, and neither are folders that a build sees and finds nothing in.
func Key(c slipway.Config, name string, entries []Entry) (string, bool) {
	s, ok := c.Service(name)
	if !ok {
		return "", false
	}
	in := InputsOf(c, name)[name]
	var files []Entry
	for _, e := range entries {
		if slices.ContainsFunc(in.Code, func(s Set) bool { return s.holds(e.Path) }) {
			files = append(files, e)
		}
	}
	slices.SortFunc(files, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	context, dockerfile := s.BuildContext()
	settings, err := json.Marshal(map[string]any{
		"context": context, "dockerfile": dockerfile, "target": s.Target, "args": s.Args, "pins": s.Pins, "test": s.Test, "epoch": Epoch,
	})
	if err != nil {
		return "", false
	}
	h := sha256.New()
	h.Write(settings)
	for _, f := range files {
		h.Write([]byte("\x00" + f.Mode + "\x00" + f.Hash + "\x00" + f.Path))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), true
}

// holds reports whether a path is in a set of inputs.
func (s Set) holds(file string) bool {
	is := func(dir string) bool { return within(file, dir) }
	return slices.ContainsFunc(s.Include, is) && !slices.ContainsFunc(s.Exclude, is) && (s.Unseen == nil || !s.Unseen(file))
}
