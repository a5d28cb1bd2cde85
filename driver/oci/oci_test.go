package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/goleak"
	helm "helm.sh/helm/v4/pkg/registry"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/slipwaytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user   = "builder"
	secret = "s3cr3t-t0ken"
)

// outside is a registry of someone else: ggcr's, with a password, and a record of what was asked.
type outside struct {
	t        testing.TB
	server   *httptest.Server
	registry slipway.Registry
	client   *oci.Client
	rt       *http.Transport
	mu       sync.Mutex
	asked    []string
}

func newOutside(t testing.TB, referrers bool) *outside {
	t.Helper()
	o := &outside{t: t, rt: &http.Transport{}}
	inner := ggcr.New(ggcr.WithReferrersSupport(referrers), ggcr.Logger(log.New(io.Discard, "", 0)))
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.asked = append(o.asked, r.Method+" "+r.URL.RequestURI())
		o.mu.Unlock()
		if u, s, _ := r.BasicAuth(); u != user || s != secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	o.registry = slipway.Registry{Host: "registry.example.com", Address: o.server.URL}
	o.client = newClient(o.rt, secret)
	t.Cleanup(func() {
		o.rt.CloseIdleConnections()
		o.server.Close()
	})
	return o
}

func newClient(rt http.RoundTripper, password string) *oci.Client {
	return oci.New(func(_ context.Context, host string) (string, string, error) {
		if host != "registry.example.com" {
			return "", "", fmt.Errorf("asked for the credentials of %q", host)
		}
		return user, password, nil
	}, oci.Options{Transport: rt, RetryDelay: time.Millisecond})
}

func (o *outside) repo(name string) slipway.Repository {
	return slipway.Repository{Registry: o.registry, Name: name}
}

// since returns what was asked after the mark that it returned before.
func (o *outside) since(mark int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.asked[mark:]...)
}

func (o *outside) mark() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

// push brings a random image into a repository and returns its digest.
func (o *outside) push(repo, tag string) string {
	o.t.Helper()
	img, err := random.Image(2048, 2)
	if err != nil {
		o.t.Fatal(err)
	}
	dir := o.t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		o.t.Fatal(err)
	}
	digest, err := o.client.PushLayout(context.Background(), dir, o.repo(repo), tag)
	if err != nil {
		o.t.Fatal(err)
	}
	if want := digestOf(o.t, img); digest != want {
		o.t.Fatalf("pushed %s, want %s", digest, want)
	}
	return digest
}

func digestOf(t testing.TB, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func code(t testing.TB, err error, want slipway.Code) {
	t.Helper()
	if got := slipway.ErrorCode(err); got != want {
		t.Errorf("code %q, want %q: %v", got, want, err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if s := fmt.Sprintf("%+v %v", e, e); strings.Contains(s, secret) || strings.Contains(s, "token=") {
			t.Errorf("the error tells a secret: %s", s)
		}
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	ctx := t.Context()
	repo := o.repo("shop/delivery")
	one, two := o.push("shop/delivery", "x1"), o.push("shop/delivery", "x2")

	_, err := o.client.Resolve(ctx, repo, "v1")
	code(t, err, slipway.NotFound)
	_, err = o.client.Resolve(ctx, o.repo("shop/none"), "v1")
	code(t, err, slipway.NotFound)
	for range 2 {
		if err := o.client.Tag(ctx, repo, one, "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := o.client.Resolve(ctx, repo, "v1"); err != nil || got != one {
		t.Errorf("v1 is %s, %v", got, err)
	}
	err = o.client.Tag(ctx, repo, two, "v1")
	code(t, err, slipway.Conflict)
	for _, part := range []string{one, two, "registry.example.com/shop/delivery:v1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %s", err, part)
		}
	}
	code(t, o.client.Tag(ctx, repo, "sha256:"+strings.Repeat("0", 64), "v9"), slipway.NotFound)
	code(t, o.client.Tag(ctx, repo, "v1", "v9"), slipway.Invalid)
	code(t, o.client.Tag(ctx, repo, one, "a/b"), slipway.Invalid)
	code(t, o.client.Tag(ctx, o.repo("Shop/Delivery"), one, "v1"), slipway.Invalid)
	if _, err := o.client.Head(ctx, repo, one); err != nil {
		t.Error(err)
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%v", referrers), func(t *testing.T) {
			t.Parallel()
			o := newOutside(t, referrers)
			ctx := t.Context()
			from, to := o.repo("shop/delivery"), o.repo("prod/shop/delivery")
			digest := o.push("shop/delivery", "v1")
			sbom := attach(t, o, from, "application/spdx+json", digest)
			sign := attach(t, o, from, "application/x.signature", sbom)

			// What older versions of cosign attach by tag comes along too.
			legacy := o.push("shop/delivery", strings.Replace(digest, ":", "-", 1)+".sig")

			mark := o.mark()
			if err := o.client.Copy(ctx, from, digest, to, "v1"); err != nil {
				t.Fatal(err)
			}
			for _, r := range o.since(mark) {
				if strings.HasPrefix(r, "PATCH") || strings.HasPrefix(r, "GET /v2/shop/delivery/blobs/") && !strings.Contains(r, "uploads") {
					t.Errorf("within one registry a blob was moved: %s", r)
				}
			}
			if got, err := o.client.Resolve(ctx, to, "v1"); err != nil || got != digest {
				t.Errorf("copied %s, %v", got, err)
			}
			list, err := o.client.Referrers(ctx, to, digest)
			if err != nil || len(list) != 1 || list[0].Digest != sbom {
				t.Errorf("referrers %+v, %v", list, err)
			}
			if got, err := o.client.Resolve(ctx, to, strings.Replace(digest, ":", "-", 1)+".sig"); err != nil || got != legacy {
				t.Errorf("the signature by tag is %s, %v", got, err)
			}
			list, err = o.client.Referrers(ctx, to, sbom)
			if err != nil || len(list) != 1 || list[0].Digest != sign {
				t.Errorf("referrers of the referrer %+v, %v", list, err)
			}
			mark = o.mark()
			if err := o.client.Copy(ctx, from, digest, to, "v1"); err != nil {
				t.Fatal(err)
			}
			for _, r := range o.since(mark) {
				if strings.HasPrefix(r, "PUT") || strings.HasPrefix(r, "POST") {
					t.Errorf("the second copy wrote: %s", r)
				}
			}
			other := o.push("shop/delivery", "v2")
			code(t, o.client.Copy(ctx, from, other, to, "v1"), slipway.Conflict)
			code(t, o.client.Copy(ctx, from, "sha256:"+strings.Repeat("0", 64), to, "v3"), slipway.NotFound)
			if err := o.client.Copy(ctx, from, other, to, ""); err != nil {
				t.Error(err)
			}
			if _, err := o.client.Head(ctx, to, other); err != nil {
				t.Errorf("copied by digest: %v", err)
			}
		})
	}
}

func TestCopyToAnotherRegistry(t *testing.T) {
	t.Parallel()
	a, b := newOutside(t, true), newOutside(t, false)
	digest := a.push("shop/delivery", "v1")
	sbom := attach(t, a, a.repo("shop/delivery"), "application/spdx+json", digest)
	if err := a.client.Copy(t.Context(), a.repo("shop/delivery"), digest, b.repo("prod/delivery"), "v1"); err != nil {
		t.Fatal(err)
	}
	if got, err := b.client.Resolve(t.Context(), b.repo("prod/delivery"), "v1"); err != nil || got != digest {
		t.Errorf("%s, %v", got, err)
	}
	list, err := b.client.Referrers(t.Context(), b.repo("prod/delivery"), digest)
	if err != nil || len(list) != 1 || list[0].Digest != sbom {
		t.Errorf("referrers %+v, %v", list, err)
	}
}

func attach(t testing.TB, o *outside, repo slipway.Repository, kind, subject string) string {
	t.Helper()
	a := oci.Attachment{ArtifactType: kind, MediaType: "application/json", Data: []byte(`{"about":"` + subject + `"}`)}
	one, err := o.client.PushArtifact(context.Background(), repo, a, subject)
	if err != nil {
		t.Fatal(err)
	}
	two, err := o.client.PushArtifact(context.Background(), repo, a, subject)
	if err != nil || one != two {
		t.Fatalf("attached twice: %s and %s, %v", one, two, err)
	}
	got, err := o.client.PullArtifact(context.Background(), repo, one)
	if err != nil || string(got.Data) != string(a.Data) || got.ArtifactType != kind || got.MediaType != "application/json" {
		t.Fatalf("attachment %+v, %v", got, err)
	}
	return one
}

func chartPackage(t testing.TB, chartYAML string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, f := range [][2]string{{"delivery/templates/Chart.yaml", "not: this one\n"}, {"delivery/Chart.yaml", chartYAML}} {
		if err := tw.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const chartYAML = `apiVersion: v2
name: delivery
version: 1.0.2
appVersion: "1.0"
description: Delivers.
annotations: {b: "2", a: "1"}
dependencies:
- {name: redis, version: 1.x.x, repository: "oci://example.com/charts", import-values: [{child: a, parent: b}]}
`

func TestCharts(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	ctx := t.Context()
	repo := o.repo("shop/charts/delivery")
	pkg := chartPackage(t, chartYAML)
	digest, err := o.client.PushChart(ctx, repo, "1.0.2", pkg)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := o.client.PushChart(ctx, repo, "1.0.2", pkg); err != nil || again != digest {
		t.Errorf("equal package, digests %s and %s, %v", digest, again, err)
	}
	_, err = o.client.Resolve(ctx, repo, "1.0.2")
	code(t, err, slipway.NotFound)
	if err := o.client.Tag(ctx, repo, digest, "1.0.2"); err != nil {
		t.Fatal(err)
	}
	if got, err := o.client.PullChart(ctx, repo, digest); err != nil || !bytes.Equal(got, pkg) {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	h, err := helm.NewClient(helm.ClientOptPlainHTTP(), helm.ClientOptBasicAuth(user, secret), helm.ClientOptWriter(io.Discard),
		helm.ClientOptHTTPClient(&http.Client{Transport: o.rt}), helm.ClientOptCredentialsFile(filepath.Join(t.TempDir(), "none.json")))
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := h.Pull(strings.TrimPrefix(o.server.URL, "http://") + "/shop/charts/delivery:1.0.2")
	if err != nil {
		t.Fatalf("stock helm: %v", err)
	}
	if !bytes.Equal(pulled.Chart.Data, pkg) || pulled.Manifest.Digest != digest || pulled.Chart.Meta.AppVersion != "1.0" || pulled.Chart.Meta.Dependencies[0].Name != "redis" {
		t.Errorf("stock helm pulled %+v", pulled.Chart.Meta)
	}

	for _, c := range []struct {
		version string
		pkg     []byte
	}{
		{"1.0.3", pkg},
		{"1.0.2", []byte("not a package")},
		{"1.0.2", pkg[:len(pkg)/2]},
		{"1.0.2", chartPackage(t, "{{{")},
		{"1.0.2", chartPackage(t, "name: x\n")},
		{"1.0.2", bytes.Repeat([]byte{1}, 21<<20)},
	} {
		_, err := o.client.PushChart(ctx, repo, c.version, c.pkg)
		code(t, err, slipway.Invalid)
	}
	image := o.push("shop/delivery", "v1")
	_, err = o.client.PullChart(ctx, o.repo("shop/delivery"), image)
	code(t, err, slipway.Invalid)
	_, err = o.client.PullChart(ctx, repo, "sha256:"+strings.Repeat("0", 64))
	code(t, err, slipway.NotFound)
}

func TestPushIndex(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	idx, err := random.Index(512, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	if got, err := o.client.PushLayout(t.Context(), dir, o.repo("mirror/x/y"), "1"); err != nil || got != digestOf(t, idx) {
		t.Errorf("index %s, %v", got, err)
	}
	_, err = o.client.PushLayout(t.Context(), t.TempDir(), o.repo("mirror/x/y"), "2")
	code(t, err, slipway.Invalid)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	ociError := func(code, message string) string {
		return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    slipway.Code
		says    string
	}{
		{"forbidden", answer(403, ociError("DENIED", "no push for you")), slipway.Forbidden, "no push for you"},
		{"immutable", answer(409, ociError("DENIED", "it is sha256:1")), slipway.Conflict, "it is sha256:1"},
		{"immutable elsewhere", answer(400, ociError("TAG_INVALID", "The image tag already exists")), slipway.Conflict, "already exists"},
		{"rate limit", answer(429, ociError("TOOMANYREQUESTS", "slow down")), slipway.Unavailable, "slow down"},
		{"broken", answer(500, "<html>oops</html>"), slipway.Unavailable, "500"},
		{"gateway", answer(502, ""), slipway.Unavailable, "502"},
		{"full", answer(507, ociError("INSUFFICIENT_STORAGE", "the disk is full")), slipway.Unavailable, "the disk is full"},
		{"too large", answer(413, ociError("MANIFEST_INVALID", "too large")), slipway.Invalid, "too large"},
		{"control characters", answer(403, `{"errors":[{"code":"DENIED","message":"\u001b[2Jx\ny"}]}`), slipway.Forbidden, "x y"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, slipway.Unavailable, "does not answer"},
		{"lies", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://203.0.113.1/v2/?token=abc", http.StatusTemporaryRedirect)
		}, slipway.Unavailable, "this machine only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rt := &http.Transport{}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				if r.Method == http.MethodHead {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				c.handler(w, r)
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.Start()
			defer server.Close()
			defer rt.CloseIdleConnections()
			repo := slipway.Repository{Registry: slipway.Registry{Host: "registry.example.com", Address: server.URL}, Name: "shop/delivery"}
			_, err := newClient(rt, secret).PushChart(t.Context(), repo, "1.0.2", chartPackage(t, chartYAML))
			code(t, err, c.want)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "registry.example.com") {
				t.Errorf("%v: does not say %q and which registry", err, c.says)
			}
			if strings.ContainsAny(fmt.Sprint(err), "\n\x1b") {
				t.Errorf("control characters in %q", err)
			}
		})
	}
}

func TestUnreachableAndWrongCredentials(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	_, err := newClient(o.rt, secret+"-no").Resolve(t.Context(), o.repo("shop/delivery"), "v1")
	code(t, err, slipway.Forbidden)

	repo := o.repo("shop/delivery")
	repo.Registry.Address = "http://" + slipwaytest.Refusing(t)
	_, err = o.client.Resolve(t.Context(), repo, "v1")
	code(t, err, slipway.Unavailable)
	if !slipway.Temporary(err) {
		t.Error("not temporary")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrSuperseded)
	if _, err := o.client.Resolve(ctx, repo, "v1"); !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("cancelled: %v", err)
	}
	failing := oci.New(func(context.Context, string) (string, string, error) { return "", "", errors.New("vault is sealed") }, oci.Options{Transport: o.rt})
	if _, err := failing.Resolve(t.Context(), repo, "v1"); err == nil || !strings.Contains(err.Error(), "vault is sealed") {
		t.Errorf("credentials: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	c := oci.New(nil, oci.Options{RetryDelay: time.Millisecond})
	for _, address := range []string{
		"http://registry.example.com", "http://10.0.0.1:5000", "http://127.0.0.1.example.com", "ftp://127.0.0.1", "127.0.0.1:5000",
		"https://u:p@registry.example.com", "https://registry.example.com/path", "https://registry.example.com?x=y", "https://", "\x00",
	} {
		repo := slipway.Repository{Registry: slipway.Registry{Host: "r.example.com", Address: address}, Name: "a/b"}
		_, err := c.Resolve(t.Context(), repo, "v1")
		code(t, err, slipway.Invalid)
	}
	_, err := c.Resolve(t.Context(), slipway.Repository{Name: "a/b"}, "v1")
	code(t, err, slipway.Invalid)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	repo := slipway.Repository{Registry: slipway.Registry{Host: "registry.example.com", Address: server.URL}, Name: "shop/charts/delivery"}
	rt := server.Client().Transport
	if _, err := oci.New(nil, oci.Options{Transport: rt}).PushChart(t.Context(), repo, "1.0.2", chartPackage(t, chartYAML)); err != nil {
		t.Error(err)
	}
	rt.(*http.Transport).CloseIdleConnections()
}
