package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/ignore"
)

func ask(c slipway.Config, files ...string) Question {
	return Question{Event: slipway.BranchPush, Ref: "refs/heads/x", DefaultBranch: "main", Config: c, Since: []Since{{Config: &c, Files: files}}}
}

// verdicts is each service with what is decided of it, one per line.
func verdicts(q Question) string {
	a := Affected(q)
	in := Input{Run: slipway.Run{Commit: "c", Event: q.Event, Ref: q.Ref}, Config: q.Config, Changes: a.Changes, Removed: a.Removed}
	var b strings.Builder
	for _, d := range planChanged(in, slipway.Plan{}).Decisions {
		fmt.Fprintf(&b, "%s: %s\n", d.Service, d.Reason)
	}
	return b.String()
}

func shop() slipway.Config {
	return slipway.Config{Services: []slipway.Service{
		{Name: "cart", Dir: "src/cart", Dockerfile: "Dockerfile", Chart: "src/cart/chart", DependsOn: []string{"orders"}},
		{Name: "delivery", Dir: "src/shipping/delivery", Dockerfile: "Dockerfile", Chart: "charts/delivery", Shared: []string{"libs/money"}},
		{Name: "mail", Dir: "src/mail", Dockerfile: "Dockerfile", Trigger: slipway.ServiceTrigger{Paths: slipway.Filter{Exclude: []string{"**/*.md", "/src/mail/docs/"}}}},
		{Name: "orders", Dir: "src/orders", Dockerfile: "build/Dockerfile", Context: ".", Copies: []slipway.Copy{{Path: "proto/*.proto", Line: 4}}},
	}, Shared: map[string][]string{"libs/money": {"libs/decimal"}}}
}

// Where a branch was rewritten, what is told is what it does, not what came in from elsewhere meanwhile.
func TestSentencesOfABranch(t *testing.T) {
	t.Parallel()
	now := shop()
	after := func(before, fork []string) Question {
		return Question{Event: slipway.BranchPush, Ref: "refs/heads/x", DefaultBranch: "main", Config: now, Since: []Since{
			{Config: &now, Files: before, Name: "the run before"}, {Config: &now, Files: fork, Name: "main", Fork: true},
		}}
	}
	check(t, "rebased", after([]string{"README.md", "src/cart/of-main.go", "src/delivery/x"}, []string{"src/cart/own.go"}), []string{
		"cart: runs: src/cart/own.go changed", "delivery: skipped, the changed file is not", "mail: skipped, the changed file is not", "orders: skipped, the changed file is not",
	})
	check(t, "one commit more", after([]string{"src/mail/x.go"}, []string{"src/mail/x.go", "src/mail/y.go", "src/cart/own.go"}), []string{
		"cart: skipped, the changed file is not under src/cart", "skipped", "mail: runs: src/mail/x.go changed", "skipped",
	})
	check(t, "rebased, and as it was", after([]string{"README.md", "src/mail/x"}, []string{"src/cart/own.go"}), []string{
		"cart: skipped, none of the 2 changed files is under src/cart", "skipped, the changed", "mail: skipped, it is as in main", "skipped, the changed",
	})
	check(t, "moved to main", after([]string{"src/cart/own.go"}, nil), []string{"cart: skipped, it is as in main", "skipped, it is as in main", "skipped, it is as in main", "skipped, it is as in main"})
}

// A way to what changed is named step by step while that can be read.
func TestSentencesOfALongWay(t *testing.T) {
	t.Parallel()
	c := slipway.Config{Services: []slipway.Service{{Name: "s0", Dir: "s0", Shared: []string{"libs/x"}}}}
	for i := range 4 {
		c.Services = append(c.Services, slipway.Service{Name: fmt.Sprintf("s%d", i+1), Dir: fmt.Sprintf("s%d", i+1), DependsOn: []string{fmt.Sprintf("s%d", i)}})
	}
	check(t, "four long", ask(c, "libs/x/y"), []string{
		"s0: runs: it depends on libs/x: libs/x/y changed",
		"s1: runs: it depends on s0, which depends on libs/x: libs/x/y changed",
		"s2: runs: it depends on s1, which depends on s0, which depends on libs/x: libs/x/y changed",
		"s3: runs: it depends on s2, which depends on s1, which depends on s0, which depends on libs/x: libs/x/y changed",
		"s4: runs: it depends on s3, and through it and 3 more on libs/x: libs/x/y changed",
	})
}

// What is said of each service.
func TestSentences(t *testing.T) {
	t.Parallel()
	with := func(change func(*slipway.Config)) slipway.Config {
		c := shop()
		c.Shared = maps.Clone(c.Shared)
		change(&c)
		return c
	}
	service := func(c *slipway.Config, name string) *slipway.Service {
		return &c.Services[slices.IndexFunc(c.Services, func(s slipway.Service) bool { return s.Name == name })]
	}
	now, by := shop(), with(func(c *slipway.Config) { service(c, "mail").Trigger.Paths.Include = []string{"libs/*.go"} })
	for _, c := range []struct {
		name string
		q    Question
		want []string // parts that stand in the lines of the services, in their order
	}{
		{"own code", ask(now, "src/cart/a.go", "src/cart/b.go", "README.md"), []string{
			"cart: runs: 2 of the 3 changed files are under src/cart, such as src/cart/a.go",
			"delivery: skipped, none of the 3 changed files is under src/shipping/delivery or what it depends on",
			"mail: skipped, none of the 3 changed files is under src/mail",
			"orders: skipped, none of the 3 changed files is under src/orders or what it depends on",
		}},
		{"one file", ask(now, "src/mail/a.go"), []string{"skipped, the changed file is not under src/cart", "skipped", "mail: runs: src/mail/a.go changed", "skipped"}},
		{"nothing", ask(now), []string{"skipped, no file changed", "no file changed", "no file changed", "no file changed"}},
		{"a service that another depends on", ask(now, "src/orders/a.go"), []string{"cart: runs: it depends on orders: src/orders/a.go changed", "skipped", "skipped", "orders: runs: src/orders/a.go changed"}},
		{"what a Dockerfile copies", ask(now, "proto/a.proto", "proto/b.proto", "proto/deep/c.go"), []string{
			"cart: runs: it depends on orders, which depends on proto/*.proto: 2 of the 3 changed files are there, such as proto/a.proto",
			"skipped", "skipped",
			"orders: runs: its Dockerfile copies proto/*.proto (src/orders/build/Dockerfile:4): 2 of the 3 changed files are there, such as proto/a.proto",
		}},
		{"all there is", ask(now, "proto/a.proto", "proto/b.proto"), []string{
			"cart: runs: it depends on orders, which depends on proto/*.proto: all 2 changed files are there, such as proto/a.proto",
			"skipped", "skipped",
			"orders: runs: its Dockerfile copies proto/*.proto (src/orders/build/Dockerfile:4): all 2 changed files are there, such as proto/a.proto",
		}},
		{"a shared folder of a shared folder", ask(now, "libs/decimal/d.go"), []string{"skipped", "delivery: runs: it depends on libs/money, which depends on libs/decimal: libs/decimal/d.go changed", "skipped", "skipped"}},
		{"a submodule's pointer", ask(now, "libs/money"), []string{"skipped", "delivery: runs: it depends on libs/money: libs/money changed", "skipped", "skipped"}},
		{"the chart in the folder", ask(now, "src/cart/chart/values.yaml"), []string{"cart: runs: src/cart/chart/values.yaml changed; no image is built", "skipped", "skipped", "skipped"}},
		{"the chart elsewhere", ask(now, "charts/delivery/values.yaml", "x"), []string{"skipped", "delivery: runs: 1 of the 2 changed files is under charts/delivery: charts/delivery/values.yaml; no image is built", "skipped", "skipped"}},
		{"chart and code", ask(now, "charts/delivery/values.yaml", "src/shipping/delivery/main.go"), []string{"skipped", "delivery: runs: 1 of the 2 changed files is under src/shipping/delivery: src/shipping/delivery/main.go", "skipped", "skipped"}},
		{"only excluded files", ask(now, "src/mail/README.md", "src/mail/docs/x.go", "y"), []string{"skipped", "skipped", "mail: skipped, all 2 changed files that are its own are ones that its trigger excludes, such as src/mail/README.md", "skipped"}},
		{"one excluded file", ask(now, "src/mail/README.md"), []string{"skipped", "skipped", "mail: skipped, the changed file that is its own is one that its trigger excludes: src/mail/README.md", "skipped"}},
		{"not only excluded files", ask(now, "src/mail/README.md", "src/mail/x.go"), []string{"skipped", "skipped", "mail: runs: 1 of the 2 changed files is under src/mail: src/mail/x.go", "skipped"}},
		{"slipway.yaml alone", ask(now, "slipway.yaml"), []string{"skipped, the changed file is not under src/cart or what it depends on", "skipped", "skipped", "skipped"}},
		{"what the paths of a trigger name", ask(by, "src/mail/Dockerfile", "x"), []string{"skipped", "skipped", "mail: runs: 1 of the 2 changed files is under the paths of its trigger, to which its Dockerfile belongs: src/mail/Dockerfile", "skipped"}},
		{"a name that is none", ask(now, "src/mail/\x1b[31m\xff"), []string{"skipped", "skipped", `mail: runs: "src/mail/\x1b[31m\xff" changed`, "skipped"}},
	} {
		check(t, c.name, c.q, c.want)
	}

	settings := func(change func(*slipway.Config)) Question {
		old := shop()
		q := ask(with(change), "slipway.yaml")
		q.Since[0].Config = &old
		q.Event, q.Ref = slipway.DefaultPush, "refs/heads/main"
		return q
	}
	for _, c := range []struct {
		name   string
		change func(*slipway.Config)
		want   []string
	}{
		{"arguments", func(c *slipway.Config) { service(c, "cart").Args = map[string]string{"A": "1"} }, []string{"cart: runs: its args changed in the configuration", "skipped", "skipped", "skipped"}},
		{"the test and the target", func(c *slipway.Config) {
			service(c, "mail").Test, service(c, "mail").Target = &slipway.ServiceTest{}, "x"
		}, []string{"skipped", "skipped", "mail: runs: its target changed in the configuration; its test changed in the configuration", "skipped"}},
		{"a pin", func(c *slipway.Config) { service(c, "mail").Pins = map[string]string{"golang:1.26": "sha256:1"} }, []string{"skipped", "skipped", "mail: runs: its pins changed", "skipped"}},
		{"the port of the standard chart", func(c *slipway.Config) { service(c, "mail").Port = 99 }, []string{"skipped", "skipped", "mail: runs: its port changed in the configuration; an image is built too, as none of this code was published before", "skipped"}},
		{"the port beside a chart", func(c *slipway.Config) { service(c, "cart").Port = 99 }, []string{"cart: skipped", "skipped", "skipped", "skipped"}},
		{"what holds from the next time on", func(c *slipway.Config) {
			s := service(c, "cart")
			s.Rollback, s.DependsOn, s.Trigger.Batch, s.Verify.Tests = slipway.RollbackManual, nil, true, true
		}, []string{"cart: skipped", "skipped", "skipped", "skipped"}},
		{"the registry", func(c *slipway.Config) { c.Candidates.Prefix = "x" }, []string{"cart: runs: the registry of candidates changed in slipway.yaml", "runs: the registry", "runs: the registry", "runs: the registry"}},
		{"an environment of merges", func(c *slipway.Config) {
			c.Environments = []slipway.Environment{{Name: "load", Trigger: slipway.OnDefaultBranch}, {Name: "qa", Trigger: slipway.OnRelease}}
		}, []string{"cart: runs: environment load changed in slipway.yaml; an image", "runs: environment load", "runs: environment load", "runs: environment load"}},
		{"a new service", func(c *slipway.Config) {
			c.Services = append(c.Services, slipway.Service{Name: "worker", Dir: "src/orders", Target: "worker"})
		}, []string{"cart: skipped", "skipped", "skipped", "skipped", "worker: runs: it is new: there was no service worker before"}},
		{"another name", func(c *slipway.Config) { service(c, "mail").Name = "post" }, []string{
			"cart: skipped", "skipped", "post: runs: it is new: what is built from src/mail was mail before", "skipped",
			"mail: removed: what is built from src/mail is post now; what is deployed of it stays until a person removes it (helm uninstall mail, in its namespace)",
		}},
		{"another image in its place", func(c *slipway.Config) { service(c, "mail").Target, service(c, "mail").Name = "worker", "worker" }, []string{
			"cart: skipped", "skipped", "worker: runs: it is new: there was no service worker before", "skipped",
			"mail: removed: worker takes its place at src/mail, as slipway.yaml names worker and not mail there; what is deployed of it stays",
		}},
		{"a service less", func(c *slipway.Config) { c.Services = c.Services[:3] }, []string{"cart: skipped", "skipped", "skipped", "orders: removed: there is no such service at src/orders any more"}},
		{"no service", func(c *slipway.Config) { c.Services = nil }, []string{"cart: removed", "delivery: removed", "mail: removed", "orders: removed"}},
	} {
		check(t, c.name, settings(c.change), c.want)
	}
	q := settings(func(*slipway.Config) {})
	q.Since[0].Config = nil
	check(t, "what slipway.yaml said is not known", q, []string{"cart: runs: slipway.yaml changed, and what the commit before said of services was not valid", "runs", "runs", "runs"})
	q.Since = nil
	check(t, "the first time", q, []string{"cart: runs: nothing was built before", "runs", "runs", "runs"})
}

func check(t *testing.T, name string, q Question, want []string) {
	t.Helper()
	got := strings.Split(strings.TrimSuffix(verdicts(q), "\n"), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.Contains(got[i], want[i]) {
			t.Errorf("%s:\n%s\nwant lines with:\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			return
		}
	}
}

// Branches and tags decide with their names alone.
func TestRefs(t *testing.T) {
	t.Parallel()
	c := shop()
	c.Services[0].Trigger.Branches = slipway.Filter{Include: []string{"master", "feature/*"}, Exclude: []string{"feature/experimental/*"}} // of the documents
	c.Services[1].Trigger.Branches = slipway.Filter{Include: []string{"release/delivery/v*", "refs/release/delivery/v*", "refs/heads/master", "feature/delivery/*", "topic/delivery/*"}}
	c.Services[2].Trigger.Tags = slipway.Filter{Include: []string{"mail/v*", "refs/tags/all"}, Exclude: []string{"*-rc*"}}
	every := []string{"src/cart/a", "src/shipping/delivery/a", "src/mail/a", "src/orders/a"}
	for _, e := range []struct {
		event slipway.EventKind
		ref   string
		runs  string
		says  string
	}{
		{slipway.BranchPush, "refs/heads/master", "cart delivery mail orders", ""},
		{slipway.BranchPush, "refs/heads/feature/x", "cart mail orders", "delivery: skipped, its trigger leaves out branch feature/x"},
		{slipway.BranchPush, "refs/heads/feature/experimental/x", "mail orders", "cart: skipped, its trigger leaves out branch feature/experimental/x"},
		{slipway.BranchPush, "refs/heads/feature/delivery/x", "delivery", "mail: skipped, branch feature/delivery/x is for delivery alone"},
		{slipway.BranchPush, "refs/heads/topic/orders/x/y", "orders", ""},
		{slipway.BranchPush, "refs/heads/topic/nobody/x", "mail orders", ""},
		{slipway.BranchPush, "refs/heads/feature/orders", "cart mail orders", ""},
		{slipway.BranchPush, "refs/heads/feature/orders/", "cart mail orders", ""},
		{slipway.BranchPush, "refs/heads/Feature/orders/x", "mail orders", ""},
		{slipway.DefaultPush, "refs/heads/main", "mail orders", "cart: skipped, its trigger leaves out branch main"},
		{slipway.PullUpdate, "refs/pull/3/head", "cart delivery mail orders", ""},
		{slipway.BranchPush, "refs/tags/mail/v1.0.0", "mail", "mail: runs: tag mail/v1.0.0 is one that its trigger names, whatever files changed"},
		{slipway.BranchPush, "refs/tags/mail/v1.0.0-rc1", "", "mail: skipped, its trigger does not name tag mail/v1.0.0-rc1"},
		{slipway.BranchPush, "refs/tags/all", "mail", ""},
	} {
		q := ask(c, every...)
		q.Event, q.Ref = e.event, e.ref
		var runs []string
		for name, change := range Affected(q).Changes {
			if change.Changed {
				runs = append(runs, name)
			}
		}
		slices.Sort(runs)
		if got := strings.Join(runs, " "); got != e.runs || !strings.Contains(verdicts(q), e.says) {
			t.Errorf("%s: %s run, want %s\n%s", e.ref, got, e.runs, verdicts(q))
		}
	}
	// A tag runs a service whatever changed; so does no branch.
	q := ask(c)
	q.Ref = "refs/tags/all"
	if !Affected(q).Changes["mail"].Changed {
		t.Error("a tag compares files")
	}
}

// A branch that took over what the default branch has does not run what is as there.
func TestTwoCommitsWereBuilt(t *testing.T) {
	t.Parallel()
	c := shop()
	q := ask(c)
	q.Since = []Since{
		{Config: &c, Files: []string{"src/mail/a", "src/orders/chart/a", "src/cart/a", "src/cart/chart/x"}, Name: "the last push"}, // main was merged, and so these came
		{Config: &c, Files: []string{"src/shipping/delivery/a", "src/cart/chart/x"}, Name: "main"},
	}
	check(t, "merged", q, []string{
		"cart: runs: 1 of the 2 changed files is under src/cart/chart: src/cart/chart/x; no image is built",
		"delivery: skipped", "mail: skipped, it is as in main", "orders: skipped, it is as in main",
	})
	gone := c
	gone.Services = c.Services[:2]
	q.Config = gone
	if got := Affected(q).Removed; len(got) != 2 || got[0].Name != "mail" {
		t.Errorf("removed: %v", got)
	}
	q.Since[1].Config = &gone
	if got := Affected(q).Removed; len(got) != 0 {
		t.Errorf("removed on the default branch before: %v", got)
	}
}

// What a build does not see runs nothing, and what is used elsewhere counts there.
func TestWhatTheBuildDoesNotSee(t *testing.T) {
	t.Parallel()
	const rules = "src/shipping/delivery/.dockerignore"
	c := slipway.Config{Services: []slipway.Service{
		{Name: "delivery", Dir: "src/shipping/delivery", Dockerfile: "Dockerfile", Chart: "src/shipping/delivery/chart", Shared: []string{"src/shipping/delivery/api"},
			Scan:    slipway.ServiceScan{Reports: []string{"docs/scan.sarif"}},
			Ignore:  &slipway.Ignore{File: rules, Patterns: []string{"docs", "**/*.md", "chart", "Dockerfile", ".dockerignore", "api", "deep/*", "!deep/in"}},
			Trigger: slipway.ServiceTrigger{Paths: slipway.Filter{Exclude: []string{"**/*.txt"}}}},
		{Name: "root", Dir: "src/root", Dockerfile: "Dockerfile", Context: ".", Copies: []slipway.Copy{{Path: "libs", Line: 3}, {Path: ".dockerignore"}},
			Ignore: &slipway.Ignore{File: ".dockerignore", Patterns: []string{"**/*.md", ".dockerignore", "src/root/testdata"}}},
		{Name: "user", Dir: "src/user", Dockerfile: "Dockerfile", DependsOn: []string{"delivery"}, Shared: []string{"libs"}},
		{Name: "words", Dir: "src/words", Dockerfile: "Dockerfile", Ignore: &slipway.Ignore{File: "src/words/.dockerignore", Patterns: []string{"*"}},
			Trigger: slipway.ServiceTrigger{Paths: slipway.Filter{Include: []string{"/src/words/"}}}},
	}}
	const dir = "src/shipping/delivery/"
	for name, test := range map[string]struct {
		files   []string
		folders []string
		want    map[string]string // service -> what is said of it; skipped as usual when not named
	}{
		"all": {[]string{dir + "docs/a", dir + "docs/b", dir + "README.md"}, nil, map[string]string{
			"delivery": "skipped, all 3 changed files are excluded from its image by " + rules + ", such as " + dir + "README.md"}},
		"one": {[]string{dir + "docs/a"}, nil, map[string]string{"delivery": "skipped, the changed file is excluded from its image by " + rules + ": " + dir + "docs/a"}},
		"one of several": {[]string{dir + "docs/a", "x"}, nil, map[string]string{
			"delivery": "skipped, the changed file that is its own is excluded from its image by " + rules + ": " + dir + "docs/a"}},
		"some of several": {[]string{dir + "docs/a", dir + "docs/b", "x"}, nil, map[string]string{
			"delivery": "skipped, all 2 changed files that are its own are excluded from its image by " + rules}},
		"the trigger excludes others": {[]string{dir + "docs/a", dir + "docs/a.txt"}, nil, map[string]string{
			"delivery": "skipped, of the 2 changed files that are its own, its trigger excludes 1 and 1 is excluded from its image by " + rules + ", such as " + dir + "docs/a"}},
		"one that it sees":      {[]string{dir + "docs/a", dir + "main.go"}, nil, map[string]string{"delivery": "runs: 1 of the 2 changed files is under src/shipping/delivery: " + dir + "main.go", "user": "runs: it depends on delivery: "}},
		"an exception":          {[]string{dir + "deep/in"}, nil, map[string]string{"delivery": "runs: ", "user": "runs: "}},
		"its Dockerfile":        {[]string{dir + "Dockerfile"}, nil, map[string]string{"delivery": "runs: " + dir + "Dockerfile changed", "user": "runs: "}},
		"its rules":             {[]string{rules}, nil, map[string]string{"delivery": "runs: " + rules + " changed", "user": "runs: "}},
		"rules of Dockerfiles":  {[]string{dir + "Dockerfile.dockerignore"}, nil, map[string]string{"delivery": "runs: ", "user": "runs: "}},
		"a report of a scanner": {[]string{dir + "docs/scan.sarif"}, nil, map[string]string{"delivery": "runs: " + dir + "docs/scan.sarif changed", "user": "runs: "}},
		"its chart":             {[]string{dir + "chart/values.yaml"}, nil, map[string]string{"delivery": "runs: " + dir + "chart/values.yaml changed; an image is built too"}},
		"what dependsOn names":  {[]string{dir + "api/x"}, nil, map[string]string{"delivery": "runs: it depends on " + dir + "api: ", "user": "runs: "}},
		"a folder that came with an excluded file": {[]string{dir + "new/README.md"}, []string{dir + "new"}, map[string]string{"delivery": "runs: " + dir + "new/README.md changed", "user": "runs: "}},
		"a folder that was there":                  {[]string{dir + "new/README.md"}, nil, map[string]string{"delivery": "skipped, the changed file is excluded from its image"}},
		"what is copied": {[]string{"libs/a.md", "src/root/testdata/x"}, nil, map[string]string{
			"root": "skipped, all 2 changed files are excluded from its image by .dockerignore, such as libs/a.md", "user": "runs: it depends on libs: "}},
		"what is copied and seen": {[]string{"libs/a.go"}, nil, map[string]string{"root": "runs: its Dockerfile copies libs", "user": "runs: "}},
		"rules outside":           {[]string{".dockerignore"}, nil, map[string]string{"root": "runs: it depends on .dockerignore"}},
		"what paths name":         {[]string{"src/words/a"}, nil, map[string]string{"words": "runs: src/words/a changed"}},
	} {
		q := ask(c, test.files...)
		q.Event = slipway.DefaultPush
		q.Since[0].Folders = test.folders
		for line := range strings.Lines(verdicts(q)) {
			service, got, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if want := cmp.Or(test.want[service], "skipped, "); !strings.HasPrefix(got, want) || test.want[service] == "" && strings.Contains(got, "excluded") {
				t.Errorf("%s: %s: %s, want %s", name, service, got, want)
			}
		}
	}
	q := ask(c, dir+"new/README.md", dir+"docs/new/x", dir+"README.md", dir+"deep/out")
	if got := Affected(q).Doubts; len(got) != 1 || !slices.Equal(got[0], []string{dir + "deep", dir + "new"}) {
		t.Errorf("doubts: %q", got)
	}
}

func TestWhoOwnsAFile(t *testing.T) {
	t.Parallel()
	c := slipway.Config{Services: []slipway.Service{
		{Name: "root", Dir: "."},
		{Name: "shop", Dir: "src/shop", Chart: "src/shop/chart"},
		{Name: "cart", Dir: "src/shop/cart", Chart: "charts/cart"},
		{Name: "twin", Dir: "src/twin", Chart: "charts/common"},
		{Name: "other", Dir: "./src/other/", Chart: "charts/common"},
		{Name: "guest", Dir: "guest", Chart: "src/twin/guestchart"},
		{Name: "second", Dir: "src/shop", Target: "second"},
	}}
	for file, want := range map[string]string{
		"README.md":                  "root",
		"src/x":                      "root",
		"src/shop/main.go":           "second shop",
		"src/shop/chart/values.yaml": "shop's chart",
		"src/shop/cart/main.go":      "cart",
		"src/shopping/main.go":       "root",
		"src/Shop/main.go":           "root", // names differ by their case
		"src/shop":                   "root", // a file in place of the folder
		"charts/cart/Chart.yaml":     "cart's chart",
		"charts/common/Chart.yaml":   "other's chart twin's chart",
		"charts/README":              "root",
		"src/twin/guestchart/x":      "guest's chart twin",
		"src/other/\xff\n":           "other",
	} {
		var got []string
		for name, change := range Affected(ask(c, file)).Changes {
			if change.Changed && change.ChartOnly {
				name += "'s chart"
			}
			if change.Changed {
				got = append(got, name)
			}
			if change.Total != 1 || change.Example != file {
				t.Errorf("%s of %s: %+v", file, name, change)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s belongs to %v, want %s", file, got, want)
		}
	}
}

// Affected is what brute force finds, whatever the configuration and the trees.
func TestAffectedAgreesWithTheModel(t *testing.T) {
	t.Parallel()
	var kept cache
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		old, now := drawTree(t, "old"), drawTree(t, "new")
		var files []string
		for f := range old {
			if old[f] != now[f] {
				files = append(files, f)
			}
		}
		for f := range now {
			if _, there := old[f]; !there {
				files = append(files, f)
			}
		}
		answer := func(c slipway.Config) map[string]Change {
			q := ask(c, files...)
			q.Ignores = &kept
			for _, dir := range Affected(q).Doubts[0] {
				if has(old, dir) != has(now, dir) {
					q.Since[0].Folders = append(q.Since[0].Folders, dir)
				}
			}
			return Affected(q).Changes
		}
		got, m := answer(c), model{c, old, now}
		for _, s := range c.Services {
			code := m.code(s, files)
			chart := m.chart(s, files)
			if g := got[s.Name]; g.Changed != (code || chart) || g.ChartOnly != (chart && !code) {
				t.Fatalf("%v:\n%+v\nof %+v, shared %v\nis %+v, and brute force says code %v, chart %v", files, s, c.Services, c.Shared, g, code, chart)
			}
			if d := reason(s, got[s.Name]); got[s.Name].Changed != strings.HasPrefix(d, "runs: ") || !got[s.Name].Changed != strings.HasPrefix(d, "skipped, ") || strings.HasSuffix(d, " ") {
				t.Fatalf("sentence %q of %+v", d, got[s.Name])
			}
		}
		// The order of files and services does not matter.
		slices.Reverse(files)
		other := c
		other.Services = slices.Clone(c.Services)
		slices.Reverse(other.Services)
		for name, g := range answer(other) {
			if g.Changed != got[name].Changed || g.ChartOnly != got[name].ChartOnly || g.Files != got[name].Files || g.Example != got[name].Example {
				t.Fatalf("in another order: %+v, %+v", g, got[name])
			}
		}
	})
}

// What was built before at two commits is built at neither only if it differs from both.
func TestTwoCommitsAgreeWithOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		one := Since{Config: &c, Files: slices.Sorted(maps.Keys(drawTree(t, "one")))}
		two := Since{Config: &c, Files: slices.Sorted(maps.Keys(drawTree(t, "two")))}
		answer := func(since ...Since) map[string]Change {
			q := ask(c)
			q.Since = since
			return Affected(q).Changes
		}
		first, second, both := answer(one), answer(two), answer(one, two)
		for _, s := range c.Services {
			a, b, got := first[s.Name], second[s.Name], both[s.Name]
			if runs := a.Changed && b.Changed; got.Changed != runs || got.ChartOnly != (runs && (a.ChartOnly || b.ChartOnly)) {
				t.Fatalf("%s: %+v and %+v make %+v", s.Name, a, b, got)
			}
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, s := range [][2]string{{"**/*.md", "a/b/README.md"}, {"/src/shipping/delivery/", "src/shipping/delivery/main.go"}, {"a/**/b/**/c", "a/b/b/x/c/d"}, {"*a*b*", "xaxbx"}, {"?", "é"}, {"??", "\xff\xfe"}, {"**", ""}, {"", "a"}, {"*\xff?", "é\xffé"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, file string) {
		if len(text) > 40 || len(file) > 60 {
			return // brute force takes too long
		}
		p := newPattern(text)
		got := p.fits(file)
		if got && !within(file, p.fixed) {
			t.Errorf("%q fits %q and is not in %q", text, file, p.fixed)
		}
		if strings.Contains(file, "//") || strings.HasPrefix(file, "/") || strings.HasSuffix(file, "/") || file == "" || strings.Contains(strings.ReplaceAll(text, "**", ""), "\xff") || strings.Contains(file, "\xff") {
			return // no path of a repository, or no text that runes stand for
		}
		if text == strings.ToValidUTF8(text, "") && file == strings.ToValidUTF8(file, "") && got != anyFits([]string{text}, file) {
			t.Errorf("%q fits %q: %v, brute force says otherwise", text, file, got)
		}
	})
}

func FuzzBranch(f *testing.F) {
	f.Add("feature/*", "feature/experimental/x")
	f.Add("*-rc?", "v1-rc1")
	f.Fuzz(func(t *testing.T, want, name string) {
		if len(want) > 30 || len(name) > 60 || want != strings.ToValidUTF8(want, "") || name != strings.ToValidUTF8(name, "") {
			return
		}
		if got := wild(want, name); got != wildSlowly([]rune(want), []rune(name)) {
			t.Errorf("%q fits %q: %v, brute force says otherwise", want, name, got)
		}
	})
}

// monorepo is services with charts, globs and a graph that is ten deep, each with rules of its own for what its
// build does not see if asked for.
func monorepo(services, files int, ignore bool) Question {
	c := slipway.Config{Shared: map[string][]string{}}
	for i := range services {
		s := slipway.Service{
			Name: fmt.Sprintf("svc%d", i), Dir: fmt.Sprintf("src/team%d/svc%d", i%20, i), Dockerfile: "Dockerfile", Chart: fmt.Sprintf("charts/svc%d", i),
			Shared: []string{fmt.Sprintf("libs/lib%d", i%50)}, Copies: []slipway.Copy{{Path: fmt.Sprintf("proto/p%d/*.proto", i%30), Line: 3}},
		}
		if ignore {
			s.Ignore = &slipway.Ignore{File: s.Dir + "/.dockerignore", Patterns: []string{".git", "**/*.txt", "docs", "**/node_modules", "bin/*", "!bin/keep", "*.log", "**/testdata/**", "Dockerfile", fmt.Sprintf("own%d", i)}}
		}
		s.Trigger.Paths.Exclude = []string{"**/*.md", fmt.Sprintf("src/team%d/*/docs/**", i%20)}
		if i%3 == 0 {
			s.Trigger.Paths.Include = []string{"/" + s.Dir + "/**/*.go", fmt.Sprintf("api/*/v%d/**/*.json", i)}
		}
		if i%10 != 0 {
			s.DependsOn = []string{fmt.Sprintf("svc%d", i-1)} // ten deep
		}
		c.Services = append(c.Services, s)
	}
	for i := range 50 {
		if i%10 != 0 {
			c.Shared[fmt.Sprintf("libs/lib%d", i)] = []string{fmt.Sprintf("libs/lib%d", i-1)}
		}
	}
	var changed []string
	for i := range files {
		n := i % services
		changed = append(changed, []string{
			fmt.Sprintf("src/team%d/svc%d/pkg%d/file%d.go", n%20, n, i%7, i), fmt.Sprintf("src/team%d/svc%d/docs/a/b/%d.txt", n%20, n, i),
			fmt.Sprintf("libs/lib%d/file%d.go", n%50, i), fmt.Sprintf("charts/svc%d/templates/%d.yaml", n, i), fmt.Sprintf("api/x/v%d/y/%d.json", n, i),
			fmt.Sprintf("src/team%d/svc%d/README%d.md", n%20, n, i), fmt.Sprintf("proto/p%d/%d.proto", n%30, i),
		}[i%7])
	}
	return ask(c, changed...)
}

type cache = ignore.Cache

// The bounds of the issue: 1,000 services and 10,000 files in 50 ms, and time that grows with the files.
func BenchmarkAffected(b *testing.B) {
	for _, files := range []int{1_000, 10_000, 100_000} {
		for _, ignore := range []bool{false, true} {
			q := monorepo(1000, files, ignore)
			q.Ignores = new(cache)
			b.Run(fmt.Sprintf("services=1000/files=%d/dockerignore=%t", files, ignore), func(b *testing.B) {
				for b.Loop() {
					Affected(q)
				}
			})
		}
	}
}
