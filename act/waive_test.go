package act_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// waived has a waiver that holds, and two that have ended.
var waived = `gates:
  rules: [{name: small-image, stage: scan, expression: evidence.image.size < 1000, message: too large}]
  waivers:
    - {gate: tests, subject: "unit/TestA", reason: flaky, author: ada, expires: ` + inDays(200).Format(time.DateOnly) + `}
environments:
  - name: qa
    gates:
      rules: [{name: no-friday, expression: "true", message: not on fridays}]
      waivers: [{gate: secrets, subject: key a.pem, reason: a test's, author: bob, expires: 2020-01-01}, {gate: secrets, subject: key b.pem, reason: a test's, author: bob, expires: 2020-01-01}]
  - {name: prod, production: true}
`

// inDays is the beginning of a day to come.
func inDays(n int) time.Time { return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, n) }

func (w *world) withWaivers() {
	w.t.Helper()
	w.push(w.approver, "refs/heads/main", w.commit("", "gates", service("cart").with("slipway.yaml", waived)))
}

func good() slipway.Waiver {
	return slipway.Waiver{Project: "shop", Gate: "vulnerabilities", Subject: "CVE-1 openssl", Reason: "not reachable", Expires: inDays(30)}
}

func TestWaiversOfTheFileAndOfPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all, err := w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	if len(all) != 0 {
		t.Errorf("before the first push: %+v", all)
	}
	w.withWaivers()
	w.do(w.GiveWaiver(w.ctx, w.approver, good()))
	in := good()
	in.Gate, in.Subject, in.Service, in.Environment = "no-friday", "no-friday", "cart", "prod"
	w.do(w.GiveWaiver(w.ctx, w.admin, in))
	held, err := w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop", Holding: true})
	w.ok(err)
	if len(held) != 3 || held[0].Place == "" {
		t.Errorf("those that hold: %+v", held)
	}
	if older, err := w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop", Before: 1}); err != nil || len(older) != 0 {
		t.Errorf("a further page has %+v %v", older, err)
	}
	all, err = w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	var got []string
	for _, v := range all {
		got = append(got, strings.Join([]string{v.Gate, v.Subject, v.Environment, v.Author, v.Place}, ", "))
	}
	want := []string{ // both environments have the first, and it is listed once
		"tests, unit/TestA, , ada, slipway.yaml:4",
		"secrets, key a.pem, qa, bob, slipway.yaml:9",
		"secrets, key b.pem, qa, bob, slipway.yaml:9",
		"no-friday, no-friday, prod, admin, ",
		"vulnerabilities, CVE-1 openssl, , approver, ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	w.push(w.approver, "refs/heads/main", w.commit(w.ref("refs/heads/main"), "less", service("mail").with("slipway.yaml", "environments:\n  - {name: qa}\n")))
	in.Service, in.Environment = "mail", "qa"
	in.Gate, in.Subject = "tests", "unit/TestB"
	w.do(w.GiveWaiver(w.ctx, w.admin, in))
	all, err = w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	problems := map[string]string{}
	for _, v := range all {
		problems[v.Subject] = v.Problem
	}
	if want := map[string]string{"unit/TestB": "", "no-friday": "there is no service cart", "CVE-1 openssl": ""}; !maps.Equal(problems, want) {
		t.Errorf("problems %v, want %v", problems, want)
	}
	w.push(w.approver, "refs/heads/main", w.commit(w.ref("refs/heads/main"), "cart again", service("mail", "cart").with("slipway.yaml", "environments:\n  - {name: qa}\n")))
	if all, err = w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop"}); err != nil || all[1].Problem != "there is no environment prod" {
		t.Errorf("%+v %v", all, err)
	}
	_, err = w.Waivers(w.ctx, w.stranger, slipway.WaiverFilter{Project: "shop"})
	w.code(err, slipway.NotFound)
	_, err = w.Waivers(w.ctx, slipway.User{}, slipway.WaiverFilter{Project: "shop"})
	w.code(err, slipway.Unauthorized)
	_, err = w.Waivers(w.ctx, w.admin, slipway.WaiverFilter{Project: "nothing"})
	w.code(err, slipway.NotFound)
}

// What the default branch says may be broken; what people gave is shown on, and more can be given.
func TestWaiversBesideABrokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	w.do(w.GiveWaiver(w.ctx, w.approver, good()))
	w.move("refs/heads/main", w.commit("", "broken", service("cart").with("slipway.yaml", "gates: {tests: perhaps}\n"))) // a mirror's
	in := good()
	in.Environment = "development"
	w.do(w.GiveWaiver(w.ctx, w.approver, in))
	all, err := w.Waivers(w.ctx, w.viewer, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	if len(all) != 2 || all[0].ID == 0 || all[1].ID == 0 || all[0].Problem+all[1].Problem != "" {
		t.Errorf("%+v", all)
	}
}

func TestWhoMayWaive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	robot := slipway.User{Name: "robot-shop-qa", Robot: &slipway.Robot{Project: "shop", Environment: "qa"}}
	given, err := w.GiveWaiver(w.ctx, w.approver, good())
	w.ok(err)
	for name, c := range map[string]struct {
		by   slipway.User
		code slipway.Code
	}{
		"a developer": {w.developer, slipway.Forbidden}, "a viewer": {w.viewer, slipway.Forbidden}, "a stranger": {w.stranger, slipway.NotFound},
		"nobody": {slipway.User{}, slipway.Unauthorized}, "a robot": {robot, slipway.Forbidden},
	} {
		if _, err := w.GiveWaiver(w.ctx, c.by, good()); slipway.ErrorCode(err) != c.code {
			t.Errorf("%s gives one: %v, want %s", name, err, c.code)
		}
		if _, err := w.WithdrawWaiver(w.ctx, c.by, given.ID); slipway.ErrorCode(err) != c.code {
			t.Errorf("%s withdraws one: %v, want %s", name, err, c.code)
		}
	}
	// Who has no role in the project is not told that there is one.
	_, err = w.WithdrawWaiver(w.ctx, w.stranger, given.ID)
	hidden := err.Error()
	_, err = w.WithdrawWaiver(w.ctx, w.stranger, given.ID+7)
	w.code(err, slipway.NotFound, "one of slipway.yaml is taken out there")
	if strings.ReplaceAll(err.Error(), "8", "1") != hidden {
		t.Errorf("%q tells it from %q", hidden, err)
	}
	_, err = w.WithdrawWaiver(w.ctx, slipway.User{}, 99)
	w.code(err, slipway.Unauthorized)
	back, err := w.WithdrawWaiver(w.ctx, w.admin, given.ID)
	w.ok(err)
	if back.Withdrawn.IsZero() || back.Author != "approver" {
		t.Errorf("%+v", back)
	}
	_, err = w.WithdrawWaiver(w.ctx, w.admin, given.ID)
	w.code(err, slipway.Conflict)
}

// Who gives a waiver is its author, whatever the request says.
func TestTheAuthorOfAWaiver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	in := good()
	in.ID, in.Author, in.Place, in.Withdrawn, in.CreatedAt = 77, "boss", "slipway.yaml:1", time.Unix(1, 0), time.Unix(1, 0)
	in.Subject, in.Reason = "  CVE-1 openssl ", " not reachable\n"
	got, err := w.GiveWaiver(w.ctx, w.approver, in)
	w.ok(err)
	if got.ID != 1 || got.Author != "approver" || got.Place != "" || !got.Withdrawn.IsZero() || got.CreatedAt.Unix() == 1 || got.Subject != "CVE-1 openssl" || got.Reason != "not reachable" {
		t.Errorf("%+v", got)
	}
}

func TestRefusedWaivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	for name, c := range map[string]struct {
		change func(v *slipway.Waiver)
		says   string
	}{
		"no gate":              {func(v *slipway.Waiver) { v.Gate = "" }, `gate ""`},
		"no such gate":         {func(v *slipway.Waiver) { v.Gate = "Tests" }, "there are tests, coverage, vulnerabilities, database, secrets, manifests, signatures, small-image, no-friday"},
		"no subject":           {func(v *slipway.Waiver) { v.Subject = " " }, "name what is waived"},
		"two lines":            {func(v *slipway.Waiver) { v.Subject = "a\nb" }, "in one line"},
		"a null":               {func(v *slipway.Waiver) { v.Subject = "a\x00b" }, "in one line"},
		"a long subject":       {func(v *slipway.Waiver) { v.Subject = strings.Repeat("x", 501) }, "at most 500"},
		"everything":           {func(v *slipway.Waiver) { v.Subject = "*" }, "would waive everything"},
		"everything, hidden":   {func(v *slipway.Waiver) { v.Subject = "* ** *" }, "would waive everything"},
		"no reason":            {func(v *slipway.Waiver) { v.Reason = " \n" }, "say why"},
		"a long reason":        {func(v *slipway.Waiver) { v.Reason = strings.Repeat("x", 2001) }, "at most 2000"},
		"no such environment":  {func(v *slipway.Waiver) { v.Environment = "moon" }, `environment "moon"`},
		"a service with dots":  {func(v *slipway.Waiver) { v.Service = "../cart" }, `service "../cart"`},
		"no such service":      {func(v *slipway.Waiver) { v.Service = "Crat" }, `service "Crat": project shop has no service of that name; did you mean cart?`},
		"a strange service":    {func(v *slipway.Waiver) { v.Service = "payments" }, "has no service of that name; it has cart"},
		"a near environment":   {func(v *slipway.Waiver) { v.Environment = "pord" }, "none of that name; did you mean prod?"},
		"a huge service":       {func(v *slipway.Waiver) { v.Service = strings.Repeat("cart", 1<<18) }, "has no service of that name"},
		"today":                {func(v *slipway.Waiver) { v.Expires = time.Now() }, "which is over"},
		"no end":               {func(v *slipway.Waiver) { v.Expires = time.Time{} }, "which is over"},
		"more than a year":     {func(v *slipway.Waiver) { v.Expires = inDays(368) }, "a year is the longest"},
		"the end of all times": {func(v *slipway.Waiver) { v.Expires = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, "until 9999-01-01"},
	} {
		in := good()
		c.change(&in)
		_, err := w.GiveWaiver(w.ctx, w.approver, in)
		if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	in := good()
	in.Project = "nothing"
	_, err := w.GiveWaiver(w.ctx, w.admin, in)
	w.code(err, slipway.NotFound)
	if all, err := w.store.Waivers(w.ctx, slipway.WaiverFilter{Project: "shop"}); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
	for name, change := range map[string]func(v *slipway.Waiver){
		"a rule of the project":       func(v *slipway.Waiver) { v.Gate, v.Subject = "small-image", "small-image" },
		"a rule of an environment":    func(v *slipway.Waiver) { v.Gate, v.Subject = "no-friday", "no-friday" },
		"stars among letters":         func(v *slipway.Waiver) { v.Subject = "CVE-* openssl*" },
		"an environment":              func(v *slipway.Waiver) { v.Environment = "qa" },
		"a service":                   func(v *slipway.Waiver) { v.Service = "cart" },
		"a year":                      func(v *slipway.Waiver) { v.Expires = inDays(366) },
		"the next moment":             func(v *slipway.Waiver) { v.Expires = time.Now().Add(time.Minute) },
		"a subject of 500 characters": func(v *slipway.Waiver) { v.Subject = strings.Repeat("x", 500) },
	} {
		in := good()
		change(&in)
		if _, err := w.GiveWaiver(w.ctx, w.approver, in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What cannot prove where it comes from is let in by an admin of the project, and not by one approver.
func TestSignaturesAreWaivedByAdmins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	in := good()
	in.Gate, in.Subject = slipway.GateSignatures, "signature registry.test/shop/cart"
	_, err := w.GiveWaiver(w.ctx, w.approver, in)
	w.code(err, slipway.Forbidden)
	w.do(w.GiveWaiver(w.ctx, w.admin, in))
}

// Who may not waive a signature does not write such a waiver, or a lower level, into the default branch either.
func TestLessOfSignaturesTakesAnAdmin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withWaivers()
	for _, less := range []string{
		"environments: [{name: qa}, {name: prod, production: true, gates: {signatures: {level: off}}}]\n",
		"environments: [{name: qa}, {name: prod, production: true}]\ngates:\n  waivers: [{gate: signatures, subject: unsigned *, reason: later, author: eve, expires: " + inDays(9).Format(time.DateOnly) + "}]\n",
	} {
		before := w.ref("refs/heads/main")
		head := w.commit(before, "less", service("cart").with("slipway.yaml", less))
		_, err := w.receive(w.approver, "refs/heads/main", head)
		w.code(err, slipway.Forbidden, "less of signatures", "admin")

		p, _ := w.propose(w.developer, "", head)
		w.succeed(w.allRuns()[0].ID)
		w.do(w.ReviewPull(w.ctx, w.approver, "shop", p.Number, p.Head))
		_, err = w.Merge(w.ctx, w.approver, "shop", p.Number)
		w.code(err, slipway.Forbidden, "less of signatures", "slipway pulls approve")
		if w.ref("refs/heads/main") != before {
			t.Error("the default branch moved")
		}
		w.do(w.ReviewPull(w.ctx, w.admin, "shop", p.Number, p.Head))
		w.do(w.Merge(w.ctx, w.developer, "shop", p.Number))
	}
	w.push(w.admin, "refs/heads/main", w.commit(w.ref("refs/heads/main"), "off", service("cart").with("slipway.yaml", "gates: {signatures: {level: off}}\nenvironments: [{name: qa}]\n")))
	w.push(w.approver, "refs/heads/main", w.commit(w.ref("refs/heads/main"), "still off", service("cart", "mail").with("slipway.yaml", "gates: {signatures: {level: off}}\nenvironments: [{name: qa}]\n")))
	head := w.commit(w.ref("refs/heads/main"), "on", service("cart", "mail").with("slipway.yaml", "environments: [{name: qa}]\n"))
	w.push(w.approver, "refs/heads/main", head)
}
