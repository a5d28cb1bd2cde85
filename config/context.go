package config

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/ignore"
)

func triggerOf(v value) slipway.ServiceTrigger {
	filter := func(name string) slipway.Filter {
		f := v.get(name)
		return slipway.Filter{Include: f.get("include").texts(), Exclude: f.get("exclude").texts()}
	}
	return slipway.ServiceTrigger{Batch: v.get("batch").boolean(false), Branches: filter("branches"), Tags: filter("tags"), Paths: filter("paths")}
}

// contextOf finds the build context of a service, and what its Dockerfile takes from elsewhere.
func (d *draft) contextOf(s *found, content Dockerfile) {
	given := s.settings.get("context")
	switch {
	case given.present():
		s.Context = d.real(path.Clean(given.text("")))
		if ok, err := exists(d.fsys, s.Context, true); err != nil || !ok {
			d.problems.add(given.problem("expected a folder of the repository", "%s is not a folder of the repository", s.Context))
			return
		}
		if file := path.Join(s.Dir, s.Dockerfile); !inside(file, s.Context) {
			d.problems.add(given.problem("expected a folder that the Dockerfile is in", "%s is not in the build context %s", file, s.Context))
			return
		}
		if s.Context == s.Dir {
			s.Context = ""
		}
	case s.Dir != "." && d.needsRoot(*s, content):
		s.Context = "."
	}
	s.Copies = d.behindLinks(d.copiesOf(s.Service, content), *s, content)
	if file := d.ignoreOf(s); !inside(file, s.Dir) {
		s.Copies = append(s.Copies, slipway.Copy{Path: file}) // says what of the context the build sees, once it is there
	}
}

// ignoreOf finds what a build does not see of its context, and the file that says so or would. A file that
// cannot be read leaves nothing out here: what is wrong with it is the build's to say, and more counts than
// would have to.
func (d *draft) ignoreOf(s *found) string {
	dir, dockerfile := s.BuildContext()
	for _, name := range ignore.Files(dockerfile) {
		file := path.Join(dir, name)
		ok, err := exists(d.fsys, file, false)
		if err == nil && !ok {
			continue
		}
		if info, err := fs.Lstat(d.fsys, file); err != nil || !info.Mode().IsRegular() {
			return file // BuildKit follows a link in its context, not in the repository
		}
		data, err := read(d.fsys, file, ignore.MaxSize)
		if err != nil {
			return file
		}
		if patterns, err := ignore.Parse(data); err == nil && len(patterns) > 0 {
			s.Ignore = &slipway.Ignore{File: file, Patterns: patterns}
		}
		return file
	}
	return path.Join(dir, ".dockerignore")
}

// needsRoot reports whether a Dockerfile copies what is not in the service's folder, and everything that
// it copies is found from the root.
func (d *draft) needsRoot(s found, content Dockerfile) bool {
	var sources []string
	outside := false
	for _, source := range content.Sources {
		p, sure := content.Path(source, s.Args)
		if !sure || strings.ContainsAny(p, "*?[") {
			p = fixedPart(p)
		}
		if ok, err := there(d.fsys, path.Join(s.Dir, p)); err == nil && !ok {
			outside = true
		}
		sources = append(sources, p)
	}
	return outside && !slices.ContainsFunc(sources, func(p string) bool {
		ok, err := there(d.fsys, p)
		return err != nil || !ok
	})
}

// maxCopies bounds what is told apart: with more, all of the build context counts.
const maxCopies = 100

// copiesOf is what a Dockerfile takes that is not its service's anyway: from outside of its folder, from the chart in it,
// and from the folders of other services in it.
func (d *draft) copiesOf(s slipway.Service, content Dockerfile) (out []slipway.Copy) {
	context, _ := s.BuildContext()
	known := map[string]bool{}
	for _, source := range content.Sources {
		p, sure := content.Path(source, s.Args)
		if !sure || strings.ContainsAny(p, "[\\") {
			p = fixedPart(p)
		}
		p = path.Join(context, p)
		if known[p] || d.owns(s, p) {
			continue
		}
		if len(out) == maxCopies {
			return []slipway.Copy{{Path: context, Line: source.Line}}
		}
		known[p] = true
		out = append(out, slipway.Copy{Path: p, Line: source.Line})
	}
	return out
}

// owns reports whether all that a path names, which may have wildcards, is code of a service by its place alone. The
// folders of other services are theirs, also below this one's, and so are charts.
func (d *draft) owns(s slipway.Service, p string) bool {
	fixed := fixedPart(p)
	if !inside(fixed, s.Dir) {
		return false
	}
	return !slices.ContainsFunc(d.below[s.Dir], func(c claim) bool {
		if c.chart {
			return inside(fixed, c.folder)
		}
		return meets(p, c.folder)
	})
}

// claim is a folder that is a service's, or a service's chart.
type claim struct {
	folder string
	chart  bool
}

// claimsBelow are the claims that lie below each folder, so that a service asks only about those in its own.
func claimsBelow(services []found) map[string][]claim {
	below := map[string][]claim{}
	add := func(c claim) {
		for dir := c.folder; dir != "." && dir != "/"; {
			dir = path.Dir(dir)
			below[dir] = append(below[dir], c)
		}
	}
	for _, s := range services {
		add(claim{folder: s.Dir})
		if s.Chart != "" {
			add(claim{folder: s.Chart, chart: true})
		}
	}
	return below
}

// meets reports whether a path with wildcards names a folder, or what is above it or below it.
func meets(p, dir string) bool {
	if p == "." {
		return true
	}
	parts, folders := strings.Split(p, "/"), strings.Split(dir, "/")
	for i := range min(len(parts), len(folders)) {
		if fits, err := path.Match(parts[i], folders[i]); err == nil && !fits {
			return false
		}
	}
	return true
}

// fixedPart is the folder that everything a path with wildcards names is in.
func fixedPart(p string) string {
	i := strings.IndexAny(p, "*?[\\")
	if i < 0 {
		return p
	}
	return path.Clean(p[:strings.LastIndexByte(p[:i], '/')+1])
}

// inside reports whether a path is a folder or below it.
func inside(p, dir string) bool { return dir == "." || p == dir || strings.HasPrefix(p, dir+"/") }

// pinsOf are those pins that a Dockerfile uses; all, when it names an image by a variable.
func pinsOf(content Dockerfile, s slipway.Service, pins map[string]string) map[string]string {
	images := slices.Clone(content.Images)
	if s.Test != nil {
		for _, beside := range s.Test.Services {
			images = append(images, beside.Image)
		}
	}
	var out map[string]string
	for ref, digest := range pins {
		used := slices.ContainsFunc(images, func(image string) bool {
			image = content.expand(image, s.Args)
			return strings.Contains(image, "$") || wholeReference(image) == wholeReference(ref)
		})
		if used {
			if out == nil {
				out = map[string]string{}
			}
			out[ref] = digest
		}
	}
	return out
}

// wholeReference is an image's reference with what may be left out of it.
func wholeReference(ref string) string {
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
	if !strings.Contains(ref[strings.LastIndexByte(ref, '/')+1:], ":") {
		ref += ":latest"
	}
	return ref
}
