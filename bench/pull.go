package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const pullBudget = 1.3

// recipe gets another comment with each commit: that is another input of the build, for which nothing is reused,
// and none for BuildKit, to which everything is cached, as the recipe itself is left out of the build.
const recipe = "src/shipping/delivery/Dockerfile"

// measurePull updates a pull request by a commit that changes nothing that is built, so that everything is
// cached but the tests, which run, and does the same with the libraries alone, in turns; and then by commits
// that change no file, whose results are reused.
func measurePull(ctx context.Context, w *world) ([]row, error) {
	s, err := w.server(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := git(ctx, s.repo, "checkout", "--quiet", "-B", "pull", "main"); err != nil {
		return nil, err
	}
	if err := s.commit(ctx, "src/shipping/delivery/.dockerignore", "Dockerfile"); err != nil {
		return nil, err
	}
	if err := s.commit(ctx, "src/shipping/delivery/main.go", "// A pull request."); err != nil {
		return nil, err
	}
	first, err := s.pullRun(ctx, recipe)
	if err != nil {
		return nil, err
	}
	p, err := s.parts(ctx, filepath.Join(w.dir, "data"), first)
	if err != nil {
		return nil, err
	}
	defer p.buildkit.Close()
	close, err := p.openScan(ctx, w, s, first)
	if err != nil {
		return nil, err
	}
	defer close()
	var m pulls
	if err := new(pulls).raw(ctx, p); err != nil { // fills the caches
		return nil, fmt.Errorf("the raw parts: %w", err)
	}
	if err := new(pulls).slipway(ctx, s, recipe); err != nil {
		return nil, err
	}
	for range w.o.times(12) {
		if err := errors.Join(m.raw(ctx, p), m.slipway(ctx, s, recipe)); err != nil {
			return nil, err
		}
	}
	var same pulls
	for range w.o.times(12) {
		if err := same.slipway(ctx, s, ""); err != nil {
			return nil, err
		}
	}
	w.note("Where the time of a pull-request run goes", "%s", m.table())
	return []row{
		ratioRow("Pull-request run, everything cached, against its raw parts in sequence", millis(m.runs), millis(m.raws), pullBudget),
		{what: "… when no file changed, so that its image and tests are those of the run before", figure: millis(same.runs).String()},
	}, nil
}

// pullRun commits a line more of a file, or nothing, pushes it as the pull request, and waits for its run.
func (s *site) pullRun(ctx context.Context, file string) (slipway.RunDetail, error) {
	if err := s.commit(ctx, file, "# Again"); err != nil {
		return slipway.RunDetail{}, err
	}
	run, err := s.push(ctx, "HEAD:refs/for/main")
	if err != nil {
		return slipway.RunDetail{}, err
	}
	return s.ended(ctx, run.ID)
}

// parts are the raw parts of a run, on the server's own BuildKit.
func (s *site) parts(ctx context.Context, data string, d slipway.RunDetail) (*parts, error) {
	p := &parts{mirror: s.server.Address + "/mirror", user: "admin", secret: s.token, tree: s.repo}
	for _, st := range d.Steps {
		switch {
		case st.Spec.Build != nil:
			p.build = *st.Spec.Build
		case st.Spec.Test != nil:
			p.test = *st.Spec.Test
		case st.Spec.Chart != nil:
			p.chart = *st.Spec.Chart
		}
	}
	if p.build.Dockerfile == "" || p.test.Stage == "" || p.chart.Source.Dir == "" {
		return nil, fmt.Errorf("run #%d has not the steps build, test and chart", d.Run.ID)
	}
	var err error
	p.buildkit, err = client.New(ctx, "unix://"+filepath.Join(data, "buildkit", "buildkitd.sock"))
	return p, err
}

// openScan makes what the raw parts scan, and the libraries alone, which scan it.
func (p *parts) openScan(ctx context.Context, w *world, s *site, d slipway.RunDetail) (done func(), err error) {
	dir := filepath.Join(w.dir, "pull-scan")
	bins, err := slipwaytest.Build(ctx, w.say)
	if err != nil {
		return nil, err
	}
	g, err := grype.New(grype.Options{Program: bins.Scanner, Database: filepath.Join(dir, "db"), Temp: filepath.Join(dir, "temp")})
	if err != nil {
		return nil, err
	}
	defer g.Close() //nolint:errcheck // it is thrown away
	if err := benchDatabase(ctx, bins.Scanner, g, dir); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.Artifacts, func(a slipway.Artifact) bool { return a.Kind == slipway.ArtifactImage })
	if i < 0 {
		return nil, fmt.Errorf("run #%d made no image", d.Run.ID)
	}
	_, repository, _ := strings.Cut(d.Artifacts[i].Repository, "/")
	ref, err := name.NewDigest(s.server.Address + "/" + repository + "@" + d.Artifacts[i].Digest)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(ref, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: p.user, Password: p.secret})), remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	p.layout = filepath.Join(dir, "image")
	to, err := layout.Write(p.layout, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := to.AppendImage(image); err != nil {
		return nil, err
	}
	p.libraries, err = startAlone(ctx, dir)
	return func() { p.libraries.end(); os.RemoveAll(dir) }, err
}

// pulls are the times of pull-request runs and of their raw parts.
type pulls struct {
	runs, raws         []time.Duration
	image, tests, lint []time.Duration       // raw
	scans              []time.Duration       // raw
	steps              map[string]*stepTimes // by kind
	kinds              []slipway.StepKind    // in the order of their first start
}

// stepTimes are those of one kind of step.
type stepTimes struct {
	waited []time.Duration // since the run was made
	took   []time.Duration
}

func (m *pulls) raw(ctx context.Context, p *parts) error {
	began := time.Now()
	for _, part := range []struct {
		do   func(context.Context) error
		into *[]time.Duration
	}{{p.solveImage, &m.image}, {p.scanImage, &m.scans}, {p.checkChart, &m.lint}, {p.runTests, &m.tests}} {
		at := time.Now()
		if err := part.do(ctx); err != nil {
			return err
		}
		*part.into = append(*part.into, time.Since(at))
	}
	m.raws = append(m.raws, time.Since(began))
	return nil
}

func (m *pulls) slipway(ctx context.Context, s *site, file string) error {
	d, err := s.pullRun(ctx, file)
	if err != nil {
		return err
	}
	m.runs = append(m.runs, d.Run.FinishedAt.Sub(d.Run.CreatedAt))
	if m.steps == nil {
		m.steps = map[string]*stepTimes{}
	}
	for _, st := range d.Steps {
		kind := string(st.Spec.Kind)
		if m.steps[kind] == nil {
			m.steps[kind] = &stepTimes{}
			m.kinds = append(m.kinds, st.Spec.Kind)
		}
		t := m.steps[kind]
		t.waited = append(t.waited, st.StartedAt.Sub(d.Run.CreatedAt))
		t.took = append(t.took, st.FinishedAt.Sub(st.StartedAt))
	}
	return nil
}

// table shows the steps beside the raw parts.
func (m *pulls) table() string {
	raw := map[slipway.StepKind][]time.Duration{slipway.KindBuild: m.image, slipway.KindTest: m.tests, slipway.KindChart: m.lint, slipway.KindScan: m.scans}
	var rows [][]string
	slices.SortFunc(m.kinds, func(a, b slipway.StepKind) int {
		return int(millis(m.steps[string(a)].waited).p50() - millis(m.steps[string(b)].waited).p50())
	})
	for _, kind := range m.kinds {
		t := m.steps[string(kind)]
		rows = append(rows, []string{string(kind), number(millis(t.waited).p50()), number(millis(t.took).p50()), number(millis(raw[kind]).p50())})
	}
	rows = append(rows, []string{"all", "", number(millis(m.runs).p50()), number(millis(m.raws).p50())})
	return strings.TrimSpace(`
The run is that of a pull request whose new commit changes a comment of the Dockerfile (a commit that changes no file would reuse
the results of the run before): plan, build and push of an image of another digest, its scan, the chart, whose check for three
environments is that of the run before, tests in a container. Its time is from its creation to its end, as it
records them. The raw parts are the same, by BuildKit's client and the Helm library in one process, one after the
other, on the same daemon, from a tree that is checked out: solve and push of the image, its packages and vulnerabilities with
syft and grype alone (no search for secrets), lint and one render for each environment, solve of the test stage and its entrypoint in a container, results read back. Build, tests and chart check
of the run go side by side. Medians, in ms.`) + "\n\n" +
		cells([]string{"Step", "Started after", "Took", "Raw part"}, rows)
}
