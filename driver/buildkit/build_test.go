//go:build linux

package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/build"
)

const plainDockerfile = `# syntax=docker/dockerfile:1
FROM busybox:1.36 AS build
ARG NAME
WORKDIR /src
COPY . .
RUN test ! -e ignored && echo "building $NAME" && cat go.txt > /out.txt && date > /tmp/now

FROM busybox:1.36
COPY --from=build /out.txt /out.txt
COPY run.sh /run.sh
USER 1000:1000
ENTRYPOINT ["/run.sh"]
`

func plainTree(t testing.TB) string {
	return tree(t, map[string]string{
		"Dockerfile": plainDockerfile, ".dockerignore": "ignored\n",
		"go.txt": "hello\n", "run.sh": "#!/bin/sh\necho hi\n", "ignored": "x",
	})
}

func (w *world) request(dir string) build.Request {
	return build.Request{
		Project: "shop", Service: "cart", Dockerfile: "Dockerfile", Epoch: 1_700_000_000, Dir: dir,
		Args: map[string]string{"NAME": "cart"}, Labels: map[string]string{"org.opencontainers.image.revision": "abc"},
		Image: w.reg.repository("shop/cart"), Trust: slipway.TrustBranch,
	}
}

func (w *world) mustBuild(t testing.TB, req build.Request) (build.Result, *testLog) {
	t.Helper()
	log := newLog(t)
	res, err := w.Build(w.ctx, req, log)
	if err != nil || res.Failure != nil {
		t.Fatalf("build: %v %+v\n%s", err, res.Failure, log.all())
	}
	return res, log
}

func TestBuild(t *testing.T) {
	w := lodging(t)
	req := w.request(plainTree(t))
	res, log := w.mustBuild(t, req)

	ref, err := name.NewDigest(w.reg.host+"/shop/cart@"+res.Digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("pushes a plain manifest by digest, with labels and no tag", func(t *testing.T) {
		desc, err := remote.Get(ref, w.reg.options(w.ctx)...)
		if err != nil || !desc.MediaType.IsImage() {
			t.Fatalf("pushed %v, %v", desc, err)
		}
		img, err := desc.Image()
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Config.Labels["org.opencontainers.image.revision"] != "abc" || cfg.Created.Unix() != req.Epoch || cfg.Config.User != "1000:1000" {
			t.Errorf("config %+v", cfg)
		}
		tags, err := remote.List(ref.Context(), w.reg.options(w.ctx)...)
		if err != nil || len(tags) != 0 {
			t.Errorf("tags %v, %v", tags, err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		var sum int64
		for _, l := range layers {
			n, err := l.Size()
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		if sum >= res.Size || res.Size > sum+10_000 {
			t.Errorf("size %d, layers %d", res.Size, sum)
		}
	})
	t.Run("attaches provenance as a referrer", func(t *testing.T) {
		index, err := remote.Referrers(ref, w.reg.options(w.ctx)...)
		if err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != res.Provenance.Digest {
			t.Fatalf("referrers %+v, %v", m, err)
		}
		checkStatement(t, w, ref.Context(), res)
	})
	t.Run("logs a group per step", func(t *testing.T) {
		text := log.all()
		for _, want := range []string{
			"[build 4/4] RUN test", "|stdout| building cart", "docker.io/library/busybox:1.36", "exporting to image",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, w.reg.password) {
			t.Error("the log holds a password")
		}
	})
	t.Run("again is cached, and the same", func(t *testing.T) {
		begin := time.Now()
		again, log := w.mustBuild(t, req)
		t.Logf("no-op with push and provenance: %s", time.Since(begin))
		if again.Digest != res.Digest {
			t.Errorf("digest %s, then %s", res.Digest, again.Digest)
		}
		if n := log.count(func(l slipway.LogLine) bool { return l.State == "cached" }); n != 5 {
			t.Errorf("%d cached steps, want 5\n%s", n, log.all())
		}
	})
}

func checkStatement(t *testing.T, w *world, repo name.Repository, res build.Result) {
	t.Helper()
	img, err := remote.Image(repo.Digest(res.Provenance.Digest), w.reg.options(w.ctx)...)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := img.Manifest(); err != nil || m.ArtifactType != recordType || m.Subject.Digest.String() != res.Digest {
		t.Fatalf("referrer %+v, %v", m, err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers %v, %v", layers, err)
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var st struct {
		PredicateType string
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
		Predicate struct {
			BuildDefinition struct{ ResolvedDependencies []struct{ URI string } }
		}
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	if st.PredicateType != "https://slsa.dev/provenance/v1" || len(st.Subject) != 1 || "sha256:"+st.Subject[0].Digest["sha256"] != res.Digest {
		t.Errorf("statement %+v", st)
	}
	if len(st.Predicate.BuildDefinition.ResolvedDependencies) == 0 {
		t.Errorf("provenance names no base image: %s", raw.String())
	}
	if strings.Contains(raw.String(), w.reg.password) {
		t.Error("provenance holds a password")
	}
}

// The same inputs give the same digest without any cache, wherever and whenever they were checked out.
func TestBuildIsReproducible(t *testing.T) {
	w := lodging(t)
	req := w.request(plainTree(t))
	first, _ := w.mustBuild(t, req)

	req.Dir = plainTree(t)
	old := time.Now().Add(-400 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(req.Dir, "run.sh"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(req.Dir, "go.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := w.connection(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	log := newLog(t)
	j := job{
		project: "shop", service: "cart", dir: req.Dir, dockerfile: req.Dockerfile, args: req.Args, epoch: req.Epoch, trust: req.Trust, noCache: true,
	}
	second, err := w.build(w.ctx, ln, j, req, log)
	if err != nil || second.Failure != nil {
		t.Fatalf("%v %+v", err, second.Failure)
	}
	if n := log.count(func(l slipway.LogLine) bool { return l.State == "cached" && strings.Contains(l.Text, "RUN") }); n != 0 {
		t.Errorf("%d steps were cached\n%s", n, log.all())
	}
	if first.Digest != second.Digest {
		t.Errorf("digests differ: %s, %s", first.Digest, second.Digest)
	}
}

// A file that changes without changing its size and time is seen.
func TestBuildSeesEveryChange(t *testing.T) {
	w := lodging(t)
	dir := tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nCOPY a /a\nRUN echo content $(cat /a)\n", "a": "one"})
	at := time.Unix(1_700_000_000, 0)
	for _, content := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, "a"), at, at); err != nil {
			t.Fatal(err)
		}
		req := w.request(dir)
		req.Image = nil
		if _, log := w.mustBuild(t, req); !log.has("content " + content) {
			t.Fatalf("built with another content than %q\n%s", content, log.all())
		}
	}
}

func TestBuildFailures(t *testing.T) {
	w := lodging(t)
	const from = "FROM busybox:1.36\n"
	for _, c := range []struct{ name, dockerfile, target, want string }{
		{"run", from + "RUN true\nRUN echo no && exit 3\n", "", "build failed at svc/Dockerfile:3: RUN echo no && exit 3 exited with 3"},
		{"unknown instruction", from + "FOO bar\n", "", "build failed at svc/Dockerfile:2: unknown instruction: FOO (did you mean FROM?)"},
		{"empty", "", "", "build failed at svc/Dockerfile: the Dockerfile cannot be empty"},
		{"missing file", from + "COPY nothere /x\n", "", `build failed at svc/Dockerfile:2: COPY nothere /x: "/nothere": not found`},
		{"unknown target", from + "RUN true\n", "nope", `build failed at svc/Dockerfile: target stage "nope" could not be found`},
		{"unknown user", from + "USER nosuch\nRUN true\n", "", "build failed at svc/Dockerfile:3: RUN true: unable to find user nosuch: no matching entries in passwd file"},
		{"unknown base", "FROM " + w.reg.host + "/nope:1\n", "", "build failed at svc/Dockerfile:1: base image " + w.reg.host + "/nope:1 is not in its registry, or may not be read"},
		{"unknown host", "FROM no-such-host.invalid/a:1\n", "", "build failed at svc/Dockerfile:1: source no-such-host.invalid/a:1: no host no-such-host.invalid is known"},
		{"privileged", from + "RUN --security=insecure true\n", "", "build failed at svc/Dockerfile: security.insecure is not allowed"},
		{"host network", from + "RUN --network=host true\n", "", "build failed at svc/Dockerfile: network.host is not allowed"},
		{"metadata service", from + "ADD http://169.254.169.254/latest /x\n", "", "build failed at svc/Dockerfile: source http://169.254.169.254/latest is at 169.254.169.254, an address of the machine that builds or of its private networks: builds may not reach it"},
		{"local registry", "FROM 127.0.0.1:1/a:1\n", "", "build failed at svc/Dockerfile:1: source 127.0.0.1:1/a:1 is at 127.0.0.1, an address of the machine that builds or of its private networks: builds may not reach it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := w.request(tree(t, map[string]string{"Dockerfile": c.dockerfile}))
			req.Target = c.target
			log := newLog(t)
			res, err := w.Build(w.ctx, req, log)
			if err != nil || res.Failure == nil {
				t.Fatalf("got %+v, %v\n%s", res, err, log.all())
			}
			if got := res.Failure.Reason("svc"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Where a registry does not answer it is nobody's Dockerfile: the step is to be tried again.
func TestBuildWithoutRegistry(t *testing.T) {
	w := lodging(t)
	for what, change := range map[string]func(*build.Request){
		"push": func(r *build.Request) { r.Image.Registry.Address = "http://127.0.0.1:1" },
		"base": func(r *build.Request) {
			w.opts.Mirrors = append(w.opts.Mirrors, Mirror{Registry: "gone.example", Address: "http://127.0.0.1:1"})
			r.Dir = tree(t, map[string]string{"Dockerfile": "FROM gone.example/a:1\n"})
		},
	} {
		t.Run(what, func(t *testing.T) {
			req := w.request(plainTree(t))
			change(&req)
			res, err := w.Build(w.ctx, req, newLog(t))
			if !slipway.Temporary(err) || res.Failure != nil {
				t.Errorf("got %+v, %v", res.Failure, err)
			}
		})
	}
}

func TestBuildIsCancelled(t *testing.T) {
	w := lodging(t)
	sleeps := nap()
	req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN echo sleeping; sleep " + sleeps + "\n"}))
	ctx, cancel := context.WithCancelCause(w.ctx)
	log := newLog(t)
	done := make(chan error, 1)
	go func() {
		_, err := w.Build(ctx, req, log)
		done <- err
	}()
	log.wait(w.ctx, "sleeping")
	if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) > 0 }) {
		t.Fatal("nothing runs")
	}
	begin := time.Now()
	cancel(slipway.ErrSuperseded)
	gone := poll(w.ctx, patience, func() bool { return len(processes(sleeps)) == 0 })
	if took := time.Since(begin); gone {
		t.Logf("process gone %s after the cancel", took)
	} else {
		t.Errorf("the process was there for %s", took)
	}
	if err := <-done; !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("got %v", err)
	}
	t.Logf("Build returned %s after the cancel", time.Since(begin))
}

// What one trust wrote into a cache mount the other does not see.
func TestCacheMountsBelongToTrust(t *testing.T) {
	w := lodging(t)
	project := "shop-" + nap() // of which nothing was built before
	build := func(trust slipway.Trust, salt string) string {
		req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nARG SALT\n" +
			"RUN --mount=type=cache,target=/c echo $SALT has: $(cat /c/who); echo " + salt + " > /c/who\n"}))
		req.Project, req.Trust, req.Image, req.Args = project, trust, nil, map[string]string{"SALT": salt}
		_, log := w.mustBuild(t, req)
		for _, l := range log.lines {
			if rest, ok := strings.CutPrefix(l.Text, salt+" has:"); ok {
				return strings.TrimSpace(rest)
			}
		}
		t.Fatalf("no answer\n%s", log.all())
		return ""
	}
	build(slipway.TrustBranch, "pr1")
	if got := build(slipway.TrustBranch, "pr2"); got != "pr1" {
		t.Errorf("the cache of a trust is lost: %q", got)
	}
	if got := build(slipway.TrustReviewed, "main1"); got != "" {
		t.Errorf("a reviewed build read %q, which a branch wrote", got)
	}
	if got := build(slipway.TrustReviewed, "main2"); got != "main1" {
		t.Errorf("the cache of a trust is lost: %q", got)
	}
}

func TestPins(t *testing.T) {
	w := lodging(t)
	dir := tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN true\n"})
	req := w.request(dir)
	req.Pins = map[string]string{"busybox:1.36": "sha256:" + strings.Repeat("ab", 32)}
	res, err := w.Build(w.ctx, req, newLog(t))
	if err == nil && res.Failure == nil {
		t.Fatal("built from an image that is not the pinned one")
	}
	ref, err := name.ParseReference(w.reg.host+"/mirror/docker.io/library/busybox:1.36", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(ref, w.reg.options(w.ctx)...)
	if err != nil {
		t.Fatal(err)
	}
	req.Pins = map[string]string{"busybox:1.36": desc.Digest.String()}
	w.mustBuild(t, req)
}

func TestDockerfileElsewhere(t *testing.T) {
	w := lodging(t)
	req := w.request(tree(t, map[string]string{
		"docker/prod.Dockerfile": "FROM busybox:1.36\nCOPY . /x\nRUN ls /x\n", "docker/prod.Dockerfile.dockerignore": "b\n", "a": "1", "b": "2",
	}))
	req.Dockerfile, req.Image = "docker/prod.Dockerfile", nil
	_, log := w.mustBuild(t, req)
	listed := func(name string) bool {
		return log.count(func(l slipway.LogLine) bool { return l.Stream == "stdout" && l.Text == name }) > 0
	}
	if !listed("a") || listed("b") {
		t.Errorf("a is there: %v, b is there: %v\n%s", listed("a"), listed("b"), log.all())
	}
	req.Dockerfile = "docker/none"
	res, err := w.Build(w.ctx, req, newLog(t))
	if err != nil || res.Failure == nil {
		t.Errorf("%+v %v", res, err)
	} else {
		t.Log(res.Failure.Reason("svc"))
	}
}

func TestSecrets(t *testing.T) {
	w := lodging(t)
	req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN --mount=type=secret,id=TOKEN test \"$(cat /run/secrets/TOKEN)\" = hidden && echo it is right\n"}))
	req.Image, req.Secrets = nil, map[string]string{"TOKEN": "hidden"}
	if _, log := w.mustBuild(t, req); !log.has("it is right") {
		t.Error(log.all())
	}
	tests := w.testRequest(t, runner, map[string]string{"run.sh": "test $TOKEN = hidden"})
	tests.Secrets = req.Secrets
	if res, log := w.runTests(t, tests); res.ExitCode != 0 {
		t.Error(log.all())
	}
}
