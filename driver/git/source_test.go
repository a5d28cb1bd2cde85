package git

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

// TestChangesOnARealRepository follows a monorepo through the events of its life.
func TestChangesOnARealRepository(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	services := []source.Service{{Name: "cart", Dir: "src/cart", Chart: "charts/cart"}, {Name: "shop", Dir: "src/shop", Chart: "src/shop/chart"}}
	first := w.commit("first", map[string]string{"src/cart/a": "1", "src/shop/a": "1", "charts/cart/Chart.yaml": "1"})
	w.git("checkout", "--quiet", "-b", "feature")
	feature := w.commit("feature", map[string]string{"src/cart/a": "", "src/cart/b": "1"})
	w.git("checkout", "--quiet", "main")
	tip := w.commit("meanwhile", map[string]string{"src/shop/a": "2"})
	w.git("merge", "--quiet", "--no-ff", "-m", "merge", "feature")
	merge := w.git("rev-parse", "HEAD")
	chart := w.commit("chart", map[string]string{"charts/cart/Chart.yaml": "2", "README": "x"})
	w.git("branch", "release/cart/v1.0.0")
	for _, c := range []struct {
		name       string
		in         source.Input
		base       string
		cart, shop int
	}{
		{"first push", source.Input{Event: slipway.DefaultPush, Commit: first, Before: slipway.ZeroHash, DefaultTip: first}, "", 2, 1},
		{"new branch", source.Input{Event: slipway.BranchPush, Commit: feature, Before: slipway.ZeroHash, DefaultTip: tip}, first, 2, 0},
		{"pull request", source.Input{Event: slipway.PullUpdate, Commit: feature, BaseTip: tip}, first, 2, 0},
		{"merge", source.Input{Event: slipway.DefaultPush, Commit: merge, Before: tip, DefaultTip: merge}, tip, 2, 0},
		{"chart outside the folder", source.Input{Event: slipway.DefaultPush, Commit: chart, Before: merge, DefaultTip: chart}, merge, 1, 0},
		{"forced back", source.Input{Event: slipway.DefaultPush, Commit: first, Before: chart, DefaultTip: first}, chart, 3, 1},
		{"release of the default branch", source.Input{Event: slipway.ReleasePush, Commit: chart, DefaultTip: chart}, chart, 0, 0},
		{"before was pruned", source.Input{Event: slipway.BranchPush, Commit: feature, Before: "1111111111111111111111111111111111111111", DefaultTip: tip}, first, 2, 0},
	} {
		c.in.Services = services
		got, base, err := source.Changes(ctx, w.repo, c.in)
		if err != nil || base != c.base || got["cart"].Files != c.cart || got["shop"].Files != c.shop {
			t.Errorf("%s: %+v compared with %.7q, %v", c.name, got, base, err)
		}
	}
	revisions, err := source.Revisions(ctx, w.repo, chart, services, []string{"cart", "shop"})
	if err != nil || revisions["cart"].Commit != chart || revisions["shop"].Commit != tip {
		t.Errorf("%v, %v", revisions, err)
	}
	// The revision survives the merge: pull request and default branch build the same image (D15).
	if before, err := source.Revisions(ctx, w.repo, feature, services, []string{"cart"}); err != nil || before["cart"].Commit != feature {
		t.Errorf("%v, %v", before, err)
	}
	if after, err := source.Revisions(ctx, w.repo, merge, services, []string{"cart"}); err != nil || after["cart"].Commit != feature {
		t.Errorf("%v, %v", after, err)
	}
}

func TestWorkspaceOfARealRepository(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	good := w.commit("good", map[string]string{"a": "1"})
	evil := w.commit("evil", map[string]string{"l->": "../../../etc"})
	root := t.TempDir()
	all := source.NewWorkspaces(root, func(string) (source.Exporter, error) { return w.repo, nil })
	dir, err := all.For("demo", 1).Tree(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = all.For("demo", 1).Tree(t.Context(), evil)
	wantCode(t, err, slipway.Invalid, `"l" points to "../../../etc"`)
}

// BenchmarkMonorepo is a repository of 500 services with ten files each.
func BenchmarkMonorepo(b *testing.B) {
	w := newWork(b)
	files := map[string]string{}
	var services []source.Service
	var names []string
	for i := range 500 {
		name := fmt.Sprintf("svc%d", i)
		services = append(services, source.Service{Name: name, Dir: "src/" + name, Chart: "charts/" + name})
		names = append(names, name)
		for j := range 9 {
			files[fmt.Sprintf("src/%s/pkg/file%d.go", name, j)] = name + fmt.Sprint(j)
		}
		files["charts/"+name+"/Chart.yaml"] = name
	}
	first := w.commit("first", files)
	head := w.commit("second", map[string]string{"src/svc7/pkg/file1.go": "x", "charts/svc8/Chart.yaml": "y"})
	b.Run("changes", func(b *testing.B) {
		for b.Loop() {
			got, _, err := source.Changes(b.Context(), w.repo, source.Input{Event: slipway.DefaultPush, Before: first, Commit: head, Services: services})
			if err != nil || !got["svc7"].Changed || got["svc9"].Changed {
				b.Fatal(err)
			}
		}
	})
	b.Run("first push", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := source.Changes(b.Context(), w.repo, source.Input{Event: slipway.DefaultPush, Commit: head, Services: services}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("revisions of all", func(b *testing.B) {
		for b.Loop() {
			if _, err := source.Revisions(b.Context(), w.repo, head, services, names); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tree, 500 files read", func(b *testing.B) {
		for b.Loop() {
			tree, err := w.repo.Tree(b.Context(), head)
			if err != nil {
				b.Fatal(err)
			}
			for _, s := range services {
				if _, err := tree.ReadFile(s.Chart + "/Chart.yaml"); err != nil {
					b.Fatal(err)
				}
			}
			if err := tree.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			dir := filepath.Join(b.TempDir(), "x")
			if err := w.repo.Export(b.Context(), head, dir); err != nil {
				b.Fatal(err)
			}
		}
	})
}
