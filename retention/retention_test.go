package retention_test

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/retention"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// An image that a young index names, pushed by hand, stays whatever its age, and the report says why; another one
// that is as old goes. What is foretold is what is done.
func TestRetentionKeepsWhatAnIndexNames(t *testing.T) {
	t.Parallel()
	month := slipway.Duration(30 * 24 * time.Hour)
	policy := slipway.Config{Retention: slipway.Retention{Candidates: slipway.Keep{MaxAge: month, Newest: 1}, PullRequests: slipway.Keep{MaxAge: month}}}
	dir := t.TempDir()
	records := storetest.Open(t, store.Options{})
	must[slipway.Project](t)(records.CreateProject(t.Context(), slipway.Project{Name: "shop"}, "ada"))
	reg := must[*registry.Registry](t)(registry.Open(dir, func(context.Context, string, string, registry.Action, string) (string, error) { return "ada", nil }, registry.Options{}))
	t.Cleanup(func() {
		if err := reg.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	web := httptest.NewServer(reg)
	t.Cleanup(web.Close)
	c := &retention.Cleaner{Registry: reg, Records: records, Now: time.Now,
		Policy: func(context.Context, string) (slipway.Config, error) { return policy, nil }}
	push := func(tag string, what remote.Taggable, digest v1.Hash, age time.Duration) {
		ref := must[name.Tag](t)(name.NewTag(strings.TrimPrefix(web.URL, "http://")+"/shop/cart:"+tag, name.Insecure))
		if err := remote.Push(ref, what, remote.WithTransport(web.Client().Transport)); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, "shop/cart/blobs/sha256", digest.Hex), at, at); err != nil {
			t.Fatal(err)
		}
	}
	const old = 100 * 24 * time.Hour
	named, alone := must[v1.Image](t)(random.Image(256, 1)), must[v1.Image](t)(random.Image(256, 1))
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: named})
	push("v1.0.0", named, must[v1.Hash](t)(named.Digest()), old)
	push("v1.0.1", alone, must[v1.Hash](t)(alone.Digest()), old)
	push("v1-multi", index, must[v1.Hash](t)(index.Digest()), 0)
	dry := must[slipway.RetentionReport](t)(c.Foretell(t.Context(), "shop"))
	done := must[slipway.RetentionReport](t)(c.Clean(t.Context(), "shop", "ada"))
	for _, r := range []slipway.RetentionReport{dry, done} {
		reasons := map[string]string{}
		for _, k := range r.Kept {
			reasons[strings.Join(k.Tags, " ")] = k.Reason
		}
		if len(r.Removed) != 1 || r.Removed[0].Tags[0] != "v1.0.1" || len(r.Kept) != 2 || reasons["v1.0.0"] != "the index v1-multi names it, which stays" {
			t.Errorf("dry %v: removed %+v, kept %v", r.DryRun, r.Removed, reasons)
		}
	}
	if dry.Bytes != done.Bytes || dry.Later != done.Later || dry.Blobs != done.Blobs || dry.Later == 0 {
		t.Errorf("foretold %d bytes and %d later, freed %d and %d later", dry.Bytes, dry.Later, done.Bytes, done.Later)
	}
	again := must[[]registry.Held](t)(reg.Held(t.Context(), "shop"))
	if len(again) != 2 {
		t.Errorf("held: %+v", again)
	}
}

// Who may see a project is told what would go, and who manages it has it removed.
func TestWhoMayRemoveCandidates(t *testing.T) {
	t.Parallel()
	var c retention.Cleaner // which is not reached
	ada := slipway.User{Name: "ada", Roles: map[string]slipway.Role{"shop": slipway.Developer}}
	if _, err := c.Retention(t.Context(), ada, "shop", false); slipway.ErrorCode(err) != slipway.Forbidden {
		t.Errorf("a developer removes: %v", err)
	}
	if _, err := c.Retention(t.Context(), slipway.User{Name: "bob"}, "shop", true); slipway.ErrorCode(err) != slipway.Forbidden && slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("a stranger is told: %v", err)
	}
}
