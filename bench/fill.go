package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/engine"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/store"
)

// fill makes runs in the store of a stopped server, with the engine and runners that do nothing but say
// what real ones would. It returns how many steps the runs have.
func fill(ctx context.Context, data string, runs int) (steps int, err error) {
	queue, err := engine.NewQueue()
	if err != nil {
		return 0, err
	}
	s, err := store.Open(ctx, filepath.Join(data, "slipway.db"), store.Options{Queue: queue})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	e, err := engine.New(engine.Options{Queue: queue, DB: s.DB(), Store: s, Runners: standIns(), Workers: 4, BuildWorkers: 4,
		Logs: func(run, step int64, attempt int) (io.WriteCloser, error) {
			return s.Logs().OpenLog(run, step, attempt)
		}})
	if err != nil {
		return 0, err
	}
	if _, err := s.CreateProject(ctx, slipway.Project{Name: "shop"}, "admin"); err != nil {
		return 0, err
	}
	if err := e.Start(ctx); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Stop(context.WithoutCancel(ctx))) }()
	var last int64
	for i := range runs {
		run, n, err := makeRun(ctx, s, i)
		if err != nil {
			return 0, err
		}
		last = run
		steps += n
		if i%10 == 9 { // few are open at a time
			if err := untilEnded(ctx, s, last); err != nil {
				return 0, err
			}
		}
	}
	return steps, untilEnded(ctx, s, last)
}

// makeRun pushes to main, each fifth time to a release branch, and returns the run and its number of
// steps.
func makeRun(ctx context.Context, s *store.Store, i int) (run int64, steps int, err error) {
	service := fmt.Sprintf("service%d", i%10)
	commit := fmt.Sprintf("%040x", 0x7bcdef0000000000+i)
	r := slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commit, Title: "Change what " + service + " says", Actor: "ada"}
	if i%5 == 4 {
		r.Event, r.Service, r.Version = slipway.ReleasePush, service, fmt.Sprintf("v1.%d.0", i)
		r.Ref = "refs/heads/release/" + service + "/" + r.Version
	}
	push, err := s.RecordPush(ctx, slipway.Push{Project: "shop", Ref: r.Ref, Old: slipway.ZeroHash, New: commit, Actor: r.Actor})
	if err != nil {
		return 0, 0, err
	}
	plan := planOf(service, r.Event == slipway.ReleasePush)
	made, err := s.AcceptPush(ctx, push.ID, &r, plan, "1 of 10 services runs")
	return made.ID, len(plan.Steps), err
}

// planOf is one service's way to development, or to QA and production.
func planOf(service string, release bool) slipway.Plan {
	p := slipway.Plan{Decisions: []slipway.Decision{{Service: service, Runs: true, Reason: "1 changed file: src/" + service + "/main.go"}}}
	add := func(kind slipway.StepKind, environment string, needs ...string) string {
		key := slipway.StepKey(kind, service, environment)
		st := slipway.PlanStep{Key: key, Kind: kind, Service: service, Environment: environment, Needs: needs, Retries: 3}
		target := slipway.Target{Project: "shop", Environment: environment, Service: service, Cluster: "default", Namespace: "shop-" + environment, Release: service, HistoryMax: 10}
		switch kind {
		case slipway.KindDeploy:
			st.Lock, st.Deploy = target.Lock(), &slipway.DeploySpec{Target: target}
		case slipway.KindVerify:
			st.Lock, st.Verify = target.Lock(), &slipway.VerifySpec{Target: target}
		}
		p.Steps = append(p.Steps, st)
		return key
	}
	build := add(slipway.KindBuild, "")
	last := add(slipway.KindPublish, "", add(slipway.KindTest, "", build), add(slipway.KindChart, ""))
	environments := []string{"development"}
	if release {
		environments = []string{"qa", "production"}
	}
	for _, env := range environments {
		if env == "production" {
			last = add(slipway.KindRetag, "", last)
		}
		last = add(slipway.KindVerify, env, add(slipway.KindDeploy, env, last))
	}
	return p
}

// untilEnded waits for the end of a run and of those before it that are still open.
func untilEnded(ctx context.Context, s *store.Store, run int64) error {
	for {
		changed := s.Watch()
		open := 0
		for _, state := range []slipway.RunState{slipway.RunQueued, slipway.RunRunning} {
			runs, err := s.Runs(ctx, slipway.RunFilter{Project: "shop", State: state, Limit: 1})
			if err != nil {
				return err
			}
			open += len(runs)
		}
		if open == 0 {
			d, err := s.Run(ctx, run)
			if err == nil && d.Run.State != slipway.RunSucceeded {
				err = fmt.Errorf("run #%d is %s: %s", run, d.Run.State, d.Run.Reason)
			}
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// standIns are runners that do nothing and say what real ones say.
func standIns() map[slipway.StepKind]stage.Runner {
	all := map[slipway.StepKind]stage.Runner{}
	for _, kind := range stage.Order() {
		all[kind] = stage.Func(standIn)
	}
	return all
}

func standIn(_ context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	res := slipway.Result{Outcome: slipway.Succeeded}
	commit := env.Run.Commit
	digest := func(kind string) string { return fmt.Sprintf("sha256:%s%016x%s", commit, env.Run.ID, kind) }
	artifact := func(kind slipway.ArtifactKind, tag, digest string) {
		res.Artifacts = append(res.Artifacts, slipway.Artifact{Service: step.Service, Kind: kind, Repository: "registry.slipway.internal/shop/" + step.Service,
			Tag: tag, Digest: digest, Size: 12_345_678, Commit: commit, CreatedAt: time.Now()})
	}
	switch step.Kind {
	case slipway.KindBuild:
		for i := range 60 {
			env.Log.Printf("#%d 0.%02d go: compiling package %d of %s", i/6, i, i, step.Service)
		}
		artifact(slipway.ArtifactImage, "", digest("0000000a"))
		artifact(slipway.ArtifactProvenance, "", digest("0000000b"))
	case slipway.KindTest:
		report := &slipway.TestReport{Passed: 20, Duration: time.Second, Files: []string{"report.xml"}, Suites: []slipway.TestSuite{{Name: step.Service}}}
		for i := range report.Passed {
			report.Suites[0].Cases = append(report.Suites[0].Cases, slipway.TestCase{Name: fmt.Sprintf("TestCase%d", i), State: slipway.TestPassed, Duration: time.Millisecond})
		}
		res.Report, res.Reason = report, "20 passed"
	case slipway.KindChart:
		artifact(slipway.ArtifactChart, "1.0.0", digest("0000000c"))
	case slipway.KindPublish:
		artifact(slipway.ArtifactImage, "main-"+slipway.ShortHash(commit), digest("0000000a"))
	case slipway.KindDeploy:
		res.Deployments = []slipway.Deployment{{Target: step.Deploy.Target, Version: "main-" + slipway.ShortHash(commit), Commit: commit, RunID: env.Run.ID, Step: step.Key,
			ImageDigest: digest("0000000a"), ChartDigest: digest("0000000c"), Revision: int(env.Run.ID), State: slipway.Deployed}}
	case slipway.KindVerify:
		if d, ok := env.Deployment(step.Service, step.Environment); ok {
			d.State = slipway.Verified
			res.Deployments = []slipway.Deployment{d}
		}
	}
	return res, nil
}
