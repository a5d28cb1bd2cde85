package helmchart

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"helm.sh/helm/v4/pkg/ignore"

	"github.com/slipway-cd/slipway/stage/chart"
)

// Load implements chart.Helm.
func (h *Helm) Load(ctx context.Context, dir string, keep []string) (chart.Chart, []chart.Problem, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return chart.Chart{}, []chart.Problem{failure("", 0, "there is no such folder in this commit")}, nil
	}
	if err != nil {
		return chart.Chart{}, nil, fmt.Errorf("open chart folder: %w", err)
	}
	defer root.Close()
	w := walk{root: root, left: h.opts.MaxBytes, maxFiles: h.opts.MaxFiles, seen: map[string]bool{}}
	w.rules = ignore.Empty()
	if b, err := root.ReadFile(ignore.HelmIgnore); err == nil {
		if w.rules, err = ignore.Parse(bytes.NewReader(b)); err != nil {
			return chart.Chart{}, []chart.Problem{failure(ignore.HelmIgnore, 0, err.Error())}, nil
		}
	}
	w.rules.AddDefaults()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return w.visit(name, d, err)
	})
	if err == nil {
		err = w.always(keep)
	}
	switch {
	case errors.Is(err, errTooMuch):
		w.problems = append(w.problems, failure("", 0, fmt.Sprintf("the folder has more than %d files or %d MiB: leave out with a .helmignore what does not belong to the chart", h.opts.MaxFiles, h.opts.MaxBytes>>20)))
	case err != nil:
		return chart.Chart{}, nil, fmt.Errorf("read chart folder: %w", err)
	case !w.seen["Chart.yaml"]:
		w.problems = append(w.problems, failure("Chart.yaml", 0, "missing: a chart folder has a Chart.yaml with apiVersion, name and version"))
	}
	slices.SortFunc(w.files, func(a, b chart.File) int { return strings.Compare(a.Path, b.Path) })
	return chart.Chart{Files: w.files}, w.problems, nil
}

var errTooMuch = errors.New("too many or too large files")

type walk struct {
	root     *os.Root
	rules    *ignore.Rules
	left     int64
	maxFiles int
	files    []chart.File
	seen     map[string]bool
	problems []chart.Problem
}

func (w *walk) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if w.rules.Ignore(name, info) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	if d.IsDir() {
		return nil
	}
	return w.add(name, info)
}

// always adds files that the chart needs whatever .helmignore says: its values files.
func (w *walk) always(keep []string) error {
	for _, name := range keep {
		if w.seen[name] || !fs.ValidPath(name) {
			continue
		}
		info, err := w.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			w.problems = append(w.problems, failure(name, 0, "not a file of the chart folder"))
			continue
		}
		if err := w.add(name, info); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) add(name string, info fs.FileInfo) error {
	if why := badName(name); why != "" {
		w.problems = append(w.problems, failure("", 0, fmt.Sprintf("file name %q %s", name, why)))
		return nil
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := w.root.Stat(name)
		if err != nil {
			w.problems = append(w.problems, failure(name, 0, "is a link that leaves the chart folder or leads nowhere: put the file itself here"))
			return nil
		}
		info = target
	}
	if !info.Mode().IsRegular() {
		w.problems = append(w.problems, failure(name, 0, "is a link to a folder or a special file: only files, and links to files of the chart, are packaged"))
		return nil
	}
	if len(w.files) >= w.maxFiles || info.Size() > w.left {
		return errTooMuch
	}
	f, err := w.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, w.left+1))
	if err != nil {
		return err
	}
	if w.left -= int64(len(data)); w.left < 0 {
		return errTooMuch
	}
	if err := w.unpacked(name, data); err != nil {
		return err
	}
	w.seen[name] = true
	w.files = append(w.files, chart.File{Path: name, Data: bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))})
	return nil
}

// unpacked charges a packed dependency with its size once it is unpacked, as loading it will.
func (w *walk) unpacked(name string, data []byte) error {
	if path.Dir(name) != "charts" || path.Ext(name) != ".tgz" {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		w.problems = append(w.problems, failure(name, 0, "is not a chart package"))
		return nil
	}
	n, err := io.Copy(io.Discard, io.LimitReader(z, w.left+1))
	if err != nil {
		w.problems = append(w.problems, failure(name, 0, "is not a chart package"))
		return nil
	}
	if w.left -= n; w.left < 0 {
		return errTooMuch
	}
	return nil
}

// badName says why a file cannot be packaged under its name: Helm reads backslashes in packages as
// slashes.
func badName(name string) string {
	switch {
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case strings.ContainsRune(name, '\\'):
		return "has a backslash"
	case strings.IndexFunc(name, unicode.IsControl) >= 0:
		return "has a control character"
	case len(name) > 200:
		return "is longer than 200 bytes"
	}
	return ""
}
