//go:build linux

package buildkit

import (
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/tonistiigi/fsutil"

	"github.com/slipway-cd/slipway/stage/test"
)

// BenchmarkCachedBuild is a build in which everything is cached, pushed, with provenance; "raw" is
// the same solve without the provenance.
func BenchmarkCachedBuild(b *testing.B) {
	w := newWorld(b)
	req := w.request(plainTree(b))
	w.mustBuild(b, req)
	b.Run("slipway", func(b *testing.B) {
		for b.Loop() {
			w.mustBuild(b, req)
		}
	})
	b.Run("raw", func(b *testing.B) {
		ln, err := w.connection(w.ctx)
		if err != nil {
			b.Fatal(err)
		}
		j := job{project: "shop", service: "cart", dir: req.Dir, dockerfile: "Dockerfile", args: req.Args, epoch: req.Epoch}
		for b.Loop() {
			opt, _, err := w.solveOpt(ln, j, newLog(b))
			if err != nil {
				b.Fatal(err)
			}
			opt.FrontendAttrs["label:org.opencontainers.image.revision"] = "abc"
			opt.Exports = []client.ExportEntry{imageExport(*req.Image, req.Epoch)}
			if _, err := w.watch(newLog(b), func(ch chan *client.SolveStatus) error {
				_, err := ln.client.Solve(w.ctx, nil, opt, ch)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCachedTest is a test container whose image is cached and whose entrypoint does nothing.
func BenchmarkCachedTest(b *testing.B) {
	w := newWorld(b)
	req := w.testRequest(b, runner, map[string]string{"run.sh": "true"})
	req.Limits = test.Limits{Files: 10, Bytes: 1 << 20}
	for b.Loop() {
		w.runTests(b, req)
	}
}

// BenchmarkCachedCheck is a build in which everything is cached and nothing is pushed, as a step of a run does it; "raw" is the same
// solve by BuildKit's client alone.
func BenchmarkCachedCheck(b *testing.B) {
	w := newWorld(b)
	req := w.request(plainTree(b))
	req.Image = nil
	w.mustBuild(b, req)
	b.Run("slipway", func(b *testing.B) {
		for b.Loop() {
			w.mustBuild(b, req)
		}
	})
	b.Run("raw", func(b *testing.B) {
		ln, err := w.connection(w.ctx)
		if err != nil {
			b.Fatal(err)
		}
		tree, err := fsutil.NewFS(req.Dir)
		if err != nil {
			b.Fatal(err)
		}
		attrs := job{project: "shop", dockerfile: "Dockerfile", args: req.Args, epoch: req.Epoch}.frontend()
		attrs["context:busybox:1.36"] = "docker-image://" + w.reg.host + "/mirror/docker.io/library/busybox:1.36"
		for b.Loop() {
			opt := client.SolveOpt{
				Frontend: "dockerfile.v0", FrontendAttrs: attrs, LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": tree},
				Session: []session.Attachable{&credentials{get: w.reg.credentials}}, SharedKey: "raw",
			}
			if _, err := ln.client.Solve(w.ctx, nil, opt, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
