package git

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	manyLoose  = 1000   // objects in files of their own
	manyPacks  = 10     // that could be fewer
	manyPacked = 10_000 // objects of which some history is quick to search only with a commit-graph
)

// upkeep are the settings of what is in no hurry: one thread, and memory that does not grow with the
// repository.
func upkeep() []string {
	return []string{"pack.threads=1", "pack.windowMemory=64m", "pack.deltaCacheSize=64m"}
}

// repacking is not gc --auto: the settings of every command switch that off, and it would remove objects.
func repacking() []string { return []string{"repack", "-d", "-n", "--geometric=2", "--quiet"} }

// Maintain packs what has accumulated and keeps history quick to search, with little of the processor and of
// memory. Call it where Untidy says so; it is safe beside pushes, fetches and readers. It removes no object: a
// run may be of a commit that no ref holds. What it had done when its context ends, or it is killed, stays good;
// RemoveParts removes what is half-made then.
func (r Repo) Maintain(ctx context.Context) error {
	if _, err := r.runWith(ctx, upkeep(), call{args: repacking(), low: true}); err != nil {
		return err
	}
	_, err := r.runWith(ctx, upkeep(), call{args: []string{"commit-graph", "write", "--reachable", "--changed-paths", "--no-progress"}, low: true})
	return err
}

// Untidy reports whether there is so much for Maintain to do that it matters. It starts no process.
func (r Repo) Untidy() (bool, error) {
	sizes, err := r.packs()
	if err != nil {
		return false, fmt.Errorf("count packs: %w", err)
	}
	if len(sizes) >= manyPacks && !progression(sizes) {
		return true, nil
	}
	all := 0
	for _, n := range sizes {
		all += n
	}
	if all >= manyPacked && !r.graphed() {
		return true, nil
	}
	loose, err := r.loose(manyLoose)
	if err != nil {
		return false, fmt.Errorf("count loose objects: %w", err)
	}
	return loose >= manyLoose, nil
}

// packs are the numbers of objects of each pack that may be repacked.
func (r Repo) packs() ([]int, error) {
	dir := filepath.Join(r.Dir, "objects", "pack")
	indexes, err := filepath.Glob(filepath.Join(dir, "pack-*.idx"))
	if err != nil {
		return nil, err
	}
	var sizes []int
	for _, name := range indexes {
		if _, err := os.Lstat(strings.TrimSuffix(name, ".idx") + ".keep"); err == nil {
			continue
		}
		n, err := indexed(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// indexed is how many objects the index of a pack names: the last number of its first table.
func indexed(name string) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n [4]byte
	if _, err := f.ReadAt(n[:], 8+255*4); err != nil {
		return 0, fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return int(binary.BigEndian.Uint32(n[:])), nil
}

// progression reports whether each pack is at least twice as large as the one before: then git combines none.
func progression(sizes []int) bool {
	sizes = slices.Sorted(slices.Values(sizes))
	for i := 1; i < len(sizes); i++ {
		if sizes[i] < 2*sizes[i-1] {
			return false
		}
	}
	return true
}

func (r Repo) graphed() bool {
	_, err := os.Stat(filepath.Join(r.Dir, "objects", "info", "commit-graph"))
	return err == nil
}

var (
	looseFolder = regexp.MustCompile(`^[0-9a-f]{2}$`)
	looseFile   = regexp.MustCompile(`^([0-9a-f]{38}|[0-9a-f]{62})$`)
)

// loose counts the objects in files of their own, and stops when there are enough.
func (r Repo) loose(enough int) (n int, err error) {
	err = r.eachLoose(func(name string) bool {
		if looseFile.MatchString(filepath.Base(name)) {
			n++
		}
		return n < enough
	})
	return n, err
}

// eachLoose calls more for each file in a folder of loose objects until it says that it wants no more.
func (r Repo) eachLoose(more func(name string) bool) error {
	objects := filepath.Join(r.Dir, "objects")
	folders, err := os.ReadDir(objects)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range folders {
		if !d.IsDir() || !looseFolder.MatchString(d.Name()) {
			continue
		}
		files, err := os.ReadDir(filepath.Join(objects, d.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range files {
			if !more(filepath.Join(objects, d.Name(), f.Name())) {
				return nil
			}
		}
	}
	return nil
}

// RemoveParts removes the half-made packs and objects that a git which was killed left in the repository, and
// its marks that a pack is still being received, and returns their names. Only what was last written before a
// time is removed; no git that began before it may still run.
func (r Repo) RemoveParts(before time.Time) ([]string, error) {
	var parts []string
	err := r.eachLoose(func(name string) bool {
		if strings.HasPrefix(filepath.Base(name), "tmp_obj_") {
			parts = append(parts, name)
		}
		return true
	})
	for _, pattern := range []string{"tmp_*", ".tmp-*", "pack-*.keep"} {
		found, gerr := filepath.Glob(filepath.Join(r.Dir, "objects", "pack", pattern))
		parts, err = append(parts, found...), errors.Join(err, gerr)
	}
	var removed []string
	for _, path := range parts {
		gone, rerr := removePart(path, before)
		if err = errors.Join(err, rerr); gone {
			name, rerr := filepath.Rel(r.Dir, path)
			removed, err = append(removed, name), errors.Join(err, rerr)
		}
	}
	if err != nil {
		return removed, fmt.Errorf("remove what a dead git left half-made: %w", err)
	}
	return removed, nil
}

func removePart(path string, before time.Time) (bool, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) || !markedByGit(path) {
		return false, err
	}
	return true, os.Remove(path)
}

// markedByGit reports whether a mark that a pack is to be kept is git's own, for the time of a push or a fetch;
// a person's stays. Other files are git's by their name.
func markedByGit(path string) bool {
	if !strings.HasSuffix(path, ".keep") {
		return true
	}
	b, err := os.ReadFile(path)
	return err == nil && (strings.HasPrefix(string(b), "receive-pack ") || strings.HasPrefix(string(b), "fetch-pack "))
}
