package reuse_test

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// around is everything that a Runner asks; its fields are what it answers.
type around struct {
	tree       string
	files      []reuse.File
	ignores    map[string]string // ignore files by name
	dockerfile string
	digest     string
	digests    map[string]string // of images that have another
	digestErr  error
	ancestor   bool
	gone       bool
	past       []slipway.Earlier
	keys       []string // inputs that were looked for
	done       int      // times that the inner runner did the step
	said       []string
}

func (a *around) TreeHash(context.Context, string, string) (string, error)    { return a.tree, nil }
func (a *around) Files(context.Context, string, string) ([]reuse.File, error) { return a.files, nil }
func (a *around) ReadFile(_ context.Context, _, name string, _ int64) ([]byte, error) {
	if strings.HasSuffix(name, ".dockerignore") {
		if text, ok := a.ignores[name]; ok {
			return []byte(text), nil
		}
		return nil, slipway.Errorf(slipway.NotFound, "no file %s", name)
	}
	return []byte(a.dockerfile), nil
}
func (a *around) IsAncestor(context.Context, string, string) (bool, error) { return a.ancestor, nil }
func (a *around) Digest(_ context.Context, _, image string, _ map[string]string) (string, error) {
	return cmp.Or(a.digests[image], a.digest), a.digestErr
}

func (a *around) Head(context.Context, slipway.Repository, string) (int64, error) {
	if a.gone {
		return 0, slipway.Errorf(slipway.NotFound, "no such image")
	}
	return 1, nil
}

func (a *around) Earlier(_ context.Context, _, inputs string, fits func(slipway.PlanStep) bool) (slipway.Earlier, bool, error) {
	a.keys = append(a.keys, inputs)
	for _, e := range a.past {
		if fits(e.Step.Spec) {
			return e, true, nil
		}
	}
	return slipway.Earlier{}, false, nil
}

func (a *around) Run(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
	a.done++
	return slipway.Result{Outcome: slipway.Succeeded, Reason: "done"}, nil
}

func (a *around) Line(l slipway.LogLine)         { a.said = append(a.said, l.Text) }
func (a *around) Printf(format string, _ ...any) { a.said = append(a.said, format) }

func (a *around) runner() reuse.Runner {
	return reuse.Runner{
		Inner: a, Past: a, Bases: a, Images: a, Version: "v1", Repo: func(string) reuse.Repo { return a },
		BaseImages: func(d []byte, _ map[string]string) ([]string, bool) {
			return []string{"golang:1.26"}, !strings.Contains(string(d), "ADD http")
		},
	}
}

func (a *around) run(t *testing.T, event slipway.EventKind, step slipway.PlanStep) slipway.Result {
	t.Helper()
	res, err := a.runner().Run(t.Context(), stage.Env{Run: slipway.Run{ID: 9, Project: "shop", Event: event}, Log: a}, step)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func newAround() *around {
	return &around{tree: "t1", dockerfile: "FROM golang:1.26\n", digest: "sha256:aa", ancestor: true}
}

const revision = "org.opencontainers.image.revision"

func build(trust slipway.Trust, commit string) slipway.PlanStep {
	return slipway.PlanStep{Key: "build/cart", Kind: slipway.KindBuild, Service: "cart", Build: &slipway.BuildSpec{
		Source: slipway.Source{Commit: commit, Dir: "cart"}, Dockerfile: "Dockerfile", Trust: trust,
		Labels: map[string]string{revision: commit}, Image: &slipway.Repository{Registry: slipway.Registry{Host: "r"}, Name: "shop/cart"},
	}}
}

func test(trust slipway.Trust) slipway.PlanStep {
	return slipway.PlanStep{Key: "test/cart", Kind: slipway.KindTest, Service: "cart", Test: &slipway.TestSpec{
		Source: slipway.Source{Commit: "c2", Dir: "cart"}, Dockerfile: "Dockerfile", Stage: "testrunner", Trust: trust,
	}}
}

func earlier(step slipway.PlanStep) slipway.Earlier {
	e := slipway.Earlier{Step: slipway.Step{RunID: 4, Spec: step, State: slipway.StepSucceeded}, Report: &slipway.TestReport{Passed: 3}}
	if step.Build != nil {
		e.Report = nil
		e.Artifacts = []slipway.Artifact{{ID: 7, RunID: 4, Step: step.Key, Kind: slipway.ArtifactImage, Digest: "sha256:11", Commit: step.Build.Source.Commit}}
	}
	return e
}

func TestReused(t *testing.T) {
	t.Parallel()
	const branch, reviewed, fork = slipway.TrustBranch, slipway.TrustReviewed, slipway.TrustFork
	for name, c := range map[string]struct {
		past   slipway.PlanStep
		now    slipway.PlanStep
		event  slipway.EventKind
		change func(*around)
		reused bool
	}{
		"an image":                                {past: build(reviewed, "c1"), now: build(reviewed, "c2"), event: slipway.ReleasePush, reused: true},
		"an image of the same commit":             {past: build(branch, "c2"), now: build(branch, "c2"), event: slipway.PullUpdate, reused: true, change: func(a *around) { a.ancestor = false }},
		"an image of a commit that was rebased":   {past: build(branch, "c1"), now: build(branch, "c2"), event: slipway.PullUpdate, change: func(a *around) { a.ancestor = false }},
		"an image that is gone":                   {past: build(reviewed, "c1"), now: build(reviewed, "c2"), event: slipway.ReleasePush, change: func(a *around) { a.gone = true }},
		"a branch's image for a merge":            {past: build(branch, "c1"), now: build(reviewed, "c2"), event: slipway.DefaultPush},
		"a reviewed image for a branch":           {past: build(reviewed, "c1"), now: build(branch, "c2"), event: slipway.BranchPush, reused: true},
		"a fork's image for a branch":             {past: build(fork, "c1"), now: build(branch, "c2"), event: slipway.BranchPush},
		"tests":                                   {past: test(branch), now: test(branch), event: slipway.PullUpdate, reused: true},
		"a pull request's tests for its merge":    {past: test(branch), now: test(reviewed), event: slipway.DefaultPush, reused: true},
		"a pull request's tests for a release":    {past: test(branch), now: test(reviewed), event: slipway.ReleasePush},
		"a fork's tests for a merge":              {past: test(fork), now: test(reviewed), event: slipway.DefaultPush},
		"base images that nobody can find":        {past: test(branch), now: test(branch), event: slipway.PullUpdate, change: func(a *around) { a.digestErr = errors.New("down") }},
		"a Dockerfile that fetches what may vary": {past: test(branch), now: test(branch), event: slipway.PullUpdate, change: func(a *around) { a.dockerfile = "ADD http://x /x\n" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAround()
			a.past = []slipway.Earlier{earlier(c.past)}
			if c.change != nil {
				c.change(a)
			}
			res := a.run(t, c.event, c.now)
			if res.Outcome != slipway.Succeeded || (res.ReusedFrom == 4) != c.reused || (a.done == 0) != c.reused {
				t.Fatalf("%+v, done %d times, said %q", res, a.done, a.said)
			}
			if !c.reused {
				return
			}
			if res.Reason != "reused from run #4" || (c.now.Test != nil && res.Report.Passed != 3) {
				t.Errorf("%+v", res)
			}
			if c.now.Build != nil {
				if got := res.Artifacts[0]; got.ID != 0 || got.RunID != 9 || got.Digest != "sha256:11" || got.Commit != "c2" {
					t.Errorf("artifact %+v", got)
				}
			}
			// What less trusted code made is not handed on as if it were this one's.
			if other := name == "a pull request's tests for its merge" || name == "a reviewed image for a branch"; (res.Inputs == "") != other {
				t.Errorf("inputs %q", res.Inputs)
			}
		})
	}
}

// What a result depends on makes another hash; who asks, and when, does not.
func TestInputs(t *testing.T) {
	t.Parallel()
	key := func(change func(a *around, s *slipway.PlanStep)) string {
		a, s := newAround(), build(slipway.TrustReviewed, "c1")
		change(a, &s)
		return a.run(t, slipway.ReleasePush, s).Inputs
	}
	same := key(func(*around, *slipway.PlanStep) {})
	if same == "" {
		t.Fatal("no inputs")
	}
	for name, change := range map[string]func(a *around, s *slipway.PlanStep){
		"commit": func(_ *around, s *slipway.PlanStep) {
			s.Build.Source.Commit, s.Build.Labels = "c9", map[string]string{revision: "c9"}
		},
		"trust": func(_ *around, s *slipway.PlanStep) { s.Build.Trust = slipway.TrustBranch },
		"key":   func(_ *around, s *slipway.PlanStep) { s.Key = "build/cart/2" },
	} {
		if got := key(change); got != same {
			t.Errorf("another %s: other inputs", name)
		}
	}
	for name, change := range map[string]func(a *around, s *slipway.PlanStep){
		"files":      func(a *around, _ *slipway.PlanStep) { a.tree = "t2" },
		"base image": func(a *around, _ *slipway.PlanStep) { a.digest = "sha256:bb" },
		"argument":   func(_ *around, s *slipway.PlanStep) { s.Build.Args = map[string]string{"A": "1"} },
		"target":     func(_ *around, s *slipway.PlanStep) { s.Build.Target = "final" },
		"Dockerfile": func(_ *around, s *slipway.PlanStep) { s.Build.Dockerfile = "Dockerfile.prod" },
		"service":    func(_ *around, s *slipway.PlanStep) { s.Service = "mail" },
		"epoch":      func(_ *around, s *slipway.PlanStep) { s.Build.Epoch = 5 },
		"repository": func(_ *around, s *slipway.PlanStep) { s.Build.Image = nil },
		"kind":       func(_ *around, s *slipway.PlanStep) { *s = test(slipway.TrustReviewed) },
	} {
		if got := key(change); got == same || got == "" {
			t.Errorf("another %s: inputs %q", name, got)
		}
	}
}

// The images of services beside tests count as base images do, by what their tags stand for now.
func TestInputsOfServices(t *testing.T) {
	t.Parallel()
	key := func(change func(a *around, s *slipway.TestService)) string {
		a, step := newAround(), test(slipway.TrustBranch)
		service := slipway.TestService{Name: "db", Image: "postgres:16", Ports: []int{5432}}
		change(a, &service)
		step.Test.Services = []slipway.TestService{service}
		return a.run(t, slipway.BranchPush, step).Inputs
	}
	same := key(func(*around, *slipway.TestService) {})
	if again := key(func(*around, *slipway.TestService) {}); same == "" || again != same {
		t.Fatalf("%q, %q", same, again)
	}
	if without := newAround().run(t, slipway.BranchPush, test(slipway.TrustBranch)).Inputs; without == same {
		t.Error("a service makes no difference")
	}
	for name, change := range map[string]func(a *around, s *slipway.TestService){
		"digest":   func(a *around, _ *slipway.TestService) { a.digests = map[string]string{"postgres:16": "sha256:bb"} },
		"image":    func(_ *around, s *slipway.TestService) { s.Image = "postgres:17" },
		"name":     func(_ *around, s *slipway.TestService) { s.Name = "store" },
		"variable": func(_ *around, s *slipway.TestService) { s.Env = map[string]string{"A": "1"} },
		"command":  func(_ *around, s *slipway.TestService) { s.Command = []string{"postgres", "-c", "fsync=off"} },
		"check":    func(_ *around, s *slipway.TestService) { s.Health = []string{"pg_isready"} },
	} {
		if got := key(change); got == same || got == "" {
			t.Errorf("another %s: inputs %q", name, got)
		}
	}
	if got := key(func(a *around, _ *slipway.TestService) { a.digestErr = errors.New("down") }); got != "" {
		t.Errorf("an image that nobody can find: inputs %q", got)
	}
}

func TestStepsWithSecretsAreDoneAgain(t *testing.T) {
	t.Parallel()
	a := newAround()
	a.past = []slipway.Earlier{earlier(test(slipway.TrustBranch))}
	res, err := a.runner().Run(t.Context(), stage.Env{Run: slipway.Run{Project: "shop"}, Log: a, Secrets: map[string]string{"npm": "x"}}, test(slipway.TrustBranch))
	if err != nil || a.done != 1 || res.Inputs != "" {
		t.Errorf("%+v %v, done %d times", res, err, a.done)
	}
}

// What is copied from another codebase is an input: its folder, and no image of that name.
func TestNamedContextsAreInputs(t *testing.T) {
	t.Parallel()
	trees := map[string]string{"shop/web c1 pages": "t1", "shop a1 api": "a"}
	var asked []string
	a := newAround()
	r := a.runner()
	r.Repo = func(codebase string) reuse.Repo { return treesOf{a, codebase, trees} }
	r.Bases = bases(func(image string) { asked = append(asked, image) })
	r.BaseImages = func([]byte, map[string]string) ([]string, bool) { return []string{"golang:1.26", "api"}, true }
	step := build(slipway.TrustBranch, "c1")
	step.Build.Source = slipway.Source{Codebase: "web", Commit: "c1", Dir: "pages"}
	step.Build.Contexts = []slipway.NamedContext{{Name: "api", Source: slipway.Source{Commit: "a1", Dir: "api"}}}
	key := func() string {
		t.Helper()
		if _, err := r.Run(t.Context(), stage.Env{Run: slipway.Run{ID: 9, Project: "shop", Codebase: "web"}, Log: a}, step); err != nil || len(a.keys) == 0 {
			t.Fatalf("%v, said %v", err, a.said)
		}
		return a.keys[len(a.keys)-1]
	}
	first := key()
	if again := key(); again != first {
		t.Error("the same inputs have two keys")
	}
	trees["shop a1 api"] = "b"
	if key() == first {
		t.Error("another folder that is copied from has the same key")
	}
	for _, image := range asked {
		if image == "api" {
			t.Error("a named context is asked for as an image")
		}
	}
}

type treesOf struct {
	*around
	codebase string
	trees    map[string]string
}

func (r treesOf) TreeHash(_ context.Context, commit, dir string) (string, error) {
	hash, ok := r.trees[r.codebase+" "+commit+" "+dir]
	if !ok {
		return "", slipway.Errorf(slipway.NotFound, "no folder %s in %s at %s", dir, r.codebase, commit)
	}
	return hash, nil
}

type bases func(image string)

func (b bases) Digest(_ context.Context, _, image string, _ map[string]string) (string, error) {
	b(image)
	return "sha256:aa", nil
}

// What the ignore file keeps from the build is no input of it; the Dockerfile is, and so is a folder that comes
// with such a file.
func TestInputsThatTheBuildSees(t *testing.T) {
	t.Parallel()
	files := func(more ...string) []reuse.File {
		out := []reuse.File{{"Dockerfile", "100644", "d1"}, {"main.go", "100644", "m1"}, {"notes/a.txt", "100644", "n1"}}
		for _, f := range more {
			out = append(out, reuse.File{Path: f, Mode: "100644", Hash: "1"})
		}
		return out
	}
	key := func(step slipway.PlanStep, ignores map[string]string, files []reuse.File) string {
		a := newAround()
		a.ignores, a.files = ignores, files
		return a.run(t, slipway.BranchPush, step).Inputs
	}
	rules := map[string]string{"cart/.dockerignore": "**/*.md\ndocs\nDockerfile\n"}
	for _, step := range []slipway.PlanStep{build(slipway.TrustReviewed, "c1"), test(slipway.TrustBranch)} {
		same := key(step, rules, files())
		for name, now := range map[string][]reuse.File{
			"an excluded file": files("README.md"), "one in an excluded folder": files("docs/x/y"), "one in a folder that was there": files("notes/b.md"),
		} {
			if got := key(step, rules, now); got != same || got == "" {
				t.Errorf("%s of %s: other inputs", name, step.Key)
			}
		}
		dockerfile, mode := files(), files()
		dockerfile[0].Hash, mode[1].Mode = "d2", "100755"
		for name, now := range map[string][]reuse.File{
			"a file": files("b.go"), "a folder with nothing that is seen": files("new/b.md"), "the Dockerfile": dockerfile, "a mode": mode, "a file less": files()[1:],
		} {
			if got := key(step, rules, now); got == same || got == "" {
				t.Errorf("%s of %s: inputs %q", name, step.Key, got)
			}
		}
		for name, ignores := range map[string]map[string]string{
			"rules of the Dockerfile's own": {"cart/.dockerignore": rules["cart/.dockerignore"], "cart/Dockerfile.dockerignore": "main.go\n"},
			"no rules":                      nil,
		} {
			if got := key(step, ignores, files()); got == same || got == "" {
				t.Errorf("%s of %s: inputs %q", name, step.Key, got)
			}
		}
		if key(step, nil, files()) != key(step, map[string]string{"cart/.dockerignore": "# nothing\n"}, files("x")) || key(step, map[string]string{"cart/.dockerignore": "[\n"}, nil) != key(step, nil, nil) {
			t.Errorf("without a rule %s does not depend on git's hash of the folder alone", step.Key)
		}
	}
}
