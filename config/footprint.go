package config

import (
	"errors"
	"io/fs"
	"path"
)

// Footprint is what of a tree a configuration was made of: with it, another tree can be known to say the
// same without being read. It takes what one reading at a time asks for.
type Footprint struct {
	fsys  fs.FS
	read  map[string]bool // files that were read, and links that were followed
	asked map[string]bool // paths that were looked for, and whether they are there
	kept  map[string]bool // folders that the files that were read are in
	// matched are folders of which the links were asked for that fit a pattern, which may go on below them.
	matched map[string]bool
}

// Change is a file that differs between two trees.
type Change struct {
	Path    string
	Added   bool
	Deleted bool
	Plain   bool // a file before and after, or only before or after: no link, no submodule
}

// Watch makes a tree that notes what is read of it. What Load makes of it is what Load makes of fsys.
func Watch(fsys fs.FS) *Footprint {
	return &Footprint{fsys: fsys, read: map[string]bool{}, asked: map[string]bool{}, kept: map[string]bool{}, matched: map[string]bool{}}
}

// Same reports whether a tree that differs in these files alone says the same as the one that was read. It
// says no when that is not certain.
func (f *Footprint) Same(changes []Change) bool {
	for _, c := range changes {
		if f.matters(c) {
			return false
		}
	}
	return true
}

func (f *Footprint) matters(c Change) bool {
	_, asked := f.asked[c.Path]
	switch {
	case !c.Plain && f.fits(c.Path):
		return true
	case f.read[c.Path], asked && !c.Plain, c.Added && path.Base(c.Path) == "Dockerfile":
		return true
	case !c.Added && !c.Deleted:
		return false // a file with other content, which nobody read
	case asked:
		return true
	}
	for dir := path.Dir(c.Path); dir != "."; dir = path.Dir(dir) {
		there, asked := f.asked[dir]
		if asked && (!there || (c.Deleted && !f.kept[dir])) {
			return true // a folder that comes, or that may go
		}
	}
	return false
}

// fits reports whether a path is in a folder, or below one, of which links were asked for by a pattern.
func (f *Footprint) fits(name string) bool {
	for dir := name; dir != "."; {
		dir = path.Dir(dir)
		if f.matched[dir] {
			return true
		}
	}
	return false
}

func (f *Footprint) ask(name string, err error) {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		f.asked[name] = err == nil
	}
}

func (f *Footprint) took(name string) {
	f.read[name] = true
	for dir := path.Dir(name); dir != "." && !f.kept[dir]; dir = path.Dir(dir) {
		f.kept[dir] = true
	}
}

// Open notes a file as read; a folder that is opened is being listed.
func (f *Footprint) Open(name string) (fs.File, error) {
	file, err := f.fsys.Open(name)
	if err != nil {
		f.ask(name, err)
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.IsDir() {
		f.took(name)
	}
	return file, nil
}

// ReadDir lists a folder. What a listing says beyond folders is asked for by name, too.
func (f *Footprint) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.fsys, name) }

// Lstat notes that a path was looked for.
func (f *Footprint) Lstat(name string) (fs.FileInfo, error) {
	info, err := fs.Lstat(f.fsys, name)
	f.ask(name, err)
	return info, err
}

// ReadLink notes a link as read.
func (f *Footprint) ReadLink(name string) (string, error) {
	f.took(name)
	return fs.ReadLink(f.fsys, name)
}
