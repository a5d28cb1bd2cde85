package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/store"
)

// signed pushes images and charts of the project shop as who is signed in, and signs one of each with the
// server's key: delivery:v1 and charts/delivery:1.0.0; delivery:by-hand stays as it is. It sets DIGEST,
// and makes docker/config.json as docker login does.
func cmdSigned(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := context.Background()
	var s saved
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("config.json")), &s))
	registry := oci.New(func(context.Context, string) (string, string, error) { return s.User, s.Token, nil }, oci.Options{})
	repo := func(name string) slipway.Repository {
		return slipway.Repository{Registry: slipway.Registry{Host: slipway.EmbeddedRegistry, Address: s.Server}, Name: name}
	}
	push := func(name, tag string) string {
		img, err := random.Image(256, 1)
		ts.Check(err)
		dir := ts.MkAbs("layout-" + tag)
		p, err := layout.Write(dir, empty.Index)
		ts.Check(err)
		ts.Check(p.AppendImage(img))
		digest, err := registry.PushLayout(ctx, dir, repo(name), tag)
		ts.Check(err)
		return digest
	}
	image, chart := push("shop/delivery", "v1"), push("shop/charts/delivery", "1.0.0")
	push("shop/delivery", "by-hand")
	ts.Setenv("DIGEST", image)
	keys, err := store.Open(ctx, filepath.Join(ts.MkAbs("data"), "slipway.db"), store.Options{})
	ts.Check(err)
	defer keys.Close()
	runner := attest.Runner{Registry: registry, Bundles: cosign.Bundles{}, Keys: keys, Evidence: noEvidence{}, URL: s.Server}
	source := slipway.Source{Commit: "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"}
	done := func(spec slipway.PlanStep) slipway.Step {
		return slipway.Step{RunID: 7, Spec: spec, State: slipway.StepSucceeded}
	}
	made := func(kind slipway.ArtifactKind, r slipway.Repository, digest string) slipway.Artifact {
		return slipway.Artifact{Kind: kind, Service: "delivery", Repository: r.Ref(), Digest: digest}
	}
	env := stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}, Log: scriptLog{ts}, Journal: noJournal{}, Now: time.Now,
		Artifacts: []slipway.Artifact{made(slipway.ArtifactImage, repo("shop/delivery"), image), made(slipway.ArtifactChart, repo("shop/charts/delivery"), chart)},
		Steps: []slipway.Step{
			done(slipway.PlanStep{Key: "build/delivery", Build: &slipway.BuildSpec{Source: source}}),
			done(slipway.PlanStep{Key: "chart/delivery", Chart: &slipway.ChartSpec{Source: source, Version: "1.0.0"}}),
		}}
	res, err := runner.Run(ctx, env, slipway.PlanStep{Key: "attest/delivery", Service: "delivery", Attest: &slipway.AttestSpec{
		Image: repo("shop/delivery"), Chart: repo("shop/charts/delivery"), Builder: s.Server, Source: "git+" + s.Server + "/git/shop.git",
	}})
	ts.Check(err)
	if res.Outcome != slipway.Succeeded || len(res.Artifacts) != 4 {
		ts.Fatalf("%+v", res)
	}
	auth := base64.StdEncoding.EncodeToString([]byte(s.User + ":" + s.Token))
	ts.Check(os.MkdirAll(ts.MkAbs("docker"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs("docker/config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, slipway.EmbeddedRegistry, auth), 0o600))
}

type noEvidence struct{}

var errNoEvidence = slipway.Errorf(slipway.NotFound, "not on record")

func (noEvidence) BuiltBy(context.Context, string, string, string, int64) (slipway.Earlier, error) {
	return slipway.Earlier{}, errNoEvidence
}

func (noEvidence) TestsOf(context.Context, int64, string, string) (slipway.TestReport, error) {
	return slipway.TestReport{}, errNoEvidence
}

func (noEvidence) TestedBy(context.Context, int64, string, string) (slipway.Step, error) {
	return slipway.Step{}, errNoEvidence
}

func (noEvidence) ScanOf(context.Context, string, string) (slipway.Scan, error) {
	return slipway.Scan{}, errNoEvidence
}

func (noEvidence) SBOM(context.Context, string) ([]byte, error) { return nil, errNoEvidence }

type noJournal struct{}

func (noJournal) Put(context.Context, string, any) error         { return nil }
func (noJournal) Get(context.Context, string, any) (bool, error) { return false, nil }

type scriptLog struct{ ts *testscript.TestScript }

func (l scriptLog) Line(v slipway.LogLine)            { l.ts.Logf("%s", v.Text) }
func (l scriptLog) Printf(format string, args ...any) { l.ts.Logf(format, args...) }

func TestParseArtifactRef(t *testing.T) {
	t.Parallel()
	const d = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for text, want := range map[string]string{
		"shop/delivery:v1":                                   " shop/delivery v1 ",
		"prod/shop/delivery:v1":                              " prod/shop/delivery v1 ",
		"registry.slipway.internal/prod/shop/delivery:v1":    "registry.slipway.internal prod/shop/delivery v1 ",
		"127.0.0.1:5000/shop/delivery@" + d:                  "127.0.0.1:5000 shop/delivery  " + d,
		"localhost/x:1":                                      "localhost x 1 ",
		"ghcr.io/a/b:v1@" + d:                                "ghcr.io a/b v1 " + d,
		"oci://registry.example.com/shop/charts/web:1.0.2+5": "registry.example.com shop/charts/web 1.0.2_5 ",
		"shop/delivery":                                      "",
		"shop/delivery@sha256:1":                             "",
		"":                                                   "",
		"-v":                                                 "",
		"Shop/Delivery:v1":                                   "",
		"a/b:v1 c":                                           "",
		"https://ghcr.io/a/b:v1":                             "",
		"a/../b\x00:v1":                                      "",
	} {
		got, err := parseArtifactRef(text)
		said := ""
		if err == nil {
			said = got.repo.Registry.Host + " " + got.repo.Name + " " + got.tag + " " + got.digest
		} else if slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", text, err)
		}
		if said != want {
			t.Errorf("%s: %q, want %q", text, said, want)
		}
	}
}
