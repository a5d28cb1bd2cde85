package act_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// approved is the way from development to a production that people guard.
const approved = "environments:\n  - {name: development, trigger: default-branch}\n  - {name: live, trigger: default-branch, production: true, approvals: {required: 1}}\n"

// works goes on with a run until nothing of it does.
func (l *line) works(run slipway.Run) slipway.Run {
	l.t.Helper()
	for steps := l.ready(run); len(steps) > 0; steps = l.ready(run) {
		for _, st := range steps {
			l.step(run, st, false)
		}
	}
	d, err := l.store.Run(l.ctx, run.ID)
	l.ok(err)
	return d.Run
}

// pushes pushes a tree to the default branch and goes on with its run until nothing of it does.
func (l *line) pushes(tree files) slipway.Run {
	l.t.Helper()
	return l.works(l.asked(refMain, tree))
}

// asking are the approvals that people are asked for, oldest first, as "cart of run #1 in live".
func (l *line) asking() (out []string) {
	l.t.Helper()
	open, err := l.store.Approvals(l.ctx, "shop", slipway.ApprovalWaiting)
	l.ok(err)
	for _, a := range open {
		out = append(out, fmt.Sprintf("%s of run #%d in %s", a.Service, a.RunID, a.Environment))
	}
	slices.Reverse(out)
	return out
}

func (l *line) wantAsking(want ...string) {
	l.t.Helper()
	if got := l.asking(); !slices.Equal(got, want) {
		l.t.Errorf("people are asked for %q, want %q", got, want)
	}
}

// votes agrees to what a run asks for of a service, or rejects it.
func (l *line) votes(run slipway.Run, service string, agrees bool) error {
	l.t.Helper()
	all, err := l.store.Approvals(l.ctx, "shop", "")
	l.ok(err)
	for _, a := range all {
		if a.RunID == run.ID && a.Service == service {
			_, err := l.store.Vote(l.ctx, a.ID, slipway.Vote{User: "bob", Approve: agrees, Reason: "so"}, slipway.Approvals{})
			return err
		}
	}
	l.t.Fatalf("run #%d never asked for %s", run.ID, service)
	return nil
}

// wantIn compares what an environment has of a service.
func (l *line) wantIn(environment, service, text string) {
	l.t.Helper()
	commit := l.cluster[environment][service]
	if got := l.trees[commit]["src/"+service+"/f"]; commit == "" || got != text {
		l.t.Errorf("%s has %q of %s (%s), want %q", environment, got, service, slipway.ShortHash(commit), text)
	}
}

// leftTo is the words of a decision that leaves a service to a run.
func leftTo(run slipway.Run) string {
	return fmt.Sprintf("skipped, run #%d of the same code and configuration waits for its approval in live", run.ID)
}

// cartWaits is a line with a run that delivered cart and mail, and one of another cart that waits for its approval.
func cartWaits(t *testing.T, config string) (l *line, tree files, waits slipway.Run) {
	l = newLine(t)
	tree = changed(changed(service("cart", "mail"), "cart", "0"), "mail", "0").with("lib/a", "1").with("slipway.yaml", config)
	first := l.pushes(tree)
	l.ok(l.votes(first, "cart", true))
	l.ok(l.votes(first, "mail", true))
	if done := l.works(first); done.State != slipway.RunSucceeded {
		t.Fatalf("run %+v", done)
	}
	tree = changed(tree, "cart", "1")
	waits = l.pushes(tree)
	l.wantAsking(fmt.Sprintf("cart of run #%d in live", waits.ID))
	return l, tree, waits
}

// A push that has nothing of a service leaves it to the run that waits for people with it, and asks nobody again;
// what these agree to is what that run built.
func TestAPushLeavesAServiceToTheRunThatWaits(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	readme := l.pushes(tree.with("README", "1"))
	l.wants(l.plan(readme), map[string]string{"cart": leftTo(waits), "mail": "skipped, the changed file"})
	if readme.State != slipway.RunSucceeded {
		t.Errorf("run %+v", readme)
	}
	mail := l.pushes(changed(tree, "mail", "1"))
	l.wants(l.plan(mail), map[string]string{"cart": leftTo(waits), "mail": "runs: "})
	l.wantAsking(fmt.Sprintf("cart of run #%d in live", waits.ID), fmt.Sprintf("mail of run #%d in live", mail.ID))
	again := l.pushes(changed(tree, "mail", "1").with("README", "2"))
	l.wants(l.plan(again), map[string]string{"cart": leftTo(waits), "mail": leftTo(mail)})
	d, err := l.store.Run(l.ctx, again.ID)
	l.ok(err)
	if len(d.Steps) != 1 || d.Plan.Decisions[0].LeftTo != waits.ID || d.Plan.Decisions[0].Unchanged {
		t.Errorf("run %+v", d)
	}
	l.wantIn("live", "cart", "0")
	l.ok(l.votes(waits, "cart", true))
	if done := l.works(waits); done.State != slipway.RunSucceeded {
		t.Errorf("run %+v", done)
	}
	if at := l.cluster["live"]["cart"]; at != waits.Commit {
		t.Errorf("live has %s", at)
	}
	built, err := l.store.Built(l.ctx, "shop", "", refMain, 0)
	l.ok(err)
	if built.Of("cart") != (slipway.Done{Commit: waits.Commit, RunID: waits.ID}) {
		t.Errorf("done with %+v", built.Of("cart"))
	}
	last := l.pushes(changed(tree, "mail", "1").with("README", "3"))
	l.wants(l.plan(last), map[string]string{"cart": "skipped, none of the 2 changed files", "mail": leftTo(mail)})
}

// What comes of the run to which a service was left decides about the next push.
func TestWhatBecomesOfTheRunThatWaits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		becomes func(l *line, waits slipway.Run)
		says    string // of the next push
		live    string
	}{
		"rejected": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", false))
			l.works(waits)
		}, "runs: 1 of the 3 changed files", "1"},
		"cancelled": {func(l *line, waits slipway.Run) {
			l.ok(l.store.CancelRun(l.ctx, waits.ID, "ada", ""))
		}, "runs: 1 of the 3 changed files", "1"},
		"approved, and fails": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", true))
			for steps := l.ready(waits); len(steps) > 0; steps = l.ready(waits) {
				l.step(waits, steps[0], steps[0].Spec.Kind == slipway.KindVerify)
			}
		}, "runs: 1 of the 3 changed files", "1"},
		"approved, and is at work": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", true))
		}, "runs: 1 of the 3 changed files", "1"},
		"rejected, and retried": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", false))
			l.works(waits)
			l.ok(l.store.RetryRun(l.ctx, waits.ID, "ada"))
			l.works(waits)
		}, "skipped, run #2 of the same", "1"},
		"rejected, and retried after a push that has it": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", false))
			l.works(waits)
			l.pushes(l.trees[waits.Commit].with("README", "x"))
			l.ok(l.store.RetryRun(l.ctx, waits.ID, "ada"))
			l.works(waits)
		}, "skipped, run #4 of the same", "1"},
		"nothing": {func(*line, slipway.Run) {}, "skipped, run #2 of the same", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, tree, waits := cartWaits(t, approved)
			l.wants(l.plan(l.pushes(tree.with("README", "1"))), map[string]string{"cart": leftTo(waits)})
			c.becomes(l, waits)
			next := l.pushes(tree.with("README", "2").with("TODO", "1"))
			l.wants(l.plan(next), map[string]string{"cart": c.says, "mail": "skipped"})
			l.quiets()
			l.wantIn("development", "cart", "1")
			l.wantIn("live", "cart", c.live)
			last := l.pushes(tree.with("README", "3"))
			l.wants(l.plan(last), map[string]string{"cart": "skipped, ", "mail": "skipped"})
			l.wantAsking()
		})
	}
}

// quiets goes on until nothing does; people agree to all that is asked.
func (l *line) quiets() {
	l.t.Helper()
	for range 20 {
		for _, run := range l.all(refMain) {
			l.works(run)
		}
		open, err := l.store.Approvals(l.ctx, "shop", slipway.ApprovalWaiting)
		l.ok(err)
		if len(open) == 0 {
			l.quiet(refMain)
			return
		}
		l.do(l.store.Vote(l.ctx, open[len(open)-1].ID, slipway.Vote{User: "bob", Approve: true, Reason: "so"}, slipway.Approvals{}))
	}
	l.t.Errorf("people are still asked for %q", l.asking())
}

// A service that waits runs again when anything of it, or of what leads it to people, is different.
func TestAServiceThatWaitsAndIsAnotherOneRuns(t *testing.T) {
	t.Parallel()
	shared := approved + "services:\n  cart: {dependsOn: [/lib]}\n"
	after := approved + "services:\n  mail: {after: [cart]}\n"
	for name, c := range map[string]struct {
		config string
		change func(tree files) files
	}{
		"code":         {approved, func(f files) files { return changed(f, "cart", "2") }},
		"shared code":  {shared, func(f files) files { return f.with("lib/a", "2") }},
		"a setting":    {approved, func(f files) files { return f.with("slipway.yaml", approved+"services:\n  cart: {args: {a: b}}\n") }},
		"the way back": {approved, func(f files) files { return f.with("slipway.yaml", approved+"services:\n  cart: {rollback: manual}\n") }},
		"an environment": {approved, func(f files) files {
			return f.with("slipway.yaml", strings.Replace(approved, "live, trigger", "live, namespace: x, trigger", 1))
		}},
		"more approvals": {approved, func(f files) files {
			return f.with("slipway.yaml", strings.Replace(approved, "required: 1", "required: 2", 1))
		}},
		"fewer approvals": {approved, func(f files) files {
			return f.with("slipway.yaml", strings.Replace(approved, "required: 1", "required: 0", 1))
		}},
		"an environment between": {approved, func(f files) files {
			return f.with("slipway.yaml", strings.Replace(approved, "  - {name: live", "  - {name: qa, trigger: default-branch}\n  - {name: live", 1))
		}},
		"a gate": {approved, func(f files) files {
			return f.with("slipway.yaml", approved+"gates: {vulnerabilities: {failOn: low}}\n")
		}},
		"a gate of an environment": {approved, func(f files) files {
			return f.with("slipway.yaml", strings.Replace(approved, "production: true", "production: true, gates: {coverage: {minimum: 75}}", 1))
		}},
		"what comes after it": {after, func(f files) files { return changed(f, "mail", "2") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, tree, waits := cartWaits(t, c.config)
			l.wants(l.plan(l.pushes(tree.with("README", "1"))), map[string]string{"cart": leftTo(waits)})
			next := l.pushes(c.change(tree).with("README", "1"))
			l.wants(l.plan(next), map[string]string{"cart": "runs: "})
			if asking := l.asking(); slices.Contains(asking, fmt.Sprintf("cart of run #%d in live", waits.ID)) {
				t.Errorf("people are asked for %q", asking)
			}
			if said := l.plan(next)["cart"]; !strings.Contains(said, fmt.Sprintf("; run #%d waits for people in live with it, and gives way when this one does", waits.ID)) {
				t.Error(said)
			}
		})
	}
}

// What is no part of a service nor of its way to people makes no difference to it.
func TestAServiceThatWaitsAndIsTheSameDoesNotRun(t *testing.T) {
	t.Parallel()
	waiver := "gates: {waivers: [{gate: vulnerabilities, subject: CVE-2026-1, service: mail, reason: so, expires: " + inDays(100).Format(time.DateOnly) + ", author: ada}]}\n"
	for name, change := range map[string]func(tree files) files{
		"a waiver for another service":  func(f files) files { return f.with("slipway.yaml", approved+waiver) },
		"a setting of another service":  func(f files) files { return f.with("slipway.yaml", "services:\n  mail: {rollback: manual}\n"+approved) },
		"an environment for releases":   func(f files) files { return f.with("slipway.yaml", approved+"  - {name: qa, trigger: release}\n") },
		"pull requests":                 func(f files) files { return f.with("slipway.yaml", approved+"pullRequests: {approvals: 1}\n") },
		"another service that is taken": func(f files) files { return service("cart").with("src/cart/f", "1").with("slipway.yaml", approved) },
		"a new service":                 func(f files) files { return f.with("src/orders/Dockerfile", "FROM scratch\n") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, tree, waits := cartWaits(t, approved)
			next := l.pushes(change(tree))
			l.wants(l.plan(next), map[string]string{"cart": leftTo(waits)})
			l.quiets()
			l.wantIn("live", "cart", "1")
		})
	}
}
