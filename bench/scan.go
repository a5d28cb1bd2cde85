package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/scan"
	"github.com/slipway-cd/slipway/store"
)

const (
	scanRatio   = 1.1
	reuseBudget = 20 // ms
	scanBytes   = 200 << 20
)

const scanAdvisory = `{"id":"CVE-2024-0001","severity":"critical","package":"openssl","ecosystem":"deb","distro":"debian 12 bookworm","affected":"< 99","fixed":"99"}`

// measureScan scans an image of this machine's own packages, in turns with the libraries alone in a process
// that has the database open too; and an image that was scanned before.
func measureScan(ctx context.Context, w *world) ([]row, error) {
	bins, err := slipwaytest.Build(ctx, w.say)
	if err != nil {
		return nil, err
	}
	return measureScanner(ctx, w, bins.Scanner)
}

func measureScanner(ctx context.Context, w *world, program string) ([]row, error) {
	dir := filepath.Join(w.dir, "scan")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	image, err := machineImage(filepath.Join(dir, "image"))
	if err != nil {
		return nil, fmt.Errorf("make an image of this machine: %w", err)
	}
	g, err := grype.New(grype.Options{Program: program, Database: filepath.Join(dir, "db"), Temp: filepath.Join(dir, "temp")})
	if err != nil {
		return nil, err
	}
	defer g.Close() //nolint:errcheck // it is thrown away
	if err := benchDatabase(ctx, program, g, dir); err != nil {
		return nil, err
	}
	alone, err := startAlone(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer alone.end()
	req := scan.Request{Layout: filepath.Join(dir, "image"), Name: "bench/machine", Digest: image}
	var ours, libraries []time.Duration
	var rep scan.Report
	for i := range w.o.times(5) + 1 {
		took, err := alone.scan(req.Layout)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if rep, err = g.Image(ctx, req); err != nil {
			return nil, err
		}
		if len(rep.Scan.Problems) > 0 {
			return nil, errors.New(rep.Scan.Problems[0])
		}
		if i > 0 { // the first opens the database
			ours, libraries = append(ours, time.Since(began)), append(libraries, took)
		}
	}
	reused, err := reusedScan(ctx, w, dir, g, rep)
	if err != nil {
		return nil, err
	}
	took := ratioRow(fmt.Sprintf("Scan of an image with %d packages, with secrets, against syft and grype alone", rep.Scan.Packages), millis(ours), millis(libraries), scanRatio)
	again := limitRow("Scan step of an image that was scanned before", millis(reused), sample{}, reuseBudget)
	again.reference = ""
	return []row{took, again}, nil
}

func benchDatabase(ctx context.Context, scanner string, g *grype.Grype, dir string) error {
	archive := filepath.Join(dir, "db.tar.zst")
	if err := slipwaytest.VulnerabilityDatabase(ctx, scanner, archive, time.Now(), scanAdvisory); err != nil {
		return err
	}
	_, err := g.Import(ctx, archive, "", "")
	return err
}

// aloneProcess is the libraries in a process of their own.
type aloneProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startAlone(ctx context.Context, dir string) (*aloneProcess, error) {
	root, err := slipwaytest.Root()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "grype-alone")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/grype-alone")
	build.Dir = filepath.Join(root, "scanner")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build grype-alone: %w: %s", err, out)
	}
	// With the priority that the scanner gives itself, as other processes may want the processors too.
	p := &aloneProcess{cmd: exec.CommandContext(ctx, "nice", "-n", "10", program, filepath.Join(dir, "db"))}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	return p, p.cmd.Start()
}

func (p *aloneProcess) scan(layout string) (time.Duration, error) {
	if _, err := fmt.Fprintln(p.in, layout); err != nil {
		return 0, err
	}
	if !p.out.Scan() {
		return 0, errors.Join(errors.New("grype-alone ended"), p.out.Err())
	}
	text, _, _ := strings.Cut(p.out.Text(), " ")
	ns, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(ns), err
}

func (p *aloneProcess) end() {
	p.in.Close()
	p.cmd.Wait() //nolint:errcheck // it has answered
}

// reusedScan runs the step of an image and a folder that were scanned before.
func reusedScan(ctx context.Context, w *world, dir string, g *grype.Grype, rep scan.Report) ([]time.Duration, error) {
	s, err := store.Open(ctx, filepath.Join(dir, "slipway.db"), store.Options{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.CreateProject(ctx, slipway.Project{Name: "bench"}, "bench"); err != nil {
		return nil, err
	}
	state, err := g.State(ctx)
	if err != nil {
		return nil, err
	}
	kept := rep.Scan
	kept.SBOM = "sha256:bench"
	if err := s.KeepScan(ctx, "bench", kept, rep.SBOM, true); err != nil {
		return nil, err
	}
	if err := s.KeepScan(ctx, "bench", slipway.Scan{Digest: "tree:same", Scanner: state.Scanner}, nil, true); err != nil {
		return nil, err
	}
	r := scan.Runner{Scanner: g, Past: s, Repo: func(string) scan.Repo { return sameFolder{} }}
	env := stage.Env{Run: slipway.Run{Project: "bench"}, Log: quiet{}, Workspace: benchSpace(dir), Now: time.Now,
		Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: "machine", Digest: kept.Digest}}}
	step := slipway.PlanStep{Key: "scan/machine", Kind: slipway.KindScan, Service: "machine", Scan: &slipway.ScanSpec{Image: slipway.Repository{Name: "bench/machine"}}}
	var times []time.Duration
	for range w.o.times(50) {
		began := time.Now()
		res, err := r.Run(ctx, env, step)
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		if len(res.Scan.Findings) != len(kept.Findings) || len(res.Artifacts) != 1 {
			return nil, fmt.Errorf("the scan that was reused: %s", res.Reason)
		}
	}
	return times, nil
}

type sameFolder struct{}

// TreeHash implements scan.Repo.
func (sameFolder) TreeHash(context.Context, string, string) (string, error) { return "same", nil }

type benchSpace string

// Tree implements stage.Workspace.
func (b benchSpace) Tree(context.Context, string, string) (string, error) { return string(b), nil }

// Dir implements stage.Workspace.
func (b benchSpace) Dir(name string) (string, error) {
	dir := filepath.Join(string(b), name)
	return dir, os.MkdirAll(dir, 0o700)
}

type quiet struct{}

// Line implements stage.Log.
func (quiet) Line(slipway.LogLine) {}

// Printf implements stage.Log.
func (quiet) Printf(string, ...any) {}

// machineImage writes a layout of an image with this machine's packages and some of its files, as a
// distribution's image has them, and returns its digest.
func machineImage(dir string) (string, error) {
	file := dir + ".tar"
	if err := machineLayer(file, "var/lib/dpkg", "etc", "usr/lib/os-release", "usr/share/doc", "usr/bin"); err != nil {
		return "", err
	}
	defer os.Remove(file)
	layer, err := tarball.LayerFromFile(file)
	if err != nil {
		return "", err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return "", err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	if err := path.AppendImage(img); err != nil {
		return "", err
	}
	var h v1.Hash
	h, err = img.Digest()
	return h.String(), err
}

func machineLayer(name string, paths ...string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	left := int64(scanBytes)
	for _, p := range paths {
		err := filepath.WalkDir("/"+p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // what cannot be read is not in the image
			}
			data, err := os.ReadFile(name)
			if err != nil || int64(len(data)) > left {
				return nil //nolint:nilerr // nor is that
			}
			left -= int64(len(data))
			if err := w.WriteHeader(&tar.Header{Name: name[1:], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
				return err
			}
			_, err = w.Write(data)
			return err
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), f.Close())
}
