package config

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// maxMatched bounds how many files are compared with the wildcards of one service's Dockerfile.
const maxMatched = 20_000

// behindLinks adds the links that a build follows on the way to what it takes, and where they lead to: a change
// there is one of what is built, and a change of the link too. Links that a wildcard fits are followed as well; links in
// a folder that is copied stay links. With too many of them, all of the build context counts.
func (d *draft) behindLinks(copies []slipway.Copy, s found, content Dockerfile) []slipway.Copy {
	context, dockerfile := s.BuildContext()
	if slices.ContainsFunc(copies, func(c slipway.Copy) bool { return c.Path == context }) {
		return copies // all of it counts
	}
	sources := []slipway.Copy{{Path: path.Join(context, dockerfile)}}
	for _, source := range content.Sources {
		p, sure := content.Path(source, s.Args)
		if !sure {
			p = path.Join(p, "*") // whatever is there may be meant
		}
		sources = append(sources, slipway.Copy{Path: path.Join(context, p), Line: source.Line})
	}
	ways := ways{fsys: d.fsys, left: maxMatched}
	for _, source := range sources {
		for _, p := range ways.linked(source.Path) {
			known := slices.ContainsFunc(copies, func(c slipway.Copy) bool { return c.Path == p })
			if known || !inside(fixedPart(p), context) || d.owns(s.Service, p) {
				continue
			}
			if len(copies) >= maxCopies {
				return []slipway.Copy{{Path: context, Line: source.Line}}
			}
			copies = append(copies, slipway.Copy{Path: p, Line: source.Line})
		}
		if ways.left <= 0 {
			return []slipway.Copy{{Path: context, Line: source.Line}}
		}
	}
	return copies
}

// ways finds links on the way to paths.
type ways struct {
	fsys fs.FS
	left int // files that may still be compared with wildcards
}

// linked are the links on the way to a path, and where they lead to; none for a path without links. Of a path with
// wildcards they are those on the way to each path that fits. A link that leads nowhere is one all the same.
func (w *ways) linked(name string) (out []string) {
	fixed := fixedPart(name)
	real, links, err := follow(w.fsys, fixed)
	rest := name
	if fixed != "." {
		rest = strings.TrimPrefix(strings.TrimPrefix(name, fixed), "/")
	}
	if len(links) > 0 {
		out = links
		if err == nil {
			out = append(out, simple(path.Join(real, rest)))
		}
	}
	if err != nil || rest == "" || fixed == name {
		return out
	}
	return append(out, w.fitting(real, rest)...)
}

// fitting are the links on the way to what fits a pattern in a folder.
func (w *ways) fitting(dir, pattern string) (out []string) {
	if f, ok := w.fsys.(*Footprint); ok {
		f.matched[dir] = true
	}
	entries, err := fs.ReadDir(w.fsys, dir)
	if err != nil {
		return nil // no folder, or one that others tell of
	}
	first, rest, more := strings.Cut(pattern, "/")
	for _, e := range entries {
		if w.left--; w.left <= 0 {
			return out
		}
		fits, err := path.Match(first, e.Name())
		if link := e.Type()&fs.ModeSymlink != 0; (err == nil && !fits) || (!link && !(more && e.IsDir())) {
			continue
		}
		out = append(out, w.linked(path.Join(dir, e.Name(), rest))...)
	}
	return out
}

// simple is a path with wildcards as plans take it: the folder above what they do not understand.
func simple(p string) string {
	if strings.ContainsAny(p, "[\\") {
		return fixedPart(p)
	}
	return p
}
