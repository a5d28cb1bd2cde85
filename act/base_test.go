package act_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// delivery makes runs of shop and lives them to their end.
type delivery struct {
	*world
	project slipway.Project
}

func newDelivery(t *testing.T) *delivery {
	w := newWorld(t)
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	return &delivery{w, p}
}

// pushed moves a branch, and plans the run of that.
func (d *delivery) pushed(ref, commit string) (slipway.Run, slipway.Plan) {
	d.t.Helper()
	d.move(ref, commit)
	run := slipway.Run{Project: "shop", Event: slipway.BranchPush, Ref: ref, Commit: commit}
	if ref == "refs/heads/main" {
		run.Event = slipway.DefaultPush
	}
	run, err := d.store.CreateRun(d.ctx, run, slipway.Plan{})
	d.ok(err)
	plan, err := d.planner.Plan(d.ctx, d.project, run)
	d.ok(err)
	d.finish(run.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &plan})
	return run, plan
}

// live ends the steps of a run one after the other, until there are none or enough is said; those fail that are
// to fail.
func (d *delivery) live(run int64, enough int, fails func(slipway.PlanStep) bool) {
	d.t.Helper()
	for range enough {
		all, err := d.store.Steps(d.ctx, run)
		d.ok(err)
		i := slices.IndexFunc(all, func(s slipway.Step) bool { return s.State == slipway.StepReady })
		if i < 0 {
			return
		}
		res := slipway.Result{Outcome: slipway.Succeeded}
		if fails(all[i].Spec) {
			res = slipway.Result{Outcome: slipway.Failed, Reason: "red"}
		}
		d.finish(run, all[i].Spec.Key, res)
	}
}

// deliver is a push of which the deployments of some services fail. It returns what is said of each service.
func (d *delivery) deliver(ref, commit string, failing ...string) map[string]string {
	d.t.Helper()
	run, plan := d.pushed(ref, commit)
	d.live(run.ID, 1000, func(s slipway.PlanStep) bool {
		return slices.Contains(failing, s.Service) && (s.Kind == slipway.KindDeploy || run.Event != slipway.DefaultPush)
	})
	return said(plan)
}

func said(plan slipway.Plan) map[string]string {
	out := map[string]string{}
	for _, d := range plan.Decisions {
		out[d.Service] = d.Reason
	}
	return out
}

func (d *delivery) wants(said map[string]string, want map[string]string) {
	d.t.Helper()
	for service, words := range want {
		if !strings.Contains(said[service], words) {
			d.t.Errorf("%s: %q, want %q", service, said[service], words)
		}
	}
}

// A service that cannot be deployed runs again with each push, and no other does.
func TestAServiceThatFailsDisturbsNoOther(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	const main = "refs/heads/main"
	f := service("cart", "mail", "orders")
	first := d.commit("", "first", f)
	d.deliver(main, first)
	f = f.with("src/cart/a", "1")
	broken := d.commit(first, "cart", f)
	d.deliver(main, broken, "cart")
	f = f.with("src/mail/a", "1")
	mail := d.commit(broken, "mail", f)
	d.wants(d.deliver(main, mail, "cart"), map[string]string{
		"cart": "runs: 1 of the 2 changed files is under src/cart: src/cart/a; compared with " + slipway.ShortHash(first) + ", as no run has succeeded with it since",
		"mail": "runs: src/mail/a changed", "orders": "skipped, the changed file is not under src/orders",
	})
	f = f.with("src/orders/a", "1")
	orders := d.commit(mail, "orders", f)
	run, plan := d.pushed(main, orders)
	d.wants(said(plan), map[string]string{"cart": "runs: 1 of the 3", "mail": "skipped, the changed file is not under src/mail", "orders": "runs: src/orders/a changed"})
	if want := []string{mail, first}; !slices.Equal(plan.Since, want) {
		t.Errorf("compared with %v, want %v", plan.Since, want)
	}
	d.live(run.ID, 1000, func(slipway.PlanStep) bool { return false })
	next := d.commit(orders, "readme", f.with("README", "1"))
	_, plan = d.pushed(main, next)
	d.wants(said(plan), map[string]string{"cart": "skipped, the changed", "mail": "skipped, the changed", "orders": "skipped, the changed"})
	if want := []string{orders}; !slices.Equal(plan.Since, want) || len(plan.Steps) != 0 {
		t.Errorf("compared with %v, want %v", plan.Since, want)
	}
}

// What failed to deploy and was taken back runs: nobody knows what is left of it.
func TestWhatWasBegunRunsThoughItIsAsBefore(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	const main = "refs/heads/main"
	f := service("cart", "mail")
	first := d.commit("", "first", f)
	d.deliver(main, first)
	broken := d.commit(first, "cart", f.with("src/cart/a", "1"))
	run, _ := d.pushed(main, broken) // not over
	back := d.commit(broken, "back", f)
	_, plan := d.pushed(main, back)
	says := fmt.Sprintf("runs: it is as it was at %s, but run #%d took it up since and is not done with it", slipway.ShortHash(first), run.ID)
	d.wants(said(plan), map[string]string{"cart": says, "mail": "skipped, the changed file"})
	d.live(run.ID, 1000, func(s slipway.PlanStep) bool { return s.Key == "verify/cart@development" })
	d.ok(d.store.CancelRun(d.ctx, run.ID+1, "ada", ""))
	d.wants(d.deliver(main, back), map[string]string{"cart": "runs: it is as it was", "mail": "skipped, no"})
	d.wants(d.deliver(main, back), map[string]string{"cart": "skipped, no file changed", "mail": "skipped, no"})

	// One that failed its build left nothing behind.
	run, _ = d.pushed(main, broken)
	d.live(run.ID, 1000, func(s slipway.PlanStep) bool { return s.Kind == slipway.KindBuild })
	d.wants(d.deliver(main, back), map[string]string{"cart": "skipped, no file changed"})
}

// A service that was never delivered runs until it is, and so does one that was away.
func TestServicesThatComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	const main = "refs/heads/main"
	cart, both := service("cart"), service("cart", "mail")
	first := d.commit("", "first", cart)
	d.deliver(main, first)
	added := d.commit(first, "mail", both)
	d.wants(d.deliver(main, added, "mail"), map[string]string{"cart": "skipped", "mail": "runs: it is new"})
	next := d.commit(added, "cart", both.with("src/cart/a", "1"))
	d.wants(d.deliver(main, next, "cart"), map[string]string{"cart": "runs: src/cart/a changed", "mail": "runs: it is new: there was no service mail before; compared with " + slipway.ShortHash(first)})
	gone := d.commit(next, "no mail", cart.with("src/cart/a", "1"))
	d.wants(d.deliver(main, gone, "cart"), map[string]string{"cart": "runs: ", "mail": "removed"})
	back := d.commit(gone, "mail again", both.with("src/cart/a", "1"))
	d.wants(d.deliver(main, back), map[string]string{"cart": "runs: ", "mail": "runs: "})
	d.wants(d.deliver(main, back), map[string]string{"cart": "skipped", "mail": "skipped"})
}

// A service whose dependent in another codebase fails is not done: its next push takes that along again.
func TestADependentElsewhereThatFails(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	web, main := d.further("web", false), d.at("shop")
	end := func(failing string) {
		run, plan := d.newest()
		d.finish(run.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &plan})
		d.live(run.ID, 1000, func(s slipway.PlanStep) bool { return s.Service == failing && s.Kind == slipway.KindDeploy })
	}
	f := docker("api", "mail", "cart").with("slipway.yaml", "services: {cart: {dependsOn: [pages]}}\n")
	main.push("refs/heads/main", docker("api", "mail", "cart"))
	end("")
	web.push("refs/heads/main", docker("pages").with("slipway.yaml", "services: {pages: {dependsOn: [api]}}\n"))
	end("")
	f = f.with("src/api/a", "1").with("src/mail/a", "1")
	_, said := main.push("refs/heads/main", f)
	d.says(said, "api: runs", "mail: runs", "pages: runs", "cart: runs: it depends on pages of codebase web, and through it on api")
	end("pages")
	_, said = main.push("refs/heads/main", f.with("README", "1"))
	d.says(said, "api: runs: 1 of the", "mail: skipped", "pages: runs", "cart: runs")
	end("cart")
	_, said = main.push("refs/heads/main", f.with("README", "2"))
	d.says(said, "api: runs", "mail: skipped", "pages: runs", "cart: runs")
	end("")
	_, said = main.push("refs/heads/main", f.with("README", "3"))
	d.says(said, "api: skipped", "mail: skipped", "cart: skipped")
}

// More commits than are compared with are not: what was done there runs.
func TestSoManyCommitsAreComparedWith(t *testing.T) {
	t.Parallel()
	d := newDelivery(t)
	const main = "refs/heads/main"
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	f := service(names...)
	tip := d.commit("", "first", f)
	d.deliver(main, tip)
	at := []string{tip}
	for i := range names[:9] { // each breaks another one
		f = f.with("src/"+names[i]+"/a", "1")
		tip = d.commit(tip, names[i], f)
		at = append(at, tip)
		d.deliver(main, tip, names[:i+1]...)
	}
	counted := d.counted()
	run, plan := d.pushed(main, d.commit(tip, "readme", f.with("README", "1")))
	s := said(plan)
	d.wants(s, map[string]string{"s8": "runs: 1 of the 2", "s2": "runs: ", "s1": "with which nothing is compared any more", "s0": "runs: it was done last at " + slipway.ShortHash(at[0]), "s9": "skipped"})
	if len(plan.Since) != 8 {
		t.Errorf("compared with %d commits", len(plan.Since))
	}
	if n := counted.opened.Load(); n > 9 {
		t.Errorf("%d trees were read", n)
	}
	d.live(run.ID, 1000, func(slipway.PlanStep) bool { return false })
}

// past is a run as the model knows it.
type past struct {
	tree       files
	good, left map[string]bool // done with in it; begun in it and not done with
	skipped    map[string]bool
	took       map[string]bool // had steps in it
	waits      map[string]bool // people are all that it waits for
	leftTo     map[string]bool // it was left to an earlier run
}

// inputs are what a service is made of: its folder and those of what it depends on.
func inputs(tree files, name string) string {
	var parts []string
	for _, dir := range map[string][]string{"a": {"a"}, "b": {"b", "a"}, "c": {"c"}, "d": {"d"}}[name] {
		for _, path := range slices.Sorted(maps.Keys(tree)) {
			if strings.HasPrefix(path, "src/"+dir+"/") {
				parts = append(parts, path+"="+tree[path])
			}
		}
	}
	return strings.Join(parts, "\n")
}

func has(tree files, name string) bool { return tree["src/"+name+"/Dockerfile"] != "" }

// leaves says by replaying all of the past whether a service is left to a run that waits for people with it, but for what
// runs that is deployed after it.
func leaves(history []past, now files, name string) bool {
	for i := len(history) - 1; i >= 0; i-- {
		was := history[i]
		switch {
		case !has(was.tree, name):
			return false
		case was.took[name]:
			return was.waits[name] && inputs(was.tree, name) == inputs(now, name)
		}
	}
	return false
}

// runs says by replaying all of the past whether a service runs, unless it is left to a run; fork is where a branch left
// the default one.
func runs(history []past, fork files, now files, name string) bool {
	if fork != nil && has(fork, name) && inputs(fork, name) == inputs(now, name) {
		return false
	}
	for i := len(history) - 1; i >= 0; i-- {
		was := history[i]
		switch {
		case !has(was.tree, name):
			return true
		case was.leftTo[name]:
		case was.good[name], was.skipped[name]:
			return inputs(was.tree, name) != inputs(now, name)
		case was.left[name] && fork == nil:
			return true
		}
	}
	return true
}

// Whatever was pushed and whatever became of it, exactly those services run whose inputs differ from those that
// they were done with, or of which something else was begun since.
func TestEveryServiceHasItsOwnBase(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 4))
			d := newDelivery(t)
			yaml := "services: {b: {dependsOn: [a]}}\n"
			start := service("a", "b", "c", "d").with("slipway.yaml", yaml)
			ref := "refs/heads/main"
			var fork files
			tip := d.commit("", "first", start)
			if seed%3 == 2 {
				d.deliver(ref, tip)
				ref, fork = "refs/heads/x", start
			}
			var history []past
			trees := []files{start}
			for n := range 14 {
				tree := trees[r.IntN(len(trees))] // a force push
				if r.IntN(3) > 0 {
					tree = trees[len(trees)-1]
				}
				for range r.IntN(3) {
					name := string("abcd"[r.IntN(4)])
					switch {
					case name == "d" && r.IntN(2) == 0 && has(tree, "d"):
						tree = maps.Clone(tree)
						delete(tree, "src/d/Dockerfile")
						delete(tree, "src/d/f")
					case has(tree, name):
						tree = tree.with("src/"+name+"/f", fmt.Sprint(r.IntN(2)))
					default:
						tree = tree.with("src/d/Dockerfile", "FROM scratch\nCOPY . /\n")
					}
				}
				trees = append(trees, tree)
				commit := d.commit(tip, fmt.Sprint("push ", n), tree)
				run, plan := d.pushed(ref, commit)
				for _, dec := range plan.Decisions {
					if dec.Removed {
						continue
					}
					if want := runs(history, fork, tree, dec.Service); dec.Runs != want {
						t.Fatalf("push %d: %s: %s; a replay says that it runs: %t", n, dec.Service, dec.Reason, want)
					}
				}
				history = append(history, d.become(r, run, plan, tree))
			}
		})
	}
}

// become ends a run in some way, and says what became of it.
func (d *delivery) become(r *rand.Rand, run slipway.Run, plan slipway.Plan, tree files) past {
	failing := map[string]int{}
	for _, name := range []string{"a", "b", "c", "d"} {
		failing[name] = 1 + r.IntN(16)
	}
	enough := 1000
	if r.IntN(4) == 0 {
		enough = r.IntN(20)
	}
	seen := map[string]int{}
	if stays := r.IntN(6) == 0; !stays { // else it is not over, and nothing of it has begun
		d.live(run.ID, enough, func(s slipway.PlanStep) bool {
			seen[s.Service]++
			return seen[s.Service] == failing[s.Service]
		})
		if enough < 1000 {
			err := d.store.CancelRun(d.ctx, run.ID, "ada", "")
			if err != nil && slipway.ErrorCode(err) != slipway.Conflict {
				d.t.Fatal(err)
			}
		}
	}
	steps, err := d.store.Steps(d.ctx, run.ID)
	d.ok(err)
	out := past{tree: tree, good: map[string]bool{}, left: map[string]bool{}, skipped: map[string]bool{}}
	for _, dec := range plan.Decisions {
		out.good[dec.Service], out.skipped[dec.Service] = dec.Runs, !dec.Runs
	}
	for _, s := range steps {
		if name := s.Spec.Service; s.State != slipway.StepSucceeded {
			out.good[name] = false
			out.left[name] = out.left[name] || !s.State.Final()
		}
	}
	for _, s := range steps {
		if s.Spec.Kind == slipway.KindDeploy && s.Attempt > 0 {
			out.left[s.Spec.Service] = true
		}
	}
	return out
}
