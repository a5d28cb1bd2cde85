package react

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Gates are what the gates of runs said.
type Gates interface {
	Gates(ctx context.Context, f slipway.GateFilter) ([]slipway.GateResult, error)
}

const (
	mostGates  = 20 // that a comment lists
	mostWaived = 20 // reasons that are waived, of all gates
)

// gatesText lists as Markdown the gates of a run that did not simply pass, those that fail first, each with what a
// waiver lets through: who decided it, until when and why. It is "" when there is nothing to say.
func (r *Reactor) gatesText(ctx context.Context, d slipway.RunDetail) (string, error) {
	if r.Options.Gates == nil {
		return "", nil
	}
	said, err := r.Options.Gates.Gates(ctx, slipway.GateFilter{Project: d.Run.Project, RunID: d.Run.ID})
	if err != nil {
		return "", fmt.Errorf("read gates of run %d: %w", d.Run.ID, err)
	}
	said = slices.DeleteFunc(said, func(g slipway.GateResult) bool {
		return g.Verdict == slipway.Pass && !slices.ContainsFunc(g.Reasons, waived)
	})
	if len(said) == 0 {
		return "", nil
	}
	slices.SortStableFunc(said, func(a, b slipway.GateResult) int { return worth(a) - worth(b) })
	var b strings.Builder
	left := mostWaived
	for _, g := range said[:min(len(said), mostGates)] {
		fmt.Fprintf(&b, "- %s `%s`%s: %s\n", verdictText(g.Verdict), code(g.Gate), about(g), escape(g.Summary))
		for _, reason := range g.Reasons {
			if waived(reason) && left > 0 {
				left--
				w := reason.Waiver
				fmt.Fprintf(&b, "  - waived until %s by %s: `%s`: %s\n", w.Expires.UTC().Format(time.DateOnly), escape(w.Author), code(reason.Subject), escape(w.Reason))
			}
		}
	}
	if len(said) > mostGates || left == 0 {
		fmt.Fprintf(&b, "- all are on [the page of the run](%s#gates)\n", runLink(r.URL, d.Run.ID, ""))
	}
	return "\n**Gates**\n\n" + b.String(), nil
}

func waived(r slipway.GateReason) bool { return r.Waiver != nil }

// worth is the place of a gate in a list: what fails, what has a waiver, what warns.
func worth(g slipway.GateResult) int {
	switch {
	case g.Verdict == slipway.Fail:
		return 0
	case slices.ContainsFunc(g.Reasons, waived):
		return 1
	}
	return 2
}

func verdictText(v slipway.Verdict) string {
	if v == slipway.Fail {
		return "**fail**"
	}
	return string(v)
}

func about(g slipway.GateResult) (text string) {
	if g.Service != "" {
		text = " of `" + code(g.Service) + "`"
	}
	if g.Environment != "" {
		text += " for `" + code(g.Environment) + "`"
	}
	return text
}
