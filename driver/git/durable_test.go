package git

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// By default git syncs no object in a file of its own: a merge would be lost to a power cut, and its branch with it.
func TestCommitsAreSynced(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	first := w.commit("first", map[string]string{"a": "0"})
	trace := filepath.Join(t.TempDir(), "trace")
	repo := Repo{Dir: w.repo.Dir, Env: []string{"GIT_TRACE2_EVENT=" + trace}}
	tree := w.git("rev-parse", first+"^{tree}")
	if _, err := repo.CommitTree(t.Context(), NewCommit{Tree: tree, Parents: []string{first}, Message: "made", Author: "Ann", Email: "ann@example.com", Time: time.Unix(1700000000, 0)}); err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile(trace)
	if err != nil || !strings.Contains(string(told), `"key":"fsync/hardware-flush","value":"1"`) {
		t.Errorf("nothing was synced: %v\n%s", err, told)
	}
}
