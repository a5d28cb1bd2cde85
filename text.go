package slipway

import (
	"fmt"
	"strings"
	"unicode"
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
