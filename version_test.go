package slipway_test

import (
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]slipway.Version{
		"v1.0.2":            {Major: 1, Patch: 2, Leaf: "v1.0.2"},
		"1.0.2":             {Major: 1, Patch: 2, Leaf: "1.0.2"},
		"0.0.0":             {Leaf: "0.0.0"},
		"v10.20.30-rc.1":    {Major: 10, Minor: 20, Patch: 30, Pre: "rc.1", Leaf: "v10.20.30-rc.1"},
		"1.0.0-0a.-b.0.x-y": {Major: 1, Pre: "0a.-b.0.x-y", Leaf: "1.0.0-0a.-b.0.x-y"},
	} {
		got, err := slipway.ParseVersion(in)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
		}
		if got.SemVer() != strings.TrimPrefix(in, "v") {
			t.Errorf("%s: SemVer is %s", in, got.SemVer())
		}
	}
}

func TestParseVersionRefuses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                 "not SemVer",
		"v":                                "not SemVer",
		"1":                                "not SemVer",
		"1.0":                              "not SemVer",
		"1.0.0.0":                          "not SemVer",
		"01.0.0":                           "not SemVer",
		"1.0.0-":                           "not SemVer",
		"1.0.0-01":                         "not SemVer",
		"1.0.0-a..b":                       "not SemVer",
		"vv1.0.0":                          "not SemVer",
		"V1.0.0":                           "not SemVer",
		" 1.0.0":                           "not SemVer",
		"1.0.0\n":                          "not SemVer",
		"-1.0.0":                           "not SemVer",
		"latest":                           "not SemVer",
		"1.0.0+7":                          "build metadata",
		"v1.0.0-rc.1+build":                "build metadata",
		"99999999999999999999.0.0":         "too large",
		"1.0.0-" + strings.Repeat("x", 99): "not SemVer",
	} {
		_, err := slipway.ParseVersion(in)
		if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an Invalid error with %q", in, err, want)
		}
	}
}

// The order of SemVer 2.0.0, section 11, from its own examples.
func TestVersionOrder(t *testing.T) {
	t.Parallel()
	order := []string{"0.9.9", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"1.0.0-beta.11", "1.0.0-rc.1", "v1.0.0", "1.0.1", "v1.1.0", "1.10.0", "2.0.0-0", "2.0.0"}
	for i, a := range order {
		for j, b := range order {
			v, w := version(t, a), version(t, b)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := v.Compare(w); got != want {
				t.Errorf("%s against %s: got %d, want %d", a, b, got, want)
			}
		}
	}
	if version(t, "v1.0.0").Compare(version(t, "1.0.0")) != 0 {
		t.Error("v1.0.0 and 1.0.0 are two versions")
	}
}

func version(t interface {
	Helper()
	Fatalf(string, ...any)
}, s string) slipway.Version {
	t.Helper()
	v, err := slipway.ParseVersion(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// Against an implementation that others wrote: what is accepted, and how it is ordered.
func TestVersionAgrees(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(
		rapid.StringMatching(`v?(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]?)\.(0|[1-9])(-(0|[1-9][0-9]?|[a-c-]{1,3})(\.(0|[1-9]|[a-c0-9-]{1,3})){0,2})?`),
		rapid.StringMatching(`v?[0-9.a-]{1,12}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		v, err := slipway.ParseVersion(a)
		other, otherErr := semver.StrictNewVersion(strings.TrimPrefix(a, "v"))
		if (err == nil) != (otherErr == nil) {
			t.Fatalf("%s: %v, and the other says %v", a, err, otherErr)
		}
		w, err2 := slipway.ParseVersion(b)
		if err != nil || err2 != nil {
			return
		}
		otherB := semver.MustParse(strings.TrimPrefix(b, "v"))
		if got, want := v.Compare(w), other.Compare(otherB); got != want {
			t.Fatalf("%s against %s: got %d, want %d", a, b, got, want)
		}
	})
}
