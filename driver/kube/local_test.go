package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
)

const personal = `apiVersion: v1
kind: Config
current-context: production
clusters:
- {name: p, cluster: {server: "https://production:6443"}}
- {name: d, cluster: {server: "https://dev:6443", certificate-authority: ca.pem}}
contexts:
- {name: production, context: {cluster: p, user: p}}
- {name: dev, context: {cluster: d, user: d, namespace: mine}}
users:
- {name: p, user: {token: secret}}
- name: d
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: get-token, interactiveMode: IfAvailable}}
`

// A person's own kubeconfig may run programs and name files; the context is the one named, never the current one.
func TestLocalConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(personal), 0o600); err != nil {
		t.Fatal(err)
	}
	cut, server, err := LocalConfig(file, "dev")
	if err != nil || server != "https://dev:6443" {
		t.Fatalf("%s, %v", server, err)
	}
	c, err := clientcmd.Load(cut)
	if err != nil {
		t.Fatal(err)
	}
	if c.CurrentContext != "dev" || len(c.Clusters) != 1 || c.AuthInfos["d"].Exec.Command != "get-token" ||
		c.Clusters["d"].CertificateAuthority != filepath.Join(dir, "ca.pem") || strings.Contains(string(cut), "secret") {
		t.Errorf("cut down to\n%s", cut)
	}
	for name, want := range map[string]string{"": `no context ""`, "staging": "it has: "} {
		if _, _, err := LocalConfig(file, name); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("context %q: %v", name, err)
		}
	}
	if _, _, err := LocalConfig(filepath.Join(dir, "none"), "dev"); slipway.ErrorCode(err) != slipway.Invalid {
		t.Error(err)
	}
}
