package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway"
)

// Helm's layout of a chart in a registry.
const (
	chartConfigType = "application/vnd.cncf.helm.config.v1+json"
	chartLayerType  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

	maxChart      = 20 << 20
	maxChartFiles = 200 << 20 // unpacked
	maxChartYAML  = 1 << 20
)

// chartMeta is Chart.yaml, as Helm keeps it in the config of a chart's manifest.
type chartMeta struct {
	Name         string            `json:"name,omitempty"`
	Home         string            `json:"home,omitempty"`
	Sources      []string          `json:"sources,omitempty"`
	Version      string            `json:"version,omitempty"`
	Description  string            `json:"description,omitempty"`
	Keywords     []string          `json:"keywords,omitempty"`
	Maintainers  []chartMaintainer `json:"maintainers,omitempty"`
	Icon         string            `json:"icon,omitempty"`
	APIVersion   string            `json:"apiVersion,omitempty"`
	Condition    string            `json:"condition,omitempty"`
	Tags         string            `json:"tags,omitempty"`
	AppVersion   string            `json:"appVersion,omitempty"`
	Deprecated   bool              `json:"deprecated,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	KubeVersion  string            `json:"kubeVersion,omitempty"`
	Dependencies []chartDependency `json:"dependencies,omitempty"`
	Type         string            `json:"type,omitempty"`
}

type chartMaintainer struct {
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	URL   string `json:"url,omitempty"`
}

type chartDependency struct {
	Name         string   `json:"name"`
	Version      string   `json:"version,omitempty"`
	Repository   string   `json:"repository"`
	Condition    string   `json:"condition,omitempty"`
	Tags         []string `json:"tags,omitempty"`
	Enabled      bool     `json:"enabled,omitempty"`
	ImportValues []any    `json:"import-values,omitempty"`
	Alias        string   `json:"alias,omitempty"`
}

// PushChart pushes a chart package (.tgz) by digest, in the layout that Helm reads, and returns the
// digest of its manifest: equal packages have equal digests. The version must be the package's own; it
// becomes the tag with Tag, once it may be claimed.
func (c *Client) PushChart(ctx context.Context, repo slipway.Repository, version string, pkg []byte) (string, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return "", err
	}
	meta, err := readChartMeta(pkg)
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "chart package for %s: %w", repo.Ref(), err)
	}
	if meta.Version != version {
		return "", slipway.Errorf(slipway.Invalid, "chart package for %s has version %q, not %q", repo.Ref(), meta.Version, version)
	}
	config, err := json.Marshal(meta)
	if err != nil {
		return "", err
	}
	annotations := map[string]string{
		"org.opencontainers.image.title":   meta.Name,
		"org.opencontainers.image.version": meta.Version,
	}
	if meta.Description != "" {
		annotations["org.opencontainers.image.description"] = meta.Description
	}
	blobs := []v1.Layer{static.NewLayer(config, chartConfigType), static.NewLayer(pkg, chartLayerType)}
	digest, err := r.pushManifest(ctx, v1.Manifest{Annotations: annotations}, blobs)
	return digest, r.translate(ctx, "push chart "+repo.Ref()+":"+version, err)
}

// PullChart returns the chart package (.tgz) of a manifest, at most 20 MiB, checked against its digest.
func (c *Client) PullChart(ctx context.Context, repo slipway.Repository, digest string) ([]byte, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	m, err := r.manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	if m.Config.MediaType != chartConfigType {
		return nil, slipway.Errorf(slipway.Invalid, "%s@%s is not a Helm chart (its config is %q)", repo.Ref(), digest, m.Config.MediaType)
	}
	for _, l := range m.Layers {
		if l.MediaType == chartLayerType {
			return r.blob(ctx, l, maxChart)
		}
	}
	return nil, slipway.Errorf(slipway.Invalid, "%s@%s: the chart has no package", repo.Ref(), digest)
}

// readChartMeta finds <chart>/Chart.yaml in a package.
func readChartMeta(pkg []byte) (chartMeta, error) {
	var meta chartMeta
	if len(pkg) > maxChart {
		return meta, slipway.Errorf(slipway.Invalid, "%d bytes, at most %d are allowed", len(pkg), maxChart)
	}
	gz, err := gzip.NewReader(bytes.NewReader(pkg))
	if err != nil {
		return meta, err
	}
	files := tar.NewReader(io.LimitReader(gz, maxChartFiles))
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return meta, slipway.Errorf(slipway.Invalid, "it has no Chart.yaml")
		}
		if err != nil {
			return meta, err
		}
		name := path.Clean(h.Name)
		if strings.Count(name, "/") != 1 || path.Base(name) != "Chart.yaml" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(files, maxChartYAML))
		if err != nil {
			return meta, err
		}
		if err := yaml.Unmarshal(b, &meta); err != nil {
			return meta, err
		}
		if meta.Name == "" || meta.Version == "" {
			return meta, slipway.Errorf(slipway.Invalid, "its Chart.yaml has no name or no version")
		}
		return meta, nil
	}
}
