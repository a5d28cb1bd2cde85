package slipway_test

import (
	"fmt"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                       "plain",
		"two\nlines\tand a tab":       "two\nlines\tand a tab",
		"日本語 ünïcödé 👩\u200d👧":        "日本語 ünïcödé 👩\u200d👧",
		"\x1b[2Jcleared":              `\x1b[2Jcleared`,
		"\x1b]0;title\x07":            `\x1b]0;title\x07`,
		"over\rwritten":               `over\x0dwritten`,
		"back\bspace":                 `back\x08space`,
		"c1 \u009b31m":                `c1 \x9b31m`,
		"right \u202eto left":         `right \x202eto left`,
		"isolated \u2066x\u2069":      `isolated \x2066x\x2069`,
		"zero\u200bwidth":             `zero\x200bwidth`,
		"\ufeffmark":                  `\xfeffmark`,
		"line\u2028separator":         `line\x2028separator`,
		"tag \U000e0041":              `tag \xe0041`,
		"broken \xff\xfe":             "broken \uFFFD",
		"broken \xff and \x1b hidden": "broken \uFFFD and \\x1b hidden",
	} {
		if got := slipway.Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestInShort(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	for n, want := range map[int]string{0: "", 1: "s0", 11: "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10", 12: "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 2 more"} {
		if got := slipway.InShort(names[:n], 10); got != want {
			t.Errorf("%d names: %q, want %q", n, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "short": "short", "one\ntwo": "one", "1234567\nx": "1234567", "12345678": "123456…", "日本語日本語日本語": "日本語日本語…"} {
		if got := slipway.Clip(in, 7); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
