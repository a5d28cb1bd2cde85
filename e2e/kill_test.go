package e2e_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/store"
)

// moment is a point of a release run at which the server is killed.
type moment struct {
	name string
	// arm waits for the moment and then calls kill, once.
	arm func(a armed, kill func())
	// inside is the step that was at work: it must have been started again.
	inside string
	change tree // what the version changes in the repository
	ends   slipway.RunState
}

func moments() []moment {
	began := func(step string) moment {
		return moment{name: "when " + step + " begins", arm: onEvent("step.running", step)}
	}
	ended := func(step string) moment {
		return moment{name: "when " + step + " has ended", arm: onEvent("step.succeeded", step)}
	}
	return []moment{
		began("plan"),
		ended("plan"),
		began("build/tick"),
		{name: "inside a RUN of the Dockerfile", arm: onLog("build/tick", "the build begins"), inside: "build/tick", change: tree{"tick/slow/build": "3"}},
		ended("build/tick"),
		{name: "inside the test container", arm: onLog("test/tick", "the tests begin"), inside: "test/tick", change: tree{"tick/slow/test": "3"}},
		ended("test/tick"),
		ended("chart/tick"),
		{name: "inside publish, the image has its tag", arm: onTag(""), inside: "publish/tick"},
		ended("publish/tick"),
		began("deploy/tick@qa"),
		{name: "inside deploy, Helm is at work", arm: onHelm("qa", "pending-upgrade"), inside: "deploy/tick@qa", change: tree{"tick/chart/values.yaml": tickValues(map[string]string{"hook": "2"})}},
		ended("deploy/tick@qa"),
		ended("verify/tick@qa"),
		{name: "while it waits for approval", arm: onEvent("run.waiting", "")},
		{name: "when it is approved", arm: onEvent("approval.approved", "approve/tick@production")},
		{name: "inside retag, the image has its name in production", arm: onTag("prod"), inside: "retag/tick@production"},
		ended("retag/tick@production"),
		{name: "inside deploy to production, Helm is at work", arm: onHelm("production", "pending-upgrade"), inside: "deploy/tick@production"},
		ended("deploy/tick@production"),
		began("verify/tick@production"),
		ended("verify/tick@production"),
		{name: "inside an automatic rollback", arm: onHelm("production", "pending-rollback"), inside: "rollback/tick@production",
			change: tree{"tick/chart/values-production.yaml": "failing: true\n"}, ends: slipway.RunFailed},
	}
}

// TestKilledAtAnyMoment kills real servers in the middle of release runs: after the restart each
// goes on by itself, everything happened once, and nothing is left behind.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	const servers = 3 // they wait most of the time
	all := moments()
	for part := range servers {
		project := fmt.Sprint("kill", part+1)
		t.Run(project, func(t *testing.T) {
			t.Parallel()
			killAt(t, project, all[len(all)*part/servers:len(all)*(part+1)/servers])
		})
	}
}

// killAt releases versions of a project, and kills its server at each of the moments.
func killAt(t *testing.T, project string, at []moment) {
	s := newSite(t, project, siteOptions{})
	r := s.project(t, project, tick())
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	k := &killing{site: s, repo: r, project: project, version: 1}
	k.release(t, moment{name: "never: the first version"})
	for _, m := range at {
		t.Run(m.name, func(t *testing.T) {
			for try := 1; !k.release(t, m); try++ {
				if try == 3 {
					t.Fatalf("the server could not be killed at that moment in %d runs", try)
				}
			}
		})
		if t.Failed() {
			break // what follows would only show the same
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	wantChain(t, s)
}

// killing releases version after version.
type killing struct {
	site    *site
	repo    *repo
	project string
	version int

	dead chan struct{}
}

// release releases the next version and kills the server at the moment. It reports whether the server
// was killed then: quick steps may be over before.
func (k *killing) release(t *testing.T, m moment) bool {
	began := time.Now()
	k.repo.t = t
	k.version++
	version := fmt.Sprintf("v1.%d.0", k.version)
	if m.ends == "" {
		m.ends = slipway.RunSucceeded
	}
	reset := tree{"tick/slow/build": "0", "tick/slow/test": "0", "tick/chart/values.yaml": tickValues(nil), "tick/chart/values-production.yaml": ""}
	k.repo.commit("Release "+version, reset.with(m.change).with(tree{"tick/www/index.html": version + "\n"}))
	before := map[string]int{}
	for _, env := range []string{"qa", "production"} {
		before[env] = latest(t, k.project+"-"+env, "tick")
	}
	k.dead = make(chan struct{})
	kill := sync.OnceFunc(func() {
		if err := k.site.process().Kill(); err != nil {
			t.Error(err)
		}
		close(k.dead)
		k.site.feed.wake()
	})
	if m.arm != nil {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m.arm(armed{k, t, ctx}, kill)
	}
	pushed := make(chan struct{})
	go func() {
		defer close(pushed)
		// The server may die while it answers.
		k.repo.tryGit(context.WithoutCancel(t.Context()), "push", "ada", "HEAD:refs/heads/release/tick/"+version) //nolint:errcheck
	}()
	d, killed := k.drive(t, version, m.ends, true)
	<-pushed
	up, moving := time.Duration(0), time.Duration(0)
	if killed {
		d, up, moving = k.goOn(t, version, m.ends)
	}
	if d.Run.State != m.ends {
		t.Fatalf("%s is %s (%s), not %s\n%s", version, d.Run.State, d.Run.Reason, m.ends, k.site.describe(d.Run.ID))
	}
	again := k.check(t, d, before, m)
	if m.arm != nil {
		progress("  killed %-52s ready again %4.0f ms, moving %4.0f ms, all %s, done twice: %v",
			m.name, float64(up.Milliseconds()), float64(moving.Milliseconds()), seconds(time.Since(began)), again)
	}
	if m.arm == nil || killed && (m.inside == "" || slices.Contains(again, m.inside)) {
		return true
	}
	t.Logf("it was over before; killed: %v; the log of %s:\n%s", killed, m.inside, k.site.log(t.Context(), d.Run.ID, m.inside))
	return false
}

// goOn starts the server again and waits until the run has ended. It returns how long the server took
// to be ready, and from its start to the run's next movement (0: it waited for a person).
func (k *killing) goOn(t *testing.T, version string, ends slipway.RunState) (d slipway.RunDetail, up, moving time.Duration) {
	began := time.Now()
	up = k.site.restart(t)
	if d, _ = k.drive(t, version, ends, false); d.Run.State != ends {
		return d, up, 0
	}
	waited := false
	for _, e := range d.Events {
		switch {
		case e.Time.Before(began):
			waited = e.Kind == "run.waiting" || (waited && e.Kind != "run.running")
		case e.Kind == "step.running" && !waited:
			if moving = e.Time.Sub(began); moving > up+50*time.Second { // it does not wait to be found, or for the next try of a minute
				t.Errorf("the run moved only %s after the restart, which took %s", moving, up)
			}
			return d, up, moving
		case e.Kind == "step.running":
			return d, up, 0
		}
	}
	return d, up, 0
}

// drive approves when the run waits, and returns when it has ended or the server is dead.
func (k *killing) drive(t *testing.T, version string, ends slipway.RunState, mayDie bool) (d slipway.RunDetail, dead bool) {
	t.Helper()
	there := k.site.await(t.Context(), patience, func() bool {
		select {
		case <-k.dead:
			dead = mayDie
		default:
		}
		if dead {
			return true
		}
		var err error
		if d, err = k.current(t.Context(), version); err != nil {
			return false
		}
		if d.Run.State == slipway.RunWaiting {
			for _, a := range d.Approvals {
				if a.State == slipway.ApprovalWaiting {
					k.site.as("bob").Vote(t.Context(), a.ID, true, "on with it") //nolint:errcheck // the server may die of it; it is tried again
				}
			}
		}
		return d.Run.State.Final()
	})
	if !there {
		t.Fatalf("%s is %s, not %s\n%s", version, d.Run.State, ends, k.site.describe(d.Run.ID))
	}
	return d, dead
}

func (k *killing) current(ctx context.Context, version string) (slipway.RunDetail, error) {
	runs, err := k.site.as("admin").Runs(ctx, slipway.RunFilter{Project: k.project, Ref: "refs/heads/release/tick/" + version})
	if err != nil {
		return slipway.RunDetail{}, err
	}
	if len(runs) != 1 {
		return slipway.RunDetail{}, fmt.Errorf("%d runs of %s", len(runs), version)
	}
	return k.site.as("admin").Run(ctx, runs[0].ID)
}

// check is what must hold after any kill. It returns the steps that were started more than once.
func (k *killing) check(t *testing.T, d slipway.RunDetail, before map[string]int, m moment) (again []string) {
	t.Helper()
	for _, st := range d.Steps {
		if st.Attempt > 1 {
			again = append(again, st.Spec.Key)
		}
		if st.Attempt > 2 || st.Errors > 0 {
			t.Errorf("%s was started %d times and ended in %d errors: %s", st.Spec.Key, st.Attempt, st.Errors, st.Reason)
		}
	}
	if runs, err := k.site.as("admin").Runs(t.Context(), slipway.RunFilter{Project: k.project, Ref: d.Run.Ref}); err != nil || len(runs) != 1 {
		t.Errorf("%d runs of %s: %v", len(runs), d.Run.Ref, err)
	}
	k.site.told(t, d)
	k.site.wantOnce(t, d.Run.ID)
	image := digest(t, d, slipway.ArtifactImage)
	chart := digest(t, d, slipway.ArtifactChart)
	for _, dep := range d.Deployments {
		if dep.Version == d.Run.Version && (dep.ImageDigest != image || dep.ChartDigest != chart) {
			t.Errorf("%s has image %s and chart %s, not those of the run: %s and %s", dep.Target.Environment, dep.ImageDigest, dep.ChartDigest, image, chart)
		}
	}
	intended := map[string]int{"qa": 1, "production": 1}
	if m.ends == slipway.RunFailed {
		intended["production"] = 2 // and the way back
		image = ""
	}
	for env, want := range intended {
		namespace := k.project + "-" + env
		wantSettled(t, namespace, "tick")
		completed, failed := made(t, namespace, "tick", before[env])
		if completed != want {
			t.Errorf("%s has %d new revisions of Helm, not %d", env, completed, want)
		}
		if interrupted := strings.HasSuffix(m.inside, "@"+env); failed > 0 && !interrupted {
			t.Errorf("%s has %d failed revisions, and Helm was not interrupted there", env, failed)
		}
		if image != "" {
			kube(t).runs(t, namespace, "app=tick", image)
		}
	}
	k.noLeaks(t)
	return again
}

// digest is the one digest of a run's artifacts of a kind, once they are in a registry.
func digest(t *testing.T, d slipway.RunDetail, kind slipway.ArtifactKind) string {
	t.Helper()
	var all []string
	for _, a := range d.Artifacts {
		if a.Kind == kind && a.Path == "" && a.Tag != "" && !slices.Contains(all, a.Digest) {
			all = append(all, a.Digest)
		}
	}
	if len(all) != 1 {
		t.Errorf("run #%d made the %s %d times: %v", d.Run.ID, kind, len(all), all)
		return ""
	}
	return all[0]
}

// noLeaks wants no container of a build, no mount of its executor and no lock of git left.
func (k *killing) noLeaks(t *testing.T) {
	t.Helper()
	var left []string
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := slipwaytest.Await(ctx, 50*time.Millisecond, func() (bool, error) {
		bundles, err := filepath.Glob(k.site.data + "/buildkit/state/runc-*/executor/*/config.json")
		if err != nil {
			return false, err
		}
		mounts, err := mountsBelow(k.site.data)
		if err != nil {
			return false, err
		}
		mounts = slices.DeleteFunc(mounts, func(m string) bool { return !strings.Contains(m, "/executor/") })
		left = append(append(bundles, mounts...), k.containers()...)
		return len(left) == 0, nil
	})
	if len(left) > 0 {
		t.Errorf("containers are left of a build: %v", left)
	} else if err != nil {
		t.Error(err)
	}
	err = filepath.WalkDir(k.site.data+"/repos", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".lock") || strings.Contains(filepath.Base(path), "incoming") {
			t.Errorf("git left %s", path)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}

// containers are those that runc knows of the site's builds.
func (k *killing) containers() []string {
	all, err := filepath.Glob("/run/runc/*/state.json")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(state string) bool {
		b, err := os.ReadFile(state)
		return err != nil || !strings.Contains(string(b), k.site.data)
	})
}

// wantChain wants the hash chain over all events of a stopped server to be whole.
func wantChain(t *testing.T, s *site) {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(s.data, "slipway.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n, err := st.VerifyEvents(t.Context())
	if err != nil {
		t.Errorf("the chain of events: %v", err)
	}
	progress("  the chain of %d events of server %s is whole", n, s.name)
}

// armed is what a moment waits with.
type armed struct {
	*killing
	t   *testing.T
	ctx context.Context //nolint:containedctx // ends with the release
}

// onEvent kills as soon as the event is told.
func onEvent(kind, step string) func(armed, func()) {
	return func(a armed, kill func()) {
		remove := a.site.feed.trap(func(e slipway.Event) {
			if e.Project == a.repo.project && e.Kind == kind && (step == "" || e.Step == step) {
				kill()
			}
		})
		context.AfterFunc(a.ctx, remove)
	}
}

// onLog kills when a step's log says something.
func onLog(step, says string) func(armed, func()) {
	return func(a armed, kill func()) {
		kill = sync.OnceFunc(kill) // the step may run again
		follow := func(run int64) {
			a.site.as("admin").Log(a.ctx, run, step, true, func(l slipway.LogLine) error { //nolint:errcheck // it ends with the server
				if l.Stream == "stdout" && strings.Contains(l.Text, says) {
					kill()
				}
				return nil
			})
		}
		var once sync.Once
		remove := a.site.feed.trap(func(e slipway.Event) {
			if e.Project == a.repo.project && e.Kind == "step.running" && e.Step == step {
				once.Do(func() { go follow(e.RunID) })
			}
		})
		context.AfterFunc(a.ctx, remove)
	}
}

// onTag kills when the registry's folder has the image's tag.
func onTag(prefix string) func(armed, func()) {
	return func(a armed, kill func()) {
		index := filepath.Join(a.site.data, "registry", prefix, a.repo.project, "tick", "index.json")
		tag := fmt.Sprintf("%q", fmt.Sprintf("v1.%d.0", a.version))
		go func() {
			err := slipwaytest.Await(a.ctx, time.Millisecond, func() (bool, error) {
				b, err := os.ReadFile(index)
				return err == nil && strings.Contains(string(b), tag), nil
			})
			if err == nil {
				kill()
			}
		}()
	}
}

// onHelm kills when a revision in an environment gets that status.
func onHelm(environment, status string) func(armed, func()) {
	return func(a armed, kill func()) {
		if err := kube(a.t).onReleaseStatus(a.ctx, a.repo.project+"-"+environment, status, kill); err != nil {
			a.t.Fatal(err)
		}
	}
}
