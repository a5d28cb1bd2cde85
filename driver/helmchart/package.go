package helmchart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/loader/archive"

	"github.com/slipway-cd/slipway/stage/chart"
)

// Package implements chart.Helm. Unlike Helm's own, the archive holds the files as they are, sorted,
// all of one time, owner and mode, and nothing of the machine or the moment.
func (h *Helm) Package(c chart.Chart, created time.Time) ([]byte, error) {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	files := slices.Clone(c.Files)
	slices.SortFunc(files, func(a, b chart.File) int {
		// Chart.yaml first, as tools that list a package expect.
		if (a.Path == "Chart.yaml") != (b.Path == "Chart.yaml") {
			if a.Path == "Chart.yaml" {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Path, b.Path)
	})
	mtime := created.UTC().Truncate(time.Second)
	if mtime.Before(time.Unix(0, 0)) {
		mtime = time.Unix(0, 0).UTC()
	}
	for _, f := range files {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: c.Name + "/" + f.Path, Mode: 0o644, Size: int64(len(f.Data)), ModTime: mtime, Format: tar.FormatPAX}
		if err := t.WriteHeader(head); err != nil {
			return nil, fmt.Errorf("package %s: %w", f.Path, err)
		}
		if _, err := t.Write(f.Data); err != nil {
			return nil, fmt.Errorf("package %s: %w", f.Path, err)
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// RenderPackage renders a packaged chart, for who wants to show what it would deploy.
func (h *Helm) RenderPackage(ctx context.Context, tgz []byte, r chart.Render) (chart.Rendered, error) {
	files, err := archive.LoadArchiveFiles(bytes.NewReader(tgz))
	if err != nil {
		return chart.Rendered{}, fmt.Errorf("unpack chart: %w", err)
	}
	var c chart.Chart
	for _, f := range files {
		c.Files = append(c.Files, chart.File{Path: f.Name, Data: f.Data})
	}
	loaded, err := load(c)
	if err != nil {
		return chart.Rendered{}, fmt.Errorf("load chart: %w", err)
	}
	c.Name = loaded.Name()
	out, err := h.Check(ctx, c, []chart.Render{r})
	if err != nil {
		return chart.Rendered{}, err
	}
	return out[0], nil
}
