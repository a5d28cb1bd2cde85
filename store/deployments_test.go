package store

import (
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// deploy deploys a version to prod by a run of its own and says how it ended.
func (w *world) deploy(version string, state slipway.DeploymentState) (slipway.Run, slipway.Deployment) {
	w.t.Helper()
	r := w.newRun("refs/heads/release/a/"+version, commitA, steps(p("deploy/a@prod"), p("verify/a@prod", "deploy/a@prod")))
	w.finish(r.ID, "deploy/a@prod", slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{w.deployment(version, slipway.Deployed)}})
	d, err := w.Run(w.ctx, r.ID)
	w.ok(err)
	dep := d.Deployments[0]
	dep.State = state
	outcome := slipway.Succeeded
	if state == slipway.Unhealthy {
		outcome = slipway.Failed
	}
	w.finish(r.ID, "verify/a@prod", slipway.Result{Outcome: outcome, Deployments: []slipway.Deployment{dep}})
	dep, err = w.Deployment(w.ctx, dep.ID)
	w.ok(err)
	return r, dep
}

func TestARepeatedStepFindsItsDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/release/a/v1.0.0", commitA, steps(p("deploy/a@prod")))
	st := w.start(r.ID, "deploy/a@prod")
	intent := w.deployment("v1.0.0", slipway.Deploying)
	intent.RunID, intent.Step = r.ID, st.Spec.Key
	first, err := w.SaveDeployment(w.ctx, intent)
	w.ok(err)
	again, err := w.SaveDeployment(w.ctx, intent)
	w.ok(err)
	if first.ID == 0 || again.ID != first.ID {
		t.Fatalf("saved as %d, then as %d", first.ID, again.ID)
	}
	b, err := w.Board(w.ctx, "shop", nil, nil)
	w.ok(err)
	if c := b.Rows[0].Cells[0]; c.Pending == nil || c.Pending.ID != first.ID || c.Current != nil {
		t.Errorf("board while it deploys: %+v", c)
	}
	done := intent
	done.State, done.Revision = slipway.Deployed, 2
	w.ok(w.FinishStep(w.ctx, st.ID, 1, slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{done}}, nil))
	all, err := w.Deployments(w.ctx, slipway.DeploymentFilter{Project: "shop"})
	w.ok(err)
	if len(all) != 1 || all[0].Revision != 2 || all[0].State != slipway.Deployed || !all[0].CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("deployments: %+v", all)
	}
	var kinds []string
	for _, k := range w.kinds(r.ID) {
		if strings.HasPrefix(k, "deployment.") {
			kinds = append(kinds, k)
		}
	}
	if want := []string{"deployment.deploying", "deployment.deployed"}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("events: %v", kinds)
	}
}

func TestWhatAStepLeftDeployingIsClosed(t *testing.T) {
	t.Parallel()
	for want, end := range map[slipway.DeploymentState]func(w *world, st slipway.Step) error{
		slipway.DeployFailed: func(w *world, st slipway.Step) error { return w.FinishStep(w.ctx, st.ID, 1, failed, nil) },
		slipway.Unhealthy:    func(w *world, st slipway.Step) error { return w.ErrorStep(w.ctx, st.ID, 1, "gone", nil) },
	} {
		w := newWorld(t)
		r := w.newRun("refs/heads/release/a/v1.0.0", commitA, steps(p("deploy/a@prod")))
		st := w.start(r.ID, "deploy/a@prod")
		d := w.deployment("v1.0.0", slipway.Deploying)
		d.RunID, d.Step = r.ID, st.Spec.Key
		d, err := w.SaveDeployment(w.ctx, d)
		w.ok(err)
		w.ok(end(w, st))
		if d, err = w.Deployment(w.ctx, d.ID); err != nil || d.State != want {
			t.Errorf("deployment is %s (%v), want %s", d.State, err, want)
		}
	}
}

func TestDeploymentsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.CurrentDeployment(w.ctx, "shop", "prod", "a")
	w.code(err, slipway.NotFound)
	_, v1 := w.deploy("v1.0.0", slipway.Verified)
	_, v2 := w.deploy("v1.1.0", slipway.Verified)
	run, v3 := w.deploy("v1.2.0", slipway.Unhealthy)
	state := func(d slipway.Deployment) slipway.DeploymentState {
		d, err := w.Deployment(w.ctx, d.ID)
		w.ok(err)
		return d.State
	}
	if state(v1) != slipway.Replaced || state(v2) != slipway.Verified || state(v3) != slipway.Unhealthy {
		t.Errorf("states: %s %s %s", state(v1), state(v2), state(v3))
	}
	w.ok(w.Quarantine(w.ctx, "shop", "a", "1.1.0", "bad", "ada"))
	w.ok(w.LiftQuarantine(w.ctx, "shop", "a", "v1.1.0", "ada"))
	w.code(w.LiftQuarantine(w.ctx, "shop", "a", "v1.1.0", "ada"), slipway.Conflict)

	back, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.RollbackCall, Ref: run.Ref, Commit: commitB, Service: "a"}, steps(p("rollback/a@prod")))
	w.ok(err)
	left := v3
	left.State, left.Reason = slipway.RolledBack, "not healthy"
	w.finish(back.ID, "rollback/a@prod", slipway.Result{
		Outcome: slipway.Succeeded, Reason: "not healthy", Quarantine: "a/v1.2.0", Deployments: []slipway.Deployment{left, w.deployment("v1.1.0", slipway.Verified)},
	})
	now, err := w.CurrentDeployment(w.ctx, "shop", "prod", "a")
	w.ok(err)
	if now.Version != "v1.1.0" || now.RunID != back.ID || state(v3) != slipway.RolledBack || state(v2) != slipway.Replaced {
		t.Errorf("after the rollback: %+v, %s, %s", now, state(v3), state(v2))
	}
	if why, err := w.Quarantined(w.ctx, "shop", "a", "v1.2.0"); err != nil || why != "not healthy" {
		t.Errorf("quarantine: %q %v", why, err)
	}
}

func TestAVersionBelongsToTheCommitThatHadItFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(p("build/a"), p("publish/a", "build/a"))
	claim := func() string {
		c, err := w.Claim(w.ctx, "shop", "a", "1.0.0")
		w.ok(err)
		return c
	}
	r := w.newRun("refs/heads/release/a/v1.0.0", commitA, plan)
	w.finish(r.ID, "build/a", succeeded)
	if got := claim(); got != "" {
		t.Errorf("claimed by %s before it is published", got)
	}
	st := w.start(r.ID, "publish/a")
	if got := claim(); got != commitA {
		t.Errorf("claimed by %q while it is published", got)
	}
	release := &slipway.Release{Version: "v1.0.0", ImageDigest: "sha256:aa", ChartDigest: "sha256:cc"}
	w.ok(w.FinishStep(w.ctx, st.ID, 1, slipway.Result{Outcome: slipway.Succeeded, Release: release}, nil))
	if got := claim(); got != commitA {
		t.Errorf("claimed by %q", got)
	}
	same := w.newRun("refs/heads/release/a/v1.0.0", commitA, steps(p("publish/a")))
	w.finish(same.ID, "publish/a", slipway.Result{Outcome: slipway.Succeeded, Release: release}) // equal digests again
	w.runState(same.ID, slipway.RunSucceeded)
	other := w.newRun("refs/heads/release/a/1.0.0", commitB, steps(p("publish/a")))
	w.finish(other.ID, "publish/a", slipway.Result{Outcome: slipway.Succeeded, Release: &slipway.Release{Version: "1.0.0", ImageDigest: "sha256:bb"}})
	got := w.runState(other.ID, slipway.RunFailed)
	if !strings.Contains(got.Reason, "version v1.0.0 of a was released by run #1 from commit 1a2b3c4") {
		t.Errorf("reason: %s", got.Reason)
	}
	all, err := w.Releases(w.ctx, slipway.ReleaseFilter{Project: "shop"})
	w.ok(err)
	if len(all) != 1 || all[0].ImageDigest != "sha256:aa" || all[0].Commit != commitA {
		t.Errorf("releases: %+v", all)
	}
	w.ok(w.Quarantine(w.ctx, "shop", "a", "v1.0.0", "leaks", "ada"))
	v, err := w.Release(w.ctx, "shop", "a", "1.0.0")
	w.ok(err)
	if v.Quarantined != "leaks" {
		t.Errorf("release: %+v", v)
	}
	_, err = w.Release(w.ctx, "shop", "a", "2.0.0")
	w.code(err, slipway.NotFound)
}

// All quarantines that hold are found, whether there is a release of the version or not.
func TestQuarantines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, version := range []string{"v1.0.0", "1.1.0", "main-1a2b3c4", "v2.0.0"} {
		w.ok(w.Quarantine(w.ctx, "shop", "a", version, "leaks", "ada"))
	}
	w.ok(w.Quarantine(w.ctx, "shop", "b", "v1.0.0", "is slow", "ada"))
	_, err := w.CreateProject(w.ctx, slipway.Project{Name: "other"}, "ada")
	w.ok(err)
	w.ok(w.Quarantine(w.ctx, "other", "a", "v3.0.0", "is another's", "ada"))
	w.ok(w.LiftQuarantine(w.ctx, "shop", "a", "2.0.0", "ada"))
	all, err := w.Quarantines(w.ctx, "shop", "")
	w.ok(err)
	ofA, err := w.Quarantines(w.ctx, "shop", "a")
	w.ok(err)
	if len(all) != 4 || len(ofA) != 3 {
		t.Errorf("all %v, of a %v", all, ofA)
	}
	for _, c := range []struct{ service, version, why string }{
		{"a", "v1.0.0", "leaks"}, {"a", "1.0.0", "leaks"}, {"a", "v1.1.0", "leaks"}, {"a", "main-1a2b3c4", "leaks"}, {"a", "main-0000000", ""},
		{"a", "v2.0.0", ""}, {"a", "v3.0.0", ""}, {"b", "1.0.0", "is slow"}, {"b", "v1.1.0", ""},
	} {
		if why := all.Why(c.service, c.version); why != c.why {
			t.Errorf("%s %s: %q, want %q", c.service, c.version, why, c.why)
		}
	}
}

func TestANamespaceBelongsToWhoDeployedThereFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "shop-web"}, "ada"))
	deploy := func(project, environment, namespace string) error {
		r, err := w.CreateRun(w.ctx, slipway.Run{Project: project, Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commitA}, steps(p("deploy/a@"+environment)))
		w.ok(err)
		_, err = w.SaveDeployment(w.ctx, slipway.Deployment{RunID: r.ID, Step: "deploy/a@" + environment, State: slipway.Deploying, Version: "v1",
			Target: slipway.Target{Project: project, Environment: environment, Service: "a", Cluster: "default", Namespace: namespace, Release: "a"}})
		return err
	}
	w.ok(deploy("shop", "web-production", "shop-web-production"))
	err := deploy("shop-web", "production", "shop-web-production")
	w.code(err, slipway.Conflict)
	for _, word := range []string{"environment production", "namespace shop-web-production of cluster default", "project shop deploys", "environments[].namespace"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %q", word, err)
		}
	}
	w.ok(deploy("shop-web", "production", "shopweb-production"))
	w.ok(deploy("shop", "web-production", "shop-web-production"))
	for _, c := range []struct{ project, cluster, namespace, want string }{
		{"shop", "default", "shop-web-production", "shop"}, {"shop-web", "default", "shop-web-production", "shop"}, {"shop-web", "default", "shopweb-production", "shop-web"},
		{"shop", "other", "shop-web-production", ""}, {"shop", "default", "shop-web", ""}, {"shop", "default", "", ""},
	} {
		if got, err := w.NamespaceOwner(w.ctx, c.project, c.cluster, c.namespace); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// The robots of such environments are two.
func TestRobotsOfLikeNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "shop-web"}, "ada"))
	w.do(w.CreateUser(w.ctx, "robot-shop-web-production", false, "ada"))
	a, _, err := w.Robot(w.ctx, "shop", "web-production")
	w.ok(err)
	b, _, err := w.Robot(w.ctx, "shop-web", "production")
	w.ok(err)
	if a.Name == b.Name || a.Robot.Project != "shop" || b.Robot.Project != "shop-web" {
		t.Errorf("%+v, %+v", a, b)
	}
}
