package kubeschema

import "strings"

// nearest finds the word that was probably meant: equal but for case, or at most two edits away.
func nearest(word string, words []string) string {
	best, bestCost := "", 3
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return w
		}
		if c := distance(word, w); c < bestCost && c < len(word)-1 {
			best, bestCost = w, c
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3
	}
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j+1]+1, cur[j]+1, prev[j]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
