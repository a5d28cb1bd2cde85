//go:build linux

package buildkit

import (
	"os"
	"path/filepath"
	"testing"
)

// A Dockerfile copies from another folder by name; the image changes with what is in it, and with nothing
// else of it.
func TestNamedContext(t *testing.T) {
	w := lodging(t)
	lib := tree(t, map[string]string{"proto/a": "one", "other": "x"})
	req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nCOPY --from=lib proto /proto\nRUN grep one /proto/a || grep two /proto/a\n"}))
	req.Contexts = map[string]string{"lib": lib}
	first, _ := w.mustBuild(t, req)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(lib, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("other", "y")
	if again, _ := w.mustBuild(t, req); again.Digest != first.Digest {
		t.Error("a file that is not copied changes the image")
	}
	write("proto/a", "two")
	if again, _ := w.mustBuild(t, req); again.Digest == first.Digest {
		t.Error("a file that is copied does not change the image")
	}
	req.Contexts = nil
	res, err := w.Build(w.ctx, req, newLog(t))
	if err != nil || res.Failure == nil {
		t.Errorf("a build without its context: %+v, %v", res, err)
	}
}
