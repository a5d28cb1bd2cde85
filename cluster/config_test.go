package cluster

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigsStayInTheFolder(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	if err := c.writeCertificates(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := c.writeConfigs(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"kubelet.json", "kube-proxy.json", "cni/10-slipway.conflist"} {
		data, err := os.ReadFile(c.config(file))
		if err != nil || !json.Valid(data) {
			t.Errorf("%s: %v\n%s", file, err, data)
		}
	}
	containerd, err := os.ReadFile(c.config("containerd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(containerd), "\n") {
		key, value, ok := strings.Cut(line, " = ")
		path := strings.Trim(value, `"`)
		if ok && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, c.Dir) && path != "/usr/lib/cni" {
			t.Errorf("containerd's %s is %s, outside of %s", strings.TrimSpace(key), path, c.Dir)
		}
	}
	for _, file := range []string{c.Kubeconfig(), c.config("kubelet.kubeconfig"), c.pki("ca.key")} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	// The longest path of a socket that a component makes.
	if socket := filepath.Join("/"+strings.Repeat("d", maxDir-1), "kubelet", "pod-resources", "kubelet.sock"); len(socket) > 107 {
		t.Errorf("a socket's path may have %d bytes", len(socket))
	}
}

func TestCorefile(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	c.Ports = Ports{DNSHealth: 21008, DNSReady: 21009}
	text := c.corefile("nameserver 10.0.0.2\nnameserver 10.0.0.3\n")
	for _, want := range []string{"bind 10.254.254.10\n", "forward . 10.0.0.2 10.0.0.3\n", "health 127.0.0.1:21008\n", "kubernetes cluster.local "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := c.corefile(""); strings.Contains(text, "forward") {
		t.Errorf("a machine without name servers forwards:\n%s", text)
	}
}

func TestComponentsBindToThisMachine(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	for _, one := range c.components() {
		for _, arg := range one.args {
			if strings.Contains(arg, "0.0.0.0") || strings.Contains(arg, "[::]") {
				t.Errorf("%s has %s", one.name, arg)
			}
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := c.writeCertificates(now); err != nil {
		t.Fatal(err)
	}
	verify := func(file, ca, host string) error {
		certificate, pool := readCertificate(t, c.pki(file)), x509.NewCertPool()
		pool.AddCert(readCertificate(t, c.pki(ca)))
		_, err := certificate.Verify(x509.VerifyOptions{
			Roots: pool, DNSName: host, CurrentTime: now.AddDate(9, 0, 0), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		return err
	}
	for _, host := range []string{"10.254.254.1", "10.254.128.1", "kubernetes.default.svc", "localhost"} {
		if err := verify("apiserver.crt", "ca.crt", host); err != nil {
			t.Errorf("API server as %s: %v", host, err)
		}
	}
	if err := verify("admin.crt", "etcd-ca.crt", ""); err == nil {
		t.Error("the administrator's certificate opens the store")
	}
	ca, key := readFile(t, c.pki("ca.crt")), readFile(t, c.pki("service-account.key"))
	if err := c.writeCertificates(now.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if ca != readFile(t, c.pki("ca.crt")) || key != readFile(t, c.pki("service-account.key")) {
		t.Error("a second start made a new authority or a new key for tokens")
	}
	if err := verify("kubelet.crt", "ca.crt", "10.254.254.1"); err != nil {
		t.Errorf("the kubelet after a second start: %v", err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(readFile(t, path)))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
