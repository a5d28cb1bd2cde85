package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

const maxLinks = 20

// errOutside says that a link leads out of the repository.
var errOutside = errors.New("it is a link that leads out of the repository")

// resolve follows the links on the way to a path of the tree, part by part, and returns the path
// without links. A link out of the tree is errOutside, whatever the file system would do with it.
func resolve(fsys fs.FS, name string) (string, error) {
	real, _, err := follow(fsys, name)
	return real, err
}

// follow is resolve, and returns the links that it came by.
func follow(fsys fs.FS, name string) (real string, links []string, err error) {
	return followIn(fsys, ".", name)
}

// followIn is follow for a path of a folder without links, with which the tree ends: a link that leads out of the folder
// is errOutside, also if it leads back in.
func followIn(fsys fs.FS, root, name string) (real string, links []string, err error) {
	done, rest := root, strings.Split(path.Clean(name), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == "." || part == "" {
			continue
		}
		if part == ".." {
			if done == root {
				return "", links, errOutside
			}
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		info, err := fs.Lstat(fsys, next)
		if err != nil {
			return "", links, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links = append(links, next); len(links) > maxLinks {
			return "", links, errors.New("it is a link that leads to itself, or through too many others")
		}
		to, err := fs.ReadLink(fsys, next)
		if err != nil {
			return "", links, err
		}
		if path.IsAbs(to) || strings.Contains(to, `\`) {
			return "", links, errOutside
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return done, links, nil
}

// read reads a file of the tree, following links within it, up to max bytes.
func read(fsys fs.FS, name string, most int) ([]byte, error) {
	real, err := resolve(fsys, name)
	if err != nil {
		return nil, err
	}
	f, err := fsys.Open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, fmt.Errorf("it has more than %d KiB", most>>10)
	}
	return data, nil
}

// exists reports whether a path of the tree is there, as a folder or as a file; links count as what
// they lead to within the tree. The error is set when it leads out of the tree.
func exists(fsys fs.FS, name string, folder bool) (bool, error) {
	real, err := resolve(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := fs.Lstat(fsys, real)
	if err != nil {
		return false, err
	}
	return info.IsDir() == folder, nil
}

// there reports whether a path of the tree is there, as whatever it is.
func there(fsys fs.FS, name string) (bool, error) {
	_, err := resolve(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// because says in words why a file could not be read.
func because(err error) string {
	switch {
	case errors.Is(err, errOutside):
		return errOutside.Error()
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "it may not be read"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
