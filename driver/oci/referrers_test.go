package oci_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-cd/slipway/driver/oci"
)

// paging answers for a registry with one referrer per page; link says where the next one is.
func paging(t *testing.T, answer http.RoundTripper, link func(next string) string) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		page, _ := strconv.Atoi(req.URL.Query().Get("page"))
		resp, err := answer.RoundTrip(req)
		if err != nil || !strings.Contains(req.URL.Path, "/referrers/") || resp.StatusCode != http.StatusOK {
			return resp, err
		}
		var all v1.IndexManifest
		if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
			t.Error(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		slices.SortFunc(all.Manifests, func(a, b v1.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
		if page+1 < len(all.Manifests) {
			resp.Header.Set("Link", link(fmt.Sprintf("%s?page=%d", req.URL.Path, page+1)))
		}
		all.Manifests = all.Manifests[page:min(page+1, len(all.Manifests))]
		body, err := json.Marshal(all)
		if err != nil {
			t.Error(err)
		}
		resp.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json; charset=utf-8")
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return resp, nil
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func attachments(t *testing.T, o *outside, subject string, kinds ...string) []string {
	t.Helper()
	var out []string
	for _, kind := range kinds {
		out = append(out, attach(t, o, o.repo("shop/delivery"), kind, subject))
	}
	slices.Sort(out)
	return out
}

func digestsOf(list []oci.Attachment) (out []string) {
	for _, a := range list {
		out = append(out, a.Digest)
	}
	slices.Sort(out)
	return out
}

// A registry may list what refers to a digest in pages: all of them count, and credentials go nowhere else for them.
func TestReferrersInPages(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s with %v", r.URL, r.Header) }))
	t.Cleanup(elsewhere.Close)
	o := newOutside(t, true)
	digest := o.push("shop/delivery", "v1")
	want := attachments(t, o, digest, "application/a", "application/b", "application/c")
	for name, c := range map[string]struct {
		link func(next string) string
		bad  string
	}{
		"relative":  {func(next string) string { return "<" + next + `>; rel="next"` }, ""},
		"absolute":  {func(next string) string { return `<https://x>; rel="first", <` + o.server.URL + next + ">; rel=next" }, ""},
		"elsewhere": {func(next string) string { return "<" + elsewhere.URL + next + `>; rel="next"` }, "said to be elsewhere"},
		"no end":    {func(string) string { return `<?page=0>; rel="next"` }, "more than 100 pages"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := newClient(paging(t, o.rt, c.link), secret).Referrers(t.Context(), o.repo("shop/delivery"), digest)
			if c.bad == "" && (err != nil || !slices.Equal(digestsOf(list), want)) {
				t.Errorf("%v, %v, want %v", digestsOf(list), err, want)
			}
			if c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
				t.Errorf("%v, %v, want %s", list, err, c.bad)
			}
		})
	}
}

// A registry without referrers has a tag in their place, which is read and written back: who attaches at once loses nothing.
func TestAttachedAtOnce(t *testing.T) {
	t.Parallel()
	o := newOutside(t, false)
	digest := o.push("shop/delivery", "v1")
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			a := oci.Attachment{ArtifactType: fmt.Sprintf("application/x%d", i), MediaType: "application/json", Data: []byte("{}")}
			if _, err := o.client.PushArtifact(t.Context(), o.repo("shop/delivery"), a, digest); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := o.client.Referrers(t.Context(), o.repo("shop/delivery"), digest); err != nil || len(list) != 12 {
		t.Errorf("%d of 12, %v", len(list), err)
	}
}

// A copy that was interrupted between a referrer and the tag that lists it is finished by the next one.
func TestCopyFinishesTheList(t *testing.T) {
	t.Parallel()
	o := newOutside(t, false)
	digest := o.push("shop/delivery", "v1")
	want := attachments(t, o, digest, "application/a", "application/b")
	from, to := o.repo("shop/delivery"), o.repo("prod/delivery")
	if err := o.client.Copy(t.Context(), from, digest, to, "v1"); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, o.server.URL+"/v2/prod/delivery/manifests/"+strings.Replace(digest, ":", "-", 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, secret)
	resp, err := o.rt.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", resp, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if list, err := o.client.Referrers(t.Context(), to, digest); err != nil || len(list) != 0 {
		t.Fatalf("the list is still there: %v, %v", list, err)
	}
	if err := o.client.Copy(t.Context(), from, digest, to, "v1"); err != nil {
		t.Fatal(err)
	}
	if list, err := o.client.Referrers(t.Context(), to, digest); err != nil || !slices.Equal(digestsOf(list), want) {
		t.Errorf("%v, %v, want %v", digestsOf(list), err, want)
	}
}
