package registry_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/slipway-cd/slipway/hosting/registry"
)

func blobsIn(t *testing.T, w *world) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "shop/delivery/blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A process that is killed while it removes and collects has lost nothing that something refers to, and the next
// one finishes: what is left then is what is needed and nothing else.
func TestKilledWhileBlobsAreCollected(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	c := pushCandidate(w)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image(t, 1)})
	w.mustPush("dev", "shop/delivery:v2.0.0", index)
	stays := blobsIn(t, w)
	var old []string
	for i := range 8 {
		img := image(t, 1)
		w.mustPush("dev", fmt.Sprintf("shop/delivery:old-%d", i), img)
		sbom := referrer(t, img, "application/spdx+json")
		w.mustPush("dev", "shop/delivery@"+digestOf(t, sbom), sbom)
		old = append(old, digestOf(t, img))
	}
	litter(t, w)
	for _, part := range []int{1, 1000} { // blobs that are gone when it is killed
		killCollector(t, w, old, blobsIn(t, w)-part)
		for blobsIn(t, w) <= stays { // it was quicker than the kill
			litter(t, w)
			killCollector(t, w, old, blobsIn(t, w)-part)
		}
	}
	clock.by = 3 * time.Hour
	again := openWorld(t, w.dir, registry.Options{Now: clock.now})
	whole := func(when string) {
		t.Helper()
		for _, img := range []v1.Image{c.img, c.sbom, c.prov, c.sign} {
			if err := pull(again, "shop/delivery@"+digestOf(t, img)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		for tag, want := range map[string]string{"v1.0.2": digestOf(t, c.img), "v2.0.0": digestOf(t, index)} {
			if got := again.digest("robot", "shop/delivery:"+tag); got != want {
				t.Errorf("%s: %s is %q", when, tag, got)
			}
		}
		_, body := again.do("robot", "GET", "/v2/shop/delivery/referrers/"+digestOf(t, c.img), nil)
		if !strings.Contains(body, digestOf(t, c.sbom)) || !strings.Contains(body, digestOf(t, c.prov)) {
			t.Errorf("%s: referrers are %s", when, body)
		}
	}
	whole("after the kill")
	if err := again.reg.RemoveAll(t.Context(), "shop/delivery", old); err != nil {
		t.Fatal(err)
	}
	if _, err := again.reg.Collect(t.Context(), "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	whole("after the restart finished it")
	if got := blobsIn(t, again); got > stays || len(held(t, again, "shop")) != 2 {
		t.Errorf("%d blobs are left, %d are needed; held %v", got, stays, held(t, again, "shop"))
	}
}

// litter is what pushes left behind that were given up.
func litter(t *testing.T, w *world) {
	t.Helper()
	for i := range 4000 {
		body := fmt.Append(nil, "garbage ", i)
		if err := os.WriteFile(w.blobFile("shop/delivery", sum(body)), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// killCollector starts a process that removes and collects, and kills it when so few blobs are left.
func killCollector(t *testing.T, w *world, old []string, left int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+w.dir, childRemoves+"="+strings.Join(old, ","))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Errorf("the collecting process said %q: %v", line, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for blobsIn(t, w) > left {
		select {
		case err := <-ended:
			t.Fatalf("the collecting process ended before it had collected: %v", err)
		default:
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-ended
	if got, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || got.Signal() != syscall.SIGKILL {
		t.Errorf("the collecting process ended by itself: %v", cmd.ProcessState)
	}
}

// Blobs that nothing needs any more are pushed again while they are collected: who was told that one is there, or
// that it was taken, finds it there. It goes on until some were collected while others were pushed.
func TestPushedWhileBlobsAreCollected(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	w := openWorld(t, t.TempDir(), registry.Options{Now: func() time.Time {
		if at := now.Load(); at != nil {
			return *at
		}
		return time.Now()
	}})
	for collected := 0; collected == 0 && !t.Failed(); {
		now.Store(nil)
		images := make([]v1.Image, 20)
		for i := range images {
			images[i] = image(t, 2)
			w.pushBlobs("shop/delivery", images[i])
		}
		at := afterAll(t, w).Add(time.Hour) // from here on: what is there is an hour old, what comes is younger
		now.Store(&at)
		collected = pushWhileCollecting(t, w, images)
	}
}

// pushWhileCollecting pushes images and returns how many blobs were collected meanwhile.
func pushWhileCollecting(t *testing.T, w *world, images []v1.Image) (collected int) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			c, err := w.reg.Collect(t.Context(), "shop", false, nil)
			if err != nil {
				t.Error(err)
			}
			collected += c.Blobs
		}
	}()
	for _, img := range images {
		if err := w.push("dev", "shop/delivery:v"+digestOf(t, img)[7:19], img); err != nil {
			t.Errorf("push: %v", err)
		}
	}
	close(done)
	<-ended
	for _, img := range images {
		if err := pull(w, "shop/delivery:v"+digestOf(t, img)[7:19]); err != nil {
			t.Errorf("pull: %v", err)
		}
	}
	return collected
}

// afterAll is a time by the clock of the disk, after all that is there and before all that comes.
func afterAll(t *testing.T, w *world) time.Time {
	t.Helper()
	name := filepath.Join(t.TempDir(), "clock")
	tick := func() time.Time {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		st := fi.Sys().(*syscall.Stat_t)
		return time.Unix(st.Ctim.Sec, st.Ctim.Nsec)
	}
	first := tick()
	for !tick().After(first) {
	}
	return first
}
