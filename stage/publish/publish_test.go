package publish_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	stableHost  = "registry.slipway.internal"
	outsideHost = "registry.example.com"
	token       = "an-internal-token"
)

// world has the embedded registry and one of someone else, both real and over HTTP, and the client that
// Slipway uses for both.
type world struct {
	t        testing.TB
	embedded *registry.Registry
	address  map[string]string // stable host -> URL
	client   *oci.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, address: map[string]string{}}
	authorize := func(_ context.Context, user, secret string, _ registry.Action, _ string) (string, error) {
		if user != "slipway" || secret != token {
			return "", slipway.Errorf(slipway.Unauthorized, "who are you?")
		}
		return user, nil
	}
	var err error
	if w.embedded, err = registry.Open(t.TempDir(), authorize, registry.Options{}); err != nil {
		t.Fatal(err)
	}
	rt := &http.Transport{}
	for host, h := range map[string]http.Handler{
		stableHost:  w.embedded,
		outsideHost: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)),
	} {
		server := httptest.NewServer(h)
		w.address[host] = server.URL
		t.Cleanup(server.Close)
	}
	t.Cleanup(rt.CloseIdleConnections)
	w.client = oci.New(func(_ context.Context, host string) (string, string, error) {
		if host == stableHost {
			return "slipway", token, nil
		}
		return "", "", nil
	}, oci.Options{Transport: rt, RetryDelay: time.Millisecond})
	return w
}

func (w *world) registry(host, prefix string) slipway.Registry {
	return slipway.Registry{Host: host, Address: w.address[host], Prefix: prefix}
}

func image(r slipway.Registry) slipway.Repository {
	return slipway.Repository{Registry: r, Name: r.Image("shop", "delivery")}
}

func chart(r slipway.Registry) slipway.Repository {
	return slipway.Repository{Registry: r, Name: r.Chart("shop", "delivery")}
}

// built is what the build and chart steps of a run leave: an image that was pushed by digest, and a chart
// package in a file.
type built struct {
	env  stage.Env
	step slipway.PlanStep
}

func (w *world) build(runID int64, tag string, candidates slipway.Registry) built {
	w.t.Helper()
	img, err := random.Image(1024, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		w.t.Fatal(err)
	}
	// the build step pushes by digest; a tag of its own stands in for that
	h, err := img.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	digest, err := w.client.PushLayout(context.Background(), dir, image(candidates), "build-"+h.Hex)
	if err != nil {
		w.t.Fatal(err)
	}
	version := strings.TrimPrefix(tag, "v")
	pkg := chartPackage(w.t, version, runID)
	file := filepath.Join(w.t.TempDir(), "delivery.tgz")
	if err := os.WriteFile(file, pkg, 0o600); err != nil {
		w.t.Fatal(err)
	}
	commit := fmt.Sprintf("%040d", runID)
	return built{
		env: stage.Env{
			Run: slipway.Run{ID: runID, Project: "shop", Commit: commit},
			Log: discard{}, Journal: &journal{values: map[string][]byte{}},
			Now: func() time.Time { return time.Unix(1700000000, 0) },
			Artifacts: []slipway.Artifact{
				{Kind: slipway.ArtifactImage, Service: "delivery", Repository: image(candidates).Ref(), Digest: digest, Size: 7},
				{Kind: slipway.ArtifactChart, Service: "delivery", Path: file, Digest: sum(pkg)},
				{Kind: slipway.ArtifactImage, Service: "other", Digest: "sha256:" + strings.Repeat("f", 64)},
			},
		},
		step: slipway.PlanStep{Key: "publish/delivery", Kind: slipway.KindPublish, Service: "delivery", Publish: &slipway.PublishSpec{
			Image: image(candidates), Tag: tag, Chart: chart(candidates), ChartVersion: version, Release: true, Commit: commit,
		}},
	}
}

func (b built) digest() string { return b.env.Artifacts[0].Digest }

func (b built) run(t testing.TB, r stage.Runner) slipway.Result {
	t.Helper()
	res, err := r.Run(context.Background(), b.env, b.step)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

func chartPackage(t testing.TB, version string, seed int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	text := fmt.Sprintf("apiVersion: v2\nname: delivery\nversion: %q\nappVersion: %q\ndescription: of run %d\n", version, version, seed)
	err := tw.WriteHeader(&tar.Header{Name: "delivery/Chart.yaml", Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(tw, text)
	}
	if err := errors.Join(err, tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type discard struct{}

func (discard) Line(slipway.LogLine)  {}
func (discard) Printf(string, ...any) {}

// journal keeps intents as JSON, as the real one does.
type journal struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (j *journal) Put(_ context.Context, key string, value any) error {
	b, err := json.Marshal(value)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.values[key] = b
	return err
}

func (j *journal) Get(_ context.Context, key string, v any) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, ok := j.values[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

// releases is the store's answer.
type releases map[string]slipway.Release

// ClaimVersion lets everybody publish.
func (r releases) ClaimVersion(context.Context, slipway.Release) error { return nil }

func (r releases) Release(_ context.Context, project, service, version string) (slipway.Release, error) {
	rel, ok := r[project+"/"+service+"/"+version]
	if !ok {
		return rel, slipway.Errorf(slipway.NotFound, "no such release")
	}
	return rel, nil
}

func (w *world) tag(repo slipway.Repository, tag string) string {
	w.t.Helper()
	d, err := w.client.Resolve(context.Background(), repo, tag)
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		w.t.Fatal(err)
	}
	return d
}

func TestPublishRelease(t *testing.T) {
	t.Parallel()
	for _, host := range []string{stableHost, outsideHost} {
		w := newWorld(t)
		candidates := w.registry(host, "")
		b := w.build(1, "v1.0.2", candidates)
		r := &publish.Runner{Registry: w.client}
		res := b.run(t, r)
		if res.Outcome != slipway.Succeeded || len(res.Artifacts) != 2 || res.Release == nil {
			t.Fatalf("%+v", res)
		}
		img, ch := res.Artifacts[0], res.Artifacts[1]
		if img.Kind != slipway.ArtifactImage || img.Tag != "v1.0.2" || img.Repository != host+"/shop/delivery" || img.Digest != b.digest() || img.Size != 7 {
			t.Errorf("image %+v", img)
		}
		if ch.Kind != slipway.ArtifactChart || ch.Tag != "1.0.2" || ch.Repository != host+"/shop/charts/delivery" || ch.Path != "" {
			t.Errorf("chart %+v", ch)
		}
		if w.tag(image(candidates), "v1.0.2") != img.Digest || w.tag(chart(candidates), "1.0.2") != ch.Digest {
			t.Error("the tags are not what the artifacts say")
		}
		want := slipway.Release{Project: "shop", Service: "delivery", Version: "v1.0.2", Commit: b.step.Publish.Commit, RunID: 1,
			ImageDigest: img.Digest, ChartDigest: ch.Digest, CreatedAt: b.env.Now()}
		if !reflect.DeepEqual(*res.Release, want) {
			t.Errorf("release %+v, want %+v", *res.Release, want)
		}
		if again := b.run(t, r); fmt.Sprint(again.Artifacts) != fmt.Sprint(res.Artifacts) {
			t.Errorf("again: %+v", again)
		}
		pkg, err := w.client.PullChart(t.Context(), chart(candidates), ch.Digest)
		if err != nil || sum(pkg) != b.env.Artifacts[1].Digest {
			t.Errorf("the chart in the registry is another: %v", err)
		}
	}
}

func TestBranchBuildMakesNoRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.build(1, "main-1a2b3c4", w.registry(stableHost, ""))
	b.step.Publish.Release = false
	if res := b.run(t, &publish.Runner{Registry: w.client}); res.Outcome != slipway.Succeeded || res.Release != nil {
		t.Errorf("%+v", res)
	}
}

func TestTakenVersionIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	candidates := w.registry(stableHost, "")
	first := w.build(1, "v1.0.2", candidates)
	done := first.run(t, &publish.Runner{Registry: w.client})
	known := releases{"shop/delivery/v1.0.2": *done.Release}
	for _, tag := range []string{"v1.0.2", "1.0.2"} {
		second := w.build(2, tag, candidates)
		res := second.run(t, &publish.Runner{Registry: w.client, Releases: known})
		if res.Outcome != slipway.Failed {
			t.Fatalf("%s: %+v", tag, res)
		}
		for _, part := range []string{"release/delivery/" + tag, first.digest(), second.digest(), "commit 0000000 by run 1", "choose the next version", strings.Replace(tag, "1.0.2", "1.0.3", 1)} {
			if !strings.Contains(res.Reason, part) {
				t.Errorf("%s: %q does not say %q", tag, res.Reason, part)
			}
		}
		if w.tag(image(candidates), "1.0.2") != "" {
			t.Error("1.0.2 was written beside v1.0.2")
		}
	}
	if w.tag(image(candidates), "v1.0.2") != first.digest() || w.tag(chart(candidates), "1.0.2") != done.Artifacts[1].Digest {
		t.Error("the published version changed")
	}
	// the same image, another chart: refused before anything is named
	third := w.build(3, "v1.0.2", candidates)
	third.env.Artifacts[0].Digest = first.digest()
	if res := third.run(t, &publish.Runner{Registry: w.client, Releases: known}); res.Outcome != slipway.Failed || !strings.Contains(res.Reason, done.Artifacts[1].Digest) {
		t.Errorf("another chart: %+v", res)
	}
}

func TestOneOfManyRunsGetsTheVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	candidates := w.registry(stableHost, "")
	const n = 6
	results := make([]slipway.Result, n)
	runs := make([]built, n)
	for i := range n {
		runs[i] = w.build(int64(i+1), "v1.0.2", candidates)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if results[i], err = (&publish.Runner{Registry: w.client}).Run(context.Background(), runs[i].env, runs[i].step); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	won := 0
	for i, res := range results {
		if res.Outcome != slipway.Succeeded {
			continue
		}
		won++
		if w.tag(image(candidates), "v1.0.2") != runs[i].digest() || w.tag(chart(candidates), "1.0.2") != res.Artifacts[1].Digest {
			t.Error("image and chart of the version are not both the winner's")
		}
	}
	if won != 1 {
		t.Errorf("%d of %d runs published the version", won, n)
	}
}

// dying is a registry before which the process dies: at its n-th call, before or after it is done.
type dying struct {
	*oci.Client
	embedded *registry.Registry
	left     int
	after    bool
}

var errKilled = errors.New("killed")

func (d *dying) call(do func() error) error {
	d.left--
	if d.left < 0 {
		return errKilled
	}
	if d.left > 0 {
		return do()
	}
	if d.after {
		_ = do()
	}
	return errKilled
}

func (d *dying) Resolve(ctx context.Context, repo slipway.Repository, tag string) (digest string, err error) {
	err = d.call(func() error { digest, err = d.Client.Resolve(ctx, repo, tag); return err })
	return digest, err
}

func (d *dying) Tag(ctx context.Context, repo slipway.Repository, digest, tag string) error {
	return d.call(func() error { return d.Client.Tag(ctx, repo, digest, tag) })
}

func (d *dying) PushChart(ctx context.Context, repo slipway.Repository, version string, pkg []byte) (digest string, err error) {
	err = d.call(func() error { digest, err = d.Client.PushChart(ctx, repo, version, pkg); return err })
	return digest, err
}

func (d *dying) Copy(ctx context.Context, from slipway.Repository, digest string, to slipway.Repository, tag string) error {
	return d.call(func() error { return d.embedded.Copy(ctx, from, digest, to, tag) })
}

func TestPublishAfterAKillAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	candidates := w.registry(stableHost, "")
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			tag := fmt.Sprintf("v1.%d.%d", map[bool]int{true: 1}[after], n)
			b := w.build(int64(n), tag, candidates)
			_, err := (&publish.Runner{Registry: &dying{Client: w.client, left: n, after: after}}).Run(t.Context(), b.env, b.step)
			if err == nil {
				if n < 6 {
					t.Errorf("only %d calls", n)
				}
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			res := b.run(t, &publish.Runner{Registry: w.client})
			if res.Outcome != slipway.Succeeded || w.tag(image(candidates), tag) != b.digest() || w.tag(chart(candidates), tag[1:]) != res.Artifacts[1].Digest {
				t.Errorf("killed at call %d (after it: %v): the repeat gave %+v", n, after, res)
			}
		}
	}
}

// A run that dies or is superseded before the claim does not hold the version.
func TestUnclaimedVersionIsFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	candidates := w.registry(stableHost, "")
	first, second := w.build(1, "v1.0.2", candidates), w.build(2, "v1.0.2", candidates)
	// the fifth call is the claim
	if _, err := (&publish.Runner{Registry: &dying{Client: w.client, left: 5}}).Run(t.Context(), first.env, first.step); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if w.tag(image(candidates), "v1.0.2") != "" {
		t.Fatal("the version is claimed already")
	}
	if res := second.run(t, &publish.Runner{Registry: w.client}); res.Outcome != slipway.Succeeded {
		t.Errorf("the newer run: %+v", res)
	}
	if res := first.run(t, &publish.Runner{Registry: w.client}); res.Outcome != slipway.Failed {
		t.Errorf("the older run afterwards: %+v", res)
	}
}

func TestPublishTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := &publish.Runner{Registry: w.client}
	check := func(name string, want slipway.Code, change func(b *built)) {
		t.Helper()
		b := w.build(1, "v3.0.0", w.registry(outsideHost, ""))
		change(&b)
		res, err := r.Run(t.Context(), b.env, b.step)
		if slipway.ErrorCode(err) != want {
			t.Errorf("%s: %+v, code %q (%v), want %q", name, res, slipway.ErrorCode(err), err, want)
		}
	}
	check("no spec", slipway.Internal, func(b *built) { b.step.Publish = nil })
	check("no image", slipway.Internal, func(b *built) { b.env.Artifacts = b.env.Artifacts[1:] })
	check("no chart", slipway.Internal, func(b *built) { b.env.Artifacts = b.env.Artifacts[:1] })
	check("relative path", slipway.Internal, func(b *built) { b.env.Artifacts[1].Path = "x.tgz" })
	check("changed package", slipway.Internal, func(b *built) { b.env.Artifacts[1].Digest = b.digest() })
	check("lost package", slipway.Internal, func(b *built) { b.env.Artifacts[1].Path += ".none" })
	check("lost image", slipway.NotFound, func(b *built) { b.env.Artifacts[0].Digest = "sha256:" + strings.Repeat("0", 64) })
	check("wrong version", slipway.Invalid, func(b *built) { b.step.Publish.ChartVersion = "3.0.1" })
	check("registry down", slipway.Unavailable, func(b *built) {
		b.step.Publish.Image.Registry.Address = "http://" + slipwaytest.Refusing(t)
	})
	check("other intent", slipway.Internal, func(b *built) {
		_ = b.env.Journal.Put(t.Context(), "publish", map[string]string{"image": "sha256:other"})
	})
}
