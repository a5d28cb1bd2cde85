package slipway

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable escapes what is not to be seen: control characters, which could move the cursor, and
// characters that turn or hide the text around them. Newlines and tabs stay; what is not UTF-8 is replaced.
func Printable(s string) string {
	if !strings.ContainsFunc(s, unseen) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range s {
		if unseen(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// joiner makes one sign of several, such as the emoji of a family.
const joiner = '\u200d'

func unseen(r rune) bool {
	return r != '\n' && r != '\t' && r != joiner && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// InShort lists names, of many the first ones and how many more there are: never just one more.
func InShort(names []string, most int) string {
	if len(names) <= most+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// FirstLine is a text up to its first line end: of an error, what it says before it goes into detail.
func FirstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Clip is the first line of a text, in at most limit characters (the last one … when it was cut).
func Clip(s string, limit int) string { return cutRunes(FirstLine(s), limit) }

// Counted is a number with its noun: "1 test", "2 tests".
func Counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// CleanLine makes text of strangers one line that is safe to show anywhere but unescaped in HTML: valid
// UTF-8, runs of white space made one space, no control characters, none that are invisible or turn the
// direction of writing, at most limit characters (the last one … when it was cut).
func CleanLine(s string, limit int) string {
	text := strings.Join(strings.Fields(cleanRunes(s, limit, false)), " ")
	if len(s) > looked(limit) {
		text += "…"
	}
	return cutRunes(text, limit)
}

// CleanText is CleanLine for several lines: line ends and tabs stay, and limit is in bytes.
func CleanText(s string, limit int) string {
	return cutBytes(cleanRunes(strings.ReplaceAll(s, "\r\n", "\n"), limit, true), limit)
}

// looked is how many bytes are looked at for limit characters: some are left out.
func looked(limit int) int { return 16*limit + 64 }

// cleanRunes looks at no more of s than it needs for limit characters.
func cleanRunes(s string, limit int, lines bool) string {
	s = cutBytes(s, looked(limit))
	return strings.Map(func(r rune) rune {
		switch {
		case lines && (r == '\n' || r == '\t'):
			return r
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError:
			return '�'
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || invisible(r):
			return -1
		}
		return r
	}, s)
}

// invisible are format characters but for the joiners that scripts and emoji need.
func invisible(r rune) bool {
	return r != '\u200c' && r != '\u200d' && unicode.Is(unicode.Cf, r)
}

func cutRunes(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n++; n == limit {
			return s[:i] + "…"
		}
	}
	return ""
}

// cutBytes never cuts a character in two.
func cutBytes(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	limit = max(0, limit)
	for at := limit; at >= 0 && at > limit-utf8.UTFMax; at-- {
		if utf8.RuneStart(s[at]) {
			return s[:at]
		}
	}
	return s[:limit] // of what is no text
}

// start is the beginning of something of any length, for a message that names it.
func start(s string) string {
	if len(s) <= 200 {
		return s
	}
	return cutBytes(s, 200) + "…"
}
