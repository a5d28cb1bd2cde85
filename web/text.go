package web

import (
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/slipway-cd/slipway"
)

func (s *server) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":   func(name string) string { return s.assets[name] },
		"now":     s.Now,
		"ago":     func(t time.Time) string { return ago(s.Now(), t) },
		"took":    func(from, to time.Time) string { return took(s.Now(), from, to) },
		"lasted":  short,
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"moment":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"clock":   clock,
		"hash":    slipway.ShortHash,
		"digest":  digest,
		"ref":     ref,
		"what":    what,
		"decided": decided,
		"mark":    mark,
		"tone":    tone, "visible": visible,
		"path": url.PathEscape, "query": url.QueryEscape,
		"join":     strings.Join,
		"has":      slices.Contains[[]string],
		"diff":     diffLines,
		"dict":     dict,
		"list":     func(all ...string) []string { return all },
		"stepHref": stepHref,
		"branch":   branch,
		"where":    where,
		"shell":    shellWord,
		"past": func(r slipway.Run, service string, c slipway.SuiteCase) string {
			if s.Tests == nil {
				return ""
			}
			f := casesOf(r, service)
			f.Suite, f.Class, f.Name = c.Suite, c.Class, c.Name
			return caseHref(f)
		},
		"plural":   slipway.Counted,
		"excerpt":  excerpt,
		"linked":   linked,
		"gateID":   gateID,
		"bytes":    bytesOf,
		"notes":    splitNotes,
		"https":    https,
		"chip":     chipOf,
		"deployed": deployedHref,
		"day":      func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
		"left":     func(t time.Time) string { return left(s.Now(), t) },
		"month":    func() string { return s.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly) },
	}
}

// dict makes a map of key, value, ... for templates that take several values.
func dict(pairs ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: key %v is not a string", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("15:04:05")
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if now.Sub(t) < time.Second {
		return "now"
	}
	return coarse(now.Sub(t)) + " ago"
}

// coarse writes a duration in one unit: how long ago something was.
func coarse(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", max(0, s))
	case s < 2*3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%d h", s/3600)
	}
	return fmt.Sprintf("%d days", s/86400)
}

// soon is how long before the end of a waiver a page points at it.
const soon = 14 * 24 * time.Hour

// left is how long it is until t when that is soon, else "".
func left(now, t time.Time) string {
	switch d := t.Sub(now); {
	case d <= 0, d > soon:
		return ""
	default:
		return "ends in " + coarse(d)
	}
}

func took(now, from, to time.Time) string {
	switch {
	case from.IsZero():
		return ""
	case to.IsZero():
		return short(now.Sub(from).Truncate(time.Second))
	}
	return short(to.Sub(from))
}

// short writes how long something took. assets/slipway.js counts on in the same form, and in that of
// coarse.
func short(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case d < time.Second && d%time.Second != 0:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case s < 60:
		return fmt.Sprintf("%d s", max(0, s))
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
}

// shellWord is a word as a shell takes it, for commands to be copied; invisible characters are shown by number.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(visible(s), "'", `'\''`) + "'"
}

func digest(d string) string {
	if rest, ok := strings.CutPrefix(d, "sha256:"); ok {
		return rest[:min(12, len(rest))]
	}
	return visible(d)
}

func ref(r slipway.Run) string {
	if r.Pull > 0 {
		return "pull request " + slipway.PullName(r.Codebase, r.Pull)
	}
	return visible(strings.TrimPrefix(strings.TrimPrefix(r.Ref, "refs/heads/"), "refs/"))
}

func stepHref(run int64, key string) string {
	return fmt.Sprintf("/runs/%d?step=%s#step", run, url.QueryEscape(key))
}

func projectHref(project string, more ...string) string {
	parts := []string{"/projects", url.PathEscape(project)}
	for _, m := range more {
		parts = append(parts, url.PathEscape(m))
	}
	return strings.Join(parts, "/")
}

// what says in a few words what a run is for.
func what(r slipway.Run) string {
	switch {
	case r.Pull > 0:
		return ref(r)
	case r.Service != "":
		return visible(strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Event, r.Service, r.Version)))
	}
	return fmt.Sprintf("%s %s", r.Event, ref(r))
}

// decided are the approvals that somebody or something has decided on, even in part.
func decided(all []slipway.Approval) []slipway.Approval {
	var out []slipway.Approval
	for _, a := range all {
		if a.State != slipway.ApprovalWaiting || len(a.Votes) > 0 {
			out = append(out, a)
		}
	}
	return out
}

// tone is the colour class of a state: good, bad, wait, work or idle.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case "succeeded", "verified", "approved", "passed", "merged", "done", "pass", "signed", "connected", "polled", "hosted here":
		return "good"
	case "failed", "errored", "unhealthy", "rejected", "deploy-failed", "fail", "critical", "unsigned", "broken":
		return "bad"
	case "waiting", "retrying", "rolled-back", "quarantined", "warn", "high":
		return "wait"
	case "running", "deploying", "deployed", "ready", "queued", "open", "started":
		return "work"
	}
	return "idle"
}

// mark is a sign for a state, so that colour is never the only one.
func mark(state any) string {
	switch tone(state) {
	case "good":
		return "✓"
	case "bad":
		return "✗"
	case "wait":
		return "!"
	case "work":
		return "●"
	}
	return "○"
}

// https is a link that a report names, or "" for one that leads to anything else than another site.
func https(link string) string {
	if strings.HasPrefix(link, "https://") {
		return link
	}
	return ""
}

// visible shows control characters, direction marks and other invisible ones by their number instead
// of letting them act, in the page as in a terminal that a text is pasted to. Tabs, line ends and the
// joiners of scripts and emoji stay.
func visible(s string) string {
	if !strings.ContainsFunc(s, acts) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !acts(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func acts(r rune) bool {
	switch r {
	case '\t', '\n', '\u200c', '\u200d', '\u00ad':
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// linked is a reason with a link where it names a run: "superseded by run #12".
func linked(reason string) template.HTML {
	var b strings.Builder
	rest := visible(reason)
	for {
		before, after, found := strings.Cut(rest, "run #")
		b.WriteString(template.HTMLEscapeString(before))
		if !found {
			return template.HTML(b.String()) //nolint:gosec // every part of it is escaped
		}
		digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
		if n := after[:digits]; n != "" && digits < 19 {
			fmt.Fprintf(&b, `<a href="/runs/%s">run #%s</a>`, n, n)
		} else {
			b.WriteString("run #" + n)
		}
		rest = after[digits:]
	}
}

// Bounds of an excerpt, in lines and in the bytes of each.
const (
	excerptHead = 6
	excerptTail = 8
	excerptLine = 1000
)

// excerpt is the beginning and the end of what a test wrote: a stack trace stands first in it, and what a log ended
// with last.
func excerpt(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if left := len(lines) - excerptHead - excerptTail; left > 1 {
		more := ""
		for _, l := range lines[excerptHead : len(lines)-excerptTail] {
			if size, ok := leftOut(l); ok {
				more = " and " + size
				break
			}
		}
		lines = slices.Concat(lines[:excerptHead], []string{fmt.Sprintf("… %d lines%s …", left, more)}, lines[len(lines)-excerptTail:])
	}
	for i, l := range lines {
		if len(l) > excerptLine {
			lines[i] = strings.ToValidUTF8(l[:excerptLine], "") + " …"
		}
	}
	return strings.Join(lines, "\n")
}

// leftOut reports whether a line stands for something that the report left out, and how much: see slipway.LeftOut.
func leftOut(line string) (size string, ok bool) {
	size, begins := strings.CutPrefix(line, "… ")
	size, ends := strings.CutSuffix(size, " left out …")
	return size, begins && ends
}

type diffLine struct{ Tone, Text string }

func diffLines(s string) []diffLine {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	var out []diffLine
	for _, l := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		d := diffLine{Text: visible(l)}
		switch {
		case strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "), strings.HasPrefix(l, "@@"):
			d.Tone = "file"
		case strings.HasPrefix(l, "+"):
			d.Tone = "add"
		case strings.HasPrefix(l, "-"):
			d.Tone = "del"
		}
		out = append(out, d)
	}
	return out
}
