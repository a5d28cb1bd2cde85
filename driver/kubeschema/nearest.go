package kubeschema

import (
	"strings"

	"github.com/agext/levenshtein"
)

// nearest finds the word that was probably meant: equal but for case, or at most two edits away.
func nearest(word string, words []string) string {
	best, bestCost := "", 3
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return w
		}
		if c := levenshtein.Distance(word, w, nil); c < bestCost && c < len(word)-1 {
			best, bestCost = w, c
		}
	}
	return best
}
