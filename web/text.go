package web

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/slipway-cd/slipway"
)

func (s *server) funcs() template.FuncMap {
	return template.FuncMap{
		"asset":  func(name string) string { return s.assets[name] },
		"now":    s.Now,
		"ago":    func(t time.Time) string { return ago(s.Now(), t) },
		"took":   func(from, to time.Time) string { return took(s.Now(), from, to) },
		"lasted": short,
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"moment": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"clock":  clock,
		"hash":   slipway.ShortHash,
		"digest": digest,
		"ref":    ref,
		"mark":   mark,
		"tone":   tone, "visible": visible,
		"path": url.PathEscape, "query": url.QueryEscape,
		"join":     strings.Join,
		"diff":     diffLines,
		"dict":     dict,
		"stepHref": stepHref,
		"plural":   plural,
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

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
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
	return short(now.Sub(t).Truncate(time.Second)) + " ago"
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

// short writes a duration in one unit, or two where one says too little. assets/slipway.js counts on
// in the same form.
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
	case s < 48*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d days", s/86400)
}

func digest(d string) string {
	if rest, ok := strings.CutPrefix(d, "sha256:"); ok {
		return rest[:min(12, len(rest))]
	}
	return visible(d)
}

func ref(r slipway.Run) string {
	if r.Pull > 0 {
		return fmt.Sprintf("pull request %d", r.Pull)
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

// tone is the colour class of a state: good, bad, wait, work or idle.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case "succeeded", "verified", "approved", "passed", "merged", "done":
		return "good"
	case "failed", "errored", "unhealthy", "rejected", "deploy-failed":
		return "bad"
	case "waiting", "retrying", "rolled-back", "quarantined":
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

// visible shows control characters instead of letting them act, in a terminal that a text is pasted
// to as in the page: C0 as their pictures, C1, format characters and separators as �. The joiners of
// scripts and emoji stay.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\u200c' || r == '\u200d' || r == '\u00ad':
			return r
		case r < 0x20:
			return '␀' + r // the Unicode picture of the control character
		case r == 0x7f:
			return '␡'
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return '�'
		}
		return r
	}, s)
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
