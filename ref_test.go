package slipway_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestParseReleaseRef(t *testing.T) {
	t.Parallel()
	b, ok, err := slipway.ParseReleaseRef("refs/heads/release/delivery/v1.0.2")
	if err != nil || !ok || b.Service != "delivery" || b.Version.Leaf != "v1.0.2" {
		t.Errorf("got %+v, %v, %v", b, ok, err)
	}
	for _, ref := range []string{"refs/heads/main", "refs/heads/releases/x/v1.0.0", "refs/tags/release/x/v1.0.0", "release/x/v1.0.0", "refs/heads/release", ""} {
		if _, ok, err := slipway.ParseReleaseRef(ref); ok || err != nil {
			t.Errorf("%q is no release branch: got %v, %v", ref, ok, err)
		}
	}
	for ref, want := range map[string]string{
		"refs/heads/release/":                    "expected release/<service>/<version>",
		"refs/heads/release/delivery":            "expected release/<service>/<version>",
		"refs/heads/release/delivery/":           "expected release/<service>/<version>",
		"refs/heads/release//v1.0.0":             "expected release/<service>/<version>",
		"refs/heads/release/delivery/v1.0.0/fix": "expected release/<service>/<version>",
		"refs/heads/release/Delivery/v1.0.0":     "service name",
		"refs/heads/release/-x/v1.0.0":           "service name",
		"refs/heads/release/../v1.0.0":           "service name",
		"refs/heads/release/delivery/latest":     "not SemVer",
		"refs/heads/release/delivery/v1.0.0+1":   "build metadata",
	} {
		_, ok, err := slipway.ParseReleaseRef(ref)
		if !ok || slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an Invalid error with %q", ref, ok, err, want)
		}
	}
}

func TestCheckRef(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{"refs/heads/main", "refs/heads/feature/a-b_c.d", "refs/for/main", "refs/pull/3/head", "refs/tags/v1.0.0", "refs/heads/ä", "refs/heads/می\u200cخواهم", "refs/heads/a@b", "refs/heads/release/x/v1.0.0+1"} {
		if err := slipway.CheckRef(ref); err != nil {
			t.Errorf("%q: %v", ref, err)
		}
	}
	bad := []string{"", "main", "-main", "HEAD", "refs", "refs/", "refs//main", "refs/heads/", "refs/heads/-x", "refs/heads/--upload-pack=x", "refs/heads/.x", "refs/heads/x.", "refs/heads/x.lock",
		"refs/heads/x.lock/y", "refs/heads/a..b", "refs/heads/../../etc", "refs/heads/@{u}", "refs/heads/a b", "refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?", "refs/heads/a*", "refs/heads/[a",
		`refs/heads/a\b`, "refs/heads/a\nb", "refs/heads/a\x7f", "refs/heads/a\x00", "refs/heads/$(id)", "refs/heads/`id`", "refs/heads/a;b", "refs/heads/a|b", "refs/heads/a&b", "refs/heads/a'b", `refs/heads/a"b`,
		"refs/heads/a\u009b31m", "refs/heads/a\u0085b", "refs/heads/a\u00a0b", "refs/heads/a\u2028b", "refs/heads/a\u202eb", "refs/heads/a\u2066b", "refs/heads/a\u200bb", "refs/heads/a\u200eb", "refs/heads/a\xffb",
		"refs/heads/" + strings.Repeat("x", 200)}
	for _, ref := range bad {
		if err := slipway.CheckRef(ref); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q passes: %v", ref, err)
		}
	}
}

// What passes can be handed to git and to file systems as one argument, whatever it is made of.
func TestCheckRefAlways(t *testing.T) {
	t.Parallel()
	piece := rapid.SampledFrom([]string{"refs/", "heads/", "a", "-", ".", "..", "/", "@", "{", "~", " ", "\n", ".lock", "$", "é", "\x00", "main"})
	rapid.Check(t, func(t *rapid.T) {
		ref := strings.Join(rapid.SliceOf(piece).Draw(t, "pieces"), "")
		if slipway.CheckRef(ref) != nil {
			return
		}
		for _, part := range strings.Split(ref, "/") {
			if part == "" || part[0] == '-' || part[0] == '.' || strings.ContainsAny(part, " \n\x00~$") || strings.Contains(part, "..") {
				t.Fatalf("%q passes with the part %q", ref, part)
			}
		}
	})
}

var ociTag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func TestBranchTag(t *testing.T) {
	t.Parallel()
	const commit = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	for branch, want := range map[string]string{
		"main":                   "main-1a2b3c4",
		"feature/delivery/speed": "feature-delivery-speed-1a2b3c4",
		"-.odd.-":                "odd-1a2b3c4",
		"a  b":                   "a-b-1a2b3c4",
		"+":                      "branch-1a2b3c4",
	} {
		if got := slipway.BranchTag(branch, commit); got != want {
			t.Errorf("branch %q: got %s, want %s", branch, got, want)
		}
	}
	if got := slipway.ShortHash("abc"); got != "abc" {
		t.Errorf("a short hash of three characters: %q", got)
	}
}

// A tag is one that a registry takes, for every branch that git takes.
func TestBranchTagAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		branch := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9./_+-]{1,180}`), rapid.String()).Draw(t, "branch")
		if slipway.CheckRef("refs/heads/"+branch) != nil {
			t.Skip("no branch")
		}
		tag := slipway.BranchTag(branch, "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d")
		if !ociTag.MatchString(tag) {
			t.Fatalf("branch %q: %q is no tag", branch, tag)
		}
	})
}

func FuzzParseReleaseRef(f *testing.F) {
	for _, s := range []string{"refs/heads/release/delivery/v1.0.2", "refs/heads/release/a/1.0.0-rc.1", "refs/heads/release/../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		b, ok, err := slipway.ParseReleaseRef(ref)
		if !ok || err != nil {
			return
		}
		if back := "refs/heads/release/" + b.Service + "/" + b.Version.Leaf; back != ref {
			t.Errorf("%q was read as %q", ref, back)
		}
		if err := slipway.CheckRef(ref); err != nil {
			t.Errorf("%q is a release branch and no ref: %v", ref, err)
		}
		if !ociTag.MatchString(b.Version.Leaf) {
			t.Errorf("%q cannot be an image tag", b.Version.Leaf)
		}
	})
}
