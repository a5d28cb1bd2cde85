package survey

import (
	"io/fs"
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway/config"
)

// The survey finds the services that config finds, wherever Dockerfiles lie.
func TestSurveyFindsWhatConfigFinds(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"a", "a-b", "a.b", "b", "vendor", ".git", "src", "examples"})
	rapid.Check(t, func(t *rapid.T) {
		tree := fstest.MapFS{}
		for _, parts := range rapid.SliceOfN(rapid.SliceOfN(part, 0, 10), 0, 8).Draw(t, "folders") {
			name := "Dockerfile"
			for _, p := range slices.Backward(parts) {
				name = p + "/" + name
			}
			tree[name] = &fstest.MapFile{Data: []byte("FROM scratch\n"), Mode: fs.ModePerm}
		}
		found, err := walk(tree)
		if err != nil {
			t.Fatal(err)
		}
		services, problems := config.Discover(tree, "project")
		var want []string
		for _, s := range services {
			want = append(want, s.Dir)
		}
		slices.Sort(want)
		if len(problems) == 0 && !slices.Equal(found.dockerfiles, want) { // else names clash
			t.Errorf("found %q, want %q", found.dockerfiles, want)
		}
		if _, err := Look(tree, "project"); err != nil {
			t.Error(err)
		}
	})
}

// Whatever lies in a repository, what is written is read back, and gives every service a name.
func TestSurveyWritesWhatIsValid(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"cart", "Cart", "src", "docker", "app", "my cart", "true", "1", "-x", "é", "a\nb", "cart:x", "#"})
	file := rapid.SampledFrom([]string{"Dockerfile", "Dockerfile.prod", "cart.Dockerfile", "Containerfile", "go.mod", "package.json", "Chart.yaml"})
	rapid.Check(t, func(t *rapid.T) {
		tree := fstest.MapFS{}
		for range rapid.IntRange(0, 8).Draw(t, "files") {
			name := file.Draw(t, "file")
			data := map[string]string{
				"go.mod": "module x\nreplace y => ../cart\nreplace z => ./src\n", "package.json": `{"name": "x", "dependencies": {"y": "file:../cart"}, "workspaces": ["*"]}`,
				"Chart.yaml": "name: cart\n",
			}[name]
			if data == "" {
				data = "FROM scratch AS test\nENTRYPOINT [\"/x\"]\nFROM scratch\nEXPOSE 80\n"
			}
			for _, p := range rapid.SliceOfN(part, 0, 3).Draw(t, "folder") {
				name = p + "/" + name
			}
			tree[name] = &fstest.MapFile{Data: []byte(data), Mode: fs.ModePerm}
		}
		s, err := Look(tree, "project")
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		if s.File != "" {
			data = []byte(s.File)
		}
		found, problems := config.Load(withFile{FS: tree, name: config.Name, data: data}, config.Options{Project: "project"})
		for _, p := range problems {
			if p.File == config.Name {
				t.Errorf("%s\nof\n%s", p, s.File)
			}
		}
		if len(problems) > 0 {
			return
		}
		for _, svc := range s.Services {
			if got, ok := found.Service(svc.Name); !ok || got.Dir != svc.Dir {
				t.Errorf("service %s in %s is %+v\nof\n%s", svc.Name, svc.Dir, got, s.File)
			}
		}
	})
}

// Folders of the same name are told apart by their paths.
func TestSurveyOfFoldersOfOneName(t *testing.T) {
	t.Parallel()
	file := &fstest.MapFile{Data: []byte("FROM scratch AS test\nENTRYPOINT [\"/x\"]\nFROM scratch\nEXPOSE 80\n"), Mode: fs.ModePerm}
	tree := fstest.MapFS{"Dockerfile": file, "app/Dockerfile": file, "Cart/app/Dockerfile": file}
	s, err := Look(tree, "project")
	if err != nil || len(s.Problems) > 0 {
		t.Fatalf("%v, %q\nof\n%s", err, s.Problems, s.File)
	}
	got := map[string]string{}
	for _, svc := range s.Services {
		got[svc.Name] = svc.Dir
	}
	if want := map[string]string{"app": "app", "cart": "Cart/app", "project": "."}; !maps.Equal(got, want) {
		t.Errorf("found %v", got)
	}
}
