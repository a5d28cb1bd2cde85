package helm

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

var update = flag.Bool("update", false, "rewrite the expected halves of testdata")

const separator = "=====\n"

func postRenderRequest() deploy.Request {
	return deploy.NewRequest(deploy.Desired{
		Run: 42, Target: slipway.Target{Project: "drone", Service: "delivery", Environment: "production"},
		Version: "v1.0.2", Commit: "c0ffee", Tag: "v1.0.2", ImageDigest: digestA, Reason: "v1.0.2: fix",
		Image:   slipway.Repository{Registry: registry(), Name: "prod/drone/delivery"},
		Aliases: []string{"candidates.slipway.local/drone/delivery"},
	}, nil)
}

// TestPostRender compares whole documents: testdata/postrender/*.txt is what a chart rendered, a line
// of =====, and what becomes of it or the error.
func TestPostRender(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/postrender/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want, _ := strings.Cut(string(b), separator)
			var got string
			out, err := (&pinner{req: postRenderRequest()}).Run(bytes.NewBufferString(in))
			if err != nil {
				got = "error: " + err.Error() + "\n"
			} else {
				got = out.String()
			}
			if *update {
				if err := os.WriteFile(file, []byte(in+separator+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if err == nil {
				again, err := (&pinner{req: postRenderRequest()}).Run(bytes.NewBufferString(got))
				if err != nil || again.String() != got {
					t.Errorf("a second time changes it: %v\n%s", err, again)
				}
			}
		})
	}
}

func TestPinImage(t *testing.T) {
	t.Parallel()
	pin := postRenderRequest().Pin
	for image, ours := range map[string]bool{
		"drone/delivery":                                   true,
		"drone/delivery:latest":                            true,
		"prod/drone/delivery:v1":                           true,
		"registry.slipway.local/drone/delivery":            true,
		"registry.slipway.local/prod/drone/delivery:v1":    true,
		"candidates.slipway.local/drone/delivery:v1":       true,
		"drone/delivery:v1@" + digestA:                     true,
		"delivery":                                         false,
		"other.example.com/drone/delivery:v1":              false,
		"localhost/drone/delivery":                         false,
		"localhost:5000/drone/delivery:v1":                 false,
		"registry.slipway.local:5000/drone/delivery:v1":    false,
		"drone/delivery/sub:v1":                            false,
		"":                                                 false,
		"registry.slipway.local/other/drone/delivery:v1.0": false,
	} {
		got, err := pinImage(pin, image)
		if err != nil || (got != "") != ours {
			t.Errorf("%q becomes %q (%v), ours: %v", image, got, err, ours)
		}
		if ours && got != "registry.slipway.local/prod/drone/delivery:v1.0.2@"+digestA {
			t.Errorf("%q becomes %q", image, got)
		}
	}
}

func TestStorageOf(t *testing.T) {
	t.Parallel()
	got, err := storageOf("kind: ConfigMap\nmetadata: {name: c}\n---\nkind: PersistentVolumeClaim\nmetadata: {name: data}\n---\n" +
		"kind: StatefulSet\nmetadata: {name: plain}\nspec: {}\n---\nkind: StatefulSet\nmetadata: {name: db}\nspec: {volumeClaimTemplates: [{metadata: {name: x}}]}\n")
	if err != nil || strings.Join(got, " ") != "PersistentVolumeClaim/data StatefulSet/db" {
		t.Errorf("%v, %v", got, err)
	}
}
