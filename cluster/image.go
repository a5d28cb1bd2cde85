package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
)

// imageArchive wraps a static binary into an image of one layer, in the format
// of `docker save`, which containerd imports. Equal input gives equal output.
func imageArchive(reference string, binary []byte) ([]byte, error) {
	layer, err := tarFiles(tarFile{"pause", binary, 0o755})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{reference}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		return nil, err
	}
	return tarFiles(
		tarFile{"config.json", config, 0o644},
		tarFile{"layer.tar", layer, 0o644},
		tarFile{"manifest.json", manifest, 0o644},
	)
}

type tarFile struct {
	name string
	data []byte
	mode int64
}

func tarFiles(files ...tarFile) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// importPause gives containerd the image of every pod's first container.
func (c *Cluster) importPause(ctx context.Context) error {
	binary, err := os.ReadFile(c.Binaries["pause"])
	if err != nil {
		return fmt.Errorf("import the pause image: %w", err)
	}
	archive, err := imageArchive(pauseImage, binary)
	if err != nil {
		return fmt.Errorf("import the pause image: %w", err)
	}
	if _, err := commandInput(ctx, string(archive), c.ctrPath(),
		"--address="+c.containerdSocket(), "--namespace=k8s.io", "images", "import", "-"); err != nil {
		return fmt.Errorf("import the pause image: %w", err)
	}
	return nil
}

func (c *Cluster) ctrPath() string { return c.Binaries["ctr"] }
