package store

import (
	"errors"
	"os"
	"path/filepath"
)

// settle gives a file that was written its name, synced with its folder: after a power cut it is there whole, or
// what was there before. The file is closed, and removed where that fails. The folder must be there, and synced
// with those that it is in.
func settle(f *os.File, path string) error {
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// folder makes a folder, and the one that it is in, which outlast a power cut.
func folder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	return errors.Join(syncDir(parent), syncDir(filepath.Dir(parent)))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
