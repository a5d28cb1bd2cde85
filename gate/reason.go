package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/slipway-cd/slipway"
)

const (
	maxSubject = 300
	maxMessage = 500
	maxPlace   = 500
	maxLink    = 1000
)

// found is one thing that a gate does not like, before it is known whether a waiver lets it through.
type found struct {
	slipway.GateReason
	rank    int    // the lowest is told first, among those of one verdict
	kind    string // what the summary counts it as
	fixable bool
}

// weighed are the reasons of a result with its waivers applied, worst first.
type weighed struct {
	all    []found
	waived int
	until  time.Time // when the first of the waivers ends
}

// weigh applies the waivers and brings the reasons into their order. What comes from outside is made fit
// for one line first, so that a waiver names what people see.
func (j *judge) weigh(gate, environment string, reasons []found) weighed {
	w := weighed{all: reasons}
	fit := j.waivers.of(gate, j.e.Service, environment)
	for i := range w.all {
		r := &w.all[i]
		r.Subject, r.Message = line(r.Subject, maxSubject), line(r.Message, maxMessage)
		r.Place, r.Link = line(r.Place, maxPlace), link(r.Link)
		given, lapsed := fit.find(r.Subject, j.e.Now)
		switch {
		case given != nil:
			r.Verdict, r.Waiver = slipway.Pass, given
			if w.waived++; w.until.IsZero() || given.Expires.Before(w.until) {
				w.until = given.Expires
			}
		case lapsed != "":
			r.Message += "; " + lapsed
		}
	}
	slices.SortStableFunc(w.all, func(a, b found) int {
		return cmp.Or(cmp.Compare(badness(b.Verdict), badness(a.Verdict)), cmp.Compare(a.rank, b.rank),
			strings.Compare(a.Subject, b.Subject), strings.Compare(a.Place, b.Place),
			strings.Compare(a.Message, b.Message), strings.Compare(a.Link, b.Link))
	})
	return w
}

func badness(v slipway.Verdict) int {
	switch v {
	case slipway.Pass:
		return 0
	case slipway.Warn:
		return 1
	}
	return 2
}

// open are the reasons that no waiver lets through, by verdict.
func (w weighed) open(v slipway.Verdict) (n int) {
	for _, r := range w.all {
		if r.Waiver == nil && r.Verdict == v {
			n++
		}
	}
	return n
}

// count is how many open reasons are of a kind, and how many of those can be mended.
func (w weighed) count(kind string) (n, fixable int) {
	for _, r := range w.all {
		if r.Waiver == nil && r.kind == kind {
			n++
			if r.fixable {
				fixable++
			}
		}
	}
	return n, fixable
}

// result is what the gate says. Parts make the summary; waivers and what is left out are added to it.
func (j *judge) result(gate, environment string, w weighed, parts ...string) slipway.GateResult {
	out := slipway.GateResult{
		Project: j.e.Project, Gate: gate, Service: j.e.Service, Environment: environment,
		Verdict: slipway.Pass, Time: j.e.Now,
	}
	kept := map[bool]int{} // of those that are waived, and of the others
	for _, r := range w.all {
		out.Verdict = out.Verdict.Worse(r.Verdict)
		if waived := r.Waiver != nil; kept[waived] < MaxReasons {
			kept[waived]++
			out.Reasons = append(out.Reasons, r.GateReason)
		}
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	if w.waived > 0 {
		parts = append(parts, fmt.Sprintf("%s waived until %s", thousands(w.waived), w.until.UTC().Format(time.DateOnly)))
	}
	if more := len(w.all) - len(out.Reasons); more > 0 {
		parts = append(parts, "and "+thousands(more)+" more reasons than are kept")
	}
	out.Summary = strings.Join(parts, ", ")
	return out
}

// line makes one bounded line of text from outside.
func line(s string, most int) string {
	if len(s) <= most && plain(s) {
		return s
	}
	if len(s) > 4*most { // a rune has at most 4 bytes
		s = s[:4*most]
	}
	s = ansi.Strip(strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return ' '
		}
		if unicode.Is(unicode.Cf, r) { // would turn the text around it
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most-3]) + "..."
	}
	return s
}

// plain reports whether a text is one line of ASCII with single spaces between its words already.
func plain(s string) bool {
	word := false
	for i := range len(s) {
		switch c := s[i]; {
		case c > ' ' && c < 0x7f:
			word = true
		case c == ' ' && word && i+1 < len(s):
			word = false
		default:
			return false
		}
	}
	return true
}

// link keeps https links that are one word.
func link(s string) string {
	if !strings.HasPrefix(s, "https://") || len(s) > maxLink || line(s, maxLink) != s || strings.ContainsAny(s, " \"'<>") {
		return ""
	}
	return s
}

// thousands is a number as people read it: 1,234.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number with its noun: "1 finding", "2 findings".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}
