package registry_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway/hosting/registry"
)

func TestRestart(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		w := newWorld(t)
		c := pushCandidate(w)
		loc := w.startUpload("shop/delivery")
		w.do("dev", "PATCH", loc, strings.NewReader("half a blob"))
		if closed {
			if err := w.reg.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		again := openWorld(t, w.dir, registry.Options{})
		if got := again.digest("dev", "shop/delivery:v1.0.2"); got != digestOf(t, c.img) {
			t.Errorf("closed %v: after the restart v1.0.2 is %q", closed, got)
		}
		_, body := again.do("dev", "GET", "/v2/shop/delivery/referrers/"+digestOf(t, c.img), nil)
		if !strings.Contains(body, digestOf(t, c.sbom)) {
			t.Errorf("closed %v: after the restart referrers are %s", closed, body)
		}
		if left := again.leftovers(); len(left) > 0 {
			t.Errorf("closed %v: left behind %v", closed, left)
		}
		if resp, _ := again.do("dev", "PATCH", loc, strings.NewReader("x")); resp.StatusCode != 404 {
			t.Errorf("closed %v: an upload of before goes on: %d", closed, resp.StatusCode)
		}
		if err := again.push("dev", "shop/delivery:v1.0.2", image(t, 1)); status(err) != 409 {
			t.Errorf("closed %v: after the restart the tag moves: %v", closed, err)
		}
	}
}

// Blobs that wait for their manifest survive an orderly stop.
func TestCloseCollectsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery@"+digestOf(t, img), img) // no tag yet, as builds push
	data := "a blob without a manifest"
	w.expect("dev", "POST", "/v2/shop/delivery/blobs/uploads/?digest="+sum([]byte(data)), strings.NewReader(data), 201, "")
	if err := w.reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := openWorld(t, w.dir, registry.Options{})
	if resp, _ := again.do("dev", "HEAD", "/v2/shop/delivery/blobs/"+sum([]byte(data)), nil); resp.StatusCode != 200 {
		t.Errorf("the blob is gone: %d", resp.StatusCode)
	}
	if again.digest("dev", "shop/delivery@"+digestOf(t, img)) == "" {
		t.Error("the untagged image is gone")
	}
}

func TestTornIndexIsRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	index := filepath.Join(w.dir, "shop/delivery/index.json")
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	for _, torn := range []string{"", `{"manifests": [`} {
		if err := os.WriteFile(index, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(index+".4711", []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		again := openWorld(t, w.dir, registry.Options{})
		if got := again.digest("dev", "shop/delivery:v1"); got != digestOf(t, img) {
			t.Errorf("index %q: v1 is %q", torn, got)
		}
		if _, err := os.Stat(index + ".4711"); err == nil {
			t.Error("the half-written index is still there")
		}
		if err := os.Remove(index); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"index.json", "index.json.last"} {
		if err := os.WriteFile(filepath.Join(w.dir, "shop/delivery", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := registry.Open(w.dir, authorize, registry.Options{})
	if err == nil || !strings.Contains(err.Error(), "shop/delivery") {
		t.Errorf("opened with an index that cannot be read: %v", err)
	}
}

// A process that is killed while images are pushed to it loses none that it acknowledged.
func TestKilledWhileImagesArePushed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	host, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	host = strings.TrimSpace(host)

	acknowledged := map[string]v1.Image{}
	done, enough := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for { // until the process is gone
			tag, err := name.NewTag(fmt.Sprintf("%s/shop/delivery:v%d", host, len(acknowledged)), name.StrictValidation)
			if err != nil {
				t.Error(err)
				return
			}
			img := image(t, 1)
			if remote.Write(tag, img, remote.WithRetryBackoff(remote.Backoff{Steps: 1})) != nil {
				return
			}
			if acknowledged[tag.TagStr()] = img; len(acknowledged) == 10 {
				close(enough)
			}
		}
	}()
	select {
	case <-enough:
	case <-done:
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	<-done
	if n := len(acknowledged); n < 10 {
		t.Fatalf("%d images were pushed before the kill", n)
	}
	w := openWorld(t, dir, registry.Options{})
	for tag, img := range acknowledged {
		if got := w.digest("dev", "shop/delivery:"+tag); got != digestOf(t, img) {
			t.Errorf("%s is %q", tag, got)
		}
		for _, d := range blobsOf(t, img) {
			b, err := os.ReadFile(w.blobFile("shop/delivery", d))
			if err != nil || sum(b) != d {
				t.Errorf("%s: blob %s: %v", tag, d, err)
			}
		}
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
