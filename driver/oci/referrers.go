package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxPages = 100      // of one list of referrers
	maxList  = 16 << 20 // bytes of all of them
)

var (
	referrersExpr = regexp.MustCompile(`^/v2/.+/referrers/sha256:[0-9a-f]{64}$`)
	nextExpr      = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?next"?`)
)

// turns has one at a time write what refers to a digest.
type turns [64]chan struct{}

func newTurns() (t turns) {
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

// take waits for the turn of a name; done ends it. Names share turns.
func (t turns) take(ctx context.Context, name string) (done func(), err error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	turn := t[h.Sum32()%uint32(len(t))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// allPages makes one answer of the pages in which a registry lists what refers to a digest: ggcr reads the first alone,
// and a signature on a later one would not be there. The other pages are asked of the same registry, with the credentials of
// the first.
type allPages struct{ next http.RoundTripper }

// RoundTrip carries a request.
func (t allPages) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil || req.Method != http.MethodGet || resp.StatusCode != http.StatusOK || !referrersExpr.MatchString(req.URL.Path) || !isIndex(resp) {
		return resp, err
	}
	list, err := t.list(req, resp)
	if err != nil {
		return nil, fmt.Errorf("list the referrers: %w", err)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	resp.Header.Del("Link")
	resp.Header.Set("Content-Type", string(types.OCIImageIndex)) // ggcr takes one with parameters for none
	resp.ContentLength, resp.Body = int64(len(body)), io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func isIndex(resp *http.Response) bool {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && media == string(types.OCIImageIndex)
}

// list reads a page and those that follow it, and closes their bodies.
func (t allPages) list(req *http.Request, resp *http.Response) (list v1.IndexManifest, err error) {
	left := int64(maxList)
	for n := 1; ; n++ {
		body, err := io.ReadAll(io.LimitReader(resp.Body, left+1))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return list, err
		}
		var page v1.IndexManifest
		if left -= int64(len(body)); left < 0 {
			return list, fmt.Errorf("it is larger than %d MiB", maxList>>20)
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return list, fmt.Errorf("page %d: %w", n, err)
		}
		page.Manifests = append(list.Manifests, page.Manifests...)
		list = page
		next := nextExpr.FindStringSubmatch(strings.Join(resp.Header.Values("Link"), ", "))
		if next == nil {
			return list, nil
		}
		if n == maxPages {
			return list, fmt.Errorf("it has more than %d pages", maxPages)
		}
		if resp, err = t.page(req, next[1]); err != nil {
			return list, fmt.Errorf("page %d: %w", n+1, err)
		}
	}
}

// page asks for a further page of what req asked for.
func (t allPages) page(req *http.Request, link string) (*http.Response, error) {
	u, err := req.URL.Parse(link)
	if err != nil {
		return nil, err
	}
	if u.Scheme != req.URL.Scheme || u.Host != req.URL.Host || u.Path != req.URL.Path {
		return nil, fmt.Errorf("it is said to be elsewhere, at %s", u.Redacted())
	}
	more := req.Clone(req.Context())
	more.URL = u
	resp, err := t.next.RoundTrip(more)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the registry answers %s", resp.Status), resp.Body.Close())
	}
	return resp, nil
}
