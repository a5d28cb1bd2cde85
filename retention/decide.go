package retention

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

var pullTag = regexp.MustCompile(`^pr-[0-9]+-[0-9a-f]+$`)

// decide sorts what is held of a project's candidates into what is removed and what is kept, and says why
// of each. needed says of digests what needs them; those are kept whatever the policy says. It is pure.
func decide(policy slipway.Retention, held []slipway.RetentionItem, needed map[string]string, now time.Time) (removed, kept []slipway.RetentionItem) {
	removed, kept = []slipway.RetentionItem{}, []slipway.RetentionItem{}
	held = slices.Clone(held)
	slices.SortFunc(held, func(a, b slipway.RetentionItem) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), b.Pushed.Compare(a.Pushed), cmp.Compare(a.Digest, b.Digest))
	})
	type kind struct {
		repository string
		pull       bool
	}
	newer := map[kind]int{} // how many of the kind came before, as they are newer
	for _, item := range held {
		k := kind{item.Repository, ofPull(item)}
		rule := policy.Candidates
		if k.pull {
			rule = policy.PullRequests
		}
		why, old := judge(rule, now.Sub(item.Pushed), newer[k])
		newer[k]++
		if need := need(item, needed); need != "" {
			why, old = need, false
		}
		item.Reason = why
		if old {
			removed = append(removed, item)
		} else {
			kept = append(kept, item)
		}
	}
	return removed, kept
}

// need is what needs an item, or something that it leads to.
func need(item slipway.RetentionItem, needed map[string]string) string {
	if why := needed[item.Digest]; why != "" {
		return why
	}
	for _, digest := range item.Names {
		if why := needed[digest]; why != "" {
			return fmt.Sprintf("it names %s: %s", digest, why)
		}
	}
	return ""
}

// spare moves what cannot go from what is removed to what is kept. by says of digests which index names them that
// stays.
func spare(removed, kept []slipway.RetentionItem, by map[string]string) (goes, stays []slipway.RetentionItem) {
	goes = []slipway.RetentionItem{}
	for _, item := range removed {
		name := by[item.Digest]
		if name == "" {
			goes = append(goes, item)
			continue
		}
		item.Reason = fmt.Sprintf("the index %s names it, which stays", name)
		kept = append(kept, item)
	}
	return goes, kept
}

// ofPull reports whether only pull requests know the item: what has no tag was built for one.
func ofPull(item slipway.RetentionItem) bool {
	return !slices.ContainsFunc(item.Tags, func(tag string) bool { return !pullTag.MatchString(tag) })
}

func judge(rule slipway.Keep, age time.Duration, newer int) (why string, old bool) {
	most := time.Duration(rule.MaxAge)
	switch {
	case most <= 0:
		return "kept for good: no age is configured", false
	case age <= most:
		return fmt.Sprintf("younger than %s", days(most)), false
	case newer < rule.Newest:
		return fmt.Sprintf("among the newest %d", rule.Newest), false
	}
	if newer == 1 {
		return fmt.Sprintf("%s old, and one is newer", days(age)), true
	}
	return fmt.Sprintf("%s old, and %d are newer", days(age), newer), true
}

func days(d time.Duration) string {
	if d < 24*time.Hour {
		return d.Round(time.Second).String()
	}
	if n := int(d.Hours() / 24); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}
