package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/approve"
	"github.com/slipway-cd/slipway/stage/build"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/publish"
	"github.com/slipway-cd/slipway/stage/reuse"
	"github.com/slipway-cd/slipway/stage/rollback"
	"github.com/slipway-cd/slipway/stage/test"
	"github.com/slipway-cd/slipway/stage/verify"
	"github.com/slipway-cd/slipway/store"
)

// runners says who does which step.
func (s *server) runners() map[slipway.StepKind]stage.Runner {
	deployer := &deploy.Runner{Helm: s.helm, Charts: s.oci, Cluster: s.kube, Robots: robots{s}, Deployments: deployments{s.store}}
	verifier := &verify.Runner{Helm: s.helm, Cluster: s.kube}
	gates := s.judge()
	back := rollback.Back{Records: s.store, Limits: s.planner.Limits}
	deploying := func(ctx context.Context, env stage.Env, step slipway.PlanStep) stage.Runner {
		return rollback.After(deployer.Ahead(ctx, env, step), back.Plan)
	}
	return map[slipway.StepKind]stage.Runner{
		slipway.KindPlan:     atMost(runtime.NumCPU(), act.Distrust(s.planner)),
		slipway.KindBuild:    s.reusing(build.Runner{Builder: builder{s}}),
		slipway.KindTest:     gates.Judged(s.reusing(test.Runner{Container: s.buildkit, Attachments: s.store.Attachments()})),
		slipway.KindScan:     gates.Judged(s.scans()),
		slipway.KindChart:    gates.Judged(s.reusingCharts(chart.New(s.charts, &kubeschema.Library{}, chart.Options{Tracer: s.charts, Clusters: s.kube}))),
		slipway.KindPublish:  &publish.Runner{Registry: s.oci, Releases: s.store},
		slipway.KindAttest:   s.signer(),
		slipway.KindGate:     gates,
		slipway.KindApprove:  gates.Noted(&approve.Runner{Charts: s.oci, Renderer: s.helm, MaskKey: s.store.Key("masked values in diffs")}),
		slipway.KindRetag:    &publish.Retagger{Host: s.opts.registryHost, Embedded: s.registry, Outside: s.oci},
		slipway.KindDeploy:   deploy.Guarded(gates.Proven(deploying), s.store),
		slipway.KindVerify:   rollback.After(verifier, back.Plan),
		slipway.KindRollback: deploy.Guarded(gates.Remarked(&deploy.Rollback{Runner: deployer, Restore: s.helm}), s.store),
	}
}

// reusing takes the results of earlier runs on the same inputs.
func (s *server) reusing(r stage.Runner) stage.Runner {
	return reuse.Runner{
		Inner: r, Past: s.store, Bases: s.buildkit, Images: s.oci, Version: buildkit.Version,
		Repo:       func(codebase string) reuse.Repo { return s.open(codebase) },
		BaseImages: config.BaseImages,
	}
}

// reusingCharts takes what earlier runs of this very program found out about the same charts: policies, shipped
// schemas and the standard chart are parts of it.
func (s *server) reusingCharts(r reuse.Charts) stage.Runner {
	itself := sync.OnceValue(programHash)
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		c := reuse.Chart{Inner: r, Past: s.store, Version: itself(), Repo: func(codebase string) reuse.Repo { return s.open(codebase) }}
		return c.Run(ctx, env, step)
	})
}

// programHash is a hash of the program that runs, which need not be what its file has become since; "" where the
// system does not show it.
func programHash() string {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// atMost lets n steps run at once. Planning keeps a processor busy with git: more of it at once makes
// nothing quicker, and everybody else slower.
func atMost(n int, r stage.Runner) stage.Runner {
	free := make(chan struct{}, n)
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
			return r.Run(ctx, env, step)
		case <-ctx.Done():
			return slipway.Result{}, context.Cause(ctx)
		}
	})
}

// renderProcess is this program as the process in which the templates of charts run.
func renderProcess() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{self, renderCommand}
}

// builder builds with BuildKit, and tells it where the embedded registry is reached now.
type builder struct{ *server }

// Build builds.
func (b builder) Build(ctx context.Context, req build.Request, log stage.Log) (build.Result, error) {
	if req.Image != nil && req.Image.Registry.Host == b.opts.registryHost {
		image := *req.Image
		image.Registry.Address = "http://" + b.address
		req.Image = &image
	}
	return b.buildkit.Build(ctx, req, log)
}

// robots gives environments the credentials with which they pull.
type robots struct{ *server }

// PullToken returns the robot of a project's environment for the embedded registry. For an outside one
// it is SLIPWAY_REGISTRY_PULL_USER and SLIPWAY_REGISTRY_PULL_PASSWORD of the server's environment:
// nothing of Slipway's own ever goes there.
func (r robots) PullToken(ctx context.Context, registry, project, environment string) (user, secret string, err error) {
	if registry != r.opts.registryHost {
		if !r.opts.outside(registry) {
			return "", "", nil
		}
		return os.Getenv("SLIPWAY_REGISTRY_PULL_USER"), os.Getenv("SLIPWAY_REGISTRY_PULL_PASSWORD"), nil
	}
	u, secret, err := r.store.Robot(ctx, project, environment)
	return u.Name, secret, err
}

// deployments records deployments while a step runs.
type deployments struct{ store *store.Store }

// Save inserts or updates the deployment of a run and step.
func (d deployments) Save(ctx context.Context, v slipway.Deployment) (slipway.Deployment, error) {
	return d.store.SaveDeployment(ctx, v)
}

func (s *server) openBuildkit(ctx context.Context) error {
	mirrors := []buildkit.Mirror{{Registry: s.opts.registryHost, Address: "http://" + s.address}}
	for _, m := range s.opts.mirrors {
		mirror, err := parseMirror(m, s.address)
		if err != nil {
			return err
		}
		mirrors = append(mirrors, mirror)
	}
	var err error
	s.buildkit, err = buildkit.Open(ctx, buildkit.Options{
		Dir: filepath.Join(s.opts.data, "buildkit"), Address: s.opts.buildkit, Tools: s.opts.tools, Log: s.log, Mirrors: mirrors,
		Credentials: s.identity.buildCredentials(s.opts, s.address), Deny: s.opts.deny,
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() error {
		if s.opts.keepBuildkit {
			s.buildkit.Detach()
			return nil
		}
		return closing(s.buildkit.Close)
	})
	return nil
}

// parseMirror reads REGISTRY=PREFIX (in the embedded registry) or REGISTRY=URL.
func parseMirror(s, embedded string) (buildkit.Mirror, error) {
	name, where, ok := strings.Cut(s, "=")
	if !ok || name == "" || where == "" {
		return buildkit.Mirror{}, slipway.Errorf(slipway.Invalid, "--registry-mirror %q: expected REGISTRY=PREFIX or REGISTRY=URL, such as docker.io=mirror/docker.io", s)
	}
	scheme, rest, isURL := strings.Cut(where, "://")
	if !isURL {
		return buildkit.Mirror{Registry: name, Address: "http://" + embedded, Prefix: where}, nil
	}
	host, prefix, _ := strings.Cut(rest, "/")
	return buildkit.Mirror{Registry: name, Address: scheme + "://" + host, Prefix: prefix}, nil
}
