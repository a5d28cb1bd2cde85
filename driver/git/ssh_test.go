package git

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// host is a git server by SSH with the repository of a test's work.
func sshHost(t *testing.T, w *work) (*slipwaytest.SSHGit, string) {
	t.Helper()
	s, err := slipwaytest.NewSSHGit(filepath.Dir(w.repo.Dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, s.URL(filepath.Base(w.repo.Dir))
}

func newPair(t *testing.T, d DeployKeys) (private, public string) {
	t.Helper()
	private, public, err := d.Make("slipway shop")
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// With the ssh program: a mirror is made and fetched with a key of its own, whatever the user's own keys and
// known hosts are, and nothing of the key is left on the disk.
func TestMirrorBySSH(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	head := w.commit("one", nil)
	host, url := sshHost(t, w)
	d := DeployKeys{Dir: filepath.Join(t.TempDir(), "a folder %h")} // what ssh would expand
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	private, public := newPair(t, d)
	if !strings.HasPrefix(public, "ssh-ed25519 ") || !strings.HasSuffix(public, " slipway shop") {
		t.Errorf("public half %q", public)
	}
	hosts, err := d.Hosts(ctx, url, "", host.Fingerprint())
	if err != nil || hosts != host.KnownHosts() {
		t.Fatalf("%q, %v; the host has %q", hosts, err, host.KnownHosts())
	}
	_, err = d.Try(ctx, url, private, hosts)
	wantCode(t, err, slipway.Forbidden, host.Address, "does not take the deploy key SHA256:")
	if err := host.Allow(public); err != nil {
		t.Fatal(err)
	}
	if branch, err := d.Try(ctx, url, private, hosts); err != nil || branch != "main" {
		t.Fatalf("%q, %v", branch, err)
	}
	remote := Remote{URL: url, SSH: &SSH{Key: private, Hosts: hosts, Dir: d.Dir}}
	r, _, err := cloneMirror(ctx, filepath.Join(t.TempDir(), "m.git"), remote)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Resolve(ctx, "refs/heads/main"); err != nil || got != head {
		t.Errorf("%s, %v", got, err)
	}
	if left, err := os.ReadDir(d.Dir); err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}

	if err := host.Forbid(public); err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(ctx, remote)
	wantCode(t, err, slipway.Forbidden, "user git")
	if err := host.NewHostKey(); err != nil {
		t.Fatal(err)
	}
	logins := host.Logins()
	_, err = r.Fetch(ctx, remote)
	wantCode(t, err, slipway.Conflict, "the host key of "+host.Address, host.Fingerprint(), "--host-key")
	if slipway.Temporary(err) || host.Logins() != logins {
		t.Errorf("a changed host key is temporary, or the key was shown to the host: %v", err)
	}
	if err := host.Allow(public); err != nil {
		t.Fatal(err)
	}
	remote.SSH.Hosts = host.KnownHosts()
	_, err = r.Fetch(ctx, Remote{URL: host.URL("none.git"), SSH: remote.SSH})
	wantCode(t, err, slipway.Unavailable, "Repository not found")
	host.Close()
	_, err = r.Fetch(ctx, remote)
	wantCode(t, err, slipway.Unavailable, host.Address+" does not answer")
	if strings.Contains(err.Error(), strings.Split(private, "\n")[1]) {
		t.Errorf("the error has the key: %v", err)
	}
}

// While ssh runs, the folder holds a socket and the host keys, for the owner alone, and no private key.
func TestKeyIsNotOnTheDisk(t *testing.T) {
	t.Parallel()
	d := DeployKeys{Dir: t.TempDir()}
	private, _ := newPair(t, d)
	env, closing, err := SSH{Key: private, Hosts: "host ssh-ed25519 AAAA\n", Dir: d.Dir}.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	if strings.Contains(strings.Join(env, "\n"), "PRIVATE") {
		t.Errorf("the environment has the key: %q", env)
	}
	found := 0
	err = filepath.WalkDir(d.Dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == d.Dir {
			return err
		}
		found++
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() && info.Mode().Perm() != 0o700 || e.Type().IsRegular() && info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %s", path, info.Mode())
		}
		if e.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil || strings.Contains(string(b), "PRIVATE") {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
		return nil
	})
	if err != nil || found != 3 {
		t.Errorf("%d entries, %v", found, err)
	}
}

func TestHostsAreNamed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	host, url := sshHost(t, w)
	d := DeployKeys{Dir: t.TempDir()}
	_, err := d.Hosts(ctx, url, "", "")
	wantCode(t, err, slipway.Conflict, host.Address, host.Fingerprint(), "--host-key")
	_, err = d.Hosts(ctx, url, "", "SHA256:"+strings.Repeat("A", 43))
	wantCode(t, err, slipway.Conflict, "somebody may be between")
	_, err = d.Hosts(ctx, url, "other.example ssh-ed25519 AAAA\n", "")
	wantCode(t, err, slipway.Invalid, "there is no key for")
	file := "# a comment\nnonsense\n" + host.KnownHosts() + "\nelse.example ssh-ed25519 " + strings.Fields(host.KnownHosts())[2] + "\n"
	if got, err := d.Hosts(ctx, url, file, ""); err != nil || got != host.KnownHosts() {
		t.Errorf("%q, %v", got, err)
	}
	_, err = d.Hosts(ctx, url, host.KnownHosts()+"@revoked * "+strings.Join(strings.Fields(host.KnownHosts())[1:], " ")+"\n", "")
	wantCode(t, err, slipway.Invalid, "there is no key for")
	address := slipwaytest.Refusing(t)
	_, err = d.Hosts(ctx, "ssh://git@"+address+"/x.git", "", "SHA256:x")
	wantCode(t, err, slipway.Unavailable, address+" does not answer")
	for host, want := range map[string]int{"github.com": 3, "GitLab.com": 3, "codeberg.org": 3, "ssh.dev.azure.com": 1, "github.com.evil.example": 0} {
		if got := published(host); len(got) != want {
			t.Errorf("%s: %q", host, got)
		}
	}
}

// A host whose key an authority signed is known by that authority, as ssh has it, whichever key it has; one that
// another authority signed, or whose key is revoked, is not.
func TestCertificateAuthority(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	w.commit("one", nil)
	host, url := sshHost(t, w)
	d := DeployKeys{Dir: t.TempDir()}
	private, public := newPair(t, d)
	if err := host.Allow(public); err != nil {
		t.Fatal(err)
	}
	authorities := make([]ssh.Signer, 2)
	for i := range authorities {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if authorities[i], err = ssh.NewSignerFromKey(key); err != nil {
			t.Fatal(err)
		}
	}
	line := "@cert-authority 127.0.0.* " + string(ssh.MarshalAuthorizedKey(authorities[0].PublicKey()))
	hosts, err := d.Hosts(ctx, url, line, "")
	if err != nil || !strings.HasPrefix(hosts, "@cert-authority ["+strings.Replace(host.Address, ":", "]:", 1)+" ssh-ed25519 ") {
		t.Fatalf("%q, %v", hosts, err)
	}
	if got := (slipway.DeployKey{Hosts: hosts}).HostKeys(); len(got) != 1 || !strings.HasSuffix(got[0], ssh.FingerprintSHA256(authorities[0].PublicKey())+" (certificate authority)") {
		t.Errorf("%q", got)
	}
	_, err = d.Try(ctx, url, private, hosts)
	wantCode(t, err, slipway.Conflict, "not what is trusted: what ssh-ed25519 ", " signed for it")
	for range 2 {
		if err := host.Certify(authorities[0], "127.0.0.1"); err != nil {
			t.Fatal(err)
		}
		if branch, err := d.Try(ctx, url, private, hosts); err != nil || branch != "main" {
			t.Fatalf("%q, %v", branch, err)
		}
		if err := host.NewHostKey(); err != nil { // as a host that renews its key
			t.Fatal(err)
		}
	}
	if err := host.Certify(authorities[0], "elsewhere.example"); err != nil {
		t.Fatal(err)
	}
	_, err = d.Try(ctx, url, private, hosts)
	wantCode(t, err, slipway.Conflict, "Somebody may be between")
	if err := host.Certify(authorities[1], "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	_, err = d.Try(ctx, url, private, hosts)
	wantCode(t, err, slipway.Conflict, "Somebody may be between")
	if err := host.Certify(authorities[0], "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	gone := "@revoked * " + strings.Join(strings.Fields(host.KnownHosts())[1:], " ") + "\n"
	hosts, err = d.Hosts(ctx, url, line+gone, "")
	if err != nil || !strings.Contains(hosts, "@revoked [127.0.0.1]") {
		t.Fatalf("%q, %v", hosts, err)
	}
	if _, err = d.Try(ctx, url, private, hosts); err == nil {
		t.Error("a revoked key is taken because an authority signed it")
	}
	_, err = d.Hosts(ctx, url, line+"@revoked * "+string(ssh.MarshalAuthorizedKey(authorities[0].PublicKey())), "")
	wantCode(t, err, slipway.Invalid, "there is no key for")
}

func TestKnownHostsMatch(t *testing.T) {
	t.Parallel()
	hashed := knownhosts.HashHostname("[git.example.com]:2222")
	for _, c := range []struct {
		line, name string
		want       bool
	}{
		{"git.example.com", "git.example.com", true},
		{"GIT.example.com", "git.example.com", true},
		{"git.example.com", "gitxexample.com", false},
		{"*.example.com", "git.example.com", true},
		{"*.example.com,!git.example.com", "git.example.com", false},
		{"!git.example.com,*.example.com", "git.example.com", false},
		{"g?t.example.com", "git.example.com", true},
		{"git.example.com", "[git.example.com]:2222", false},
		{"[git.example.com]:2222", "[git.example.com]:2222", true},
		{"[*.example.com]:*", "[git.example.com]:2222", true},
		{hashed, "[git.example.com]:2222", true},
		{hashed, "git.example.com", false},
		{"|1|!!|!!", "git.example.com", false},
	} {
		if got := matchesAny(strings.Split(c.line, ","), c.name); got != c.want {
			t.Errorf("%s for %s: %t", c.line, c.name, got)
		}
	}
}

func TestBadDeployKeys(t *testing.T) {
	t.Parallel()
	d := DeployKeys{Dir: t.TempDir()}
	private, public := newPair(t, d)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short, err := ssh.MarshalPrivateKey(weak, "")
	if err != nil {
		t.Fatal(err)
	}
	for text, why := range map[string]string{
		"": "is not a private key", "x": "is not a private key", public: "is the public half",
		string(pem.EncodeToMemory(locked)): "has a passphrase",
		string(pem.EncodeToMemory(short)):  "at least 2048",
		private[:len(private)/2]:           "is not a private key",
	} {
		_, err := d.Public(text)
		wantCode(t, err, slipway.Invalid, why)
		if strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%v has the key", err)
		}
	}
	if _, err := parseKey(strings.ReplaceAll("\n"+private+"\n\n", "\n", "\r\n")); err != nil {
		t.Errorf("line ends of Windows: %v", err)
	}
	if _, err := signerOf(""); err == nil {
		t.Error("no key is a key")
	}
	for url, why := range map[string]string{
		"https://host/x.git": "is for a repository by SSH", "ssh://host/x.git": "names no user", "host:x.git": "names no user",
		"ssh://-oProxyCommand=x/": "no valid host", "ssh://git@-oProxyCommand=x/": "no valid host", "ext::sh -c id": "remote helpers",
		"git@-oProxyCommand=x:y": "no scheme", "ssh://-x@host/y": "begins with -", "ssh://git:p@host/y": "password", "": "empty",
	} {
		for _, err := range []error{second(d.Hosts(t.Context(), url, "x ssh-ed25519 AAAA", "")), second(d.Try(t.Context(), url, private, "")),
			second(Repo{Dir: d.Dir}.Fetch(t.Context(), Remote{URL: url, SSH: &SSH{Key: private, Dir: d.Dir}}))} {
			if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), why) && why != "remote helpers" {
				t.Errorf("%q: %v", url, err)
			}
		}
	}
	if at, err := endpointOf("git@git.example.com:team/shop.git"); err != nil || at != (endpoint{"git", "git.example.com:22"}) {
		t.Errorf("%+v, %v", at, err)
	}
}

func second[T any](_ T, err error) error { return err }
