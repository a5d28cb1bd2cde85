package slipway_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// What strangers name is cut at a letter's boundary, says that it was cut, and does not swell a message.
func TestCutText(t *testing.T) {
	t.Parallel()
	for _, long := range []string{strings.Repeat("ä", 32<<10), strings.Repeat("a😀\u200b\u200b\u200b\u200b\u200b", 5000), strings.Repeat("\x80", 64<<10)} {
		for _, err := range []error{slipway.CheckRef("refs/heads/" + long), slipway.CheckName("service", long), slipway.CheckHash(long)} {
			if err == nil || len(err.Error()) > 1200 {
				t.Errorf("%d bytes: %.80s", len(err.Error()), err)
			}
		}
		for _, limit := range []int{1, 2, 99, 300} {
			line, text := slipway.CleanLine(long, limit), slipway.CleanText(long, limit)
			if utf8.RuneCountInString(line) > limit || !strings.HasSuffix(line, "…") || !utf8.ValidString(text) || len(text) > limit {
				t.Errorf("limit %d: %q, %q", limit, line, text)
			}
			if long[0] != 0x80 && strings.ContainsRune(line+text, utf8.RuneError) {
				t.Errorf("limit %d: a letter is cut in two: %q, %q", limit, line, text)
			}
		}
	}
	if line := slipway.CleanLine("a"+strings.Repeat("\u200b", 64<<10)+"b", 5); line != "a…" {
		t.Errorf("what is left out is not told: %q", line)
	}
}

// A comment that is too long for a forge ends with a whole row.
func TestCutComment(t *testing.T) {
	t.Parallel()
	row := "| `cart` | " + strings.Repeat("&#64;", 40) + " |\n"
	c := slipway.PullComment{Pull: 3, Marker: "shop", Text: strings.Repeat(row, 1000)}
	text := c.Markdown(65536)
	rows, _, cut := strings.Cut(text, "\n\n…")
	if len(text) > 65536 || !cut || !strings.HasSuffix(rows, strings.TrimSuffix(row, "\n")) || strings.Count(rows, "\n") < 250 {
		t.Errorf("%d bytes, ends with %q", len(text), text[len(text)-100:])
	}
	c.Text = strings.Repeat("ä", 64<<10)
	if text := c.Markdown(65536); len(text) > 65536 || len(text) < 65000 || !utf8.ValidString(text) {
		t.Errorf("%d bytes, ends with %q", len(text), text[len(text)-100:])
	}
}
