package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// The page of codebases of a real server shows those of the project, and of no other project.
func TestCodebasesPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, serveOptions{})
	if _, err := s.admin.CreateProject(t.Context(), slipway.Project{Name: "lib", DefaultBranch: "trunk"}); err != nil {
		t.Fatal(err)
	}
	cookie := web.SessionCookie + "=" + s.session()
	resp, page := s.get("/projects/lib/codebases", "", "Cookie", cookie)
	for _, want := range []string{"Main codebase", "hosted here", "/git/lib.git", "trunk"} {
		if resp.StatusCode != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("it answers %d without %q", resp.StatusCode, want)
		}
	}
	if resp, _ := s.get("/projects/none/codebases", "", "Cookie", cookie); resp.StatusCode != http.StatusNotFound {
		t.Errorf("of a project that is not there it answers %d", resp.StatusCode)
	}
}
