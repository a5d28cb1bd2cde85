package deploy

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/approve"
	"github.com/slipway-cd/slipway/stage/deploy"
)

func quiet() *stdlog.Logger { return stdlog.New(io.Discard, "", 0) }

func deleteNow() metav1.DeleteOptions {
	zero, background := int64(0), metav1.DeletePropagationBackground
	return metav1.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &background}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if images.stop != nil {
		images.stop()
	}
	os.Exit(code)
}

// TestStory installs a version, upgrades it, sees a bad one fail early, and goes back.
func TestStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()

	v1 := version{run: 1, name: "v1.0.1", image: 0, values: "greeting: one\nexpect: one\n"}
	env, spec, _ := w.env(t, v1) // asked before there is even a namespace
	asked, err := (&approve.Runner{Charts: w, Renderer: w.helm}).Run(ctx, env, slipway.PlanStep{Approve: &slipway.ApproveSpec{Deploy: spec}})
	if err != nil || asked.Approval.BaseRevision != 0 || !strings.Contains(asked.Approval.Diff, "+++ Deployment/delivery") {
		t.Fatalf("approval of a first install: %+v, %v", asked, err)
	}
	res, l := w.deploy(t, v1)
	if res.Outcome != slipway.Succeeded {
		t.Fatalf("%s\n%s", res.Reason, l)
	}
	res, l = w.verify(t, v1, res.Deployments[0])
	if res.Outcome != slipway.Succeeded {
		t.Fatalf("%s\n%s", res.Reason, l)
	}
	first := res.Deployments[0]
	l.has(t, "Deployment/delivery [done]")
	l.has(t, `Pod/delivery-test [] GET http://delivery: 200 OK "one", want "one"`)

	v2 := version{run: 2, name: "v1.0.2", image: 1, values: "greeting: two\nexpect: two\npassword: changed\n"}
	w.preview(t, v2, first)
	second := w.must(t, v2)
	if second.Revision != 2 || second.ImageDigest == first.ImageDigest {
		t.Errorf("second %+v", second)
	}
	w.looksLike(t, v2, second)

	v3 := version{run: 3, name: "v1.0.3", image: 0, values: "greeting: three\nexpect: three\nmode: crash\n"}
	res, _ = w.deploy(t, v3)
	third := res.Deployments[0]
	began := time.Now()
	res, l = w.verify(t, v3, third) // it says why, which it does not know when it only waited too long
	t.Logf("the crashing version failed after %s: %s", time.Since(began).Round(time.Second), res.Reason)
	if res.Outcome != slipway.Failed || res.Deployments[0].State != slipway.Unhealthy || !strings.Contains(res.Reason, "keeps ending (Error, exit status 3") {
		t.Errorf("%s %s", res.Outcome, res.Reason)
	}
	l.has(t, "panic: no database at db:5432")

	res = w.rollback(t, 3, third, second)
	if res.Quarantine != "delivery/v1.0.3" || res.Deployments[1].Revision != 4 || res.Deployments[0].State != slipway.RolledBack {
		t.Errorf("rollback %+v", res)
	}
	back := res.Deployments[1]
	if res, l = w.verify(t, v2, back); res.Outcome != slipway.Succeeded {
		t.Errorf("after the rollback: %s\n%s", res.Reason, l)
	}
	w.looksLike(t, v2, back)
	w.settled(t)

	config, err := w.api.CoreV1().ConfigMaps(w.namespace).Get(ctx, "delivery", metav1.GetOptions{})
	if err != nil || config.Data["GREETING"] != "two" || config.Data["MODE"] != "ok" {
		t.Errorf("configuration after the rollback: %v, %v", config.Data, err)
	}
	if res = w.rollback(t, 3, third, second); res.Deployments[1].Revision != 4 {
		t.Errorf("the rollback was repeated: %+v", res)
	}
	w.stockHelm(t)

	// Helm has dropped the first revision: the way back is its digests.
	for run := int64(10); run < 14; run++ {
		w.must(t, version{run: run, name: "v2.0.0", image: 1, values: fmt.Sprintf("greeting: g%d\nexpect: g%d\n", run, run)})
	}
	res = w.rollback(t, 20, slipway.Deployment{}, first)
	if back = res.Deployments[0]; res.Outcome != slipway.Succeeded || back.ImageDigest != first.ImageDigest || back.ValuesDigest != first.ValuesDigest || back.Version != "v1.0.1" {
		t.Errorf("redeployed: %+v", res)
	}
	if res, l = w.verify(t, v1, back); res.Outcome != slipway.Succeeded {
		t.Errorf("redeployed: %s\n%s", res.Reason, l)
	}
	w.looksLike(t, v1, back)
}

func (w *world) rollback(t *testing.T, run int64, from, to slipway.Deployment) slipway.Result {
	t.Helper()
	env, _, l := w.env(t, version{run: 1000 + run, name: to.Version, image: 0})
	w.mu.Lock()
	w.charts[to.ChartDigest] = pack(t, "v1.0.1", "greeting: one\nexpect: one\n") // only asked for when Helm dropped the revision
	w.mu.Unlock()
	r := &deploy.Rollback{Runner: w.runner(), Restore: w.helm}
	res, err := r.Run(t.Context(), env, slipway.PlanStep{Key: rollbackKey, Rollback: &slipway.RollbackSpec{
		Target: w.target(), From: from, To: to, Reason: "verification failed", Automatic: true}})
	if err != nil || res.Outcome != slipway.Succeeded {
		t.Fatalf("rollback: %+v, %v\n%s", res, err, l)
	}
	return res
}

// looksLike checks what stands in the cluster against a verified deployment.
func (w *world) looksLike(t *testing.T, v version, d slipway.Deployment) {
	t.Helper()
	ctx := t.Context()
	dep, err := w.api.AppsV1().Deployments(w.namespace).Get(ctx, "delivery", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := dep.Spec.Template.Spec
	if want := w.host + "/hk/delivery:" + d.Tag + "@" + d.ImageDigest; c.Containers[0].Image != want {
		t.Errorf("image %s, want %s", c.Containers[0].Image, want)
	}
	if len(c.ImagePullSecrets) != 1 || c.ImagePullSecrets[0].Name != deploy.PullSecretName {
		t.Errorf("pull secrets %v", c.ImagePullSecrets)
	}
	if got := dep.Annotations["slipway.dev/commit"]; got != d.Commit || dep.Annotations["slipway.dev/version"] != v.name {
		t.Errorf("annotations %v", dep.Annotations)
	}
	if !strings.Contains(dep.Annotations["kubernetes.io/change-cause"], v.name) {
		t.Errorf("change-cause %q", dep.Annotations["kubernetes.io/change-cause"])
	}
	if dep.ManagedFields[0].Manager != "helm" || dep.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("field manager %s, %s", dep.ManagedFields[0].Manager, dep.ManagedFields[0].Operation)
	}
}

// preview checks the evidence for an approval of an upgrade, and that the deployment honours it.
func (w *world) preview(t *testing.T, v version, base slipway.Deployment) {
	t.Helper()
	env, spec, _ := w.env(t, v)
	r := &approve.Runner{Charts: w, Renderer: w.helm, MaskKey: []byte("k")}
	began := time.Now()
	res, err := r.Run(t.Context(), env, slipway.PlanStep{Key: "approve/delivery@qa", Approve: &slipway.ApproveSpec{Deploy: spec}})
	if err != nil || res.Outcome != slipway.Waiting {
		t.Fatalf("%+v, %v", res, err)
	}
	a := res.Approval
	t.Logf("approval in %s:\n%s\n%s", time.Since(began).Round(time.Millisecond), strings.Join(a.Notes, "\n"), a.Diff)
	for _, want := range []string{"-  GREETING: one", "+  GREETING: two", "--- Deployment/delivery", base.ImageDigest, w.images[v.image], "PASSWORD: (masked "} {
		if !strings.Contains(a.Diff, want) {
			t.Errorf("the diff lacks %q", want)
		}
	}
	if a.BaseRevision != base.Revision || strings.Contains(a.Diff, "s3cr3t") || strings.Contains(a.Diff, "password: changed") {
		t.Errorf("approval %+v", a)
	}
	again, err := r.Run(t.Context(), env, slipway.PlanStep{Key: "approve/delivery@qa", Approve: &slipway.ApproveSpec{Deploy: spec}})
	if err != nil || again.Approval.Diff != a.Diff || again.Approval.ValuesDigest != a.ValuesDigest {
		t.Errorf("the evidence differs the second time: %v", err)
	}
	stale := *a
	stale.State, stale.BaseRevision = slipway.ApprovalApproved, a.BaseRevision+1
	env.Approvals = []slipway.Approval{stale}
	res, err = w.runner().Run(t.Context(), env, slipway.PlanStep{Key: deployKey, Deploy: &spec})
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "approve again") {
		t.Errorf("a stale approval: %+v, %v", res, err)
	}
	stale.BaseRevision = a.BaseRevision
	env.Approvals = []slipway.Approval{stale}
	if res, err = w.runner().Run(t.Context(), env, slipway.PlanStep{Key: deployKey, Deploy: &spec}); err != nil || res.Outcome != slipway.Succeeded {
		t.Errorf("the approved deployment: %+v, %v", res, err)
	}
}

// stockHelm looks at the release with Helm's own client, when HELM names one.
func (w *world) stockHelm(t *testing.T) {
	bin := os.Getenv("HELM")
	if bin == "" {
		return
	}
	for _, args := range [][]string{{"history", "delivery"}, {"list"}, {"status", "delivery"}, {"rollback", "delivery", "2"}, {"history", "delivery"}} {
		out, err := exec.Command(bin, append(args, "--namespace", w.namespace)...).CombinedOutput()
		t.Logf("helm %s\n%s", strings.Join(args, " "), out)
		if err != nil {
			t.Errorf("helm %v: %v", args, err)
		}
	}
	if last := w.settled(t); last.Number != 5 || last.Marks.Intent != "" {
		t.Errorf("the stock client's rollback: %+v", last)
	}
}

func TestImageThatDoesNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := version{run: 1, name: "v1.0.0", image: -1}
	res, _ := w.deploy(t, v)
	began := time.Now()
	res, l := w.verify(t, v, res.Deployments[0])
	t.Logf("failed after %s: %s\n%s", time.Since(began).Round(time.Second), res.Reason, l)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "has no image") {
		t.Errorf("%s %s", res.Outcome, res.Reason)
	}
	// There is nothing to go back to: the failed first install is removed.
	res = w.rollback(t, 1, slipway.Deployment{ID: 1, Target: w.target(), Version: "v1.0.0"}, slipway.Deployment{})
	if history, err := w.helm.History(t.Context(), w.target()); err != nil || len(history) != 0 || !strings.Contains(res.Reason, "uninstalled") {
		t.Errorf("%s: %v, %v", res.Reason, history, err)
	}
}

func TestFailingTestAndStorage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := version{run: 1, name: "v1.0.0", image: 0, values: "greeting: hi\nexpect: something else\npatience: 0s\n"}
	res, _ := w.deploy(t, v)
	res, l := w.verify(t, v, res.Deployments[0])
	t.Logf("%s\n%s", res.Reason, l)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "in-cluster test delivery-test failed") {
		t.Errorf("%s %s", res.Outcome, res.Reason)
	}
	l.has(t, `want "something else"`)

	v = version{run: 2, name: "v1.0.1", image: 0, values: "storage: true\n"}
	if res, _ = w.deploy(t, v); res.Outcome != slipway.Succeeded {
		t.Fatal(res.Reason)
	}
	env, _, _ := w.env(t, version{run: 3, name: "v1.0.1", image: 0})
	r := &deploy.Rollback{Runner: w.runner(), Restore: w.helm}
	res, err := r.Run(t.Context(), env, slipway.PlanStep{Key: rollbackKey, Rollback: &slipway.RollbackSpec{Target: w.target(), From: slipway.Deployment{ID: 1}, Reason: "x"}})
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "PersistentVolumeClaim/delivery-data") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestRefusedByTheCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(t, version{run: 1, name: "v1.0.0", image: 0, values: "replicas: 1\n"})

	// Somebody takes a field.
	scaled := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "delivery"}, "spec": map[string]any{"replicas": int64(2)}}}
	gvr := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	if _, err := w.dynamic.Resource(gvr).Namespace(w.namespace).Apply(t.Context(), "delivery", scaled, metav1.ApplyOptions{FieldManager: "autoscaler-by-hand", Force: true}); err != nil {
		t.Fatal(err)
	}
	res, _ := w.deploy(t, version{run: 2, name: "v1.0.1", image: 0, values: "replicas: 3\n"})
	t.Log(res.Reason)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, ".spec.replicas") || !strings.Contains(res.Reason, "autoscaler-by-hand") || res.Deployments[0].State != slipway.Unhealthy {
		t.Errorf("%+v", res)
	}

	// A field that does not exist, and a hook that fails.
	res, _ = w.deploy(t, version{run: 3, name: "v1.0.2", image: 0, values: "replicas: many\n"})
	t.Log(res.Reason)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "replicas") {
		t.Errorf("%+v", res)
	}
	res, l := w.deploy(t, version{run: 4, name: "v1.0.3", image: 0, values: "replicas: 2\nhook: [/app, check, 'http://127.0.0.1:1', x, 0s]\n"})
	t.Logf("%s\n%s", res.Reason, l)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "delivery-migrate") {
		t.Errorf("%+v", res)
	}
	l.has(t, "Job/delivery-migrate [] FAIL")
	w.must(t, version{run: 5, name: "v1.0.4", image: 0, values: "replicas: 2\n"})
	w.settled(t)
}

const childEnv = "SLIPWAY_E2E_CHILD" // folder;namespace;host;digest

// TestChild is the process that TestKilledMidUpgrade kills.
func TestChild(t *testing.T) {
	parts := strings.Split(os.Getenv(childEnv), ";")
	if len(parts) != 4 {
		t.Skip("is run by TestKilledMidUpgrade")
	}
	w := openWorld(t)
	w.journals, w.namespace, w.host, w.images = parts[0], parts[1], parts[2], []string{parts[3]}
	w.deploy(t, killedVersion("5m"))
}

// killedVersion has a hook, so that Helm is at work for a while.
func killedVersion(hook string) version {
	return version{run: 7, name: "v1.0.7", image: 0, values: "greeting: seven\nexpect: seven\nhook: [/app, sleep, " + hook + "]\n"}
}

func TestKilledMidUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, first := range []bool{true, false} {
		if !first {
			w.must(t, version{run: 1, name: "v1.0.0", image: 1, values: "greeting: one\nexpect: one\n"})
		}
		w.killDuring(t)
		history, err := w.helm.History(t.Context(), w.target())
		if err != nil || !history[0].Status.Moving() {
			t.Fatalf("nothing was interrupted: %+v, %v", history, err)
		}
		began := time.Now()
		res, l := w.deploy(t, killedVersion("1s"))
		t.Logf("recovered from %s in %s\n%s", history[0].Status, time.Since(began).Round(time.Millisecond), l)
		if res.Outcome != slipway.Succeeded || res.Deployments[0].Revision != history[0].Number+1 {
			t.Fatalf("%+v", res)
		}
		if last := w.settled(t); last.Marks.Run != "7" {
			t.Errorf("%+v", last)
		}
		if res, l = w.verify(t, killedVersion("1s"), res.Deployments[0]); res.Outcome != slipway.Succeeded {
			t.Errorf("%s\n%s", res.Reason, l)
		}
		if first {
			if err := w.helm.Uninstall(t.Context(), w.target(), func(slipway.LogLine) {}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// killDuring starts a process that deploys, and kills it once Helm has begun.
func (w *world) killDuring(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{w.journals, w.namespace, w.host, w.images[0]}, ";"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.Fatal("the child did not begin")
		case <-tick.C:
		}
		history, err := w.helm.History(ctx, w.target())
		if err == nil && len(history) > 0 && history[0].Status.Moving() {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}
