package helmchart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/loader/archive"

	"github.com/slipway-cd/slipway"
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

// Rehearse renders a packaged chart within the bounds of Check, before a deployment renders it where it
// cannot be interrupted. Its only finding, an Invalid error, is that the chart takes too long or too much
// memory: whatever else is wrong, the deployment finds with what the cluster knows.
func (h *Helm) Rehearse(ctx context.Context, tgz []byte, r chart.Render) error {
	files, err := archive.LoadArchiveFiles(bytes.NewReader(tgz))
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "unpack chart: %w", err)
	}
	var c chart.Chart
	for _, f := range files {
		c.Files = append(c.Files, chart.File{Path: f.Name, Data: f.Data})
	}
	loaded, err := load(c)
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "load chart: %w", err)
	}
	c.Name = loaded.Name()
	_, err = h.render(ctx, request{Chart: c, Renders: []chart.Render{r}, Now: h.opts.Now(), Rehearsal: true})
	if errors.Is(err, errTooLong) || errors.Is(err, errTooLarge) {
		err = slipway.Errorf(slipway.Invalid, "chart %s: %s", c.Name, h.bound(err))
	}
	return err
}
