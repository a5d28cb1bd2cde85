package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// takes puts another repository, or the first one again, under the name.
func (f *fakeForge) takes(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id = id
}

// A name that a stranger took over leads to nothing of theirs: no branch, no pull request and no right, until the
// name is the repository's again or somebody says where that is now.
func TestNameTakenOver(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, hook := connectedSite(t, f, serveOptions{poll: 200 * time.Millisecond})
	s.awaitRun("heads/main", first, ":merge")
	genuine := f.commented(41, 3, "eve", "/slipway retry") // of the repository, by who may only read it

	f.takes(99)
	f.pull(3, first, "main", fork(first))
	evil := f.commit("README", "evil")
	f.push("HEAD:refs/heads/main")
	f.pull(4, evil, "main", nil)
	f.mu.Lock()
	f.rights["eve"] = "admin"
	f.mu.Unlock()
	s.awaitHealth(func(h slipway.ForgeHealth) bool {
		return strings.Contains(fmt.Sprint(h.Problems), "has taken over the name") && strings.Contains(fmt.Sprint(h.Problems), "slipway project connect shop --git URL")
	})
	if status, _ := f.deliver(hook, "issue_comment", "c-1", genuine); status != http.StatusOK && status != http.StatusAccepted {
		t.Fatalf("comment: %d", status)
	}
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return h.Waiting == 1 })
	polled := func() time.Time {
		return must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop")).Poll.Time
	}
	since := polled()
	await(t, "two more polls", func() (bool, string) { return polled().Sub(since) > 300*time.Millisecond, "" })
	if have := s.runs(); strings.Contains(have, evil[:7]) || strings.Contains(have, "pull/") {
		t.Errorf("runs %s", have)
	}
	if f.said(3)+f.said(4)+f.status(evil, "slipway") != "" {
		t.Errorf("the stranger was told %q", f.said(3)+f.said(4)+f.status(evil, "slipway"))
	}
	again := slipway.ConnectRequest{Project: "shop", Forge: slipway.GitHub, Address: f.url, Token: f.token}
	if _, err := s.admin.Connect(t.Context(), again); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), "--git "+f.gitURL()) {
		t.Errorf("a new token for the stranger's: %v", err)
	}

	store := f.beside("shop/store", 7)
	f.git("push", "-q", store.bare, first+":refs/heads/main", first+":refs/heads/moved")
	again.GitURL = store.gitURL()
	moved := must[slipway.Connected](t)(s.admin.Connect(t.Context(), again))
	if moved.Project.Codebase.GitURL != store.gitURL() || moved.Project.Connection.Repository != "shop/store" || moved.Project.Connection.RepositoryID != "7" {
		t.Errorf("connected %+v", moved.Project)
	}
	f.git("checkout", "-q", "-B", "main", first)
	second := f.commit("README", "two")
	f.git("push", "-q", store.bare, second+":refs/heads/main")
	s.awaitRun("heads/main", second, ":merge")
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return len(h.Problems) == 0 })
	if have := s.runs(); strings.Contains(have, evil[:7]) {
		t.Errorf("runs %s", have)
	}

	store.takes(98) // the same URL, said once more, means the repository that is there now
	if _, err := s.admin.Connect(t.Context(), again); err != nil {
		t.Error(err)
	}
	d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
	if d.Connection.RepositoryID != "98" {
		t.Errorf("connected %+v", d.Connection)
	}
	again.GitURL, again.Token, again.DeployKey = "https://git.example.com/x/y.git", "", slipway.NewDeployKey
	if _, err := s.admin.Connect(t.Context(), again); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("a new URL with a deploy key alone: %v", err)
	}
}

// While the API does not answer, what git gives waits: nobody says whose the name is at that moment. Nothing is lost.
func TestNameWhileTheAPIIsAway(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, _ := connectedSite(t, f, serveOptions{poll: 200 * time.Millisecond})
	s.awaitRun("heads/main", first, ":merge")
	f.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	})
	second := f.commit("README", "two")
	f.push("HEAD:refs/heads/main")
	s.awaitHealth(func(h slipway.ForgeHealth) bool {
		return strings.Contains(fmt.Sprint(h.Problems), "waits until the forge says so")
	})
	if have := s.runs(); strings.Contains(have, second[:7]) {
		t.Errorf("runs %s", have)
	}
	f.setRefuse(nil)
	s.awaitRun("heads/main", second, ":merge")
}

// A poll that finds nothing asks the forge for no more than its pull requests.
func TestQuietPollAsksLittle(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	f.pull(3, first, "main", nil)
	s, hook := connectedSite(t, f, serveOptions{poll: 100 * time.Millisecond})
	s.awaitRun("heads/main", first, ":merge")
	body := must[[]byte](t)(json.Marshal(json.RawMessage(f.payload(map[string]any{"action": "opened", "pull_request": f.pulls[3]}))))
	f.deliver(hook, "pull_request", "p-1", body)
	s.awaitRun("pull/3/head", first, ":pull-request")
	await(t, "end of the runs", func() (bool, string) {
		for _, r := range must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop"})) {
			if !r.State.Final() {
				return false, fmt.Sprint(r)
			}
		}
		return true, ""
	})
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return h.Waiting == 0 && h.Behind == 0 }) // what is told is asked for
	asked := make(chan string, 1000)
	f.setRefuse(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/") && r.Method == http.MethodGet {
			select {
			case asked <- r.URL.Path:
			default:
			}
		}
		return false
	})
	for range 5 {
		if path := <-asked; !strings.HasSuffix(path, "/pulls") && !strings.Contains(path, "/comments") && !strings.HasSuffix(path, "/user") {
			t.Errorf("asked for %s", path)
		}
	}
}
