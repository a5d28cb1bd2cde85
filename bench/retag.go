package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway/hosting/registry"
)

const (
	retagLayers    = 10
	retagLayerSize = 50_000_000
	retagBudget    = 100 // ms
	retagFrom      = "bench/delivery"
)

// measureRetag names an image of 500 MB in production, in a repository that does not exist yet, with the
// embedded registry in this process; what it is compared with is a copy of the same files.
func measureRetag(ctx context.Context, w *world) ([]row, error) {
	dir := filepath.Join(w.dir, "retag")
	reg, err := registry.Open(dir, func(context.Context, string, string, registry.Action, string) (string, error) { return "bench", nil }, registry.Options{})
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	defer reg.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is thrown away
	digest, err := pushBig(ctx, reg)
	if err != nil {
		return nil, fmt.Errorf("push an image of 500 MB: %w", err)
	}
	var times, copies []time.Duration
	var moved int64
	for i := range w.o.times(20) {
		before, err := ioBytes()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := reg.Retag(ctx, retagFrom, digest, fmt.Sprintf("prod/%s%d", retagFrom, i), "v1.0.0"); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		after, err := ioBytes()
		if err != nil {
			return nil, err
		}
		moved = max(moved, after-before)
		if i < 3 {
			took, err := copyFolder(filepath.Join(dir, retagFrom), filepath.Join(w.dir, "copy"))
			if err != nil {
				return nil, err
			}
			copies = append(copies, took)
		}
	}
	shared, err := sharedBlobs(filepath.Join(dir, retagFrom), filepath.Join(dir, "prod", retagFrom+"0"))
	if err != nil {
		return nil, err
	}
	took := limitRow("Retag of a 500 MB image to production", millis(times), millis(copies), retagBudget)
	took.reference += " to copy its files"
	bytes := row{
		what: "… bytes that one retag reads and writes", figure: fmt.Sprintf("at most %d bytes", moved), reference: "500 MB",
		result: fmt.Sprintf("%d of %d blobs are the same inode", shared, retagLayers+2), budget: "no blob", verdict: passed,
	}
	if shared != retagLayers+2 || moved > retagLayerSize/10 {
		bytes.verdict = missed
	}
	return []row{took, bytes}, nil
}

// pushBig pushes ten layers of noise as a client does, and returns the digest.
func pushBig(ctx context.Context, reg *registry.Registry) (string, error) {
	server := httptest.NewServer(reg)
	defer server.Close()
	rng := rand.NewChaCha8([32]byte{1})
	img := v1.Image(empty.Image)
	for range retagLayers {
		data := make([]byte, retagLayerSize)
		if _, err := rng.Read(data); err != nil {
			return "", err
		}
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(data, types.OCIUncompressedLayer)); err != nil {
			return "", err
		}
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+retagFrom+":v1.0.0", name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return "", err
	}
	digest, err := img.Digest()
	return digest.String(), err
}

// copyFolder copies a repository's blobs byte by byte, to disk, and removes the copy again.
func copyFolder(from, to string) (time.Duration, error) {
	defer os.RemoveAll(to)
	began := time.Now()
	err := filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return copyFile(name, filepath.Join(to, rel))
	})
	return time.Since(began), err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	// Without the wrapper the kernel could share the blocks instead of copying them.
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	return errors.Join(err, out.Sync(), out.Close())
}

// sharedBlobs counts the blobs of one repository that are the same file in another.
func sharedBlobs(from, to string) (int, error) {
	blobs, err := os.ReadDir(filepath.Join(from, "blobs", "sha256"))
	if err != nil {
		return 0, err
	}
	shared := 0
	for _, b := range blobs {
		var a, z syscall.Stat_t
		if err := syscall.Stat(filepath.Join(from, "blobs", "sha256", b.Name()), &a); err != nil {
			return 0, err
		}
		if err := syscall.Stat(filepath.Join(to, "blobs", "sha256", b.Name()), &z); err == nil && a.Ino == z.Ino && a.Dev == z.Dev {
			shared++
		}
	}
	return shared, nil
}

// ioBytes is how many bytes this process has read and written, from files or elsewhere.
func ioBytes() (int64, error) {
	sum := int64(0)
	for _, key := range []string{"rchar", "wchar"} {
		n, err := strconv.ParseInt(field("/proc/self/io", key), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/self/io: %w", err)
		}
		sum += n
	}
	return sum, nil
}
