package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// TestSurroundingsDown takes BuildKit, Kubernetes and an outside registry away, before and during a
// run: the step says what it waits for, and goes on by itself when that is back. It runs alone, for the
// whole cluster stands still meanwhile.
func TestSurroundingsDown(t *testing.T) {
	outside := newOutside(t)
	tools := buildkitTools(t)
	s := newSite(t, "away", siteOptions{args: []string{"--production", outside.address + "/prod", "--tools", tools}})
	files := tick()
	files["slipway.yaml"] = strings.Replace(files["slipway.yaml"], "  - name: qa\n", "  - name: development\n    trigger: default-branch\n    timeout: 5m\n  - name: qa\n", 1)
	r := s.project(t, "away", files)
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	for _, c := range []struct {
		name string
		play func(*testing.T, *site, *repo)
	}{
		{"BuildKit is killed during a build", buildkitKilled},
		{"BuildKit does not start", buildkitGone},
		{"Kubernetes stands still before a deployment", clusterStands},
		{"the registry for production is down", func(t *testing.T, s *site, r *repo) { registryDown(t, s, r, outside) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			r.commit(c.name, tick().with(tree{"slipway.yaml": files["slipway.yaml"], "tick/www/index.html": c.name + "\n"}))
			c.play(t, s, r)
		})
	}
}

// waits wants a step to be tried again for a reason that names what is away.
func waits(t *testing.T, s *site, run int64, key string, names ...string) slipway.Step {
	t.Helper()
	st := s.untilThat(t, run, key, "retrying", func(st slipway.Step) bool { return st.State == slipway.StepRetrying })
	if !mentions(st.Reason, names...) || !strings.Contains(st.Reason, "next try in") {
		t.Errorf("%s waits, and says %q", key, st.Reason)
	}
	d, err := s.as("eve").Run(t.Context(), run)
	if err != nil || d.Run.State != slipway.RunRunning {
		t.Errorf("the run is %s, %v", d.Run.State, err)
	}
	return st
}

func buildkitd(t *testing.T, s *site) int {
	t.Helper()
	b, err := os.ReadFile(s.data + "/buildkit/buildkitd.pid")
	if err != nil {
		t.Fatal(err)
	}
	var record struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(b, &record); err != nil || record.PID < 2 {
		t.Fatalf("the record of buildkitd: %s, %v", b, err)
	}
	return record.PID
}

func buildkitKilled(t *testing.T, s *site, r *repo) {
	r.commit("Slowly", tree{"tick/slow/build": "2"})
	begun := make(chan struct{})
	onLog("build/tick", "the build begins")(armed{&killing{site: s, repo: r}, t, t.Context()}, func() { close(begun) })
	run := r.push("HEAD:refs/heads/feature/killed")
	<-begun
	if err := syscall.Kill(buildkitd(t, s), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d := s.until(t, run.ID, slipway.RunSucceeded)
	st := step(t, d, "build/tick")
	if st.Attempt < 2 {
		t.Errorf("the build went on as if nothing had happened (attempt %d)", st.Attempt)
	}
	said := false
	for _, e := range d.Events {
		said = said || e.Kind == "step.retrying" && mentions(e.Message, "BuildKit", "buildkit")
	}
	if !said {
		t.Error("no event says that BuildKit was away")
	}
	progress("  the run ended %s after its BuildKit was killed", seconds(time.Since(began)))
}

// buildkitTools is a tools folder from which buildkitd can be taken away.
func buildkitTools(t *testing.T) string {
	t.Helper()
	cache, err := slipwaytest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(cache + "/tools/buildkitd-*")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(place, "sites", "away", "tools")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range found { // none: the server builds it
		if err := os.Link(f, filepath.Join(dir, filepath.Base(f))); err != nil {
			b, rerr := os.ReadFile(f)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func buildkitGone(t *testing.T, s *site, r *repo) {
	tools := filepath.Join(place, "sites", "away", "tools")
	hidden := tools + "-hidden"
	if err := os.Rename(tools, hidden); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(buildkitd(t, s), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	run := r.push("HEAD:refs/heads/feature/gone")
	waits(t, s, run.ID, "build/tick", "BuildKit", "buildkitd")
	if err := os.Rename(hidden, tools); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.until(t, run.ID, slipway.RunSucceeded)
	progress("  the run ended %s after BuildKit could start again", seconds(time.Since(began)))
}

// clusterStands stops the API server as a machine without time does: connections are taken, and
// nobody answers.
func clusterStands(t *testing.T, s *site, r *repo) {
	pid := component(t, "kube-apiserver")
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	run := r.push("main")
	stopped := time.Now()
	st := waits(t, s, run.ID, "deploy/tick@development", "cluster", "Kubernetes")
	progress("  after %s the step says: %s", seconds(time.Since(stopped)), st.Reason)
	signal(syscall.SIGCONT)
	began := time.Now()
	d := s.until(t, run.ID, slipway.RunSucceeded)
	kube(t).runs(t, "away-development", "app=tick", d.Deployments[0].ImageDigest)
	wantSettled(t, "away-development", "tick")
	progress("  the run ended %s after the API server went on", seconds(time.Since(began)))
}

// component is the process of a part of the cluster.
func component(t *testing.T, name string) int {
	t.Helper()
	out, err := command(t.Context(), "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "status", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Components []struct {
			Name string
			PID  int
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		t.Fatal(err)
	}
	for _, c := range status.Components {
		if c.Name == name && c.PID > 1 {
			return c.PID
		}
	}
	t.Fatalf("the cluster has no %s: %s", name, out)
	return 0
}

// outside is a registry of somebody else's, which can be stopped and started.
type outside struct {
	address string
	handler http.Handler
	server  *http.Server
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	address, err := slipwaytest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{address: address, handler: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	o.start(t)
	t.Cleanup(o.stop)
	_, err = command(t.Context(), "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "registry", address+"=http://"+address)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *outside) start(t *testing.T) {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", o.address)
	if err != nil {
		t.Fatal(err)
	}
	o.server = &http.Server{Handler: o.handler, ReadHeaderTimeout: time.Minute}
	go o.server.Serve(l) //nolint:errcheck // it is closed
}

func (o *outside) stop() { o.server.Close() }

func registryDown(t *testing.T, s *site, r *repo, o *outside) {
	run := r.push("HEAD:refs/heads/release/tick/v1.0.0")
	s.until(t, run.ID, slipway.RunWaiting)
	o.stop()
	s.approve(t, run.ID, "bob")
	st := waits(t, s, run.ID, "retag/tick@production", o.address)
	progress("  the step says: %s", st.Reason)
	o.start(t)
	began := time.Now()
	d := s.until(t, run.ID, slipway.RunSucceeded)
	image := digest(t, d, slipway.ArtifactImage)
	kube(t).runs(t, "away-production", "app=tick", image)
	i := slices.IndexFunc(d.Deployments, func(dep slipway.Deployment) bool { return dep.Target.Environment == "production" })
	if i < 0 || !strings.HasPrefix(d.Deployments[i].Image, o.address+"/prod/") {
		t.Errorf("production's image does not come from %s: %+v", o.address, d.Deployments)
	}
	progress("  the run ended %s after the registry was back", seconds(time.Since(began)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+o.address+"/v2/prod/away/tick/manifests/v1.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Docker-Content-Digest"); got != image {
		t.Errorf("%s has v1.0.0 as %s, not %s", o.address, got, image)
	}
}
