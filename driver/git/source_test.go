package git

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

func TestWorkspaceOfARealRepository(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	good := w.commit("good", map[string]string{"a": "1"})
	evil := w.commit("evil", map[string]string{"l->": "../../../etc"})
	root := t.TempDir()
	all := source.NewWorkspaces(root, func(string) (source.Exporter, error) { return w.repo, nil })
	dir, err := all.For("demo", 1).Tree(t.Context(), "", good)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = all.For("demo", 1).Tree(t.Context(), "", evil)
	wantCode(t, err, slipway.Invalid, `"l" points to "../../../etc"`)
}
