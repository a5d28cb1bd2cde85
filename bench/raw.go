package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"
	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/slipway-cd/slipway"
)

// parts does the work of a pull-request run with the libraries alone, in one process, one part after
// the other, in a folder that is checked out already: what a script would do that knows all the answers.
type parts struct {
	buildkit  *client.Client
	mirror    string // host:port/prefix of base images
	user      string
	secret    string
	tree      string
	build     slipway.BuildSpec
	test      slipway.TestSpec
	chart     slipway.ChartSpec
	libraries *aloneProcess // syft and grype alone
	layout    string        // of the run's image
}

// Register makes the credentials for the mirror part of a session.
func (p *parts) Register(s *grpc.Server) { auth.RegisterAuthServer(s, credentials{p: p}) }

type credentials struct {
	auth.UnimplementedAuthServer
	p *parts
}

// Credentials are those of the mirror.
func (c credentials) Credentials(context.Context, *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	return &auth.CredentialsResponse{Username: c.p.user, Secret: c.p.secret}, nil
}

func (p *parts) solveOpt(source slipway.Source, dockerfile, target string, epoch int64, args, labels map[string]string) (client.SolveOpt, error) {
	dir := filepath.Join(p.tree, source.Dir)
	tree, err := fsutil.NewFS(dir)
	if err != nil {
		return client.SolveOpt{}, err
	}
	attrs := map[string]string{
		"cmdline": "builtin", "filename": dockerfile, "build-arg:SOURCE_DATE_EPOCH": strconv.FormatInt(epoch, 10),
		"build-arg:BUILDKIT_CACHE_MOUNT_NS": project + "/branch", // as Slipway's, so that one build fills the cache
	}
	if target != "" {
		attrs["target"] = target
	}
	for k, v := range args {
		attrs["build-arg:"+k] = v
	}
	for k, v := range labels {
		attrs["label:"+k] = v
	}
	policy := &spb.Policy{Version: 1}
	for _, registry := range []string{"docker.io", "gcr.io"} {
		policy.Rules = append(policy.Rules, &spb.Rule{
			Action:   spb.PolicyAction_CONVERT,
			Selector: &spb.Selector{Identifier: "docker-image://" + registry + "/*", MatchType: spb.MatchType_WILDCARD},
			Updates:  &spb.Update{Identifier: "docker-image://" + p.mirror + "/" + registry + "/${1}"},
		})
	}
	return client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: attrs, LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": tree},
		SharedKey: "raw/" + source.Dir, Session: []session.Attachable{p}, SourcePolicy: policy,
	}, nil
}

// drain reads the progress of a solve, as a client must.
func drain(solve func(ch chan *client.SolveStatus) error) error {
	ch := make(chan *client.SolveStatus)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range ch {
		}
	}()
	err := solve(ch)
	<-done
	return err
}

// solveImage builds the image, with another label each time as the runs have, and pushes it by digest.
func (p *parts) solveImage(ctx context.Context) error {
	opt, err := p.solveOpt(p.build.Source, p.build.Dockerfile, p.build.Target, p.build.Epoch, p.build.Args, p.build.Labels)
	if err != nil {
		return err
	}
	opt.FrontendAttrs["label:again"] = time.Now().String()
	opt.Exports = []client.ExportEntry{{Type: client.ExporterImage, Attrs: map[string]string{
		"name": strings.TrimSuffix(p.mirror, "/mirror") + "/" + project + "/raw", "push": "true", "push-by-digest": "true", "registry.insecure": "true",
		"rewrite-timestamp": "true", "oci-mediatypes": "true",
	}}}
	return drain(func(ch chan *client.SolveStatus) error {
		_, err := p.buildkit.Solve(ctx, nil, opt, ch)
		return err
	})
}

// scanImage looks into the image with the libraries alone.
func (p *parts) scanImage(context.Context) error {
	_, err := p.libraries.scan(p.layout)
	return err
}

// runTests builds the test stage, runs its entrypoint in a container and reads what it left.
func (p *parts) runTests(ctx context.Context) error {
	opt, err := p.solveOpt(p.test.Source, p.test.Dockerfile, p.test.Stage, p.test.Epoch, p.test.Args, nil)
	if err != nil {
		return err
	}
	frontend := opt.FrontendAttrs
	opt.FrontendAttrs = nil
	return drain(func(ch chan *client.SolveStatus) error {
		_, err := p.buildkit.Build(ctx, opt, "bench", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
			return gateway.NewResult(), p.container(ctx, g, frontend)
		}, ch)
		return err
	})
}

func (p *parts) container(ctx context.Context, g gateway.Client, frontend map[string]string) error {
	res, err := g.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: frontend, Evaluate: true})
	if err != nil {
		return err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return err
	}
	var img ocispecs.Image
	if err := json.Unmarshal(res.Metadata[exptypes.ExporterImageConfigKey], &img); err != nil {
		return err
	}
	def, err := llb.Scratch().File(llb.Mkdir("/results", 0o777|os.ModeSticky)).Marshal(ctx)
	if err != nil {
		return err
	}
	scratch, err := g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return err
	}
	results, err := scratch.SingleRef()
	if err != nil {
		return err
	}
	dest := p.test.Results
	if !path.IsAbs(dest) {
		dest = path.Join("/", img.Config.WorkingDir, dest)
	}
	ctr, err := g.NewContainer(ctx, gateway.NewContainerRequest{Mounts: []gateway.Mount{
		{Dest: "/", Ref: ref, MountType: pb.MountType_BIND},
		{Dest: dest, Ref: results, MountType: pb.MountType_BIND, Selector: "/results"},
	}})
	if err != nil {
		return err
	}
	defer ctr.Release(context.WithoutCancel(ctx)) //nolint:errcheck // the process has been waited for
	var output bytes.Buffer
	proc, err := ctr.Start(ctx, gateway.StartRequest{
		Args: append(append([]string{}, img.Config.Entrypoint...), img.Config.Cmd...), Cwd: path.Join("/", img.Config.WorkingDir),
		User: img.Config.User, Env: append(append([]string{}, img.Config.Env...), "SLIPWAY_TEST_RESULTS="+dest),
		Stdout: closer{&output}, Stderr: closer{&output},
	})
	if err != nil {
		return err
	}
	if err := proc.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, output.String())
	}
	return readResults(ctx, ctr)
}

func readResults(ctx context.Context, ctr gateway.Container) error {
	entries, err := ctr.ReadDir(ctx, gateway.ReadDirContainerRequest{MountIndex: 1, ReadDirRequest: gateway.ReadDirRequest{Path: "/results"}})
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("the tests left no results")
	}
	for _, e := range entries {
		if _, err := ctr.ReadFile(ctx, gateway.ReadContainerRequest{MountIndex: 1, ReadRequest: gateway.ReadRequest{Filename: "/results/" + e.Path}}); err != nil {
			return err
		}
	}
	return nil
}

type closer struct{ io.Writer }

func (closer) Close() error { return nil }

// checkChart lints the chart once and renders it for each environment, as the library does by itself.
func (p *parts) checkChart(ctx context.Context) error {
	dir := filepath.Join(p.tree, p.chart.Source.Dir)
	for i, r := range p.chart.Renders {
		vals, err := p.values(dir, r)
		if err != nil {
			return err
		}
		if i == 0 {
			for _, m := range lint.RunAll(dir, vals, r.Namespace).Messages {
				if m.Severity == support.ErrorSev {
					return m
				}
			}
		}
		ch, err := loader.LoadDir(dir)
		if err != nil {
			return err
		}
		ch.Metadata.Version, ch.Metadata.AppVersion = p.chart.Version, p.chart.Version
		in := action.NewInstall(action.NewConfiguration())
		in.DryRunStrategy, in.ReleaseName, in.Namespace = action.DryRunClient, p.chart.Service, r.Namespace
		in.KubeVersion = &common.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
		if _, err := in.RunWithContext(ctx, ch, vals); err != nil {
			return err
		}
	}
	return nil
}

func (p *parts) values(dir string, r slipway.ChartRender) (map[string]any, error) {
	vals := map[string]any{"image": map[string]any{
		"registry": p.chart.Image.Registry.Host, "repository": p.chart.Image.Name, "tag": p.chart.Version,
		"digest": "sha256:" + strings.Repeat("0", 64)}, "reason": "chart check"}
	for _, name := range append([]string{"values-" + r.Environment + ".yaml"}, r.Values...) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		more, err := loader.LoadValues(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		vals = loader.MergeMaps(more, vals)
	}
	return vals, nil
}
