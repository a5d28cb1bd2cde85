package web

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "plain\ttext\n": "plain\ttext\n", "Zürich, Ελλάδα, 日本, שלום": "Zürich, Ελλάδα, 日本, שלום", "👩\u200d💻": "👩\u200d💻",
		"\x1b[31mred\x1b[0m": `\x1b[31mred\x1b[0m`, "a\rb\x00\x7f": `a\x0db\x00\x7f`, "\u202egnp.exe\u2066\u200f": `\u202egnp.exe\u2066\u200f`,
		"\u0085\u009b31m": `\u0085\u009b31m`, "zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`, "\u2028\u2029": `\u2028\u2029`, "\U000e0041": `\ue0041`,
		"broken \xff\xfe": "broken \xff\xfe",
	} {
		if got := visible(in); got != want {
			t.Errorf("%q is shown as %q, not %q", in, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 40 * time.Millisecond: "40 ms", 1500 * time.Millisecond: "1.5 s", 3 * time.Second: "3 s", 59900 * time.Millisecond: "59 s",
		61 * time.Second: "1 min 1 s", 2 * time.Hour: "2 h 0 min", 73*time.Hour + 20*time.Minute: "73 h 20 min",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
	now := time.Unix(1e9, 0)
	for d, want := range map[time.Duration]string{
		-time.Hour: "now", 10 * time.Millisecond: "now", 12 * time.Second: "12 s ago", 90 * time.Second: "1 min ago", 90 * time.Minute: "90 min ago", 30 * time.Hour: "30 h ago", 80 * time.Hour: "3 days ago",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
}

// Every state has a colour and a sign of its own choice; a new one has to be given one.
func TestTones(t *testing.T) {
	t.Parallel()
	idle := []string{"blocked", "skipped", "cancelled", "replaced", "superseded", "closed"}
	var states []string
	for _, s := range slipway.RunStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.StepStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.DeploymentStates() {
		states = append(states, string(s))
	}
	for _, s := range slipway.ApprovalStates() {
		states = append(states, string(s))
	}
	for _, s := range []slipway.PullState{slipway.PullOpen, slipway.PullMerged, slipway.PullClosed} {
		states = append(states, string(s))
	}
	for _, s := range states {
		if (tone(s) == "idle") != slices.Contains(idle, s) {
			t.Errorf("%s has the tone %s", s, tone(s))
		}
	}
}

func line(group, state, text string) slipway.LogLine {
	return slipway.LogLine{Group: group, State: state, Text: text}
}

func TestFolded(t *testing.T) {
	t.Parallel()
	var f folded
	for i, l := range []slipway.LogLine{
		line("a", "started", "a"), line("b", "cached", "b"), line("a", "", "one"), line("", "", "between"), line("a", "", "two"), line("a", "done", "1.2s"),
		line("a", "started", "a"), line("a", "", "again"), line("a", "failed", "exit code 1"), line("", "", "end"), line("", "", "of it"),
		line("w", "started", "0 of 2"), line("w", "started", "1 of 2"), line("w", "done", "2 of 2"), line("w", "", "an afterthought"),
	} {
		l.Time = time.Unix(int64(i), 0)
		f.add(l)
	}
	var got []string
	for _, g := range f.Groups {
		var texts []string
		for _, l := range g.Lines {
			texts = append(texts, l.Text)
		}
		got = append(got, fmt.Sprintf("%d %s %s %v open=%v %s", g.ID, g.Name, g.State, g.Took(), g.Open(), strings.Join(texts, "|")))
	}
	want := []string{
		"1 a done 5s open=false one|two", "2 b cached 0s open=false ", "3   0s open=true between", "4 a failed 2s open=true again|exit code 1",
		"5   0s open=true end|of it", "6 w done 2s open=false 0 of 2|1 of 2|2 of 2|an afterthought",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the groups are\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	texts := func(lines []slipway.LogLine) string {
		var out []string
		for _, l := range lines {
			out = append(out, l.Text)
		}
		return strings.Join(out, "|")
	}
	var bad, good folded
	for _, l := range []slipway.LogLine{line("a", "", "1"), line("a", "", "2"), line("a", "failed", "why"), line("b", "", "later"), line("b", "done", ""), line("", "", "why")} {
		bad.add(l)
	}
	if got := texts(bad.tail(2, "why")); got != "1|2" {
		t.Errorf("what failed says %s", got)
	}
	for _, l := range []slipway.LogLine{line("a", "", "1"), line("", "", "2"), line("b", "", "3"), line("", "", "why")} {
		good.add(l)
	}
	if got := texts(good.tail(2, "why")); got != "2|3" {
		t.Errorf("the log ends with %s", got)
	}
	if got := texts((&folded{}).tail(2, "")); got != "" {
		t.Errorf("an empty log ends with %s", got)
	}
}

// A log of any length is held in bounded space, and its end is what is kept.
func TestFoldedBounded(t *testing.T) {
	t.Parallel()
	var f folded
	const lines = 50_000
	for i := range lines {
		f.add(line(fmt.Sprint(i%3*i), "", fmt.Sprint(i)))
		if f.held > 2*mostLines+1 || len(f.Groups) > 2*mostLines+1 || len(f.open) > 2*mostLines+1 {
			t.Fatalf("%d lines, %d groups and %d open ones are held", f.held, len(f.Groups), len(f.open))
		}
	}
	kept := 0
	for _, g := range f.Groups {
		kept += len(g.Lines)
	}
	if f.Read != lines || kept+f.Cut != lines {
		t.Errorf("of %d lines %d are held and %d are not", f.Read, kept, f.Cut)
	}
	if last := f.Groups[len(f.Groups)-1]; last.Lines[len(last.Lines)-1].Text != fmt.Sprint(lines-1) {
		t.Error("the end is lost")
	}
}

func steps(specs ...string) []slipway.Step {
	var out []slipway.Step
	for _, s := range specs {
		key, needs, _ := strings.Cut(s, " ")
		spec := slipway.PlanStep{Key: key, Needs: strings.Fields(needs)}
		kind, rest, _ := strings.Cut(key, "/")
		spec.Service, spec.Environment, _ = strings.Cut(rest, "@")
		spec.Kind = slipway.StepKind(kind)
		out = append(out, slipway.Step{Spec: spec})
	}
	return out
}

func TestLayOut(t *testing.T) {
	t.Parallel()
	all := steps("plan", "build/a plan", "test/a build/a", "chart/a plan", "publish/a build/a test/a chart/a", "build/b plan", "publish/b build/b",
		"deploy/a@qa publish/a", "verify/a@qa deploy/a@qa", "deploy/b@qa publish/b verify/a@qa", "deploy/a@production verify/a@qa", "verify/a@production deploy/a@production", "rollback/a@production")
	g := layOut(all, 7, "test/a")
	at := map[string]node{}
	for _, n := range g.Nodes {
		at[n.Step.Spec.Key] = n
		for _, o := range g.Nodes {
			if o.Step.Spec.Key != n.Step.Spec.Key && o.X < n.X+nodeWidth && n.X < o.X+nodeWidth && o.Y < n.Y+nodeHeight && n.Y < o.Y+nodeHeight {
				t.Errorf("%s lies on %s", n.Step.Spec.Key, o.Step.Spec.Key)
			}
		}
		if n.X < 0 || n.Y < 0 || n.X+nodeWidth > g.Width || n.Y+nodeHeight > g.Height {
			t.Errorf("%s lies outside", n.Step.Spec.Key)
		}
	}
	for _, s := range all {
		for _, need := range s.Spec.Needs {
			if at[need].X >= at[s.Spec.Key].X {
				t.Errorf("%s is not right of %s", s.Spec.Key, need)
			}
		}
	}
	if at["rollback/a@production"].X <= at["verify/a@production"].X {
		t.Error("the rollback is not right of what it follows")
	}
	if at["build/a"].Y != at["deploy/a@production"].Y || at["build/a"].Y == at["build/b"].Y {
		t.Error("a service does not keep its lane")
	}
	if len(g.Bands) != 3 || g.Bands[1].Label != "qa" || g.Bands[2].X < g.Bands[1].X+g.Bands[1].Width {
		t.Errorf("the bands are %v", g.Bands)
	}
	if !at["test/a"].Selected || at["test/a"].Href != "/runs/7?step=test%2Fa#step" {
		t.Errorf("the chosen step is %+v", at["test/a"])
	}
}

// Whatever the steps are, they can be laid out: none, needs that are not there, circles.
func TestLayOutOdd(t *testing.T) {
	t.Parallel()
	for _, all := range [][]slipway.Step{nil, steps("plan"), steps("build/a nothing"), steps("a b", "b a"), steps("a a"), steps("rollback/a@qa", "verify/a@qa rollback/a@qa"), steps("x/a@late y/a@early", "y/a@early"), steps("plan", "plan")} {
		if g := layOut(all, 1, ""); len(g.Nodes) != len(all) {
			t.Errorf("%v: %d nodes", all, len(g.Nodes))
		}
	}
}

func TestChooseStep(t *testing.T) {
	t.Parallel()
	step := func(key string, state slipway.StepState, attempt int) slipway.Step {
		return slipway.Step{Spec: slipway.PlanStep{Key: key}, State: state, Attempt: attempt}
	}
	done, bad, worse, work, wait := step("done", slipway.StepSucceeded, 1), step("bad", slipway.StepFailed, 1), step("worse", slipway.StepErrored, 1), step("work", slipway.StepRunning, 1), step("wait", slipway.StepBlocked, 0)
	for _, c := range []struct {
		steps       []slipway.Step
		asked, want string
	}{
		{[]slipway.Step{done, bad, work, wait}, "", "work"}, {[]slipway.Step{done, bad, worse, wait}, "", "bad"}, {[]slipway.Step{done, wait}, "", "done"},
		{[]slipway.Step{wait}, "", "wait"}, {[]slipway.Step{done, bad, wait}, "wait", "wait"}, {[]slipway.Step{done, bad}, "gone", "bad"},
	} {
		if got := chooseStep(slipway.RunDetail{Steps: c.steps}, c.asked); got.Spec.Key != c.want {
			t.Errorf("of %v with %q asked for it is %s, not %s", c.steps, c.asked, got.Spec.Key, c.want)
		}
	}
	if got := chooseStep(slipway.RunDetail{}, "x"); got != nil {
		t.Errorf("of no steps it is %v", got)
	}
}

// The script stays small enough to be read.
func TestScriptSize(t *testing.T) {
	t.Parallel()
	b, err := fs.ReadFile(files, "assets/slipway.js")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 280 {
		t.Errorf("it has %d lines", n)
	}
	if strings.Contains(string(b), "eval(") || strings.Contains(string(b), "http://") || strings.Contains(string(b), "https://") {
		t.Error("it evaluates text or names another site")
	}
}

// What a test wrote is cut to how it begins and how it ends.
func TestExcerpt(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 600 {
		lines = append(lines, fmt.Sprint("line ", i))
	}
	for n, want := range map[int]string{0: "", 1: "line 0", 15: strings.Join(lines[:15], "\n"), 600: strings.Join(lines[:6], "\n") + "\n… 586 lines …\n" + strings.Join(lines[592:], "\n")} {
		if got := excerpt(strings.Join(lines[:n], "\n") + "\n"); got != want {
			t.Errorf("of %d lines it is %q, not %q", n, got, want)
		}
	}
	lines[300] = slipway.LeftOut(1_234_567)
	if got, want := excerpt(strings.Join(lines, "\n")), "line 5\n… 586 lines and 1.2 MB …\nline 592"; !strings.Contains(got, want) {
		t.Errorf("with something left out before it is %q", got)
	}
	if got := excerpt("a\n" + slipway.LeftOut(70_000) + "\nb"); got != "a\n… 70 kB left out …\nb" {
		t.Errorf("a short one is %q", got)
	}
	if got := excerpt(strings.Repeat("é", 4000)); len(got) > excerptLine+10 || strings.ContainsRune(got, '\ufffd') || !strings.HasSuffix(got, "é …") {
		t.Errorf("of one long line it is %d bytes: %.20q", len(got), got)
	}
}

// A reason leads to the run that it names, and to nothing else.
func TestLinked(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "plain": "plain",
		"superseded by run #12, which came later": `superseded by <a href="/runs/12">run #12</a>, which came later`,
		"run #1 and run #2":                       `<a href="/runs/1">run #1</a> and <a href="/runs/2">run #2</a>`,
		"run #" + strings.Repeat("9", 30):         "run #" + strings.Repeat("9", 30),
		`run #x"><script>`:                        `run #x&#34;&gt;&lt;script&gt;`,
		"run #7<b>\u202e":                         `<a href="/runs/7">run #7</a>&lt;b&gt;\u202e`,
		"run #":                                   "run #",
	} {
		if got := string(linked(in)); got != want {
			t.Errorf("%q is shown as %q, not %q", in, got, want)
		}
	}
}

// Time in which several approvals wait counts once.
func TestWaited(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	at := func(min int) time.Time { return now.Add(time.Duration(min-100) * time.Minute) }
	d := slipway.RunDetail{Approvals: []slipway.Approval{
		{State: slipway.ApprovalWaiting, CreatedAt: at(90)},
		{State: slipway.ApprovalApproved, CreatedAt: at(10), DecidedAt: at(30)},
		{State: slipway.ApprovalApproved, CreatedAt: at(12), DecidedAt: at(20)},
		{State: slipway.ApprovalRejected, CreatedAt: at(25), DecidedAt: at(40)},
		{State: slipway.ApprovalWaiting, CreatedAt: at(95)},
		{State: slipway.ApprovalSuperseded, CreatedAt: at(50)},
	}}
	if got := waited(now, d); got != 40*time.Minute {
		t.Errorf("it waited %v, not 40 minutes", got)
	}
}

// A rollback says how the check after it ended; one that a person asked for is the run itself.
func TestBackOf(t *testing.T) {
	t.Parallel()
	back := slipway.Step{State: slipway.StepSucceeded, Spec: slipway.PlanStep{Key: "rollback/web@qa", Kind: slipway.KindRollback, Service: "web", Environment: "qa", Rollback: &slipway.RollbackSpec{Automatic: true, From: slipway.Deployment{Version: "v2"}, To: slipway.Deployment{Version: "v1"}}}}
	check := slipway.Step{State: slipway.StepFailed, Spec: slipway.PlanStep{Key: "verify/web@qa-2", Kind: slipway.KindVerify, Needs: []string{"rollback/web@qa"}}}
	d := slipway.RunDetail{Run: slipway.Run{ID: 3, Event: slipway.DefaultPush}, Steps: []slipway.Step{back, check}}
	want := wentBack{Service: "web", Environment: "qa", From: "v2", To: "v1", Href: stepHref(3, "verify/web@qa-2"), State: slipway.StepFailed, Quarantined: true}
	if got := backOf(d); len(got) != 1 || got[0] != want {
		t.Errorf("it is %+v, not %+v", got, want)
	}
	d.Steps[0].State = slipway.StepErrored
	if got := backOf(d); len(got) != 1 || got[0].State != slipway.StepErrored || got[0].Href != stepHref(3, "rollback/web@qa") {
		t.Errorf("of one that ended in an error it is %+v", got)
	}
	d.Run.Event = slipway.RollbackCall
	if got := backOf(d); got != nil {
		t.Errorf("of a person's it is %+v", got)
	}
}

// A waiver says so when it ends soon.
func TestLeft(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for d, want := range map[time.Duration]string{-time.Hour: "", 0: "", 5 * time.Hour: "ends in 5 h", 3*24*time.Hour + time.Hour: "ends in 3 days", 14 * 24 * time.Hour: "ends in 14 days", 15 * 24 * time.Hour: ""} {
		if got := left(now, now.Add(d)); got != want {
			t.Errorf("%v before its end it says %q, not %q", d, got, want)
		}
	}
}

// The way back after a failed deployment decides about its service once more: it is still one.
func TestServicesOfAPlanAreCountedOnce(t *testing.T) {
	t.Parallel()
	p := &runPage{RunDetail: slipway.RunDetail{Plan: slipway.Plan{Decisions: []slipway.Decision{
		{Service: "delivery", Runs: true}, {Service: "web"}, {Service: "delivery", Runs: true, Reason: "rollback"}, {Reason: "no service is affected"},
	}}}}
	if p.Services() != 2 || p.Running() != 1 {
		t.Errorf("%d of %d services, want 1 of 2", p.Running(), p.Services())
	}
}
