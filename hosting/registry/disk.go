package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/olareg/olareg/types"
)

// disk is the folder: one OCI layout per repository, and unfinished uploads. Whatever its methods put
// in place is complete and synced before it has its name.
type disk struct {
	root    string
	minFree int64
	create  sync.Mutex
}

const (
	indexName  = "index.json"
	layoutName = "oci-layout"
	// lastName links to the newest index.json that was synced. olareg replaces index.json without
	// syncing it; after a power cut this one is put back.
	lastName = "index.json.last"
)

func (d *disk) dir(repository string) string {
	return filepath.Join(d.root, filepath.FromSlash(repository))
}

func (d *disk) uploadsDir() string { return filepath.Join(d.root, uploadsFolder) }

func (d *disk) blobsDir(repository string) string {
	return filepath.Join(d.dir(repository), "blobs", "sha256")
}

func (d *disk) blob(repository, digest string) string {
	return filepath.Join(d.blobsDir(repository), strings.TrimPrefix(digest, "sha256:"))
}

// has reports whether the repository exists.
func (d *disk) has(repository string) bool {
	fi, err := os.Stat(filepath.Join(d.dir(repository), indexName))
	return err == nil && fi.Mode().IsRegular()
}

func (d *disk) hasBlob(repository, digest string) bool {
	fi, err := os.Stat(d.blob(repository, digest))
	return err == nil && fi.Mode().IsRegular()
}

// ensure makes the repository unless it exists. Its index is written last, so a repository is either
// there or not.
func (d *disk) ensure(repository string) error {
	if d.has(repository) {
		return nil
	}
	d.create.Lock()
	defer d.create.Unlock()
	if d.has(repository) {
		return nil
	}
	if err := os.MkdirAll(d.blobsDir(repository), 0o700); err != nil {
		return err
	}
	dir := d.dir(repository)
	if err := d.writeFile(filepath.Join(dir, layoutName), types.Layout{Version: types.LayoutVersion}); err != nil {
		return err
	}
	index := types.Index{
		SchemaVersion: 2,
		MediaType:     types.MediaTypeOCI1ManifestList,
		Manifests:     []types.Descriptor{},
		Annotations:   map[string]string{types.AnnotReferrerConvert: "true"},
	}
	if err := d.writeFile(filepath.Join(dir, indexName), index); err != nil {
		return err
	}
	for p := d.blobsDir(repository); len(p) >= len(d.root); p = filepath.Dir(p) {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) writeFile(path string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return d.writeBytes(path, b)
}

// writeBytes puts a whole file in place.
func (d *disk) writeBytes(path string, b []byte) error {
	f, err := os.CreateTemp(d.uploadsDir(), "file-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

// adopt gives a synced temporary file its place among the blobs of the repository.
func (d *disk) adopt(temp, repository, digest string) error {
	if err := d.ensure(repository); err != nil {
		return err
	}
	if err := os.Rename(temp, d.blob(repository, digest)); err != nil {
		return err
	}
	return syncDir(d.blobsDir(repository))
}

// link makes a blob of one repository one of another, without moving a byte. It does not sync the
// folder: syncBlobs does. A blob that is not in from is fs.ErrNotExist.
func (d *disk) link(from, to, digest string) error {
	err := os.Link(d.blob(from, digest), d.blob(to, digest))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (d *disk) syncBlobs(repository string) error { return syncDir(d.blobsDir(repository)) }

// syncIndex makes the repository's index durable and remembers it as the one to go back to.
func (d *disk) syncIndex(repository string) error {
	dir := d.dir(repository)
	index, next := filepath.Join(dir, indexName), filepath.Join(dir, lastName+".next")
	if err := syncFile(index); err != nil {
		return err
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(index, next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(dir, lastName)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncBlob makes durable a blob that olareg wrote.
func (d *disk) syncBlob(repository, digest string) error {
	if err := syncFile(d.blob(repository, digest)); err != nil {
		return err
	}
	return d.syncBlobs(repository)
}

// touchIndex makes olareg read the index again, within a second: after an index that could not be
// written it would go on with the one it has in memory.
func (d *disk) touchIndex(repository string) error {
	path := filepath.Join(d.dir(repository), indexName)
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	t := fi.ModTime().Add(1)
	return os.Chtimes(path, t, t)
}

// room returns a fault unless n more bytes fit and leave the reserve free.
func (d *disk) room(n int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.root, &st); err != nil {
		return err
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	if free-max(n, 0) < d.minFree {
		return fullFault(fmt.Errorf("%d bytes free, %d asked for, %d kept in reserve: %w", free, n, d.minFree, syscall.ENOSPC))
	}
	return nil
}

// recover brings the folder into order: no uploads, every index readable.
func (d *disk) recover() error {
	if err := os.RemoveAll(d.uploadsDir()); err != nil {
		return err
	}
	if err := os.MkdirAll(d.uploadsDir(), 0o700); err != nil {
		return err
	}
	return d.repositories(d.recoverRepository)
}

// repositories calls fn with the folder of every repository.
func (d *disk) repositories(fn func(dir string) error) error {
	return filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "blobs" || e.Name() == uploadsFolder) {
			return filepath.SkipDir
		}
		if e.Name() != layoutName || e.IsDir() {
			return nil
		}
		return fn(filepath.Dir(path))
	})
}

func (d *disk) recoverRepository(dir string) error {
	index, last := filepath.Join(dir, indexName), filepath.Join(dir, lastName)
	left, err := filepath.Glob(filepath.Join(dir, indexName+".*"))
	if err != nil {
		return err
	}
	for _, p := range left {
		if p == last {
			continue
		}
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	_, err = readIndex(index)
	if err == nil {
		return nil
	}
	name, _ := filepath.Rel(d.root, dir)
	if _, lastErr := readIndex(last); lastErr != nil {
		if errors.Is(err, fs.ErrNotExist) && errors.Is(lastErr, fs.ErrNotExist) {
			return nil // a crash while it was made: it does not exist yet
		}
		return fmt.Errorf("repository %s: its index.json is unreadable; restore it from a backup: %w", name, err)
	}
	if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(last, index); err != nil {
		return err
	}
	return syncDir(dir)
}

// measure counts repositories and bytes, each file once.
func (d *disk) measure() (Stats, error) {
	var s Stats
	seen := map[uint64]struct{}{}
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // removed meanwhile
		}
		if e.Name() == indexName {
			s.Repositories++
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if ok && st.Nlink > 1 {
			if _, dup := seen[st.Ino]; dup {
				return nil
			}
			seen[st.Ino] = struct{}{}
		}
		s.Bytes += fi.Size()
		return nil
	})
	return s, err
}

func readIndex(path string) (types.Index, error) {
	var index types.Index
	b, err := os.ReadFile(path)
	if err != nil {
		return index, err
	}
	return index, json.Unmarshal(b, &index)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncDir(path string) error { return syncFile(path) }
