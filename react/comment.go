package react

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// mostRows is how many services a comment lists; skipped ones beyond it are counted.
const mostRows = 60

// commentText is what Slipway's comment on a pull request says now, "" for none: a pull request that has
// had neither run nor command.
func (r *Reactor) commentText(ctx context.Context, codebase string, number int64) (string, error) {
	p, err := r.Runs.Pull(ctx, codebase, number)
	if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && !p.Forge) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	last, commanded, err := r.Runs.LastCommand(ctx, codebase, number)
	if err != nil {
		return "", err
	}
	runs, err := r.Runs.Runs(ctx, slipway.RunFilter{Codebase: codebase, Ref: p.Ref(), Limit: 1})
	if err != nil {
		return "", err
	}
	if len(runs) == 0 && p.Held == "" && !commanded {
		return "", nil
	}
	var b strings.Builder
	if p.State == slipway.PullOpen && p.Held != "" {
		fmt.Fprintf(&b, "**Slipway** waits: `%s` comes from a fork. Somebody who may write to this repository lets it run by commenting `/slipway approve %s`. It gets no secrets.\n\n",
			slipway.ShortHash(p.Held), slipway.ShortHash(p.Held))
	}
	if len(runs) > 0 {
		d, err := r.Runs.Run(ctx, runs[0].ID)
		if err != nil {
			return "", err
		}
		reports, err := r.reports(ctx, d)
		if err != nil {
			return "", err
		}
		gates, err := r.gatesText(ctx, d)
		if err != nil {
			return "", err
		}
		b.WriteString(runText(r.URL, d, reports) + gates)
	}
	if commanded {
		fmt.Fprintf(&b, "\n`/slipway %s` of %s: %s\n", code(last.Text), escape(last.Author), escape(last.Answer))
	}
	return strings.TrimSpace(b.String()) + "\n", nil
}

// runText is a run as Markdown: what became of it, and a table of its services.
func runText(address string, d slipway.RunDetail, reports map[string]slipway.TestReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**Slipway**: [run #%d](%s) of `%s` %s.", d.Run.ID, runLink(address, d.Run.ID, ""), slipway.ShortHash(d.Run.Commit), runWords(d.Run))
	if len(d.Plan.Decisions) == 0 || d.Run.State == slipway.RunFailed || d.Run.State == slipway.RunErrored {
		if st, ok := culprit(d.Steps); ok && st.Spec.Service == "" && st.Reason != "" {
			fmt.Fprintf(&b, " %s", escape(st.Reason))
		}
	}
	b.WriteString("\n\n")
	rows, skipped, more := "", 0, 0
	for _, ran := range []bool{true, false} {
		for _, dec := range d.Plan.Decisions {
			if dec.Service == "" || dec.Removed || dec.Runs != ran {
				continue
			}
			if !ran {
				skipped++
			}
			if strings.Count(rows, "\n") >= mostRows {
				more++
				continue
			}
			rows += row(address, d, dec, reports)
		}
	}
	if rows == "" {
		return b.String()
	}
	b.WriteString("| Service | State | Tests | Image |\n|---|---|---|---|\n" + rows)
	if more > 0 {
		fmt.Fprintf(&b, "\nand %s more, of %d skipped in all: see [the run](%s).\n", slipway.Counted(more, "service"), skipped, runLink(address, d.Run.ID, ""))
	}
	return b.String()
}

func runWords(run slipway.Run) string {
	switch run.State {
	case slipway.RunQueued, slipway.RunRunning:
		return "is under way"
	case slipway.RunWaiting:
		return "waits for an approval"
	case slipway.RunCancelled:
		if run.Reason != "" {
			return "is cancelled: " + escape(run.Reason)
		}
		return "is cancelled"
	}
	return string(run.State)
}

func row(address string, d slipway.RunDetail, dec slipway.Decision, reports map[string]slipway.TestReport) string {
	v := serviceVerdict(d, dec, reports)
	state := escape(v.text)
	switch {
	case !dec.Runs:
	case v.state == slipway.StatusFailure, v.state == slipway.StatusError:
		state = fmt.Sprintf("**[%s](%s)**", v.state, runLink(address, d.Run.ID, v.step)) + " " + state
	case v.state == slipway.StatusSuccess:
		state = "success"
	}
	tests, image := "", ""
	for _, st := range d.Steps {
		if report, ok := reports[st.Spec.Key]; ok && st.Spec.Service == dec.Service {
			tests = testText(report)
			if report.Failed > 0 {
				tests = "**" + tests + "**"
			}
		}
	}
	for _, a := range d.Artifacts {
		if a.Kind == slipway.ArtifactImage && a.Service == dec.Service && a.Digest != "" {
			image = "`" + code(a.Digest) + "`"
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", code(dec.Service), state, tests, image)
}

// references begin what forges make links of, and tell people of, when they look through the text of what the
// Markdown became: @user, #12, !12, ~label, %milestone, $snippet, &epic, ^alert, https://.
const references = "@#!~%$&^:"

// nothing is seen by nobody and parts a reference from its name: a zero-width non-joiner.
const nothing = '\u200c'

// escape makes text of strangers inert in Markdown: nothing in it is a link, a mention, an image, HTML or
// a table's border.
func escape(s string) string {
	var b strings.Builder
	for _, r := range slipway.CleanLine(s, 300) {
		switch {
		case r > 127, r == ' ', r == ',', r == '-', r == '(', r == ')',
			r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "&#%d;", r)
			if strings.ContainsRune(references, r) {
				b.WriteRune(nothing)
			}
		}
	}
	return b.String()
}

// code makes text that may stand between backquotes in a table.
func code(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '`' || r == '|' || r == '\\' {
			return '?'
		}
		return r
	}, slipway.CleanLine(s, 100))
}
