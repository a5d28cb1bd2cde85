package e2e_test

import (
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	helmkube "helm.sh/helm/v4/pkg/kube"
	relv1 "helm.sh/helm/v4/pkg/release/v1"

	"github.com/slipway-cd/slipway"
)

// TestHelmClientSeesOrdinaryReleases uses the stock Helm SDK beside Slipway: it lists, shows and rolls
// back, and Slipway finds its way afterwards.
func TestHelmClientSeesOrdinaryReleases(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	const namespace = "helmed-development"
	files := tick()
	files["slipway.yaml"] = "version: 1\nenvironments:\n  - {name: development, trigger: default-branch, timeout: 5m}\n  - {name: production, production: true, timeout: 5m}\n"
	r := s.project(t, "helmed", files)
	first := s.until(t, r.push("main").ID, slipway.RunSucceeded)
	r.commit("Another greeting", tree{"tick/www/index.html": "two\n", "tick/chart/values.yaml": tickValues(map[string]string{"greeting": "two"})})
	second := s.until(t, r.push("main").ID, slipway.RunSucceeded)

	found, err := action.NewList(helm(t, namespace)).Run()
	if err != nil || len(found) != 1 {
		t.Fatalf("helm list: %v, %v", found, err)
	}
	if rel, ok := found[0].(*relv1.Release); !ok || rel.Name != "tick" || rel.Version != 2 || rel.Chart.Metadata.Version != second.Deployments[0].ChartVersion {
		t.Errorf("helm list: %+v, want revision 2 of chart %s", found[0], second.Deployments[0].ChartVersion)
	}
	all := history(t, namespace, "tick")
	if len(all) != 2 || all[0].Info.Status != "superseded" || all[1].Info.Status != "deployed" {
		t.Errorf("helm history: %+v", all)
	}

	helmRollback(t, namespace, 1)
	if rel := wantSettled(t, namespace, "tick"); rel.Version != 3 || rel.Manifest != all[0].Manifest {
		t.Errorf("after helm rollback: revision %d", rel.Version)
	}
	if rev := s.outside(t, "helmed"); rev.Number != 3 {
		t.Errorf("the board shows revision %d as made outside, want 3: %+v", rev.Number, rev)
	}

	r.commit("A third greeting", tree{"tick/www/index.html": "three\n"})
	third := s.until(t, r.push("main").ID, slipway.RunSucceeded)
	rel := wantSettled(t, namespace, "tick")
	if rel.Version != 4 || third.Deployments[0].Revision != 4 {
		t.Errorf("the next deployment is revision %d, recorded as %d, want 4", rel.Version, third.Deployments[0].Revision)
	}
	kube(t).runs(t, namespace, "app=tick", third.Deployments[0].ImageDigest)
	log := s.log(t.Context(), third.Run.ID, "deploy/tick@development")
	if !mentions(log, "outside Slipway", "not Slipway's", "someone else", "another Helm client") {
		t.Errorf("the log does not tell that somebody else made revision 3:\n%s", log)
	}
	if first.Deployments[0].ImageDigest == third.Deployments[0].ImageDigest {
		t.Error("the versions do not differ: nothing was tested")
	}
}

// outside waits until the board shows what was changed outside of Slipway: it looks at a cluster every few
// seconds, when it is asked.
func (s *site) outside(t *testing.T, project string) slipway.ObservedRevision {
	t.Helper()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	limit := time.After(patience)
	for {
		b, err := s.as("ada").Board(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range b.Rows {
			for _, cell := range row.Cells {
				if cell.Outside != nil {
					return *cell.Outside
				}
			}
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("the board shows nothing that was made outside: %+v", b.Rows)
		}
	}
}

// TestApprovalBindsToWhatItReplaces changes the release by hand after it was approved: Slipway does not
// deploy over it, and asks again.
func TestApprovalBindsToWhatItReplaces(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	const namespace = "bound-production"
	r := s.project(t, "bound", tick())
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	for _, version := range []string{"v1.0.0", "v1.1.0"} {
		r.commit("Release "+version, tree{"tick/www/index.html": version + "\n"})
		run := r.push("HEAD:refs/heads/release/tick/" + version)
		s.approve(t, run.ID, "bob")
		s.until(t, run.ID, slipway.RunSucceeded)
	}
	r.commit("Release v1.2.0", tree{"tick/www/index.html": "v1.2.0\n"})
	run := r.push("HEAD:refs/heads/release/tick/v1.2.0")
	s.until(t, run.ID, slipway.RunWaiting)
	helmRollback(t, namespace, 1)
	s.approve(t, run.ID, "bob")
	d := s.until(t, run.ID, slipway.RunFailed)
	if st := step(t, d, "deploy/tick@production"); !strings.Contains(st.Reason, "changed since the approval") || !strings.Contains(st.Reason, "approve again") {
		t.Errorf("the deployment is %s: %s", st.State, st.Reason)
	}
	if rel := wantSettled(t, namespace, "tick"); rel.Version != 3 {
		t.Errorf("production is at revision %d", rel.Version)
	}
	if _, err := s.as("ada").RetryRun(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	s.approve(t, run.ID, "bob")
	d = s.until(t, run.ID, slipway.RunSucceeded)
	if rel := wantSettled(t, namespace, "tick"); rel.Version != 4 {
		t.Errorf("production is at revision %d", rel.Version)
	}
	kube(t).runs(t, namespace, "app=tick", digest(t, d, slipway.ArtifactImage))
}

// helmRollback is `helm rollback tick REVISION --wait`.
func helmRollback(t *testing.T, namespace string, revision int) {
	t.Helper()
	back := action.NewRollback(helm(t, namespace))
	back.Version, back.WaitStrategy, back.Timeout = revision, helmkube.StatusWatcherStrategy, patience
	if err := back.Run("tick"); err != nil {
		t.Fatalf("helm rollback: %v", err)
	}
}
