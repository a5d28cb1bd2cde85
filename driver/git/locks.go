package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// RemoveLocks removes the lock files that a git which died left in the repository, with which every
// later one would refuse to move the ref or to write the file, and returns their names. Only what was
// made before a time is removed; nothing else may use the repository meanwhile.
func (r Repo) RemoveLocks(before time.Time) ([]string, error) {
	var removed []string
	err := filepath.WalkDir(r.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.Dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return within(filepath.ToSlash(name))
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(name, ".lock") {
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.ModTime().Before(before) {
			return err
		}
		removed = append(removed, name)
		return os.Remove(path)
	})
	if err != nil {
		return removed, fmt.Errorf("remove locks of a dead git: %w", err)
	}
	return removed, nil
}

// within leaves the folders of objects out: there are many, and no locks in them but in objects/info.
func within(dir string) error {
	if rest, ok := strings.CutPrefix(dir, "objects/"); ok && rest != "info" && !strings.HasPrefix(rest, "info/") {
		return fs.SkipDir
	}
	return nil
}
