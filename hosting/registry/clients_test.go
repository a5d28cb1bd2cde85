package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	helm "helm.sh/helm/v4/pkg/registry"
)

func chartPackage(t testing.TB, name, version string) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, f := range [][2]string{
		{name + "/Chart.yaml", "apiVersion: v2\nname: " + name + "\nversion: " + version + "\nappVersion: " + version + "\n"},
		{name + "/templates/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n"},
	} {
		if err := tw.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestHelmClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := func(user string) *helm.Client {
		cfg, _ := as(user).Authorization()
		c, err := helm.NewClient(helm.ClientOptPlainHTTP(), helm.ClientOptBasicAuth(cfg.Username, cfg.Password),
			helm.ClientOptHTTPClient(&http.Client{Transport: w.rt}), helm.ClientOptWriter(io.Discard), helm.ClientOptCredentialsFile(t.TempDir()+"/none.json"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	pkg := chartPackage(t, "delivery", "1.0.2")
	ref := w.host + "/shop/charts/delivery:1.0.2"
	pushed, err := client("dev").Push(pkg, ref, helm.PushOptCreationTime("2020-01-01T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := client("robot").Pull(ref)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(pulled.Chart.Data, pkg) || pulled.Manifest.Digest != pushed.Manifest.Digest || pulled.Chart.Meta.Version != "1.0.2" {
		t.Errorf("pulled %d bytes, digest %s, meta %+v", len(pulled.Chart.Data), pulled.Manifest.Digest, pulled.Chart.Meta)
	}
	if _, err := client("robot").Push(pkg, ref); err == nil {
		t.Error("a robot pushed a chart")
	}
	if err := w.reg.Retag(t.Context(), "shop/charts/delivery", pushed.Manifest.Digest, "prod/shop/charts/delivery", "1.0.2"); err != nil {
		t.Fatal(err)
	}
	prod, err := client("robot").Pull(w.host + "/prod/shop/charts/delivery:1.0.2")
	if err != nil || prod.Manifest.Digest != pushed.Manifest.Digest {
		t.Errorf("from production: %v", err)
	}
	if _, err := client("admin").Push(chartPackage(t, "delivery", "2.0.0"), w.host+"/prod/shop/charts/delivery:2.0.0"); err == nil || !strings.Contains(err.Error(), "promotion") {
		t.Errorf("a chart was pushed to production: %v", err)
	}
}

// containerd's resolver is what nodes pull with.
func TestContainerdResolver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 2)
	w.mustPush("dev", "shop/delivery:v1", img)
	httpClient := &http.Client{Transport: w.rt}
	resolver := func(user, secret string) (string, string, error) {
		r := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
			docker.WithPlainHTTP(docker.MatchAllHosts), docker.WithClient(httpClient),
			docker.WithAuthorizer(docker.NewDockerAuthorizer(docker.WithAuthClient(httpClient),
				docker.WithAuthCreds(func(string) (string, string, error) { return user, secret, nil }))),
		)})
		ctx := context.Background()
		name, desc, err := r.Resolve(ctx, w.host+"/shop/delivery:v1")
		if err != nil {
			return "", "", err
		}
		f, err := r.Fetcher(ctx, name)
		if err != nil {
			return "", "", err
		}
		rc, err := f.Fetch(ctx, desc)
		if err != nil {
			return "", "", err
		}
		defer rc.Close()
		b, err := io.ReadAll(rc)
		return desc.Digest.String(), string(b), err
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, body, err := resolver("robot", "tobor")
	if err != nil || digest != digestOf(t, img) || body != string(raw) {
		t.Errorf("digest %s, %d bytes, %v", digest, len(body), err)
	}
	if _, _, err := resolver("robot", "wrong"); err == nil {
		t.Error("pulled with a wrong secret")
	}
}
