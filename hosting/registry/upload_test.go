package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway/hosting/registry"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func (w *world) startUpload(repository string) string {
	w.t.Helper()
	resp, body := w.do("dev", "POST", "/v2/"+repository+"/blobs/uploads/", nil)
	if resp.StatusCode != http.StatusAccepted {
		w.t.Fatalf("start upload: %d %s", resp.StatusCode, body)
	}
	return resp.Header.Get("Location")
}

func (w *world) leftovers() []string {
	w.t.Helper()
	left, err := filepath.Glob(filepath.Join(w.dir, "_uploads", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return left
}

// A blob is written in portions, between which the disk is looked at.
func TestUploadOfSeveralPortions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := bytes.Repeat([]byte("slipway "), 5<<20)
	resp, body := w.do("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum(data), bytes.NewReader(data))
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if info, err := os.Stat(w.blobFile("shop/delivery", sum(data))); err != nil || info.Size() != int64(len(data)) {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestUploadInPieces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := bytes.Repeat([]byte("slipway "), 1000)
	digest := sum(data)
	loc := w.startUpload("shop/delivery")

	resp, body := w.do("dev", "PATCH", loc, bytes.NewReader(data[:1000]), "Content-Range", "0-999")
	if resp.StatusCode != 202 || resp.Header.Get("Range") != "0-999" {
		t.Fatalf("first piece: %d, range %q: %s", resp.StatusCode, resp.Header.Get("Range"), body)
	}
	if resp, _ := w.do("dev", "PATCH", loc, bytes.NewReader(data[:10]), "Content-Range", "500-509"); resp.StatusCode != 416 {
		t.Errorf("piece out of order: %d", resp.StatusCode)
	}
	if resp, _ := w.do("dev", "GET", loc, nil); resp.StatusCode != 204 || resp.Header.Get("Range") != "0-999" {
		t.Errorf("status of the upload: %d, range %q", resp.StatusCode, resp.Header.Get("Range"))
	}
	if resp, _ := w.do("dev", "PATCH", strings.Replace(loc, "shop/delivery", "shop/other", 1), nil); resp.StatusCode != 404 {
		t.Errorf("upload of another repository: %d", resp.StatusCode)
	}
	if resp, _ := w.do("dev", "HEAD", "/v2/shop/delivery/blobs/"+digest, nil); resp.StatusCode != 404 {
		t.Errorf("unfinished blob: %d", resp.StatusCode)
	}
	resp, body = w.do("dev", "PUT", loc+"?digest="+digest, bytes.NewReader(data[1000:]))
	if resp.StatusCode != 201 || resp.Header.Get("Docker-Content-Digest") != digest {
		t.Fatalf("finish: %d %s", resp.StatusCode, body)
	}
	if _, body := w.do("dev", "GET", resp.Header.Get("Location"), nil); body != string(data) {
		t.Errorf("%d bytes came back", len(body))
	}
	if resp, _ := w.do("dev", "PATCH", loc, nil); resp.StatusCode != 404 {
		t.Errorf("finished upload goes on: %d", resp.StatusCode)
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUploadWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := []byte("all at once")
	resp, body := w.do("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum(data), bytes.NewReader(data))
	if resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	// again, and another with the wrong digest
	if resp, _ := w.do("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum(data), bytes.NewReader(data)); resp.StatusCode != 201 {
		t.Errorf("again: %d", resp.StatusCode)
	}
	wrong := sum([]byte("something else"))
	msg := w.expect("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+wrong, bytes.NewReader(data), 400, "DIGEST_INVALID")
	if !strings.Contains(msg, sum(data)) || !strings.Contains(msg, wrong) {
		t.Errorf("message %q", msg)
	}
	if resp, _ := w.do("dev", "HEAD", "/v2/shop/delivery/blobs/"+wrong, nil); resp.StatusCode != 404 {
		t.Errorf("blob of the wrong digest: %d", resp.StatusCode)
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUploadCancelledOrAbandoned(t *testing.T) {
	t.Parallel()
	w := openWorld(t, t.TempDir(), registry.Options{UploadIdle: 20 * time.Millisecond})
	loc := w.startUpload("shop/delivery")
	if resp, _ := w.do("dev", "DELETE", loc, nil); resp.StatusCode != 204 && resp.StatusCode != 404 {
		t.Errorf("cancel: %d", resp.StatusCode)
	}
	loc = w.startUpload("shop/delivery")
	deadline := time.Now().Add(time.Minute)
	for len(w.leftovers()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", w.leftovers())
		}
	}
	if resp, _ := w.do("dev", "PATCH", loc, strings.NewReader("late")); resp.StatusCode != 404 {
		t.Errorf("an abandoned upload goes on: %d", resp.StatusCode)
	}
}

// A client that keeps its connection and sends no more is hung up on, and its upload does not stay.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	for name, whole := range map[string]bool{"blob": true, "portion": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := openWorld(t, t.TempDir(), registry.Options{UploadIdle: 200 * time.Millisecond})
			path, method := "/v2/shop/delivery/blobs/uploads/?digest="+sum([]byte("all")), "POST"
			if !whole {
				path, method = w.startUpload("shop/delivery"), "PATCH"
			}
			body, send := io.Pipe()
			defer send.Close()
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				req, err := http.NewRequestWithContext(t.Context(), method, w.server.URL+path, body)
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth("dev", "ved")
				resp, err := w.rt.RoundTrip(req)
				if err == nil {
					resp.Body.Close()
				}
				if err == nil && resp.StatusCode < 400 {
					t.Errorf("half a blob: %d", resp.StatusCode)
				}
			}()
			if _, err := send.Write([]byte("a")); err != nil && !errors.Is(err, io.ErrClosedPipe) { // or it came too late already
				t.Fatal(err)
			}
			<-answered
			deadline := time.Now().Add(time.Minute)
			for len(w.leftovers()) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("still there: %v", w.leftovers())
				}
			}
		})
	}
}

func TestBlobTooLarge(t *testing.T) {
	t.Parallel()
	w := openWorld(t, t.TempDir(), registry.Options{MaxBlob: 100})
	fits, tooLong := bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{1}, 101)
	w.expect("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum(fits), bytes.NewReader(fits), 201, "")
	w.expect("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum(tooLong), bytes.NewReader(tooLong), 413, "SIZE_INVALID")
	loc := w.startUpload("shop/delivery")
	w.do("dev", "PATCH", loc, bytes.NewReader(fits))
	w.expect("dev", "PATCH", loc, strings.NewReader("x"), 413, "SIZE_INVALID")
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, registry.Options{})
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)

	full := openWorld(t, dir, registry.Options{MinFree: 1 << 60})
	msg := full.expect("dev", "POST", "/v2/shop/delivery/blobs/uploads/", nil, 507, "INSUFFICIENT_STORAGE")
	if !strings.Contains(msg, "disk is full") {
		t.Errorf("message %q", msg)
	}
	if code, body := putManifest(full, "dev", "shop/delivery", "v2", img); code != 507 {
		t.Errorf("manifest: %d %s", code, body)
	}
	if full.digest("dev", "shop/delivery:v2") != "" {
		t.Error("the refused tag is visible")
	}
	if full.digest("dev", "shop/delivery:v1") != digestOf(t, img) {
		t.Error("pulling does not work on a full disk")
	}
	if left := full.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMountLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	w.mustPush("admin", "secret/vault:v1", image(t, 1))
	layer := blobsOf(t, img)[2]

	resp, body := w.do("dev", "POST", "/v2/shop/other/blobs/uploads/?mount="+layer+"&from=shop/delivery", nil)
	if resp.StatusCode != 201 || resp.Header.Get("Docker-Content-Digest") != layer {
		t.Fatalf("mount: %d %s", resp.StatusCode, body)
	}
	if a, b := inode(t, w.blobFile("shop/delivery", layer)), inode(t, w.blobFile("shop/other", layer)); a != b {
		t.Errorf("inodes %d and %d: the blob was copied", a, b)
	}
	secret, err := os.ReadDir(filepath.Join(w.dir, "secret/vault/blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	resp, _ = w.do("dev", "POST", "/v2/shop/other/blobs/uploads/?mount=sha256:"+secret[0].Name()+"&from=secret/vault", nil)
	if resp.StatusCode != 202 {
		t.Errorf("mount from a repository that dev may not pull from: %d", resp.StatusCode)
	}
	if _, err := os.Stat(w.blobFile("shop/other", "sha256:"+secret[0].Name())); err == nil {
		t.Error("the blob came over nevertheless")
	}
}
