package scanner

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// folder searches the regular files of a folder; links are not followed.
func (s *Scanner) folder(ctx context.Context, req Request) (Answer, error) {
	root, err := os.OpenRoot(req.Folder)
	if err != nil {
		return Answer{}, fmt.Errorf("read the folder: %w", err)
	}
	defer root.Close()
	search := newSearch(ctx, s.patterns)
	b := newBudget(req.Limits)
	var large int
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.entry(); err != nil {
			return refusal{fmt.Sprintf("it has more than %d files", req.Limits.Files)}
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > maxSearched {
			large++
			return nil
		}
		f, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		defer f.Close()
		return search.reader(f, place{path: name, number: -1})
	})
	if err != nil {
		return Answer{}, err
	}
	found, problems := search.findings()
	a := Answer{Problems: problems}
	for _, f := range found {
		a.Findings = append(a.Findings, f.Finding)
	}
	return a, nil
}

// unpackArchive writes the files of a tar archive of a layout into a new folder.
func unpackArchive(file, dir string, limits Limits) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	defer f.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("unpack the archive: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack the archive: %w", err)
	}
	defer root.Close()
	tr := tar.NewReader(f)
	left := limits.Bytes
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refusal{fmt.Sprintf("it is not a tar archive of an OCI layout: %v", err)}
		}
		if n > 10_000 {
			return refusal{"its archive has more than 10,000 entries"}
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if left -= h.Size; left < 0 {
			return refusal{fmt.Sprintf("its archive unpacks to more than %s", size(limits.Bytes))}
		}
		if !filepath.IsLocal(filepath.FromSlash(h.Name)) {
			return refusal{fmt.Sprintf("the entry %q of its archive leads out of it", oneLine(h.Name, 200))}
		}
		if err := writeEntry(root, filepath.FromSlash(h.Name), tr); err != nil {
			return refusal{fmt.Sprintf("its archive cannot be unpacked: %v", err)}
		}
	}
}

func writeEntry(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
