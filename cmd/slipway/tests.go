package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

// testFlags are what `slipway tests` is asked for.
type testFlags struct {
	run       string
	ref, name string
	save      string // folder for attachments
	all       bool
	limit     int
}

func (c *cli) tests() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use: "tests [RUN|SERVICE]", Short: "Results of tests: new failures first, flaky and slowest tests, coverage",
		Long: "Shows the tests of a service's newest report, or of a run (12, the newest without an argument):\n" +
			"new failures with their output first, then other failures, flaky tests, the slowest ones, and coverage with its\nchange against the base branch. With --run it shows those of a service in a run, with --case how\none test ended over the runs of a service.",
		Example: "  slipway tests delivery\n  slipway tests 12\n  slipway tests delivery --run 12\n  slipway tests delivery --case TestTotals\n  slipway tests delivery --ref main\n  slipway tests --run 12 --save results",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && f.run == "" && isRun(args[0]) {
			f.run, args = args[0], nil
		}
		switch {
		case f.limit < 1:
			return slipway.Errorf(slipway.Invalid, "--limit %d: expected 1 or more", f.limit)
		case f.ref != "" && (len(args) == 0 || f.run != ""):
			return slipway.Errorf(slipway.Invalid, "--ref wants a service and no run: slipway tests SERVICE --ref BRANCH")
		case f.name != "" && (len(args) == 0 || f.run != ""):
			return slipway.Errorf(slipway.Invalid, "--case wants a service and no run: slipway tests SERVICE --case NAME")
		case f.save != "" && f.run == "":
			return slipway.Errorf(slipway.Invalid, "--save wants a run: slipway tests --run RUN --save FOLDER")
		case f.name != "":
			return c.caseHistory(f)(cmd, args)
		case len(args) == 1 && f.run == "":
			return c.serviceTests(f)(cmd, args)
		}
		if err := c.runTests(f)(cmd, args); err != nil || f.save == "" {
			return err
		}
		return c.saveAttachments(cmd.Context(), f, args)
	}
	cmd.Flags().StringVar(&f.run, "run", "", "the tests of this run")
	cmd.Flags().StringVar(&f.ref, "ref", "", "only reports of this branch or ref")
	cmd.Flags().StringVar(&f.name, "case", "", "how the test of this name ended over the runs")
	cmd.Flags().StringVar(&f.save, "save", "", "save the attachments of the report below this folder, which must not have them yet")
	cmd.Flags().BoolVar(&f.all, "all", false, "every failure, with all of its output that is kept")
	cmd.Flags().IntVarP(&f.limit, "limit", "n", 10, "how many slow tests, files and earlier reports")
	return cmd
}

// fullRef makes a ref of a branch's name.
func fullRef(ref string) string {
	if ref == "" || strings.HasPrefix(ref, "refs/") {
		return ref
	}
	return "refs/heads/" + ref
}

func (c *cli) runTests(f testFlags) func(*cobra.Command, []string) error {
	return answer(c, func(ctx context.Context, q question) (slipway.RunTests, error) {
		var number []string
		if f.run != "" {
			number = []string{f.run}
		}
		id, err := c.runID(ctx, q.api, number)
		if err != nil {
			return slipway.RunTests{}, err
		}
		t, err := q.api.RunTests(ctx, id)
		if err != nil || len(q.args) == 0 {
			return t, err
		}
		var of []slipway.StepTests
		for _, s := range t.Steps {
			if s.Service == q.args[0] {
				of = append(of, s)
			}
		}
		if len(of) == 0 {
			return t, slipway.Errorf(slipway.NotFound, "run #%d has no test report of %s", id, q.args[0])
		}
		t.Steps = of
		return t, nil
	}, func(_ question, t slipway.RunTests) {
		if len(t.Steps) == 0 {
			c.out.line("run #%d has no test report", t.Run.ID)
		}
		for i, s := range t.Steps {
			if i > 0 {
				c.out.line("")
			}
			c.stepTests(s, f)
		}
	})
}

func (c *cli) serviceTests(f testFlags) func(*cobra.Command, []string) error {
	return inProject(c, func(ctx context.Context, q question) (slipway.ServiceTests, error) {
		return q.api.ServiceTests(ctx, q.project, q.args[0], fullRef(f.ref), f.limit)
	}, func(_ question, t slipway.ServiceTests) {
		if t.Latest != nil {
			c.stepTests(*t.Latest, f)
		}
		if len(t.Past) < 2 {
			return
		}
		c.out.line("\n%s", c.out.bold("reports"))
		var rows [][]string
		for _, p := range t.Past {
			rows = append(rows, []string{fmt.Sprintf("#%d", p.RunID), slipway.Printable(refName(p.Ref)), slipway.ShortHash(p.Commit), totalsText(p), coverageText(p.Coverage), short(p.Duration), ago(p.CreatedAt)})
		}
		c.out.table([]string{"RUN", "REF", "COMMIT", "TESTS", "COVERAGE", "TOOK", "CREATED"}, rows)
	})
}

func refName(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/")
}

func totalsText(t slipway.TestTotals) string {
	text := slipway.TestReport{Passed: t.Passed, Failed: t.Failed, Skipped: t.Skipped, New: t.New, Flaky: t.Flaky}.Counts()
	if t.ReusedFrom != 0 {
		text += fmt.Sprintf(", reused from #%d", t.ReusedFrom)
	}
	return text
}

func coverageText(v *slipway.Coverage) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.1f%%", v.Percent())
}

// stepTests prints a report, what people look for first.
func (c *cli) stepTests(s slipway.StepTests, f testFlags) {
	r := s.Report
	line := fmt.Sprintf("%s  %s  %s in %s", c.out.bold(fmt.Sprintf("run #%d %s", s.RunID, slipway.Printable(s.Step))), c.out.state(string(s.State)), r.Counts(), short(r.Duration))
	if s.ReusedFrom != 0 {
		line += c.out.dim(fmt.Sprintf("  reused from run #%d", s.ReusedFrom))
	}
	c.out.line("%s", line)
	c.coverageLine(s)
	c.notable(r, f)
	if slow := r.Slowest(f.limit); len(slow) > 0 {
		c.out.line("\n%s", c.out.bold("slowest"))
		var rows [][]string
		for _, t := range slow {
			rows = append(rows, []string{"  " + short(t.Duration), slipway.Printable(caseName(t))})
		}
		c.out.table(nil, rows)
	}
	if v := r.Coverage; v != nil && len(v.Files) > 0 {
		c.out.line("\n%s", c.out.bold("least covered"))
		var rows [][]string
		for _, file := range v.Files[:min(f.limit, len(v.Files))] {
			rows = append(rows, []string{"  " + coverageText(&slipway.Coverage{Covered: file.Covered, Total: file.Total}), fmt.Sprintf("%d of %d", file.Covered, file.Total), slipway.Printable(file.Path)})
		}
		c.out.table(nil, rows)
	}
	if len(r.Attachments) > 0 {
		c.out.line("\n%s", c.out.bold("attachments"))
		var rows [][]string
		for _, a := range r.Attachments[:min(f.limit, len(r.Attachments))] {
			rows = append(rows, []string{"  " + slipway.Printable(a.Name), fmt.Sprintf("%d bytes", a.Size), shortDigest(a.Digest), slipway.Printable(a.Case)})
		}
		c.out.table(nil, rows)
		if more := len(r.Attachments) - f.limit; more > 0 {
			c.out.line("  and %d more", more)
		}
	}
	for _, p := range slices.Concat(r.Problems, r.Notes) {
		c.out.line("%s %s", c.out.state("warning"), slipway.Printable(p))
	}
}

func (c *cli) coverageLine(s slipway.StepTests) {
	v := s.Report.Coverage
	if v == nil {
		return
	}
	text := fmt.Sprintf("coverage %s of %d", coverageText(v), v.Total)
	if s.Base != nil {
		if change, ok := slipway.CoverageChange(v, s.Base.Coverage); ok {
			text += fmt.Sprintf(" (%+.1f against %s, run #%d)", change, slipway.Printable(refName(s.Base.Ref)), s.Base.RunID)
		}
	}
	c.out.line("%s", text)
}

const (
	failuresShown = 20
	linesShown    = 20 // of the output of a failure
)

// notable prints failures and flaky tests.
func (c *cli) notable(r slipway.TestReport, f testFlags) {
	all := r.Notable(0)
	shown := all
	if !f.all {
		shown = all[:min(len(all), failuresShown)]
	}
	for _, t := range shown {
		c.notableCase(t, f.all)
	}
	if more := len(all) - len(shown); more > 0 {
		c.out.line("\nand %d more: --all shows them", more)
	}
}

func (c *cli) notableCase(t slipway.SuiteCase, all bool) {
	var words []string
	switch {
	case t.State == slipway.TestFailed && t.New:
		words = append(words, c.out.state("failed"), "new")
	case t.State == slipway.TestFailed:
		words = append(words, c.out.state("failed"))
	default:
		words = append(words, c.out.state("passed"))
	}
	if t.Flaky {
		words = append(words, "flaky")
	}
	c.out.line("\n%s %s %s", strings.Join(words, " "), c.out.bold(slipway.Printable(caseName(t))), c.out.dim(short(t.Duration)))
	if t.Message != "" && !(t.State == slipway.TestFailed && strings.HasPrefix(t.Output, strings.TrimSpace(t.Message))) {
		c.indented(t.Message, linesShown, all)
	}
	if t.State == slipway.TestFailed && t.Output != "" {
		c.wrote(t.Output, all)
	}
}

// wrote prints what a test wrote below its heading: how it begins, and more of how it ends.
func (c *cli) wrote(text string, all bool) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if left := len(lines) - linesShown; left > 1 && !all {
		const begins = linesShown / 3
		c.indented(strings.Join(lines[:begins], "\n"), begins, true)
		c.out.line("    %s", c.out.dim(fmt.Sprintf("… %d lines: --all shows them", left)))
		lines = lines[begins+left:]
	}
	c.indented(strings.Join(lines, "\n"), len(lines), true)
}

// indented prints a text below its heading.
func (c *cli) indented(text string, limit int, all bool) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if i == limit && !all {
			c.out.line("    %s", c.out.dim(fmt.Sprintf("and %d lines more: --all shows them", len(lines)-i)))
			return
		}
		c.out.line("    %s", slipway.Printable(l))
	}
}

// caseName is a test as people find it again: suite or class, and name.
func caseName(t slipway.SuiteCase) string {
	where := first(t.Class, t.Suite)
	if where == "" || strings.HasPrefix(t.Name, where) {
		return t.Name
	}
	return where + " " + t.Name
}

func (c *cli) caseHistory(f testFlags) func(*cobra.Command, []string) error {
	return inProject(c, func(ctx context.Context, q question) ([]slipway.CaseHistory, error) {
		return q.api.CaseHistory(ctx, slipway.CaseFilter{Project: q.project, Service: q.args[0], Ref: fullRef(f.ref), Name: f.name})
	}, func(_ question, all []slipway.CaseHistory) {
		for i, h := range all {
			if i > 0 {
				c.out.line("")
			}
			c.caseResults(h, f)
		}
	})
}

func (c *cli) caseResults(h slipway.CaseHistory, f testFlags) {
	title := c.out.bold(slipway.Printable(caseName(slipway.SuiteCase{Suite: h.Suite, TestCase: slipway.TestCase{Class: h.Class, Name: h.Case}})))
	c.out.line("%s  failed in %d of %d reports", title, h.Failed(), len(h.Results))
	if h.Flaky {
		c.out.line("%s: %s", c.out.state("flaky"), slipway.Printable(h.Why))
	}
	if r := h.FailingSince; r != nil {
		line := fmt.Sprintf("fails on %s since run #%d, commit %s, %s", slipway.Printable(refName(r.Ref)), r.RunID, slipway.ShortHash(r.Commit), ago(r.CreatedAt))
		if p := h.PassedBefore; p != nil {
			line += fmt.Sprintf("; passed before that in run #%d, commit %s", p.RunID, slipway.ShortHash(p.Commit))
		}
		c.out.line("%s", line)
	}
	var rows [][]string
	for i, r := range h.Results {
		if i == f.limit && !f.all {
			break
		}
		note := ""
		switch {
		case r.ReusedFrom != 0:
			note = fmt.Sprintf("reused from #%d", r.ReusedFrom)
		case r.Reran:
			note = "after a failure"
		}
		took := ""
		if r.Duration != nil {
			took = short(*r.Duration)
		}
		rows = append(rows, []string{fmt.Sprintf("#%d", r.RunID), c.out.state(string(r.State)), took, slipway.Printable(refName(r.Ref)), slipway.ShortHash(r.Commit), ago(r.CreatedAt), note})
	}
	c.out.table([]string{"RUN", "STATE", "TOOK", "REF", "COMMIT", "CREATED", ""}, rows)
	if more := len(h.Results) - len(rows); more > 0 {
		c.out.line("and %d more: --all shows them", more)
	}
}
