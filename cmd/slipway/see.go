package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

func (c *cli) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Services by environments: what runs where, healthy or not, waiting for whom",
		Args: cobra.NoArgs,
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.Board, error) {
			return q.api.Board(ctx, q.project)
		}, func(_ question, b slipway.Board) { c.board(b) }),
	}
}

func (c *cli) board(b slipway.Board) {
	if len(b.Rows) == 0 {
		c.out.line("project %s has no services yet: push a branch with a folder that holds a Dockerfile", b.Project)
		return
	}
	head := []string{"SERVICE"}
	if len(b.Codebases) > 0 {
		head = append(head, "CODEBASE")
	}
	head = append(append(head, upper(b.Environments)...), "LAST RUN")
	var rows [][]string
	for _, r := range b.Rows {
		row := []string{c.out.bold(slipway.Printable(r.Service))}
		if len(b.Codebases) > 0 {
			row = append(row, first(r.Codebase, slipway.MainCodebase))
		}
		for _, cell := range r.Cells {
			row = append(row, c.cell(cell))
		}
		last := ""
		if r.LastRun != nil {
			last = fmt.Sprintf("#%d %s", r.LastRun.ID, c.out.state(string(r.LastRun.State)))
		}
		rows = append(rows, append(row, last))
	}
	c.out.table(head, rows)
}

func upper(s []string) []string {
	out := make([]string, len(s))
	for i := range s {
		out[i] = strings.ToUpper(s[i])
	}
	return out
}

func (c *cli) cell(cell slipway.BoardCell) string {
	var parts []string
	if d := cell.Current; d != nil {
		parts = append(parts, slipway.Printable(d.Version)+" "+c.out.state(string(d.State)))
	}
	if o := cell.Outside; o != nil {
		parts = append(parts, c.out.state("warning")+" "+changedOutside(*o))
	}
	if d := cell.Pending; d != nil {
		parts = append(parts, slipway.Printable(d.Version)+" "+c.out.state(string(d.State)))
	}
	if a := cell.Approval; a != nil {
		parts = append(parts, slipway.Printable(a.Version)+" "+c.out.state("waiting")+" "+c.out.dim(fmt.Sprintf("for approval, run #%d", a.RunID)))
	}
	if len(parts) == 0 {
		return c.out.dim("-")
	}
	return strings.Join(parts, "\n")
}

// changedOutside says what runs that Slipway did not deploy.
func changedOutside(o slipway.ObservedRevision) string {
	if o.Number == 0 {
		return "changed outside: not deployed any more"
	}
	text := fmt.Sprintf("changed outside: revision %d", o.Number)
	if o.AppVersion != "" {
		text += ", app version " + slipway.Printable(o.AppVersion)
	}
	return text
}

// mostRuns is how many runs a server tells of at once.
const mostRuns = 200

func (c *cli) runs() *cobra.Command {
	var f slipway.RunFilter
	var state string
	list := &cobra.Command{
		Use: "runs", Short: "Runs, newest first",
		Args: cobra.NoArgs,
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.Run, error) {
			if f.Limit < 1 || f.Limit > mostRuns {
				return nil, slipway.Errorf(slipway.Invalid, "--limit %d: expected 1 to %d", f.Limit, mostRuns)
			}
			if f.Before < 0 {
				return nil, slipway.Errorf(slipway.Invalid, "--before %d: expected the number of a run", f.Before)
			}
			f.Project, f.State = q.project, slipway.RunState(state)
			return q.api.Runs(ctx, f)
		}, func(_ question, runs []slipway.Run) {
			c.runRows(runs)
			if len(runs) == f.Limit {
				c.out.line("older ones: the same with --before %d", runs[len(runs)-1].ID)
			}
		}),
	}
	list.Flags().Int64Var(&f.Before, "before", 0, "only runs older than the one of this number")
	list.Flags().StringVar(&f.Service, "service", "", "only runs of this service's releases and rollbacks")
	list.Flags().StringVar(&f.Ref, "ref", "", "only runs of this ref")
	list.Flags().StringVar(&state, "state", "", "only runs in this state")
	list.Flags().IntVarP(&f.Limit, "limit", "n", 20, "how many")
	list.AddCommand(c.runsShow())
	return list
}

func (c *cli) runRows(runs []slipway.Run) {
	head := []string{"RUN", "STATE", "REF", "CREATED", ""}
	if !c.out.narrow() {
		head = []string{"RUN", "STATE", "EVENT", "REF", "COMMIT", "BY", "TOOK", "CREATED", ""}
	}
	var rows [][]string
	for _, r := range runs {
		row := []string{fmt.Sprintf("#%d", r.ID), c.out.state(string(r.State)), slipway.Printable(shortRef(r)), ago(r.CreatedAt), slipway.Printable(slipway.Clip(first(r.Reason, r.Title), 60))}
		if !c.out.narrow() {
			row = []string{row[0], row[1], string(r.Event), row[2], slipway.ShortHash(r.Commit), slipway.Printable(r.Actor), took(first2(r.StartedAt, r.CreatedAt), r.FinishedAt), row[3], row[4]}
		}
		rows = append(rows, row)
	}
	c.out.table(head, rows)
}

func first2(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

func shortRef(r slipway.Run) string {
	if r.Pull > 0 {
		return "pull/" + slipway.PullName(r.Codebase, r.Pull)
	}
	ref := strings.TrimPrefix(strings.TrimPrefix(r.Ref, "refs/heads/"), "refs/")
	if r.Codebase != "" {
		return r.Codebase + ":" + ref
	}
	return ref
}

func (c *cli) runsShow() *cobra.Command {
	var wait bool
	show := &cobra.Command{
		Use: "show [RUN]", Short: "A run: its decisions, steps, artifacts and what it waits for",
		Long: "Shows a run (the newest without an argument). With --wait it follows the run until it ends or waits\nfor a person; the exit status is then 0 for succeeded or waiting, 1 otherwise.",
		Args: cobra.MaximumNArgs(1),
	}
	once := answer(c, func(ctx context.Context, q question) (d slipway.RunDetail, err error) {
		id, err := c.runID(ctx, q.api, q.args)
		if err != nil {
			return d, err
		}
		d, err = q.api.Run(ctx, id)
		rememberApprovals(q.api.Address(), d.Approvals...)
		return d, err
	}, func(_ question, d slipway.RunDetail) { c.runDetail(d) })
	show.RunE = func(cmd *cobra.Command, args []string) error {
		if !wait {
			return once(cmd, args)
		}
		api, err := c.client()
		if err != nil {
			return err
		}
		id, err := c.runID(cmd.Context(), api, args)
		if err != nil {
			return err
		}
		return c.waitRun(cmd.Context(), api, id)
	}
	show.Flags().BoolVarP(&wait, "wait", "w", false, "follow until the run ends or waits for a person")
	return show
}

func (c *cli) runDetail(d slipway.RunDetail) {
	r := d.Run
	c.out.line("%s  %s  %s", c.out.bold(fmt.Sprintf("run #%d", r.ID)), c.out.state(string(r.State)), slipway.Printable(r.Reason))
	c.out.line("%s of %s at %s by %s, %s", r.Event, slipway.Printable(shortRef(r)), slipway.ShortHash(r.Commit), slipway.Printable(r.Actor), ago(r.CreatedAt))
	if r.Title != "" {
		c.out.line("%s", c.out.dim(slipway.Printable(r.Title)))
	}
	if r.Codebase != "" {
		c.out.line("in codebase %s", r.Codebase)
	}
	shown, rest := slipway.DecisionsInShort(d.Plan.Decisions)
	for _, dec := range shown {
		c.out.line("  %s", slipway.Printable(dec.String()))
	}
	if rest != "" {
		c.out.line("  %s (--output json has each)", slipway.Printable(rest))
	}
	for _, note := range d.Plan.Notes {
		c.out.line("  %s", slipway.Printable(note))
	}
	c.out.line("")
	var rows [][]string
	for _, s := range d.Steps {
		reason := slipway.Clip(s.Reason, 100)
		if s.Attempt > 1 {
			reason = strings.TrimSpace(fmt.Sprintf("attempt %d %s", s.Attempt, reason))
		}
		rows = append(rows, []string{s.Spec.Key, c.out.state(string(s.State)), took(s.StartedAt, s.FinishedAt), c.out.dim(slipway.Printable(reason))})
	}
	c.out.table([]string{"STEP", "STATE", "TOOK", ""}, rows)
	rows = nil
	for _, a := range d.Artifacts {
		digest := a.Digest
		if c.out.narrow() {
			digest = shortDigest(digest)
		}
		if a.Repository != "" {
			rows = append(rows, []string{string(a.Kind), slipway.Printable(a.Repository + colon(a.Tag)), digest})
		}
	}
	if len(rows) > 0 {
		c.out.line("")
		c.out.table([]string{"ARTIFACT", "REFERENCE", "DIGEST"}, rows)
	}
	for _, a := range d.Approvals {
		if a.State == slipway.ApprovalWaiting {
			c.out.line("\n%s %s %s to %s: slipway approve %d --reason ... (what changes: slipway approvals --diff)", c.out.state("waiting"), a.Service, slipway.Printable(a.Version), a.Environment, r.ID)
		}
	}
}

func colon(tag string) string {
	if tag == "" {
		return ""
	}
	return ":" + tag
}

func (c *cli) logs() *cobra.Command {
	var follow bool
	var step string
	cmd := &cobra.Command{
		Use: "logs [RUN] [STEP]", Short: "The logs of a run's steps",
		Long:    "Prints the log of every step that began, of the newest run without an argument. STEP is one step as\n`slipway runs show` names it, or a kind of steps.",
		Example: "  slipway logs\n  slipway logs 12 test/delivery\n  slipway logs 12 verify\n  slipway logs -f",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			id, err := c.runID(cmd.Context(), api, args)
			if err != nil {
				return err
			}
			if len(args) == 2 {
				step = args[1]
			}
			return c.printLogs(cmd.Context(), api, id, step, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends or waits")
	return cmd
}

// printLogs prints the log of one step, or of each step in order; with follow steps that begin later
// are followed too.
func (c *cli) printLogs(ctx context.Context, api *client.Client, id int64, only string, follow bool) error {
	printed, lines := map[string]bool{}, map[string]int{}
	look := func(d slipway.RunDetail) (bool, error) {
		before := len(printed)
		for _, s := range d.Steps {
			key := s.Spec.Key
			if (only != "" && key != only && !strings.HasPrefix(key, only+"/")) || s.Attempt == 0 || printed[key] {
				continue
			}
			n, err := c.printLog(ctx, api, id, key, follow, lines[key])
			if lines[key] += n; err != nil {
				return false, err
			}
			printed[key] = true
		}
		over := d.Run.State.Final() || d.Run.State == slipway.RunWaiting
		switch {
		case only != "" && len(printed) == 0 && (!follow || over):
			return true, slipway.Errorf(slipway.NotFound, "run #%d has no started step %q", id, only)
		case !follow || over || (only != "" && len(printed) > 0):
			return true, nil
		case len(printed) > before:
			return false, errMoved // while the log was followed
		}
		return false, nil
	}
	if follow {
		return c.follow(ctx, api, id, look)
	}
	d, err := api.Run(ctx, id)
	if err == nil {
		_, err = look(d)
	}
	return err
}

// printLog prints the log of a step but for the first lines, which were printed before, and returns how
// many it printed.
func (c *cli) printLog(ctx context.Context, api *client.Client, id int64, step string, follow bool, before int) (int, error) {
	if !c.out.json && before == 0 {
		c.out.line("%s", c.out.bold("── "+step))
	}
	n := 0
	err := api.Log(ctx, id, step, follow, func(l slipway.LogLine) error {
		if n++; n <= before {
			return nil
		}
		if c.out.json {
			_, err := c.out.value(struct {
				Step string `json:"step"`
				slipway.LogLine
			}{step, l})
			return err
		}
		group := ""
		if l.Group != "" {
			group = c.out.dim(slipway.Printable(slipway.Clip(l.Group, 48))+" │") + " "
		}
		text := slipway.Printable(l.Text)
		if l.State != "" {
			text = strings.TrimSpace(c.out.state(l.State) + " " + text)
		}
		c.out.line("%s %s%s", c.out.dim(l.Time.Local().Format("15:04:05.0")), group, text)
		return nil
	})
	return max(0, n-before), err
}

func (c *cli) trace() *cobra.Command {
	return &cobra.Command{
		Use: "trace ANY", Short: "The whole chain of a commit, branch, tag, digest, version, release or run",
		Example: "  slipway trace 1a2b3c4\n  slipway trace v1.0.2\n  slipway trace sha256:9f86d08\n  slipway trace release/delivery/v1.0.2",
		Long:    "Looks in the project given with --project, else in every one that you may see. When several know it, in the\none that the git remote here names; without one they are named, to choose from.",
		Args:    cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Trace, error) {
			if p := first(c.flags.project, os.Getenv("SLIPWAY_PROJECT")); p != "" {
				return q.api.TraceIn(ctx, p, q.args[0])
			}
			t, err := q.api.Trace(ctx, q.args[0])
			if slipway.ErrorCode(err) == slipway.Conflict {
				if here := remoteOf(ctx, ".", q.api.Address()); here != "" {
					return q.api.TraceIn(ctx, here, q.args[0])
				}
				err = slipway.Errorf(slipway.Conflict, "%w with --project NAME", err)
			}
			return t, err
		}, func(_ question, t slipway.Trace) { c.printTrace(t) }),
	}
}

func (c *cli) printTrace(t slipway.Trace) {
	c.out.line("%s is a %s", c.out.bold(slipway.Printable(t.Query)), strings.Join(t.Matched, " and a "))
	if t.More {
		c.out.line("it leads to more than is shown: these are the newest")
	}
	section := func(name string, rows [][]string) {
		if len(rows) > 0 {
			c.out.line("\n%s", c.out.bold(name))
			c.out.table(nil, rows)
		}
	}
	var rows [][]string
	for _, h := range t.Commits {
		rows = append(rows, []string{h})
	}
	section("commits", rows)
	rows = nil
	for _, r := range t.Runs {
		rows = append(rows, []string{fmt.Sprintf("#%d", r.ID), c.out.state(string(r.State)), string(r.Event), slipway.Printable(shortRef(r)), slipway.ShortHash(r.Commit), slipway.Printable(r.Actor), ago(r.CreatedAt)})
	}
	section("runs", rows)
	rows = nil
	for _, a := range t.Artifacts {
		if a.Repository != "" { // reports and packages on their way are nobody's to look up
			rows = append(rows, []string{string(a.Kind), slipway.Printable(a.Repository + colon(a.Tag)), shortDigest(a.Digest), fmt.Sprintf("run #%d", a.RunID)})
		}
	}
	section("artifacts", rows)
	rows = nil
	for _, r := range t.Releases {
		q := ""
		if r.Quarantined != "" {
			q = c.out.state("waiting") + " quarantined: " + slipway.Printable(r.Quarantined)
		}
		rows = append(rows, []string{r.Service, slipway.Printable(r.Version), "image " + shortDigest(r.ImageDigest), "chart " + shortDigest(r.ChartDigest), slipway.ShortHash(r.Commit), q})
	}
	section("releases", rows)
	rows = nil
	for _, d := range t.Deployments {
		row := []string{d.Target.Environment, d.Target.Service, slipway.Printable(d.Version), c.out.state(string(d.State)), fmt.Sprintf("revision %d", d.Revision), fmt.Sprintf("run #%d", d.RunID), ago(d.UpdatedAt), "image " + shortDigest(d.ImageDigest)}
		if c.out.narrow() {
			row = row[:7]
		}
		rows = append(rows, row)
	}
	section("deployments", rows)
	rows = nil
	for _, a := range t.Approvals {
		for _, v := range a.Votes {
			word := "rejected"
			if v.Approve {
				word = "approved"
			}
			rows = append(rows, []string{a.Environment, a.Service, slipway.Printable(a.Version), c.out.state(word), "by " + slipway.Printable(v.User), slipway.Printable(v.Reason), ago(v.Time)})
		}
		if len(a.Votes) == 0 {
			rows = append(rows, []string{a.Environment, a.Service, slipway.Printable(a.Version), c.out.state(string(a.State)), "", "", ago(a.CreatedAt)})
		}
	}
	section("approvals", rows)
}

func (c *cli) releases() *cobra.Command {
	var good, in string
	var f slipway.ReleaseFilter
	cmd := &cobra.Command{
		Use: "releases [SERVICE]", Short: "Releases: versions with their digests, where they run, and where they were found healthy",
		Long:    "Lists releases, newest first. --in production shows what runs there now; --good production shows the last\nknown good version of each service: the newest that was found healthy there and is not in quarantine.",
		Example: "  slipway releases delivery\n  slipway releases --good production",
		Args:    cobra.MaximumNArgs(1),
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.Release, error) {
			if f.Limit < 1 || f.Limit > slipway.MostReleases {
				return nil, slipway.Errorf(slipway.Invalid, "--limit %d: expected 1 to %d", f.Limit, slipway.MostReleases)
			}
			if f.Before < 0 {
				return nil, slipway.Errorf(slipway.Invalid, "--before %d: expected the ID of a release, as -o json has it", f.Before)
			}
			f.Project, f.Service = q.project, strings.Join(q.args, "")
			if in == "" && good == "" {
				return q.api.Releases(ctx, f)
			}
			all, err := everyRelease(ctx, q.api, f)
			if in != "" {
				all = slices.DeleteFunc(all, func(r slipway.Release) bool { return !r.RunsIn(in) })
			}
			if good != "" {
				all = lastGood(all, good)
			}
			if err == nil && len(all) == 0 {
				err = knowsEnvironments(ctx, q, in, good)
			}
			return all, err
		}, func(_ question, releases []slipway.Release) {
			c.releaseRows(releases)
			if in == "" && good == "" && len(releases) == f.Limit {
				c.out.line("older ones: the same with --before %d", releases[len(releases)-1].ID)
			}
		}),
	}
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", 100, "how many; --in and --good look at all")
	cmd.Flags().Int64Var(&f.Before, "before", 0, "only releases older than the one of this ID")
	cmd.Flags().StringVar(&in, "in", "", "only what runs in this environment")
	cmd.Flags().StringVar(&good, "good", "", "only the last known good version of each service in this environment")
	return cmd
}

// knowsEnvironments refuses names that are none of the project's environments: what runs nowhere is no answer about them.
func knowsEnvironments(ctx context.Context, q question, names ...string) error {
	board, err := q.api.Board(ctx, q.project)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != "" && !slices.Contains(board.Environments, name) {
			return slipway.Errorf(slipway.Invalid, "environment %q: project %s has no environment of that name; it has %s", name, q.project, strings.Join(board.Environments, ", "))
		}
	}
	return nil
}

// everyRelease asks for the releases of a filter, page after page.
func everyRelease(ctx context.Context, api *client.Client, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	all := []slipway.Release{}
	f.Before, f.Limit = 0, slipway.MostReleases
	for {
		page, err := api.Releases(ctx, f)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(page) < f.Limit {
			return all, nil
		}
		f.Before = page[len(page)-1].ID
	}
}

// lastGood keeps of each service the version that was found healthy in an environment last.
func lastGood(all []slipway.Release, environment string) []slipway.Release {
	best := map[string]int64{} // newest good deployment, by service
	deployed := func(r slipway.Release) (id int64) {
		for _, d := range r.In {
			if d.Target.Environment == environment && r.GoodIn(environment) {
				id = max(id, d.ID)
			}
		}
		return id
	}
	for _, r := range all {
		best[r.Service] = max(best[r.Service], deployed(r))
	}
	return slices.DeleteFunc(all, func(r slipway.Release) bool { id := deployed(r); return id == 0 || id != best[r.Service] })
}

func (c *cli) releaseRows(releases []slipway.Release) {
	head := []string{"SERVICE", "VERSION", "RUNS IN", "GOOD IN", "COMMIT", "RUN", "CREATED", "QUARANTINED", "IMAGE", "CHART"}
	if c.out.narrow() {
		head = head[:7]
	}
	var rows [][]string
	for _, r := range releases {
		var runs, good []string
		for _, d := range r.In {
			if env := d.Target.Environment; r.RunsIn(env) {
				runs = append(runs, env)
			}
			if env := d.Target.Environment; r.GoodIn(env) {
				good = append(good, env)
			}
		}
		row := []string{r.Service, slipway.Printable(r.Version), first(strings.Join(runs, ", "), "-"), first(strings.Join(good, ", "), "-"), slipway.ShortHash(r.Commit),
			fmt.Sprintf("#%d", r.RunID), ago(r.CreatedAt), slipway.Printable(r.Quarantined), shortDigest(r.ImageDigest), shortDigest(r.ChartDigest)}
		rows = append(rows, row[:len(head)])
	}
	c.out.table(head, rows)
}

func (c *cli) events() *cobra.Command {
	var after int64
	cmd := &cobra.Command{
		Use: "events", Short: "What happens, as it happens",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project := first(c.flags.project)
			err = api.Events(cmd.Context(), project, after, func(e slipway.Event) error {
				if done, err := c.out.value(e); done {
					return err
				}
				c.out.line("%s %-20s %s", c.out.dim(e.Time.Local().Format("15:04:05.000")), e.Kind, slipway.Printable(e.Message))
				return nil
			})
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "begin after the event with this id")
	return cmd
}
