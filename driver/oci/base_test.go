package oci_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
)

// pushed pushes an image or an index and returns its digest.
func (o *outside) pushed(t *testing.T, repo string, it interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}) string {
	t.Helper()
	return o.put(t, repo, it, must(it.Digest()))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// platform is an image for an architecture, with one more layer than from.
func platform(from v1.Image, arch string) v1.Image {
	img := must(mutate.AppendLayers(from, must(random.Layer(64, types.DockerLayer))))
	config := must(img.ConfigFile()).DeepCopy()
	config.OS, config.Architecture = "linux", arch
	return must(mutate.ConfigFile(img, config))
}

// record is the record of a build that took images, beside the image that it made.
func (o *outside) record(t *testing.T, repo, image string, taken ...string) string {
	t.Helper()
	var materials []string
	for i := 0; i < len(taken); i += 2 {
		materials = append(materials, fmt.Sprintf(`{"uri":"pkg:docker/%s?platform=linux%%2Famd64","digest":{"sha256":"%s"}}`, taken[i], taken[i+1][7:]))
	}
	text := `{"predicate":{"buildDefinition":{"resolvedDependencies":[{"uri":"https://example.com/file","digest":{"sha256":"` + image[7:] + `"}},` + strings.Join(materials, ",") + `]}}}`
	return must(o.client.PushArtifact(t.Context(), o.repo(repo), oci.Attachment{ArtifactType: "application/vnd.slipway.build-record.v1+json", MediaType: "application/vnd.in-toto+json", Data: []byte(text)}, image))
}

// bases searches with a mirror of docker.io in the registry.
func (o *outside) bases(opts oci.BasesOptions) *oci.Bases {
	opts.Timeout = cmp.Or(opts.Timeout, time.Minute) // a busy machine gets there too
	opts.Mirrors = append(opts.Mirrors, oci.Mirror{Registry: "docker.io", At: o.repo("mirror/docker.io")})
	client := oci.New(func(_ context.Context, host string) (string, string, error) {
		if host == o.registry.Host {
			return user, secret, nil
		}
		return "", "", nil
	}, oci.Options{Transport: o.rt, RetryDelay: time.Millisecond, Addresses: map[string]string{o.registry.Host: o.registry.Address}})
	return oci.NewBases(client, opts)
}

func TestBaseIsThatOfTheLastStage(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	debian := platform(must(random.Image(64, 1)), "amd64")
	slim := platform(debian, "amd64") // is built from debian itself
	for name, c := range map[string]struct {
		image v1.Image
		want  string
	}{
		"a layer more": {platform(slim, "amd64"), "docker.io/library/slim"},
		"the shorter":  {platform(debian, "amd64"), "docker.io/library/debian"},
		"no layer":     {must(mutate.Config(slim, v1.Config{User: "65532"})), "docker.io/library/slim"},
		"from scratch": {platform(must(random.Image(64, 1)), "amd64"), ""},
	} {
		golang := platform(must(random.Image(64, 1)), "amd64")
		image := o.pushed(t, "shop/web", c.image)
		record := o.record(t, "shop/web", image,
			"golang@1.26", o.pushed(t, "mirror/docker.io/library/golang", golang),
			"debian@12", o.pushed(t, "mirror/docker.io/library/debian", debian),
			"127.0.0.1:45671/mirror/docker.io/library/slim@12", o.pushed(t, "mirror/docker.io/library/slim", slim))
		got, err := o.bases(oci.BasesOptions{}).Of(t.Context(), o.repo("shop/web"), image, record)
		if err != nil || got.Name != c.want {
			t.Errorf("%s: %+v %v, want %s", name, got, err, c.want)
		}
		if c.want != "" && got.Repository.Ref() != "registry.example.com/mirror/"+c.want {
			t.Errorf("%s: it is read from %s", name, got.Repository.Ref())
		}
	}
	if got, err := o.bases(oci.BasesOptions{}).Of(t.Context(), o.repo("shop/web"), "sha256:"+strings.Repeat("a", 64), ""); err != nil || got != (oci.Base{}) {
		t.Errorf("without a record: %+v %v", got, err)
	}
}

func TestBaseIsForTheSamePlatform(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	amd, arm := platform(must(random.Image(64, 1)), "amd64"), platform(must(random.Image(64, 1)), "arm64")
	index := o.pushed(t, "mirror/docker.io/library/debian", indexOf(amd, arm))
	for _, base := range []v1.Image{amd, arm} {
		image := o.pushed(t, "shop/web", platform(base, must(base.ConfigFile()).Architecture))
		got, err := o.bases(oci.BasesOptions{}).Of(t.Context(), o.repo("shop/web"), image, o.record(t, "shop/web", image, "debian@12", index))
		if want := must(base.Digest()).String(); err != nil || got.Digest != want {
			t.Errorf("%+v %v, want %s", got, err, want)
		}
	}
}

// indexOf is an index of images for their platforms, with an attestation.
func indexOf(images ...v1.Image) v1.ImageIndex {
	attestation := must(random.Image(64, 1))
	index := mutate.AppendManifests(mutate.IndexMediaType(must(random.Index(64, 1, 0)), types.OCIImageIndex),
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	for _, img := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: must(img.ConfigFile()).Platform()}})
	}
	return index
}

// A registry that takes connections and never answers is waited for once.
func TestBaseThatDoesNotAnswerIsRemembered(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	o := newOutside(t, true)
	debian := platform(must(random.Image(64, 1)), "amd64")
	image := o.pushed(t, "shop/web", platform(debian, "amd64"))
	digest, host := must(debian.Digest()).String(), silent.Addr().String()
	record := o.record(t, "shop/web", image, host+"/debian@12", digest)
	now := time.Now()
	bases := o.bases(oci.BasesOptions{Timeout: time.Second, Remember: time.Minute, Now: func() time.Time { return now }})
	want := "the base image " + host + "/debian could not be read: " + host + " did not answer within 1s"
	if _, err := bases.Of(t.Context(), o.repo("shop/web"), image, record); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	answersAt(t, silent, "debian", debian)
	if _, err := bases.Of(t.Context(), o.repo("shop/web"), image, record); err == nil || err.Error() != want {
		t.Errorf("it was asked again: %v", err)
	}
	var got oci.Base
	for range 60 { // on a busy machine it may be late again
		now = now.Add(time.Minute)
		if got, err = bases.Of(t.Context(), o.repo("shop/web"), image, record); err == nil {
			break
		}
	}
	if err != nil || got.Digest != digest {
		t.Errorf("after a while: %+v %v", got, err)
	}
}

// answersAt has another registry answer where there was silence, with an image.
func answersAt(t *testing.T, l net.Listener, repo string, img v1.Image) {
	t.Helper()
	other := newOutside(t, true)
	inner := other.server.Config.Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.SetBasicAuth(user, secret)
		inner.ServeHTTP(w, r)
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	other.pushed(t, repo, img)
}

func TestBaseThatIsGone(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	image := o.pushed(t, "shop/web", platform(must(random.Image(64, 1)), "amd64"))
	missing := "sha256:" + strings.Repeat("a", 64)
	record := o.record(t, "shop/web", image, "registry.example.com/a@1", missing, "registry.example.com/b@1", missing)
	bases := o.bases(oci.BasesOptions{})
	asked := func() (n int) {
		for _, line := range o.since(0) {
			if strings.Contains(line, missing) {
				n++
			}
		}
		return n
	}
	first := 0
	for i := range 2 {
		_, err := bases.Of(t.Context(), o.repo("shop/web"), image, record)
		if slipway.ErrorCode(err) != slipway.Unavailable || !strings.HasPrefix(err.Error(), "the base image, one of registry.example.com/a, registry.example.com/b, could not be read: pull registry.example.com/a@"+missing) {
			t.Error(err)
		}
		if i == 0 {
			first = asked()
		}
	}
	if first == 0 || asked() != first {
		t.Errorf("asked %d times, and %d at the second search", first, asked()-first)
	}
}
