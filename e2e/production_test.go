package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	deliveryPods = "app.kubernetes.io/name=delivery,app.kubernetes.io/instance=delivery"
	deliveryDir  = "src/shipping/delivery"
)

// shop is the sample monorepo with what differs.
func shop(t *testing.T) tree {
	t.Helper()
	root, err := slipwaytest.Root()
	if err != nil {
		t.Fatal(err)
	}
	files := tree{}
	dir := filepath.Join(root, "examples", "shop")
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files["slipway.yaml"] = regexp.MustCompile(`timeout: \d+s`).ReplaceAllString(files["slipway.yaml"], "timeout: 5m") // what is good gets ready in the end
	return files
}

// story is the shop's way to production, chapter by chapter.
type story struct {
	*testing.T
	site *site
	repo *repo
}

// TestFromPushToProduction is the demo's story: every chapter needs the ones before.
func TestFromPushToProduction(t *testing.T) {
	t.Parallel()
	site := mainSite(t)
	s := &story{site: site, repo: site.project(t, "shop", shop(t))}
	for _, chapter := range []struct {
		name string
		play func()
	}{
		{"the first push deploys three services", s.firstPush},
		{"a feature branch builds and tests what it touches", s.featureBranch},
		{"a pull request is checked and merged", s.pullRequest},
		{"a release waits in QA for the approver", s.release},
		{"the same digests run in production", s.sameDigests},
		{"everything is traced", s.traces},
		{"a bad release rolls back by itself", s.badRelease},
		{"a person rolls back", s.rollback},
	} {
		if !t.Run(chapter.name, func(t *testing.T) {
			s.T, s.repo.t = t, t
			chapter.play()
		}) {
			return
		}
	}
}

func (s *story) firstPush() {
	d := s.site.until(s.T, s.repo.push("main").ID, slipway.RunSucceeded)
	if len(d.Deployments) != 3 {
		s.Errorf("%d deployments, want 3", len(d.Deployments))
	}
	for _, dep := range d.Deployments {
		if dep.Target.Environment != "development" || dep.State != slipway.Verified {
			s.Errorf("%s in %s is %s", dep.Target.Service, dep.Target.Environment, dep.State)
		}
		kube(s.T).runs(s.T, "shop-development", "app.kubernetes.io/instance="+dep.Target.Service, dep.ImageDigest)
	}
	k := kube(s.T)
	k.says(s.T, "shop-development", "web", "/", nil, "delivered with care")
	board, err := s.site.as("eve").Board(s.Context(), "shop")
	if err != nil || len(board.Rows) != 3 || !slices.Equal(board.Environments, []string{"development", "qa", "production"}) {
		s.Errorf("the board: %+v, %v", board, err)
	}
	report, err := s.site.as("eve").Report(s.Context(), d.Run.ID, "test/delivery")
	if err != nil || report.Passed != 3 || report.Failed != 0 {
		s.Errorf("the tests of delivery: %+v, %v", report, err)
	}
}

func (s *story) featureBranch() {
	s.repo.git("checkout", "--quiet", "-b", "feature/greet")
	s.greet("delivered at once")
	out, err := s.repo.pushAs(s.Context(), "ada", "feature/greet")
	if err != nil {
		s.Fatal(err)
	}
	if !strings.Contains(out, "delivery: runs: "+deliveryDir+"/main.go changed") || !strings.Contains(out, "web: skipped, ") {
		s.Errorf("the push does not explain what runs:\n%s", out)
	}
	d := s.site.until(s.T, s.repo.madeRun(out).ID, slipway.RunSucceeded)
	if want := []string{"build/delivery", "plan", "test/delivery"}; !slices.Equal(keys(d), want) {
		s.Errorf("steps %v, want %v", keys(d), want)
	}
	for _, decision := range d.Plan.Decisions {
		if decision.Runs != (decision.Service == "delivery") || decision.Reason == "" {
			s.Errorf("decision %+v", decision)
		}
	}
	if len(d.Deployments) != 0 {
		s.Errorf("a feature branch was deployed: %+v", d.Deployments)
	}
}

// greet changes what delivery says.
func (s *story) greet(greeting string) string {
	s.Helper()
	path := filepath.Join(s.repo.dir, deliveryDir, "main.go")
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(b), "const greeting = ")
	_, after, ok := strings.Cut(rest, "\n")
	if !ok {
		s.Fatalf("%s has no greeting", path)
	}
	return s.repo.commit("Greet: "+greeting, tree{deliveryDir + "/main.go": fmt.Sprintf("%sconst greeting = %q\n%s", before, greeting, after)})
}

func (s *story) pullRequest() {
	d := s.site.until(s.T, s.repo.push("HEAD:refs/for/main").ID, slipway.RunSucceeded)
	if want := []string{"build/delivery", "chart/delivery", "plan", "scan/delivery", "test/delivery"}; !slices.Equal(keys(d), want) {
		s.Errorf("steps %v, want %v", keys(d), want)
	}
	if d.Run.Event != slipway.PullUpdate || d.Run.Pull == 0 {
		s.Fatalf("the run is of %s, pull request %d", d.Run.Event, d.Run.Pull)
	}
	_, err := s.site.as("eve").Merge(s.Context(), "shop", d.Run.Pull)
	wantCode(s.T, err, slipway.Forbidden, "eve")
	p, err := s.site.as("ada").Merge(s.Context(), "shop", d.Run.Pull)
	if err != nil || p.State != slipway.PullMerged {
		s.Fatalf("merge: %+v, %v", p, err)
	}
	_, err = s.site.as("ada").Merge(s.Context(), "shop", d.Run.Pull)
	wantCode(s.T, err, slipway.Conflict, "merged")
	if main := s.repo.remote("refs/heads/main"); main != p.MergedAs {
		s.Errorf("main is %s, the pull request was merged as %s", main, p.MergedAs)
	}
	runs, err := s.site.as("ada").Runs(s.Context(), slipway.RunFilter{Project: "shop", Commit: p.MergedAs})
	if err != nil || len(runs) != 1 {
		s.Fatalf("runs of the merge: %+v, %v", runs, err)
	}
	merged := s.site.until(s.T, runs[0].ID, slipway.RunSucceeded)
	step(s.T, merged, "verify/delivery@development")
	if _, ok := stepOf(merged, "build/web"); ok {
		s.Error("web was built, and the merge did not touch it")
	}
	kube(s.T).says(s.T, "shop-development", "delivery", "/quote", map[string]string{"to": "Ede"}, "delivered at once")
	s.repo.git("checkout", "--quiet", "main")
	s.repo.git("pull", "--quiet", "--ff-only", "ada", "main")
}

func (s *story) release() {
	run := s.repo.push("HEAD:refs/heads/release/delivery/v4.0.0")
	d := s.site.until(s.T, run.ID, slipway.RunWaiting)
	if _, ok := stepOf(d, "build/web"); ok {
		s.Error("a release of delivery built web")
	}
	kube(s.T).says(s.T, "shop-qa", "delivery", "/quote", map[string]string{"to": "Ede"}, "delivered at once")
	a := waiting(s.T, d)
	if !strings.Contains(a.Diff, "kind: Deployment") && !strings.Contains(a.Diff, "Deployment") {
		s.Errorf("the approval shows no diff: %q", a.Diff)
	}
	if a.ImageDigest != digest(s.T, d, slipway.ArtifactImage) || a.ChartDigest != digest(s.T, d, slipway.ArtifactChart) {
		s.Errorf("the approval binds %s and %s, the run made %s and %s", a.ImageDigest, a.ChartDigest, digest(s.T, d, slipway.ArtifactImage), digest(s.T, d, slipway.ArtifactChart))
	}
	for _, user := range []string{"ada", "eve"} {
		_, err := s.site.as(user).Vote(s.Context(), a.ID, true, "I like it")
		wantCode(s.T, err, slipway.Forbidden, user)
	}
	if status := s.post("ada", fmt.Sprintf("/api/v1/approvals/%d/approve", a.ID), `{"reason":"I like it"}`); status != http.StatusForbidden {
		s.Errorf("ada's approval was answered with %d, not 403", status)
	}
	_, err := s.site.as("bob").Vote(s.Context(), a.ID, true, " ")
	wantCode(s.T, err, slipway.Invalid, "why")
	if list, err := s.site.as("admin").Releases(s.Context(), slipway.ReleaseFilter{Project: "shop", Service: "delivery"}); err != nil || len(list) != 1 {
		s.Errorf("releases: %+v, %v", list, err)
	}
	if latest(s.T, "shop-production", "delivery") != 0 {
		s.Error("production was touched before the approval")
	}
	voted, err := s.site.as("bob").Vote(s.Context(), a.ID, true, "the quote in QA is right")
	if err != nil || voted.State != slipway.ApprovalApproved {
		s.Fatalf("bob approves: %+v, %v", voted, err)
	}
	_, err = s.site.as("bob").Vote(s.Context(), a.ID, true, "again")
	wantCode(s.T, err, slipway.Conflict, "approved already")
	_, err = s.site.as("admin").Vote(s.Context(), a.ID, false, "no!")
	wantCode(s.T, err, slipway.Conflict, "approved already")
	s.site.until(s.T, run.ID, slipway.RunSucceeded)
	s.site.wantOnce(s.T, run.ID)
}

// post sends JSON to the API as somebody and returns the status of the answer.
func (s *story) post(user, path, body string) int {
	req, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.site.url()+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.site.tokens[user])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// released is the run of a version of delivery.
func (s *story) released(version string) slipway.RunDetail {
	s.Helper()
	runs, err := s.site.as("ada").Runs(s.Context(), slipway.RunFilter{Project: "shop", Ref: "refs/heads/release/delivery/" + version})
	if err != nil || len(runs) != 1 {
		s.Fatalf("runs of %s: %+v, %v", version, runs, err)
	}
	d, err := s.site.as("ada").Run(s.Context(), runs[0].ID)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *story) sameDigests() {
	d := s.released("v4.0.0")
	image, chart := digest(s.T, d, slipway.ArtifactImage), digest(s.T, d, slipway.ArtifactChart)
	k := kube(s.T)
	for _, dep := range d.Deployments {
		if dep.ImageDigest != image || dep.ChartDigest != chart || dep.State != slipway.Verified {
			s.Errorf("%s has image %s and chart %s (%s), want %s and %s", dep.Target.Environment, dep.ImageDigest, dep.ChartDigest, dep.State, image, chart)
		}
		if strings.HasPrefix(dep.Image, s.site.host+"/prod/") != (dep.Target.Environment == "production") {
			s.Errorf("%s runs %s", dep.Target.Environment, dep.Image)
		}
		k.runs(s.T, dep.Target.Namespace, deliveryPods, image)
		rel := wantSettled(s.T, dep.Target.Namespace, "delivery")
		if rel.Version != dep.Revision || rel.Chart.Metadata.Version != "4.0.0" || rel.Chart.Metadata.AppVersion != "4.0.0" {
			s.Errorf("release delivery in %s: revision %d of chart %s (app %s)", dep.Target.Namespace, rel.Version, rel.Chart.Metadata.Version, rel.Chart.Metadata.AppVersion)
		}
	}
	if pods := k.pods(s.T, "shop-production", deliveryPods); len(pods) != 2 {
		s.Errorf("production has %d pods, its values say 2", len(pods))
	}
	list := action.NewList(helm(s.T, "shop-production"))
	found, err := list.Run()
	if err != nil || len(found) != 1 {
		s.Fatalf("the stock Helm SDK lists %v, %v", found, err)
	}
	if rel, ok := found[0].(*relv1.Release); !ok || rel.Name != "delivery" || !strings.Contains(rel.Info.Description, "v4.0.0") {
		s.Errorf("the stock Helm SDK lists %+v", found[0])
	}
	deployment, err := k.AppsV1().Deployments("shop-production").Get(s.Context(), "delivery", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	if cause := deployment.Annotations["kubernetes.io/change-cause"]; cause == "" {
		s.Error("the deployment has no change-cause")
	}
}

func (s *story) traces() {
	d := s.released("v4.0.0")
	image := digest(s.T, d, slipway.ArtifactImage)
	for _, query := range []string{d.Run.Commit, slipway.ShortHash(d.Run.Commit), "v4.0.0", image, digest(s.T, d, slipway.ArtifactChart), "release/delivery/v4.0.0"} {
		tr, err := s.site.as("eve").Trace(s.Context(), query)
		if err != nil {
			s.Errorf("trace %s: %v", query, err)
			continue
		}
		run := slices.ContainsFunc(tr.Runs, func(r slipway.Run) bool { return r.ID == d.Run.ID })
		release := slices.ContainsFunc(tr.Releases, func(r slipway.Release) bool { return r.Version == "v4.0.0" && r.ImageDigest == image })
		deployed := map[string]bool{}
		for _, dep := range tr.Deployments {
			deployed[dep.Target.Environment] = deployed[dep.Target.Environment] || dep.ImageDigest == image
		}
		approved := slices.ContainsFunc(tr.Approvals, func(a slipway.Approval) bool { return a.RunID == d.Run.ID && len(a.Votes) == 1 })
		if !run || !release || !deployed["qa"] || !deployed["production"] || !approved || !slices.Contains(tr.Commits, d.Run.Commit) {
			s.Errorf("trace %s: run %v, release %v, deployed %v, approved %v, commits %v", query, run, release, deployed, approved, tr.Commits)
		}
	}
	_, err := s.site.as("eve").Trace(s.Context(), "no-such-thing")
	wantCode(s.T, err, slipway.NotFound, "no-such-thing")
}

func (s *story) badRelease() {
	good := s.released("v4.0.0")
	before := wantSettled(s.T, "shop-production", "delivery")
	patient := shop(s.T)["slipway.yaml"]
	impatient := strings.Replace(patient, "production: true\n    timeout: 5m", "production: true\n    timeout: 30s", 1)
	if impatient == patient {
		s.Fatalf("production has no timeout here:\n%s", patient)
	}
	s.repo.commit("Wait no longer", tree{"slipway.yaml": impatient})
	s.site.until(s.T, s.repo.push("main").ID, slipway.RunSucceeded)
	values := map[string]string{deliveryDir + "/chart/values-production.yaml": "replicas: 2\nhealth: /nowhere\ngreeting: from a bad release\n"}
	s.greet("delivered badly")
	s.repo.commit("Ask production's health elsewhere", values)
	run := s.repo.push("HEAD:refs/heads/release/delivery/v4.1.0")
	s.site.approve(s.T, run.ID, "bob")
	d := s.site.until(s.T, run.ID, slipway.RunFailed)
	step(s.T, d, "rollback/delivery@production")
	if st := step(s.T, d, "verify/delivery@production"); st.State != slipway.StepFailed || !strings.Contains(st.Reason, "not ready") {
		s.Errorf("the verification is %s: %s", st.State, st.Reason)
	}
	k := kube(s.T)
	image := digest(s.T, good, slipway.ArtifactImage)
	k.runs(s.T, "shop-production", deliveryPods, image)
	rel := wantSettled(s.T, "shop-production", "delivery")
	if rel.Version <= before.Version+1 || rel.Manifest != before.Manifest {
		s.Errorf("revision %d is not what revision %d was:\n%s", rel.Version, before.Version, rel.Manifest)
	}
	config, err := k.CoreV1().ConfigMaps("shop-production").Get(s.Context(), "delivery", metav1.GetOptions{})
	if err != nil || config.Data["greeting"] != "hello" {
		s.Errorf("the configuration is %v, %v", config.Data, err)
	}
	k.says(s.T, "shop-production", "delivery", "/quote", map[string]string{"to": "Ede"}, "delivered at once")
	releases, err := s.site.as("ada").Releases(s.Context(), slipway.ReleaseFilter{Project: "shop", Service: "delivery"})
	if err != nil {
		s.Fatal(err)
	}
	for _, r := range releases {
		if (r.Quarantined != "") != (r.Version == "v4.1.0") {
			s.Errorf("%s: quarantined %q", r.Version, r.Quarantined)
		}
	}
	current, err := s.current("production")
	if err != nil || current.ImageDigest != image || current.Version != "v4.0.0" {
		s.Errorf("the board says that production has %s (%s), %v", current.Version, current.ImageDigest, err)
	}
	s.site.wantOnce(s.T, run.ID)
}

// current is what the board says of delivery in an environment.
func (s *story) current(environment string) (slipway.Deployment, error) {
	board, err := s.site.as("eve").Board(s.Context(), "shop")
	if err != nil {
		return slipway.Deployment{}, err
	}
	for _, row := range board.Rows {
		for _, cell := range row.Cells {
			if row.Service == "delivery" && cell.Environment == environment && cell.Current != nil {
				return *cell.Current, nil
			}
		}
	}
	return slipway.Deployment{}, fmt.Errorf("nothing of delivery in %s", environment)
}

func (s *story) rollback() {
	request := slipway.RollbackRequest{Project: "shop", Service: "delivery", Environment: "qa", To: "v4.0.0", Reason: "the bad one is in QA still"}
	_, err := s.site.as("ada").Rollback(s.Context(), request)
	wantCode(s.T, err, slipway.Forbidden, "ada")
	run, err := s.site.as("bob").Rollback(s.Context(), request)
	if err != nil {
		s.Fatal(err)
	}
	s.site.until(s.T, run.ID, slipway.RunSucceeded)
	kube(s.T).runs(s.T, "shop-qa", deliveryPods, digest(s.T, s.released("v4.0.0"), slipway.ArtifactImage))
	_, err = s.site.as("bob").Rollback(s.Context(), slipway.RollbackRequest{Project: "shop", Service: "delivery", Environment: "qa", To: "v4.1.0", Reason: "to and fro"})
	wantCode(s.T, err, slipway.Conflict, "quarantine")
}
