package build_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/build"
)

// builder answers with what it was given and keeps the request.
type builder struct {
	res build.Result
	err error
	got *build.Request
}

func (b *builder) Build(_ context.Context, req build.Request, _ stage.Log) (build.Result, error) {
	b.got = &req
	return b.res, b.err
}

type workspace struct {
	stage.Workspace
	err error
}

func (w workspace) Tree(_ context.Context, _, commit string) (string, error) {
	return filepath.Join("/trees", commit), w.err
}

type silent struct{}

func (silent) Line(slipway.LogLine)  {}
func (silent) Printf(string, ...any) {}

var now = time.Unix(1_700_000_000, 0)

func env() stage.Env {
	return stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}, Log: silent{}, Workspace: workspace{}, Now: func() time.Time { return now }}
}

func step() slipway.PlanStep {
	return slipway.PlanStep{Key: "build/cart", Kind: slipway.KindBuild, Service: "cart", Build: &slipway.BuildSpec{
		Source: slipway.Source{Commit: "abc", Dir: "services/cart"}, Dockerfile: "Dockerfile", Target: "final",
		Args: map[string]string{"A": "1"}, Labels: map[string]string{"l": "2"}, Epoch: 5, Pins: map[string]string{"p": "3"},
		Image: &slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/cart"}, Trust: slipway.TrustReviewed,
	}}
}

func TestBuilds(t *testing.T) {
	t.Parallel()
	b := &builder{res: build.Result{Digest: "sha256:1", Size: 10, Provenance: &build.Provenance{Digest: "sha256:2", Size: 20}}}
	got, err := build.Runner{Builder: b}.Run(t.Context(), env(), step())
	if err != nil {
		t.Fatal(err)
	}
	s := step().Build
	if want := (build.Request{
		Project: "shop", Service: "cart", Dir: "/trees/abc/services/cart", Dockerfile: "Dockerfile", Target: "final", Args: s.Args, Labels: s.Labels,
		Epoch: 5, Pins: s.Pins, Image: s.Image, Trust: slipway.TrustReviewed,
	}); !reflect.DeepEqual(*b.got, want) {
		t.Errorf("asked for %+v", *b.got)
	}
	image := slipway.Artifact{
		Project: "shop", RunID: 7, Step: "build/cart", Service: "cart", Kind: slipway.ArtifactImage,
		Repository: "registry.test/shop/cart", Digest: "sha256:1", Size: 10, Commit: "abc", CreatedAt: now,
	}
	provenance := image
	provenance.Kind, provenance.Digest, provenance.Size, provenance.Subject = slipway.ArtifactProvenance, "sha256:2", 20, "sha256:1"
	want := slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{image, provenance}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBuildsWithoutKeeping(t *testing.T) {
	t.Parallel()
	s := step()
	s.Build.Image = nil
	got, err := build.Runner{Builder: &builder{}}.Run(t.Context(), env(), s)
	if err != nil || !reflect.DeepEqual(got, slipway.Result{Outcome: slipway.Succeeded}) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestFails(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]build.Failure{
		"build failed at services/cart/Dockerfile:12: RUN go build ./... exited with 1": {File: "Dockerfile", Line: 12, Step: "RUN go build ./...", ExitCode: 1, Message: "exit"},
		"build failed at services/cart/Dockerfile:3: unknown instruction: FOO":          {File: "Dockerfile", Line: 3, Message: "unknown instruction: FOO"},
		"build failed at services/cart/Dockerfile: it is empty":                         {File: "Dockerfile", Message: "it\n is   empty"},
		"build failed": {},
		"build failed: " + strings.Repeat("x", 500) + "...": {Message: strings.Repeat("x", 501)},
	} {
		got, err := build.Runner{Builder: &builder{res: build.Result{Failure: &f}}}.Run(t.Context(), env(), step())
		if err != nil || !reflect.DeepEqual(got, slipway.Result{Outcome: slipway.Failed, Reason: want}) {
			t.Errorf("got %+v, %v\nwant %s", got, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	trouble := slipway.Errorf(slipway.Unavailable, "no BuildKit")
	_, err := build.Runner{Builder: &builder{err: trouble}}.Run(t.Context(), env(), step())
	if !slipway.Temporary(err) || err.Error() != "build image of cart: no BuildKit" {
		t.Errorf("got %v", err)
	}
	e := env()
	e.Workspace = workspace{err: errors.New("disk")}
	b := &builder{}
	if _, err := (build.Runner{Builder: b}).Run(t.Context(), e, step()); fmt.Sprint(err) != "disk" || b.got != nil {
		t.Errorf("got %v", err)
	}
	if _, err := (build.Runner{Builder: b}).Run(t.Context(), e, slipway.PlanStep{Key: "x"}); slipway.ErrorCode(err) != slipway.Internal {
		t.Errorf("got %v", err)
	}
}

func TestStaysInTheTree(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"../other", "/etc", "a/../../b"} {
		s := step()
		s.Build.Source.Dir = dir
		b := &builder{}
		if _, err := (build.Runner{Builder: b}).Run(t.Context(), env(), s); slipway.ErrorCode(err) != slipway.Invalid || b.got != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for _, file := range []string{"../Dockerfile", "/etc/passwd", ""} {
		s := step()
		s.Build.Dockerfile = file
		b := &builder{}
		res, err := build.Runner{Builder: b}.Run(t.Context(), env(), s)
		if err != nil || res.Outcome != slipway.Failed || b.got != nil {
			t.Errorf("%q: %+v %v", file, res, err)
		}
	}
}
