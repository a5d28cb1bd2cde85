package retention

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

const day = 24 * time.Hour

func TestRetain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	item := func(digest string, age time.Duration, tags ...string) slipway.RetentionItem {
		return slipway.RetentionItem{Repository: "shop/web", Digest: digest, Tags: tags, Pushed: now.Add(-age)}
	}
	policy := slipway.Retention{
		Candidates:   slipway.Keep{MaxAge: slipway.Duration(30 * day), Newest: 2},
		PullRequests: slipway.Keep{MaxAge: slipway.Duration(7 * day)},
	}
	removed, kept := decide(policy, []slipway.RetentionItem{
		item("a", 400*day, "v1.0.0"), item("b", 300*day, "v1.1.0"), item("c", 200*day, "v1.2.0", "pr-3-abcdef0"),
		item("d", 100*day, "main-1234567"), item("e", 10*day, "pr-4-abcdef0"), item("f", 2*day, "pr-5-abcdef0"), item("g", 8*day),
	}, map[string]string{"a": "runs in production"}, now)
	want := map[string]string{
		"a": "kept: runs in production",
		"b": "removed: 300 days old, and 2 are newer",
		"c": "kept: among the newest 2",
		"d": "kept: among the newest 2",
		"e": "removed: 10 days old, and 2 are newer",
		"f": "kept: younger than 7 days",
		"g": "removed: 8 days old, and one is newer",
	}
	got := map[string]string{}
	for _, r := range removed {
		got[r.Digest] = "removed: " + r.Reason
	}
	for _, k := range kept {
		got[k.Digest] = "kept: " + k.Reason
	}
	for digest, w := range want {
		if got[digest] != w {
			t.Errorf("%s is %q, want %q", digest, got[digest], w)
		}
	}
}

// Whatever the policy: nothing is lost from sight, nothing needed or young is removed, and what is removed
// has as many newer ones as are to be kept.
func TestRetainKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		keep := func(name string) slipway.Keep {
			return slipway.Keep{MaxAge: slipway.Duration(rapid.Int64Range(0, 50).Draw(t, name+" age")) * slipway.Duration(day), Newest: rapid.IntRange(0, 5).Draw(t, name+" newest")}
		}
		policy := slipway.Retention{Candidates: keep("candidates"), PullRequests: keep("pulls")}
		needed := map[string]string{}
		var held []slipway.RetentionItem
		for i := range rapid.IntRange(0, 30).Draw(t, "items") {
			item := slipway.RetentionItem{Repository: rapid.SampledFrom([]string{"p/a", "p/b"}).Draw(t, "repository"), Digest: fmt.Sprint(i),
				Pushed: now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "age")) * day)}
			if rapid.Bool().Draw(t, "tagged") {
				item.Tags = []string{rapid.SampledFrom([]string{"v1.0.0", "main-abc", "pr-1-abc"}).Draw(t, "tag")}
			}
			if rapid.Bool().Draw(t, "needed") {
				needed[item.Digest] = "needed"
			}
			held = append(held, item)
		}
		removed, kept := decide(policy, held, needed, now)
		if len(removed)+len(kept) != len(held) {
			t.Fatalf("%d removed and %d kept of %d", len(removed), len(kept), len(held))
		}
		for _, r := range removed {
			pull := len(r.Tags) == 0 || strings.HasPrefix(r.Tags[0], "pr-")
			rule := policy.Candidates
			if pull {
				rule = policy.PullRequests
			}
			newer := 0
			for _, h := range held {
				if h.Repository == r.Repository && (len(h.Tags) == 0 || strings.HasPrefix(h.Tags[0], "pr-")) == pull && h.Digest != r.Digest && !h.Pushed.Before(r.Pushed) {
					newer++
				}
			}
			if needed[r.Digest] != "" || rule.MaxAge <= 0 || now.Sub(r.Pushed) <= time.Duration(rule.MaxAge) || newer < rule.Newest {
				t.Fatalf("removed %+v under %+v with %d newer", r, rule, newer)
			}
		}
	})
}

// An index whose platform runs somewhere is needed; and what an index names that stays is spared.
func TestRetainOfIndexes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	policy := slipway.Retention{Candidates: slipway.Keep{MaxAge: slipway.Duration(day)}}
	item := func(digest string, names ...string) slipway.RetentionItem {
		return slipway.RetentionItem{Repository: "shop/web", Digest: digest, Tags: []string{"v" + digest}, Pushed: now.Add(-9 * day), Names: names}
	}
	removed, kept := decide(policy, []slipway.RetentionItem{item("index", "platform"), item("a"), item("b")}, map[string]string{"platform": "runs in qa"}, now)
	if len(removed) != 2 || len(kept) != 1 || kept[0].Reason != "it names platform: runs in qa" {
		t.Fatalf("removed %v, kept %v", removed, kept)
	}
	removed, kept = spare(removed, kept, map[string]string{"b": "v1-multi"})
	if len(removed) != 1 || removed[0].Digest != "a" || len(kept) != 2 || kept[1].Reason != "the index v1-multi names it, which stays" {
		t.Errorf("removed %v, kept %v", removed, kept)
	}
}
