package registry

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type routeKind int

const (
	routePing routeKind = iota
	routeManifest
	routeBlob
	routeUploads
	routeUpload
	routeReferrers
	routeTags
)

// route is what a path asks for; everything in it is checked.
type route struct {
	kind       routeKind
	repository string
	arg        string // tag, digest or upload
}

var (
	repositoryExpr = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagExpr        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestExpr     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	uploadExpr     = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

func parseRoute(path string) (route, error) {
	if path == "/v2" || path == "/v2/" {
		return route{kind: routePing}, nil
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return route{}, noRoute(path)
	}
	parts := strings.Split(rest, "/")
	rt, cut := route{}, 2
	switch n := len(parts); {
	case n >= 3 && parts[n-2] == "manifests":
		rt = route{kind: routeManifest, arg: parts[n-1]}
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads" && parts[n-1] == "":
		rt, cut = route{kind: routeUploads}, 3
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		rt = route{kind: routeUploads}
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		rt, cut = route{kind: routeUpload, arg: parts[n-1]}, 3
	case n >= 3 && parts[n-2] == "blobs":
		rt = route{kind: routeBlob, arg: parts[n-1]}
	case n >= 3 && parts[n-2] == "referrers":
		rt = route{kind: routeReferrers, arg: parts[n-1]}
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		rt = route{kind: routeTags}
	default:
		return route{}, noRoute(path)
	}
	rt.repository = strings.Join(parts[:len(parts)-cut], "/")
	return rt, rt.check()
}

func noRoute(path string) error {
	return &fault{status: http.StatusNotFound, code: "UNSUPPORTED", message: fmt.Sprintf("nothing is served at %q", path)}
}

func (rt route) check() error {
	if err := checkRepository(rt.repository); err != nil {
		return err
	}
	switch rt.kind {
	case routeManifest:
		if !digestExpr.MatchString(rt.arg) && !tagExpr.MatchString(rt.arg) {
			return badRequest("MANIFEST_INVALID", fmt.Sprintf("%q is neither a tag nor a sha256 digest", rt.arg))
		}
	case routeBlob, routeReferrers:
		return checkDigest(rt.arg)
	case routeUpload:
		if !uploadExpr.MatchString(rt.arg) {
			return unknownUpload(rt.arg)
		}
	}
	return nil
}

// checkRepository refuses names that are no OCI names, and those that would collide with the files of
// an OCI layout.
func checkRepository(name string) error {
	if len(name) > 200 || !repositoryExpr.MatchString(name) {
		return badRequest("NAME_INVALID", fmt.Sprintf("repository %q: expected lower-case letters, digits and single . _ - between slashes, at most 200 characters", name))
	}
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "blobs", "index.json", "oci-layout":
			return badRequest("NAME_INVALID", fmt.Sprintf("repository %q: no part may be called %q", name, part))
		}
	}
	return nil
}

func checkDigest(d string) error {
	if !digestExpr.MatchString(d) {
		return badRequest("DIGEST_INVALID", fmt.Sprintf("%q is not a sha256 digest (sha256: and 64 lower-case hexadecimal digits)", d))
	}
	return nil
}

func checkTag(tag string) error {
	if !tagExpr.MatchString(tag) {
		return badRequest("TAG_INVALID", fmt.Sprintf("%q is not a tag: expected letters, digits and . _ -, at most 128", tag))
	}
	return nil
}

func checkPageSize(n string) error {
	if n == "" {
		return nil
	}
	if v, err := strconv.Atoi(n); err != nil || v < 0 {
		return badRequest("PAGINATION_NUMBER_INVALID", fmt.Sprintf("n=%q: expected a number from 0", n))
	}
	return nil
}

// action says what a method on the route does; false when the method is not served there.
func (rt route) action(method string) (Action, bool) {
	read := method == http.MethodGet || method == http.MethodHead
	switch rt.kind {
	case routeUploads:
		return Push, method == http.MethodPost
	case routeUpload:
		return Push, slices.Contains([]string{http.MethodGet, http.MethodPatch, http.MethodPut, http.MethodDelete}, method)
	case routeManifest:
		switch method {
		case http.MethodPut:
			return Push, true
		case http.MethodDelete:
			return Delete, true
		}
	}
	return Pull, read
}

func manifestTypes() []string {
	return []string{
		"application/vnd.oci.image.manifest.v1+json",
		"application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json",
	}
}

func acceptsAnything(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for _, v := range accept {
		for part := range strings.SplitSeq(v, ",") {
			mt, _, _ := strings.Cut(part, ";")
			if mt = strings.TrimSpace(mt); mt == "" || mt == "*/*" {
				return true
			}
		}
	}
	return false
}
