package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// bounded reports text that is longer than it may be, or was cut within a letter.
func bounded(t *testing.T, what, text string, limit int) {
	t.Helper()
	if n := utf8.RuneCountInString(text); n > limit || !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
		t.Errorf("%s: %d characters of at most %d, valid %t: %.120q…", what, n, limit, utf8.ValidString(text), text)
	}
}

// Names, titles and messages of 64 kB are bounded on their whole way, from what a forge sends to what it and people are
// shown, and nothing is refused for them.
func TestLengths(t *testing.T) {
	t.Parallel()
	for name, unit := range map[string]string{"letters": "a", "two bytes": "ä", "four bytes": "😀", "markdown": "|`@", "invisible": "a\u200b\u200b\u200b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			long := strings.Repeat(unit, 64<<10/len(unit))
			f := newFakeForge(t)
			f.git("config", "core.quotepath", "false")
			f.commit("svc/Dockerfile", "FROM scratch\n")
			deep := "svc"
			for range 12 {
				deep += "/" + strings.Repeat("d", 250)
			}
			blob := f.git("hash-object", "-w", "svc/Dockerfile")
			f.git("update-index", "--add", "--cacheinfo", "100644,"+blob+","+deep)
			message := filepath.Join(t.TempDir(), "message")
			must[struct{}](t)(struct{}{}, os.WriteFile(message, []byte(long+"\n\n"+long), 0o600))
			f.git("commit", "-q", "-F", message, "--author", long+" <eve@example.com>")
			head := f.git("rev-parse", "HEAD")
			f.push("HEAD:refs/heads/main")
			s, hook := connectedSite(t, f, serveOptions{poll: 300 * time.Millisecond})
			s.awaitRun("heads/main", head, ":merge")

			account := map[string]any{"id": 3, "login": long}
			f.pull(3, head, "main", map[string]any{"title": long, "user": account, "labels": []any{map[string]any{"name": long}},
				"head": map[string]any{"ref": long, "sha": head, "repo": map[string]any{"id": f.id, "full_name": long}}})
			f.rights[long] = "write"
			deliver := func(event, id string, more map[string]any) string {
				t.Helper()
				more["sender"] = account
				status, answer := f.deliver(hook, event, id, f.payload(more))
				if status != http.StatusAccepted || len(answer) > 2000 {
					t.Errorf("%s: %d %.200s", event, status, answer)
				}
				return answer
			}
			if answer := deliver("push", strings.Repeat("i", 64<<10), map[string]any{"ref": "refs/heads/" + long, "before": slipway.ZeroHash, "after": head}); !strings.Contains(answer, "ignored") {
				t.Errorf("a branch of 64 kB: %.200s", answer)
			}
			deliver("pull_request", "p", map[string]any{"action": "opened", "pull_request": f.pulls[3]})
			deliver("pull_request", "l", map[string]any{"action": "labeled", "pull_request": f.pulls[3], "label": map[string]any{"name": long}})
			s.awaitRun("pull/3/head", head, ":pull-request")
			for i, text := range []string{"/slipway " + long, "/slipway approve " + long, long + "\n/slipway retry"} {
				deliver("issue_comment", fmt.Sprint("c", i), map[string]any{"action": "created", "issue": map[string]any{"number": 3, "pull_request": map[string]any{"html_url": f.url}},
					"comment": map[string]any{"id": 70 + i, "body": text, "user": account}})
			}
			await(t, "statuses", func() (bool, string) {
				have := f.status(head, "slipway/svc")
				return have != "" && strings.Contains(f.said(3), "svc"), have
			})
			s.awaitHealth(func(h slipway.ForgeHealth) bool { return h.Waiting == 0 && len(h.Problems) == 0 })
			f.mu.Lock()
			for context, said := range f.statuses[head] {
				bounded(t, "status "+context, strings.SplitN(said, ": ", 2)[1], 140)
			}
			f.mu.Unlock()
			bounded(t, "comment", f.said(3), 65536)
			if said := f.said(3); strings.Count(said, "\n") < 5 {
				t.Errorf("comment:\n%s", said)
			}
			for _, r := range must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop"})) {
				bounded(t, "title of a run", r.Title, 200)
				bounded(t, "actor of a run", r.Actor, 80)
				d := must[slipway.RunDetail](t)(s.admin.Run(t.Context(), r.ID))
				for _, dec := range d.Plan.Decisions {
					bounded(t, "reason", dec.Reason, 700)
				}
				bounded(t, "run", string(must[[]byte](t)(json.Marshal(d))), 64<<10)
			}
			session := s.session()
			for _, path := range []string{"/projects/shop", "/projects/shop/pulls", "/projects/shop/codebases", "/runs/1", "/runs/2"} {
				resp, body := s.get(path, "", "Cookie", web.SessionCookie+"="+session)
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", path, resp.StatusCode)
				}
				bounded(t, path, body, 100<<10)
			}
			bounded(t, "log", s.out.String(), 200<<10)
		})
	}
}
