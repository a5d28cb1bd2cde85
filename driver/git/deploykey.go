package git

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/slipway-cd/slipway"
)

// DeployKeys makes keys for repositories by SSH, and tries them.
type DeployKeys struct {
	Dir string // as SSH.Dir
}

// Make makes an Ed25519 key pair: the private half in OpenSSH's form, the public one as a line of
// authorized_keys that ends with comment.
func (d DeployKeys) Make(comment string) (private, public string, err error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return "", "", fmt.Errorf("encode the key: %w", err)
	}
	private = string(pem.EncodeToMemory(block))
	public, err = d.Public(private)
	return private, public + " " + slipway.CleanLine(comment, 100), err
}

// Public is the public half of a private key, as a line of authorized_keys without a comment. The key must be
// one of Ed25519, ECDSA or RSA of at least 2048 bits, without a passphrase.
func (d DeployKeys) Public(private string) (string, error) {
	signer, err := signerOf(private)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

// Hosts says which host keys are trusted for a repository, as lines of known_hosts: those that a known_hosts
// file has for the host; else the one that the host has now if fingerprint names it, or the host's operator
// publishes it. A host key that nobody named is not trusted: the error, a Conflict, has its fingerprint.
func (d DeployKeys) Hosts(ctx context.Context, gitURL, knownHosts, want string) (string, error) {
	at, err := endpointOf(gitURL)
	if err != nil {
		return "", err
	}
	if knownHosts != "" {
		return knownTo(at, knownHosts)
	}
	key, err := at.scan(ctx)
	if err != nil {
		return "", err
	}
	host, _, _ := net.SplitHostPort(at.address)
	named := published(host)
	if want != "" {
		named = []string{want}
	}
	if slices.Contains(named, fingerprint(key)) {
		return knownhosts.Line([]string{at.address}, key) + "\n", nil
	}
	if len(named) > 0 {
		return "", slipway.Errorf(slipway.Conflict, "the host key of %s is %s, and not %s: somebody may be between; nothing is trusted", at.address, keyTitle(key), strings.Join(named, " or "))
	}
	return "", slipway.Errorf(slipway.Conflict, "the host key of %s is not known yet; the host shows %s. Compare that with what its operator publishes, then say it again with --host-key %s, or give a file with --known-hosts",
		at.address, keyTitle(key), fingerprint(key))
}

// Try reaches a repository with a key and returns its default branch. Forbidden: the host is the right one and
// does not take the key.
func (d DeployKeys) Try(ctx context.Context, gitURL, private, hosts string) (string, error) {
	if _, err := endpointOf(gitURL); err != nil {
		return "", err
	}
	return Repo{Dir: d.Dir}.RemoteDefault(ctx, Remote{URL: gitURL, SSH: &SSH{Key: private, Hosts: hosts, Dir: d.Dir}})
}

func signerOf(private string) (ssh.Signer, error) {
	key, err := parseKey(private)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "the deploy key is of a kind that SSH does not use: make one with `ssh-keygen -t ed25519`, or let Slipway (--deploy-key new)")
	}
	return signer, nil
}

// parseKey reads a private key. Its errors hold nothing of it.
func parseKey(private string) (any, error) {
	bad := func(why string) (any, error) {
		return nil, slipway.Errorf(slipway.Invalid, "the deploy key %s", why)
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(private)); err == nil && !strings.Contains(private, "PRIVATE KEY") {
		return bad("is the public half: the file without .pub is the private one")
	}
	key, err := ssh.ParseRawPrivateKey([]byte(strings.TrimSpace(private) + "\n"))
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return bad("has a passphrase, which nobody is here to enter: take it away from a copy (ssh-keygen -p), or let Slipway make a key (--deploy-key new)")
	case err != nil:
		return bad("is not a private key in OpenSSH's form or PEM: make one with `ssh-keygen -t ed25519`, or let Slipway (--deploy-key new)")
	}
	if k, ok := key.(*rsa.PrivateKey); ok && k.N.BitLen() < 2048 {
		return bad(fmt.Sprintf("has %d bits of RSA: at least 2048 are needed", k.N.BitLen()))
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil || signer.PublicKey().Type() == ssh.InsecureKeyAlgoDSA {
		return bad("is of a kind that SSH does not use any more: make one with `ssh-keygen -t ed25519`, or let Slipway (--deploy-key new)")
	}
	return key, nil
}
