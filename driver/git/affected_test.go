package git

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/source"
)

// monorepo is a repository whose affected services are asked for as a server does it: configuration of
// both commits, differences, and the function that decides.
type monorepo struct {
	*work
	main string // tip of the default branch, "" for none
}

func (m *monorepo) config(commit string) (*slipway.Config, error) {
	tree, err := m.repo.Tree(m.t.Context(), commit)
	if err != nil {
		return nil, err
	}
	c, problems := config.LoadServices(tree, config.Options{Project: "shop"})
	if err := tree.Close(); err != nil {
		return nil, err
	}
	return &c, problems.Err()
}

func (m *monorepo) ask(in source.Input, ref string) (plan.Question, plan.Answer) {
	m.t.Helper()
	now, err := m.config(in.Commit)
	if err != nil {
		m.t.Fatal(err)
	}
	q := plan.Question{Event: in.Event, Ref: ref, DefaultBranch: "main", Config: *now}
	found, err := source.Changes(m.t.Context(), m.repo, in)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, d := range found {
		since := plan.Since{Files: d.Files, Commit: d.Base}
		if since.Config, err = m.config(d.Base); err != nil {
			since.Config = nil
		}
		q.Since = append(q.Since, since)
	}
	return q, plan.Affected(q)
}

// runs are the services that run, with * where only the chart does, and those that are removed with a -.
func (m *monorepo) runs(in source.Input, ref string) string {
	m.t.Helper()
	_, answer := m.ask(in, ref)
	var out []string
	for name, c := range answer.Changes {
		switch {
		case c.ChartOnly:
			out = append(out, name+"*")
		case c.Changed:
			out = append(out, name)
		}
	}
	for _, s := range answer.Removed {
		out = append(out, "-"+s.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (m *monorepo) merged(before, commit string) string {
	m.t.Helper()
	return m.runs(source.Input{Event: slipway.DefaultPush, Before: before, Commit: commit, DefaultTip: commit}, "refs/heads/main")
}

func (m *monorepo) pushed(before, commit string) string {
	m.t.Helper()
	return m.runs(source.Input{Event: slipway.BranchPush, Before: before, Commit: commit, DefaultTip: m.main}, "refs/heads/x")
}

func (m *monorepo) proposed(commit string) string {
	m.t.Helper()
	return m.runs(source.Input{Event: slipway.PullUpdate, Commit: commit, BaseTip: m.main, DefaultTip: m.main}, "refs/pull/1/head")
}

const dockerfile = "FROM scratch\nCOPY . /\n"

func newMonorepo(t testing.TB) (*monorepo, string) {
	t.Helper()
	m := &monorepo{work: newWork(t)}
	m.repo.Readers = m.readers()
	m.main = m.commit("first", map[string]string{
		"src/cart/Dockerfile": dockerfile, "src/cart/a.go": "a", "charts/cart/Chart.yaml": "name: cart\n",
		"src/mail/Dockerfile": dockerfile, "src/mail/a.go": "a", "src/mail/chart/Chart.yaml": "name: mail\n",
		"src/orders/Dockerfile": "FROM scratch\nCOPY libs/money /money\nCOPY src/orders /orders\n", "src/orders/a.go": "a",
		"libs/money/money.go": "a", "libs/decimal/decimal.go": "a", "README.md": "a",
		"slipway.yaml": "services:\n  mail: {dependsOn: [cart]}\nshared:\n  libs/money: {dependsOn: [libs/decimal]}\n",
	})
	return m, m.main
}

// TestAffectedByWhatHappensToFiles is each thing that a commit can do to files.
func TestAffectedByWhatHappensToFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(m *monorepo)
		want string
	}{
		"code":                            {func(m *monorepo) { m.write(map[string]string{"src/mail/a.go": "b"}) }, "mail"},
		"code that another depends on":    {func(m *monorepo) { m.write(map[string]string{"src/cart/a.go": "b"}) }, "cart mail"},
		"a chart elsewhere":               {func(m *monorepo) { m.write(map[string]string{"charts/cart/values.yaml": "b"}) }, "cart*"},
		"a chart in the folder":           {func(m *monorepo) { m.write(map[string]string{"src/mail/chart/values.yaml": "b"}) }, "mail*"},
		"a chart and code":                {func(m *monorepo) { m.write(map[string]string{"src/mail/chart/values.yaml": "b", "src/mail/b.go": "b"}) }, "mail"},
		"what a Dockerfile copies":        {func(m *monorepo) { m.write(map[string]string{"libs/money/money.go": "b"}) }, "orders"},
		"what a shared folder depends on": {func(m *monorepo) { m.write(map[string]string{"libs/decimal/x": "b"}) }, "orders"},
		"what is nobody's":                {func(m *monorepo) { m.write(map[string]string{"README.md": "b", "docs/x": "b"}) }, ""},
		"a file that is removed":          {func(m *monorepo) { m.write(map[string]string{"src/mail/a.go": ""}) }, "mail"},
		"a file that moves":               {func(m *monorepo) { m.git("mv", "src/mail/a.go", "src/orders/b.go") }, "mail orders"},
		"a file whose case changes":       {func(m *monorepo) { m.git("mv", "src/mail/a.go", "src/mail/A.go") }, "mail"},
		"a file that becomes a program": {func(m *monorepo) {
			if err := os.Chmod(filepath.Join(m.dir, "src/mail/a.go"), 0o755); err != nil {
				m.t.Error(err)
			}
		}, "mail"},
		"a file that becomes a link":      {func(m *monorepo) { m.write(map[string]string{"src/mail/a.go->": "Dockerfile"}) }, "mail"},
		"a folder that another's case is": {func(m *monorepo) { m.write(map[string]string{"src/Mail/x": "a", "SRC/mail/x": "a"}) }, ""},
		"names beyond ASCII": {func(m *monorepo) {
			m.write(map[string]string{"src/mail/é ü\tü\n.go": "a", "src/cart/\xff": "a", "src/mail/\"": "a"})
		}, "cart mail"},
		"a service that is removed":        {func(m *monorepo) { m.write(map[string]string{"src/orders/Dockerfile": ""}) }, "-orders"},
		"a service whose folder moves":     {func(m *monorepo) { m.git("mv", "src/orders", "src/ordering") }, "-orders ordering"},
		"a service that is new":            {func(m *monorepo) { m.write(map[string]string{"src/new/Dockerfile": dockerfile}) }, "new"},
		"a service that is put out":        {func(m *monorepo) { m.write(map[string]string{"slipway.yaml": "services:\n  orders: false\n"}) }, "-orders"},
		"a chart that is removed":          {func(m *monorepo) { m.write(map[string]string{"src/mail/chart/Chart.yaml": ""}) }, "mail"},
		"a chart that moves":               {func(m *monorepo) { m.git("mv", "charts/cart", "src/cart/chart") }, "cart*"},
		"settings of one service":          {func(m *monorepo) { m.write(map[string]string{"slipway.yaml": "services:\n  cart: {args: {A: b}}\n"}) }, "cart"},
		"settings of none":                 {func(m *monorepo) { m.write(map[string]string{"slipway.yaml": "# nothing\n"}) }, ""},
		"a Dockerfile that copies less":    {func(m *monorepo) { m.write(map[string]string{"src/orders/Dockerfile": dockerfile}) }, "orders"},
		"a submodule in a service":         {func(m *monorepo) { m.submodule("src/mail/vendored", 1) }, "mail"},
		"a submodule that is a dependency": {func(m *monorepo) { m.submodule("libs/money/cents", 1) }, "orders"},
		"a submodule that is nobody's":     {func(m *monorepo) { m.submodule("tools", 1) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, first := newMonorepo(t)
			c.do(m)
			m.git("add", "--all")
			m.git("commit", "--quiet", "--allow-empty", "-m", "change")
			next := m.git("rev-parse", "HEAD")
			if got := m.merged(first, next); got != c.want {
				t.Errorf("runs %q, want %q", got, c.want)
			}
			m.main = first
			if got := m.pushed("", next); got != c.want {
				t.Errorf("on a branch %q, want %q", got, c.want)
			}
			if got := m.proposed(next); got != c.want {
				t.Errorf("proposed %q, want %q", got, c.want)
			}
			m.git("revert", "--no-edit", "HEAD")
			if got := m.merged(first, m.git("rev-parse", "HEAD")); got != "" {
				t.Errorf("reverted, and %q runs", got)
			}
		})
	}
}

// submodule points a path at a commit of another repository, which need not be here.
func (m *monorepo) submodule(path string, commit int) {
	m.git("update-index", "--add", "--cacheinfo", fmt.Sprintf("160000,%040d,%s", commit, path))
	m.write(map[string]string{path + "/": ""})
	if err := os.MkdirAll(filepath.Join(m.dir, path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.git("config", "--file", filepath.Join(m.dir, ".gitmodules"), "submodule.s.path", path)
}

// A pointer to a commit that moves is a change of what it points from (S20).
func TestAffectedBySubmodules(t *testing.T) {
	t.Parallel()
	m, _ := newMonorepo(t)
	point := func(at int) string {
		m.git("update-index", "--add", "--cacheinfo", fmt.Sprintf("160000,%040d,libs/cents", at))
		m.git("commit", "--quiet", "-m", "point")
		return m.git("rev-parse", "HEAD")
	}
	m.write(map[string]string{"slipway.yaml": "services:\n  mail: {dependsOn: [libs/cents]}\n"})
	m.git("add", "slipway.yaml")
	one := point(1)
	two := point(2)
	if got := m.merged(one, two); got != "mail" {
		t.Errorf("runs %q", got)
	}
	if q, a := m.ask(source.Input{Event: slipway.DefaultPush, Before: one, Commit: two}, "refs/heads/main"); a.Changes["mail"].Why != "it depends on libs/cents: libs/cents changed" {
		t.Errorf("%+v of %v", a.Changes["mail"], q.Since)
	}
}

// What the history looks like does not matter, only what is different from what was built.
func TestAffectedByHistory(t *testing.T) {
	t.Parallel()
	m, first := newMonorepo(t)
	branch := func(name, from, file string) string {
		m.git("checkout", "--quiet", "-b", name, from)
		return m.commit(name, map[string]string{file: name})
	}
	one := branch("one", first, "src/mail/one.go")
	two := branch("two", first, "charts/cart/two.yaml")
	three := branch("three", first, "libs/money/three.go")
	m.git("checkout", "--quiet", "main")
	cart := m.commit("cart", map[string]string{"src/cart/b.go": "b"})

	m.git("merge", "--quiet", "--no-ff", "-m", "merge", "one")
	merge := m.git("rev-parse", "HEAD")
	m.git("merge", "--quiet", "--no-ff", "-m", "octopus", "two", "three")
	octopus := m.git("rev-parse", "HEAD")
	if n := len(strings.Fields(m.git("rev-list", "--parents", "-1", octopus))); n != 4 {
		t.Fatalf("%d: not an octopus", n)
	}
	m.git("checkout", "--quiet", "-b", "squash", cart)
	m.git("merge", "--quiet", "--squash", "one")
	m.git("commit", "--quiet", "-m", "squashed")
	squash := m.git("rev-parse", "HEAD")
	if got, want := m.git("rev-parse", squash+"^{tree}"), m.git("rev-parse", merge+"^{tree}"); got != want {
		t.Fatalf("the squash differs from the merge")
	}
	m.main = cart
	rebased := m.pushed(one, squash)
	m.main = first
	for name, c := range map[string][2]string{
		"first push of all":                {m.merged("", first), "cart mail orders"},
		"merge":                            {m.merged(cart, merge), "mail"},
		"octopus merge":                    {m.merged(merge, octopus), "cart* orders"},
		"several merges at once":           {m.merged(first, octopus), "cart mail orders"},
		"the same content, other history":  {m.merged(squash, merge), ""},
		"a force push back":                {m.merged(octopus, cart), "cart* mail orders"},
		"what was built is gone":           {m.merged(strings.Repeat("1", 40), cart), "cart mail orders"},
		"pushed again":                     {m.merged(cart, cart), ""},
		"a branch of which nothing was":    {m.pushed("", one), "mail"},
		"a branch and its last push":       {m.pushed(first, one), "mail"},
		"a branch that is gone":            {m.pushed(strings.Repeat("1", 40), three), "orders"},
		"a branch that is rebased":         {rebased, "mail"}, // with the cart it depends on it was not built
		"a branch at the default branch":   {m.pushed("", first), ""},
		"a pull request":                   {m.proposed(two), "cart*"},
		"a pull request of what is merged": {m.proposed(first), ""},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", name, c[0], c[1])
		}
	}

	// The default branch is merged into a branch: its changes are not the branch's.
	m.main = octopus
	m.git("checkout", "--quiet", "one")
	m.git("merge", "--quiet", "--no-ff", "-m", "update", "main")
	updated := m.git("rev-parse", "HEAD")
	if got := m.pushed(one, updated); got != "" {
		t.Errorf("after main was merged into it: %q", got)
	}
	more := m.commit("more", map[string]string{"src/orders/more.go": "b"})
	if got := m.pushed(one, more); got != "orders" {
		t.Errorf("after main was merged into it, and a change: %q", got)
	}
	if got := m.proposed(more); got != "orders" {
		t.Errorf("as a pull request: %q", got)
	}
	m.git("checkout", "--quiet", "--orphan", "alien")
	alien := m.commit("alien", map[string]string{"src/orders/alien.go": "b"})
	if got := m.pushed("", alien); got != "cart mail orders" {
		t.Errorf("without a commit in common: %q", got)
	}
}

// A clone that has not all of the history compares with what it has.
func TestAffectedInAShallowClone(t *testing.T) {
	t.Parallel()
	m, first := newMonorepo(t)
	var tip, before string
	for i := range 4 {
		before = tip
		tip = m.commit("next", map[string]string{"src/mail/a.go": fmt.Sprint(i)})
	}
	dir := filepath.Join(t.TempDir(), "shallow")
	m.git("clone", "--quiet", "--bare", "--depth=2", "file://"+m.dir, dir)
	m.repo = Repo{Dir: dir}
	for name, c := range map[string][2]string{
		"what is there": {m.merged(before, tip), "mail"},
		"what is not":   {m.merged(first, tip), "cart mail orders"},
		"a branch":      {m.runs(source.Input{Event: slipway.BranchPush, Before: first, Commit: tip, DefaultTip: before}, "refs/heads/x"), "mail"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", name, c[0], c[1])
		}
	}
}

// More files than any forge lists.
func TestAffectedByAHugePush(t *testing.T) {
	t.Parallel()
	m, first := newMonorepo(t)
	files := map[string]string{}
	for i := range 5000 {
		files[fmt.Sprintf("data/%d/file%d", i%50, i)] = "x"
	}
	files["src/mail/last.go"] = "x"
	next := m.commit("huge", files)
	_, a := m.ask(source.Input{Event: slipway.DefaultPush, Before: first, Commit: next}, "refs/heads/main")
	if c := a.Changes["mail"]; !c.Changed || c.Files != 1 || c.Total != 5001 || c.Example != "src/mail/last.go" || a.Changes["cart"].Changed {
		t.Errorf("%+v", a)
	}
}

// The revision of a service survives a merge, so that pull request and default branch build the same image
// (D15); that of the chart is apart.
func TestRevisionsOnARealRepository(t *testing.T) {
	t.Parallel()
	m, first := newMonorepo(t)
	m.git("checkout", "--quiet", "-b", "feature")
	feature := m.commit("feature", map[string]string{"src/cart/b": "1"})
	m.git("checkout", "--quiet", "main")
	money := m.commit("meanwhile", map[string]string{"libs/decimal/x": "2"})
	m.git("merge", "--quiet", "--no-ff", "-m", "merge", "feature")
	merge := m.git("rev-parse", "HEAD")
	chart := m.commit("chart", map[string]string{"src/mail/chart/values.yaml": "2", "README.md": "x"})
	for _, at := range []string{merge, chart} {
		c, err := m.config(at)
		if err != nil {
			t.Fatal(err)
		}
		sets := map[string][]source.Set{}
		for _, s := range c.Services {
			in := plan.InputsOf(*c, s.Name)[s.Name]
			for _, set := range in.Code {
				sets[s.Name] = append(sets[s.Name], source.Set(set))
			}
			for _, set := range in.Chart {
				sets[s.Name+" chart"] = append(sets[s.Name+" chart"], source.Set(set))
			}
		}
		got, err := source.Revisions(t.Context(), m.repo, at, sets)
		mailChart := first
		if at == chart {
			mailChart = chart
		}
		if err != nil || got["cart"].Commit != feature || got["orders"].Commit != money || got["mail"].Commit != feature || got["mail chart"].Commit != mailChart || got["cart chart"].Commit != first {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
