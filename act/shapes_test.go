package act_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// laptop is what `slipway plan` knows of the past: where the branch was.
type laptop struct {
	act.History
	built string
}

func (l laptop) Built(context.Context, string, string, string, int64) (slipway.Built, error) {
	return slipway.Built{Rest: slipway.Done{Commit: l.built}}, nil
}

func (laptop) Tried(context.Context, string, string, string, int64) (bool, error) { return false, nil }

// merge stores a commit of these files with any parents, and with submodules at commits.
func (w *world) merge(f files, links map[string]string, parents ...string) string {
	w.t.Helper()
	var in bytes.Buffer
	in.WriteString("commit refs/scratch/tip\nmark :1\ncommitter Ada <ada@example.com> 1700000000 +0000\ndata 5\nmerge\n")
	for i, p := range parents {
		fmt.Fprintf(&in, "%s %s\n", map[bool]string{true: "from", false: "merge"}[i == 0], p)
	}
	in.WriteString("deleteall\n")
	for path, text := range f {
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
	}
	for path, commit := range links {
		fmt.Fprintf(&in, "M 160000 %s %s\n", commit, path)
	}
	in.WriteString("reset refs/scratch/tip\nfrom 0000000000000000000000000000000000000000\nget-mark :1\n")
	cmd := exec.CommandContext(w.ctx, "git", "--git-dir", w.repo.Dir, "fast-import", "--quiet", "--force")
	cmd.Stdin = &in
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// offline is what `slipway plan` says of a run of the default branch, which was at before.
func (d *delivery) offline(run slipway.Run, before string) map[string]string {
	d.t.Helper()
	away := act.Planner{Repo: d.planner.Repo, Projects: d.planner.Projects, History: laptop{d.store, before}, Candidates: d.planner.Candidates, Production: d.planner.Production}
	run.ID = 1
	plan, err := away.Plan(d.ctx, d.project, run)
	d.ok(err)
	return said(plan)
}

// A push of the default branch of any shape says on the server what it says offline: what is different from what
// the branch had before.
func TestShapesOfHistory(t *testing.T) {
	t.Parallel()
	three := service("cart", "mail", "orders")
	old := strings.Repeat("1", 40)
	for name, c := range map[string]struct {
		make func(w *world, first string) []string // commits that are pushed one after the other
		want map[string]string                     // of the last
	}{
		"back to an ancestor": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", changed(three, "cart", "1")), first}
		}, map[string]string{"cart": "runs: src/cart/f changed", "mail": "skipped, the changed file", "orders": "skipped"}},
		"back over several pushes": {func(w *world, first string) []string {
			x := w.commit(first, "x", changed(three, "cart", "1"))
			return []string{x, w.commit(x, "y", changed(changed(three, "cart", "1"), "mail", "1")), first}
		}, map[string]string{"cart": "runs: 1 of the 2 changed files is under src/cart", "mail": "runs: 1 of the 2", "orders": "skipped, none of the 2"}},
		"a merge that reverts": {func(w *world, first string) []string {
			x := w.commit(first, "x", changed(three, "cart", "1"))
			return []string{x, w.merge(three, nil, x, w.commit(first, "side", three.with("README", "1")))}
		}, map[string]string{"cart": "runs: src/cart/f changed", "mail": "skipped", "orders": "skipped"}},
		"a merge of which nothing is taken": {func(w *world, first string) []string {
			x := w.commit(first, "x", changed(three, "cart", "1"))
			return []string{x, w.merge(changed(three, "cart", "1"), nil, x, w.commit(first, "side", changed(three, "mail", "2")))}
		}, map[string]string{"cart": "skipped, no file changed", "mail": "skipped, no file changed", "orders": "skipped, no file changed"}},
		"an octopus": {func(w *world, first string) []string {
			x := w.commit(first, "x", changed(three, "cart", "1"))
			y, z := w.commit(first, "y", changed(three, "mail", "1")), w.commit(first, "z", three.with("README", "1"))
			return []string{x, w.merge(changed(changed(three, "cart", "1"), "mail", "1").with("README", "1"), nil, x, y, z)}
		}, map[string]string{"cart": "skipped, none of the 2", "mail": "runs: 1 of the 2", "orders": "skipped, none of the 2"}},
		"an octopus that has what no parent has": {func(w *world, first string) []string {
			x, y := w.commit(first, "x", changed(three, "cart", "1")), w.commit(first, "y", changed(three, "mail", "1"))
			return []string{w.merge(changed(three, "orders", "evil"), nil, first, x, y)}
		}, map[string]string{"cart": "skipped", "mail": "skipped", "orders": "runs: src/orders/f changed"}},
		"a submodule that moves": {func(w *world, first string) []string {
			x := w.merge(three, map[string]string{"src/cart/lib": old}, first)
			return []string{x, w.merge(three, map[string]string{"src/cart/lib": strings.Repeat("2", 40)}, x)}
		}, map[string]string{"cart": "runs: src/cart/lib changed", "mail": "skipped", "orders": "skipped"}},
		"a submodule that becomes files": {func(w *world, first string) []string {
			x := w.merge(three, map[string]string{"src/cart/lib": old}, first)
			return []string{x, w.commit(x, "y", three.with("src/cart/lib/a", "1"))}
		}, map[string]string{"cart": "runs: all 2 changed files are under src/cart", "mail": "skipped", "orders": "skipped"}},
		"a submodule outside of all services": {func(w *world, first string) []string {
			x := w.merge(three, map[string]string{"vendor/lib": old}, first)
			return []string{x, w.merge(three, map[string]string{"vendor/lib": strings.Repeat("2", 40)}, x)}
		}, map[string]string{"cart": "skipped", "mail": "skipped", "orders": "skipped"}},
		"a service that moved": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", service("mail", "orders").with("apps/cart/Dockerfile", three["src/cart/Dockerfile"]))}
		}, map[string]string{"cart": "runs: ", "mail": "skipped, none of the 2", "orders": "skipped"}},
		"two services that changed places": {func(w *world, first string) []string {
			f := three.with("src/cart/f", "1")
			x := w.commit(first, "x", f)
			return []string{x, w.commit(x, "y", f.with("slipway.yaml", "services: {cart: {path: src/mail}, mail: {path: src/cart}}\n"))}
		}, map[string]string{"cart": "runs: its path changed in the configuration", "mail": "runs: its path changed in the configuration", "orders": "skipped"}},
		"a service renamed in slipway.yaml alone": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", three.with("slipway.yaml", "services: {basket: {path: src/cart}}\n"))}
		}, map[string]string{"basket": "runs: it is new: what is built from src/cart was cart before", "cart": "removed: what is built from src/cart is basket now", "mail": "skipped", "orders": "skipped"}},
		"a folder with another name": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", service("mail", "orders").with("src/basket/Dockerfile", three["src/cart/Dockerfile"]))}
		}, map[string]string{"basket": "runs: it is what cart was until this change: it has the Dockerfile that was in src/cart",
			"cart": "removed: it is basket now, which has its Dockerfile in src/basket; what is deployed of it stays until a person removes it (helm uninstall cart, in its namespace)",
			"mail": "skipped", "orders": "skipped"}},
		"a folder that got another name, as slipway.yaml has it, beside one with the same Dockerfile": {func(w *world, first string) []string {
			x := w.commit(first, "x", three.with("slipway.yaml", "services: {basket: {path: src/cart}}\n"))
			return []string{x, w.commit(x, "y", three.with("slipway.yaml", "services: {basket: {path: src/mail}}\n"))}
		}, map[string]string{"basket": "runs: its path changed in the configuration", "cart": "runs: it is new: what is built from src/cart was basket before",
			"mail": "removed: what is built from src/mail is basket now", "orders": "skipped"}},
		"what a service at the root copies from others": {func(w *world, first string) []string {
			f := three.with("Dockerfile", "FROM scratch\nCOPY src/cart/api src/*/b /api/\n").with("src/cart/api/a", "1")
			x := w.commit(first, "x", f)
			return []string{x, w.commit(x, "y", f.with("src/cart/api/a", "2"))}
		}, map[string]string{"shop": "runs: its Dockerfile copies src/cart/api (Dockerfile:2): src/cart/api/a changed", "cart": "runs: src/cart/api/a changed", "mail": "skipped", "orders": "skipped"}},
		"what a service at the root copies not": {func(w *world, first string) []string {
			f := three.with("Dockerfile", "FROM scratch\nCOPY src/cart/api src/*/b /api/\n").with("src/cart/api/a", "1")
			x := w.commit(first, "x", f)
			return []string{x, w.commit(x, "y", f.with("src/cart/c", "2").with("src/mail/c", "2"))}
		}, map[string]string{"shop": "skipped, none of the 2", "cart": "runs: 1 of the 2", "mail": "runs: 1 of the 2", "orders": "skipped"}},
		"two folders with other names": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", service("mail").with("src/basket/Dockerfile", three["src/cart/Dockerfile"]).with("src/sales/Dockerfile", three["src/cart/Dockerfile"]))}
		}, map[string]string{"basket": "runs: it is new: there was no service basket before", "sales": "runs: it is new", "cart": "removed: there is no such service at src/cart any more", "mail": "skipped", "orders": "removed: there is no such"}},
		"a folder with another name and another Dockerfile": {func(w *world, first string) []string {
			return []string{w.commit(first, "x", service("mail", "orders").with("src/basket/Dockerfile", "FROM scratch\nLABEL a=b\n"))}
		}, map[string]string{"basket": "runs: it is new", "cart": "removed: there is no such service at src/cart any more", "mail": "skipped", "orders": "skipped"}},
		"renamed and back": {func(w *world, first string) []string {
			x := w.commit(first, "x", three.with("slipway.yaml", "services: {basket: {path: src/cart}}\n"))
			return []string{x, w.commit(x, "y", three)}
		}, map[string]string{"basket": "removed", "cart": "runs: ", "mail": "skipped", "orders": "skipped"}},
		"a service that comes back": {func(w *world, first string) []string {
			x := w.commit(first, "x", service("mail", "orders"))
			return []string{x, w.commit(x, "y", three)}
		}, map[string]string{"cart": "runs: ", "mail": "skipped", "orders": "skipped"}},
		"a service that comes back where it never was delivered": {func(w *world, first string) []string {
			x := w.commit(first, "x", three.with("src/new/Dockerfile", "FROM scratch\n"))
			y := w.commit(x, "y", three)
			return []string{x, y, w.commit(y, "z", three.with("src/new/Dockerfile", "FROM scratch\n"))}
		}, map[string]string{"new": "runs: ", "cart": "skipped", "mail": "skipped", "orders": "skipped"}},
		"a file that became a folder": {func(w *world, first string) []string {
			x := w.commit(first, "x", three.with("src/cart/lib", "1"))
			return []string{x, w.commit(x, "y", three.with("src/cart/lib/lib", "1"))}
		}, map[string]string{"cart": "runs: all 2", "mail": "skipped", "orders": "skipped"}},
		"a history of its own": {func(w *world, first string) []string {
			return []string{w.commit("", "orphan", changed(three, "mail", "1"))}
		}, map[string]string{"cart": "skipped", "mail": "runs: src/mail/f changed", "orders": "skipped"}},
		"the same commit again": {func(w *world, first string) []string {
			x := w.commit(first, "x", changed(three, "mail", "1"))
			return []string{x, x}
		}, map[string]string{"cart": "skipped, no file changed", "mail": "skipped, no file changed", "orders": "skipped, no file changed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDelivery(t)
			first := d.commit("", "first", three)
			d.deliver(refMain, first)
			before := first
			commits := c.make(d.world, first)
			var run slipway.Run
			var plan slipway.Plan
			for i, commit := range commits {
				if i > 0 {
					before = commits[i-1]
				}
				run, plan = d.pushed(refMain, commit)
				d.live(run.ID, 1000, func(slipway.PlanStep) bool { return false })
			}
			got, away := said(plan), d.offline(run, before)
			d.wants(got, c.want)
			if len(got) != len(c.want) {
				t.Errorf("says %v", got)
			}
			for service, words := range got {
				if kind(words) != kind(away[service]) || len(away) != len(got) {
					t.Errorf("%s: the server says %q, and the laptop %q", service, words, away[service])
				}
			}
		})
	}
}

// kind is how a sentence about a service begins: runs, skipped or removed.
func kind(words string) string { return strings.TrimRight(strings.Fields(words + " -")[0], ":,") }

// Branches that come, go and come back are compared with where they were done and with where they left the default
// one, whatever their commits.
func TestBranchesThatComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	const x = "refs/heads/x"
	three := service("cart", "mail", "orders")
	first := d.commit("", "first", three)
	d.deliver(refMain, first)
	d.wants(d.deliver(x, first), map[string]string{"cart": "skipped, no file changed", "mail": "skipped", "orders": "skipped"})
	cart := d.commit(first, "cart", changed(three, "cart", "1"))
	d.wants(d.deliver(x, cart), map[string]string{"cart": "runs: src/cart/f changed", "mail": "skipped"})
	d.move(x, slipway.ZeroHash)
	mail := d.commit(first, "mail", changed(three, "mail", "1"))
	d.wants(d.deliver(x, mail), map[string]string{"cart": "skipped, it is as in main", "mail": "runs: ", "orders": "skipped"})
	d.wants(d.deliver(x, cart), map[string]string{"cart": "runs: ", "mail": "skipped, it is as in main", "orders": "skipped"})
	d.wants(d.deliver(x, d.commit("", "orphan", changed(three, "orders", "1")), "orders"), map[string]string{"cart": "runs: ", "mail": "skipped", "orders": "runs: "})
	d.wants(d.deliver("refs/heads/y", d.commit("", "orphan", changed(three, "orders", "1"))), map[string]string{"cart": "runs: its commit has none in common with main, so there is nothing to compare with", "mail": "runs: its commit has none"})
}

// The first push of a large repository runs all of it, and the next one what it changed.
func TestTheFirstPushOfManyServices(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("s%03d", i))
	}
	many := service(names...)
	first := d.commit("", "first", many)
	run, plan := d.pushed(refMain, first)
	shown, rest := slipway.DecisionsInShort(plan.Decisions)
	if got := said(plan); len(got) != 500 || len(shown) != 500 || rest != "" || got["s499"] != "runs: nothing was built before" {
		t.Errorf("%d decisions, %d shown, %q: %s", len(got), len(shown), rest, got["s499"])
	}
	d.ok(d.store.CancelRun(d.ctx, run.ID, "ada", ""))
	next := d.commit(first, "next", changed(many, "s007", "1"))
	_, plan = d.pushed(refMain, next)
	for service, words := range said(plan) {
		if kind(words) != "runs" {
			t.Errorf("nothing was done with %s, and it is %s", service, words)
		}
	}
}

// A service that its trigger leaves out was not done with there, however well the run went.
func TestATriggerThatComesLater(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	out := "services: {new: {trigger: {branches: {exclude: [main]}}}}\n"
	first := d.commit("", "first", service("cart"))
	d.deliver(refMain, first)
	both := service("cart", "new")
	left := d.commit(first, "new", both.with("slipway.yaml", out))
	d.wants(d.deliver(refMain, left), map[string]string{"cart": "skipped", "new": "skipped, its trigger leaves out branch main"})
	changed := d.commit(left, "changed", changed(both, "cart", "1").with("slipway.yaml", out))
	d.wants(d.deliver(refMain, changed), map[string]string{"cart": "runs", "new": "skipped, its trigger leaves out branch main"})
	d.wants(d.deliver(refMain, d.commit(changed, "in", both)), map[string]string{"cart": "runs", "new": "runs: "})
	d.wants(d.deliver(refMain, d.commit(changed, "readme", both.with("README", "1"))), map[string]string{"cart": "skipped", "new": "skipped"})
}
