package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-cd/slipway"
)

// mistake is a commit that must not get through: its run fails at a step, with that in the reason.
type mistake struct {
	name   string
	change tree
	step   string
	says   []string
}

func mistakes() []mistake {
	yaml := func(text string) tree { return tree{"slipway.yaml": text} }
	object := func(text string) tree { return tree{"tick/chart/templates/more.yaml": text} }
	bomb := "version: 1\na: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		before := string(c - 1)
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+before+", ", 9), ", "))
	}
	two := tree{"tock/Dockerfile": "FROM busybox:1.36\n"}
	return []mistake{
		{"an unknown key in slipway.yaml", yaml("version: 1\nservces: {}\n"), "plan", []string{"slipway.yaml:2:1", "unknown key", "services"}},
		{"slipway.yaml that is no YAML", yaml("version: 1\n  - x: [\n"), "plan", []string{"slipway.yaml:"}},
		{"a YAML bomb", yaml(bomb), "plan", []string{"slipway.yaml:", "too many values"}},
		{"a path out of the repository", yaml("version: 1\nservices:\n  tick: {path: ../../etc}\n"), "plan", []string{"slipway.yaml:3:", ".."}},
		{"a service named twice", yaml("version: 1\nservices:\n  tick: {path: tick}\n  tick: {path: tick}\n"), "plan", []string{"slipway.yaml:4:3", "given twice"}},
		{"two folders that make one service", tree{"more/tick/Dockerfile": "FROM busybox:1.36\n"}, "plan", []string{"tick/Dockerfile", "more/tick"}},
		{"services that depend on each other", two.with(yaml("version: 1\nservices:\n  tick: {dependsOn: [tock]}\n  tock: {dependsOn: [tick]}\n")), "plan", []string{"slipway.yaml:", "a cycle: tick -> tock -> tick"}},
		{"a link out of the tree", tree{"tick/www/passwd": "-> ../../../../etc/passwd"}, "build/tick", []string{"tick/www/passwd", "out of"}},
		{"a Dockerfile that does not parse", tree{"tick/Dockerfile": "FROM busybox:1.36\nFETCH everything\n"}, "plan", []string{"tick/Dockerfile:2", "FETCH"}},
		{"a build that fails", tree{"tick/Dockerfile": "FROM busybox:1.36\nRUN echo I am about to fail && exit 7\n"}, "build/tick", []string{"Dockerfile:2", "exit code: 7"}},
		{"tests that fail", tree{"tick/tests.sh": "mkdir -p TestResults\necho '<testsuite name=\"t\"><testcase name=\"adds up\"><failure message=\"1 is not 2\"/></testcase></testsuite>' > TestResults/junit.xml\nexit 1\n"}, "test/tick", []string{"tests failed: 1 of 1: adds up"}},
		{"a chart that does not lint", tree{"tick/chart/Chart.yaml": "apiVersion: v2\nname: tick\n"}, "chart/tick", []string{"Chart.yaml", "version"}},
		{"a chart that does not render", object("{{ .Values.no.such.value }}\n"), "chart/tick", []string{"more.yaml", "nil pointer"}},
		{"a chart that makes no valid objects", object("apiVersion: v1\nkind: Service\nmetadata: {name: more}\nspec: {ports: [{port: eighty}]}\n"), "chart/tick", []string{"Service", "port"}},
		{"a field that Kubernetes does not know", object("apiVersion: v1\nkind: Service\nmetadata: {name: more}\nspec: {ports: [{prot: 80, port: 80}]}\n"), "chart/tick", []string{"prot"}},
	}
}

// TestBadInput proposes commits that are wrong or hostile: each fails at its step, says what is wrong
// and where, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	r := s.project(t, "bad", tick())
	// The default branch holds a good configuration; nothing is deployed for lack of an environment.
	r.git("tag", "good")
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	for i, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			r.t = t
			r.git("reset", "--quiet", "--hard", "good")
			r.git("clean", "-fdq")
			r.commit(m.name, m.change)
			out, err := r.pushAs(t.Context(), "ada", "HEAD:refs/for/main", "-o", fmt.Sprintf("topic=mistake-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			d := s.until(t, r.madeRun(out).ID, slipway.RunFailed)
			st := step(t, d, m.step)
			if st.State != slipway.StepFailed {
				t.Errorf("%s is %s\n%s", m.step, st.State, s.describe(d.Run.ID))
			}
			said := st.Reason + "\n" + s.log(t.Context(), d.Run.ID, m.step)
			for _, part := range m.says {
				if !strings.Contains(said, part) {
					t.Errorf("nothing says %q:\n%s\n%s", part, out, said)
				}
			}
			if m.step == "plan" && !strings.Contains(out, m.says[0]) {
				t.Errorf("the push does not show the problem:\n%s", out)
			}
			if len(d.Deployments) > 0 {
				t.Errorf("deployed: %+v", d.Deployments)
			}
			if _, err := s.as("ada").Merge(t.Context(), "bad", d.Run.Pull); slipway.ErrorCode(err) != slipway.Conflict {
				t.Errorf("the pull request may be merged: %v", err)
			}
		})
	}
	t.Run("nothing reached the cluster", func(t *testing.T) {
		for _, env := range []string{"qa", "production"} {
			if _, err := kube(t).CoreV1().Namespaces().Get(t.Context(), "bad-"+env, metav1.GetOptions{}); err == nil {
				t.Errorf("namespace bad-%s was made", env)
			}
		}
	})
}

// TestRefusedPushes pushes what the server must not take.
func TestRefusedPushes(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	r := s.project(t, "refused", tick())
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	r.commit("A change", tree{"tick/www/index.html": "changed\n"})
	for _, c := range []struct{ user, ref, says string }{
		{"ada", "refs/heads/release/tock/v1.0.0", `there is no service "tock" in this commit; it has: tick`},
		{"ada", "refs/heads/release/tick/one", "SemVer"},
		{"ada", "refs/heads/release/tick/v1.0", "SemVer"},
		{"ada", "refs/heads/release/tick/v1.0.0+build.7", "build metadata"},
		{"ada", "refs/heads/release/v1.0.0", "release/<service>/<version>"},
		{"ada", "refs/heads/release/../tick/v1.0.0", ""}, // git itself refuses to send it
		{"ada", "refs/heads/-x", "begin with -"},
		{"ada", "refs/heads/feature/-x", "begin with -"},
		{"ada", "refs/heads/x;id", "not allowed"},
		{"ada", "refs/heads/$(id)", "not allowed"},
		{"ada", "refs/pull/1/head", "refs/for/"},
		{"ada", "refs/slipway/x", ""},
		{"ada", "refs/heads/main", "may not push to the default branch of refused"},
		{"eve", "refs/heads/feature/x", "eve"},
		{"eve", "refs/heads/release/tick/v1.0.0", "eve"},
		{"eve", "refs/for/main", "eve"},
	} {
		t.Run(strings.ReplaceAll(c.user+" pushes "+c.ref, "/", "."), func(t *testing.T) {
			r.t = t
			r.refused(c.user, "HEAD:"+c.ref, c.says)
		})
	}
	r.t = t
	t.Run("a stranger", func(t *testing.T) {
		r.t = t
		r.git("remote", "add", "stranger", strings.Replace(s.url(), "http://", "http://mallory:guess@", 1)+"/git/refused.git")
		out, err := r.pushAs(t.Context(), "stranger", "HEAD:refs/heads/feature/x")
		if err == nil || !mentions(out, "Authentication failed", "401") {
			t.Errorf("a stranger's push: %v\n%s", err, out)
		}
	})
	t.Run("the default branch is not rewritten", func(t *testing.T) {
		r.t = t
		before := r.remote("refs/heads/main")
		if out, err := r.pushAs(t.Context(), "bob", "HEAD~1:refs/heads/other"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.git("checkout", "--quiet", "--orphan", "fresh")
		r.git("commit", "--quiet", "-m", "Another beginning")
		out, err := r.pushAs(t.Context(), "bob", "+HEAD:refs/heads/main")
		if err == nil || !strings.Contains(out, "default branch") {
			t.Errorf("main was rewritten: %v\n%s", err, out)
		}
		if after := r.remote("refs/heads/main"); after != before {
			t.Errorf("main moved from %s to %s", before, after)
		}
	})
	r.t = t
	runs, err := s.as("admin").Runs(t.Context(), slipway.RunFilter{Project: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		if run.Event != slipway.DefaultPush && run.Ref != "refs/heads/other" {
			t.Errorf("a refused push made run #%d of %s", run.ID, run.Ref)
		}
	}
}

// TestVersionsAndApprovalsAreKept releases one version from two commits, and votes on what is over.
func TestVersionsAndApprovalsAreKept(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	r := s.project(t, "kept", tick())
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	first := r.push("HEAD:refs/heads/release/tick/v1.0.0")
	d := s.until(t, first.ID, slipway.RunWaiting)
	old := waiting(t, d)

	r.commit("Something else", tree{"tick/www/index.html": "else\n"})
	r.refused("ada", "+HEAD:refs/heads/release/tick/v1.0.0", "was published from commit "+slipway.ShortHash(d.Run.Commit))
	r.refused("ada", "HEAD:refs/heads/release/tick/1.0.0", "was published from commit "+slipway.ShortHash(d.Run.Commit))

	second := r.push("HEAD:refs/heads/release/tick/v1.1.0")
	newer := waiting(t, s.until(t, second.ID, slipway.RunWaiting))
	s.until(t, first.ID, slipway.RunCancelled)
	for _, approve := range []bool{true, false} {
		_, err := s.as("bob").Vote(t.Context(), old.ID, approve, "too late")
		wantCode(t, err, slipway.Conflict, "not open any more")
	}
	_, err := s.as("bob").Vote(t.Context(), 1<<40, true, "what is it")
	wantCode(t, err, slipway.NotFound, "does not exist")
	if status := s.twice(t, newer.ID); status[http.StatusOK] != 1 || status[http.StatusConflict] != 1 {
		t.Errorf("of two approvals at once the answers were %v", status)
	}
	s.until(t, second.ID, slipway.RunSucceeded)
	if completed, failed := made(t, "kept-production", "tick", 0); completed != 1 || failed != 0 {
		t.Errorf("production has %d revisions and %d failed ones", completed, failed)
	}
	s.wantOnce(t, second.ID)

	r.commit("And else", tree{"tick/www/index.html": "and else\n"})
	third := r.push("HEAD:refs/heads/release/tick/v1.2.0")
	a := waiting(t, s.until(t, third.ID, slipway.RunWaiting))
	if _, err := s.as("bob").Vote(t.Context(), a.ID, false, "not today"); err != nil {
		t.Fatal(err)
	}
	d = s.until(t, third.ID, slipway.RunFailed)
	if st := step(t, d, "approve/tick@production"); !strings.Contains(st.Reason, "not today") {
		t.Errorf("the rejection says %q", st.Reason)
	}
	if completed, _ := made(t, "kept-production", "tick", 0); completed != 1 {
		t.Errorf("production has %d revisions after a rejection", completed)
	}
}

// twice approves as two people at once and counts the answers by status.
func (s *site) twice(t *testing.T, approval int64) map[int]int {
	t.Helper()
	answers := make(chan error, 2)
	for _, user := range []string{"bob", "admin"} {
		go func() {
			_, err := s.as(user).Vote(t.Context(), approval, true, "on with it")
			answers <- err
		}()
	}
	count := map[int]int{}
	for range 2 {
		switch err := <-answers; slipway.ErrorCode(err) {
		case "":
			count[http.StatusOK]++
		case slipway.Conflict:
			count[http.StatusConflict]++
		default:
			t.Errorf("approve: %v", err)
		}
	}
	return count
}
