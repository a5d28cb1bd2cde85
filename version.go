package slipway

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Version is a SemVer 2.0.0 version without build metadata, as a release branch names it (D1).
type Version struct {
	Major, Minor, Patch uint64
	Pre                 string // after the dash, "" for none
	Leaf                string // as written, with or without a leading v: the image tag
}

var semverExpr = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?$`)

// ParseVersion reads v1.0.2 or 1.0.2; both name the same version. Build metadata is refused: an OCI
// tag cannot hold it.
func ParseVersion(s string) (Version, error) {
	bare := strings.TrimPrefix(s, "v")
	if strings.Contains(bare, "+") {
		return Version{}, Errorf(Invalid, "version %q: build metadata (+...) cannot be part of an image tag; leave it out", s)
	}
	m := semverExpr.FindStringSubmatch(bare)
	if m == nil || len(s) > 100 {
		return Version{}, Errorf(Invalid, "version %q is not SemVer: expected MAJOR.MINOR.PATCH, such as v1.0.2 or 1.0.2-rc.1", s)
	}
	v := Version{Pre: m[4], Leaf: s}
	for i, p := range []*uint64{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.ParseUint(m[i+1], 10, 64)
		if err != nil {
			return Version{}, Errorf(Invalid, "version %q: %s is too large", s, m[i+1])
		}
		*p = n
	}
	return v, nil
}

// SemVer is the version without a leading v: chart version and appVersion.
func (v Version) SemVer() string { return strings.TrimPrefix(v.Leaf, "v") }

// OneSpelling is a version as SemVer, so that v1.0.2 and 1.0.2 are the same; of what is no release's version, such
// as the default branch's, it is as it was.
func OneSpelling(version string) string {
	if v, err := ParseVersion(version); err == nil {
		return v.SemVer()
	}
	return version
}

// Compare orders versions by SemVer 2.0.0 section 11.
func (v Version) Compare(w Version) int {
	if c := cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch)); c != 0 {
		return c
	}
	switch {
	case v.Pre == w.Pre:
		return 0
	case v.Pre == "":
		return 1
	case w.Pre == "":
		return -1
	}
	a, b := strings.Split(v.Pre, "."), strings.Split(w.Pre, ".")
	for i := range min(len(a), len(b)) {
		if c := comparePre(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func comparePre(a, b string) int {
	an, aerr := strconv.ParseUint(a, 10, 64)
	bn, berr := strconv.ParseUint(b, 10, 64)
	switch {
	case aerr == nil && berr == nil:
		return cmp.Compare(an, bn)
	case aerr == nil:
		return -1
	case berr == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// ReleaseBranch is the typed object behind refs/heads/release/<service>/<version> (D1).
type ReleaseBranch struct {
	Service string
	Version Version
}

// ParseReleaseRef reads a full ref. The second result is false when the ref is not under
// refs/heads/release/; the error is set when it is, and does not name a service and a version.
func ParseReleaseRef(ref string) (ReleaseBranch, bool, error) {
	rest, ok := strings.CutPrefix(ref, "refs/heads/release/")
	if !ok {
		return ReleaseBranch{}, false, nil
	}
	service, leaf, ok := strings.Cut(rest, "/")
	if !ok || strings.Contains(leaf, "/") || service == "" || leaf == "" {
		return ReleaseBranch{}, true, Errorf(Invalid, "release branch %q: expected release/<service>/<version>, such as release/delivery/v1.0.2", "release/"+rest)
	}
	if err := CheckName("service", service); err != nil {
		return ReleaseBranch{}, true, err
	}
	v, err := ParseVersion(leaf)
	if err != nil {
		return ReleaseBranch{}, true, err
	}
	return ReleaseBranch{Service: service, Version: v}, true, nil
}

// CheckRef reports whether a full ref name may be used: what git check-ref-format allows, without
// anything that a shell, a path or an option parser could misread.
func CheckRef(ref string) error {
	bad := func(why string) error { return Errorf(Invalid, "ref %q: %s", start(ref), why) }
	if len(ref) == 0 || len(ref) > 200 {
		return bad("must have 1 to 200 characters")
	}
	if !strings.HasPrefix(ref, "refs/") {
		return bad("must begin with refs/")
	}
	if strings.Contains(ref, "..") || strings.Contains(ref, "@{") {
		return bad(`must not contain ".." or "@{"`)
	}
	if !utf8.ValidString(ref) {
		return bad("must be UTF-8")
	}
	for _, r := range ref {
		if unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r) || invisible(r) || strings.ContainsRune(" ~^:?*[\\\"'`$;&|<>(){}!", r) {
			return bad("has a character that is not allowed in a ref")
		}
	}
	for _, part := range strings.Split(ref, "/") {
		if part == "" || strings.HasPrefix(part, "-") || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".") || strings.HasSuffix(part, ".lock") {
			return bad("no part may be empty, begin with - or ., or end with . or .lock")
		}
	}
	return nil
}

// ShortHash is the first seven characters of a commit's hash (S87).
func ShortHash(commit string) string { return commit[:min(7, len(commit))] }

var tagUnsafe = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// BranchTag is the image tag of a commit on a branch: <branch>-<short hash> (S87, D16).
func BranchTag(branch, commit string) string {
	b := cmp.Or(strings.Trim(tagUnsafe.ReplaceAllString(branch, "-"), "-."), "branch")
	return b[:min(len(b), 100)] + "-" + ShortHash(commit)
}
