package git

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // known_hosts hashes names with it
	"encoding/base64"
	"net"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/slipway-cd/slipway"
)

// published are the fingerprints of host keys that public forges publish on their pages.
func published(host string) []string {
	return map[string][]string{
		"github.com":        {"SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU", "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM", "SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s"},
		"gitlab.com":        {"SHA256:eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8", "SHA256:HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw", "SHA256:ROQFvPThGrW4RuWLoL9tq9I9zJ42fK4XywyRtbOz/EQ"},
		"codeberg.org":      {"SHA256:mIlxA9k46MmM6qdJOdMnAQpzGxF4WIVVL+fj+wZbw0g", "SHA256:T9FYDEHELhVkulEKKwge5aVhVTbqCW0MIRwAfpARs/E", "SHA256:6QQmYi4ppFS4/+zSZ5S4IU+4sa6rwvQ4PbhCtPEBekQ"},
		"ssh.dev.azure.com": {"SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og"},
	}[strings.ToLower(host)]
}

// maxKnownHosts bounds a known_hosts file, in bytes.
const maxKnownHosts = 1 << 20

// What stands before a line of known_hosts, without its @.
const (
	authority = "cert-authority"
	revoked   = "revoked"
)

// knownTo are the lines of a known_hosts file that are for a host, each with its name alone: keys, and authorities
// that sign keys of hosts. Names may be hashed or patterns; those of an authority may leave the port out, as for
// ssh. A key that is marked as revoked is left out; beside an authority it is kept as such.
func knownTo(at endpoint, text string) (string, error) {
	if len(text) > maxKnownHosts {
		return "", slipway.Errorf(slipway.Invalid, "known hosts: more than %d bytes", maxKnownHosts)
	}
	name := knownhosts.Normalize(at.address)
	host, _, _ := net.SplitHostPort(at.address)
	var found trusted
	for rest := []byte(text); ; {
		marker, hosts, key, _, next, err := ssh.ParseKnownHosts(rest)
		if err != nil { // the end, or a line that is none
			if line, after, more := bytes.Cut(bytes.TrimLeft(rest, "\n"), []byte("\n")); more && len(line) > 0 && len(after) < len(rest) {
				rest = after
				continue
			}
			break
		}
		rest = next
		if matchesAny(hosts, name) || marker != "" && matchesAny(hosts, host) {
			found.add(marker, key)
		}
	}
	found.keys, found.authorities = found.left(found.keys), found.left(found.authorities)
	if len(found.keys)+len(found.authorities) == 0 {
		return "", slipway.Errorf(slipway.Invalid, "known hosts: there is no key for %s; `ssh-keyscan` prints the keys of a host, which are to be compared with what its operator publishes", name)
	}
	return found.lines(at), nil
}

// matchesAny reports whether the names of a line of known_hosts are those of a host.
func matchesAny(patterns []string, name string) bool {
	found := false
	for _, p := range patterns {
		p, not := strings.CutPrefix(p, "!")
		if matches(p, name) {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

func matches(pattern, name string) bool {
	if parts := strings.Split(pattern, "|"); len(parts) == 4 && parts[0] == "" && parts[1] == "1" {
		salt, err1 := base64.StdEncoding.DecodeString(parts[2])
		want, err2 := base64.StdEncoding.DecodeString(parts[3])
		mac := hmac.New(sha1.New, salt)
		mac.Write([]byte(name))
		return err1 == nil && err2 == nil && hmac.Equal(mac.Sum(nil), want)
	}
	quoted := regexp.QuoteMeta(strings.ToLower(pattern))
	quoted = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(quoted)
	ok, err := regexp.MatchString("^"+quoted+"$", strings.ToLower(name))
	return err == nil && ok
}

// trusted is what is known of a host.
type trusted struct{ keys, authorities, revoked []ssh.PublicKey }

func (t *trusted) add(marker string, key ssh.PublicKey) {
	switch marker {
	case "":
		t.keys = append(t.keys, key)
	case authority:
		t.authorities = append(t.authorities, key)
	case revoked:
		t.revoked = append(t.revoked, key)
	}
}

// left are the keys that are not revoked.
func (t *trusted) left(keys []ssh.PublicKey) []ssh.PublicKey {
	return slices.DeleteFunc(keys, func(k ssh.PublicKey) bool { return among(t.revoked, k) })
}

func among(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}

// lines writes it for one host.
func (t *trusted) lines(at endpoint) string {
	var b strings.Builder
	for _, k := range t.keys {
		b.WriteString(knownhosts.Line([]string{at.address}, k) + "\n")
	}
	for _, k := range t.authorities {
		b.WriteString("@" + authority + " " + knownhosts.Line([]string{at.address}, k) + "\n")
	}
	for _, k := range t.revoked {
		if len(t.authorities) > 0 {
			b.WriteString("@" + revoked + " " + knownhosts.Line([]string{at.address}, k) + "\n")
		}
	}
	return b.String()
}

// trustedOf reads lines that knownTo made.
func trustedOf(lines string) (t trusted) {
	for rest := []byte(lines); ; {
		marker, _, key, _, next, err := ssh.ParseKnownHosts(rest)
		if err != nil {
			return t
		}
		t.add(marker, key)
		rest = next
	}
}

// holds reports whether a host at that address may have this key: it is known, or an authority that is known
// signed it for the host's name and for now.
func holds(at endpoint, lines string, key ssh.PublicKey) bool {
	t := trustedOf(lines)
	checker := ssh.CertChecker{
		IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return among(t.authorities, k) },
		IsRevoked:       func(c *ssh.Certificate) bool { return among(t.revoked, c.Key) || among(t.revoked, c.SignatureKey) },
		HostKeyFallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			if among(t.keys, k) {
				return nil
			}
			return errOtherKey
		},
	}
	return checker.CheckHostKey(at.address, &net.TCPAddr{}, key) == nil
}

// algorithms are those by which a host proves that it has one of the known keys, or one that an authority signed.
func algorithms(lines string) (out []string) {
	t := trustedOf(lines)
	if len(t.authorities) > 0 {
		out = append(out, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01, ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, k := range t.keys {
		switch t := k.Type(); t {
		case ssh.KeyAlgoRSA:
			out = append(out, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			out = append(out, t)
		}
	}
	return out
}

// fingerprint is that of a key, of a certificate that of the key that it is for.
func fingerprint(k ssh.PublicKey) string {
	if c, ok := k.(*ssh.Certificate); ok {
		k = c.Key
	}
	return ssh.FingerprintSHA256(k)
}

func keyTitle(k ssh.PublicKey) string { return k.Type() + " " + fingerprint(k) }

func titles(lines string) (out []string) {
	t := trustedOf(lines)
	for _, k := range t.keys {
		out = append(out, keyTitle(k))
	}
	for _, k := range t.authorities {
		out = append(out, "what "+keyTitle(k)+" signed for it")
	}
	return out
}

// scan asks a host for its key. It proves that it has it; that it is the right host, it does not.
func (e endpoint) scan(ctx context.Context) (ssh.PublicKey, error) {
	var key ssh.PublicKey
	_, err := e.handshake(ctx, &ssh.ClientConfig{
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key = k
			return errOtherKey // it is all that was asked
		},
	})
	if key == nil {
		return nil, slipway.Errorf(slipway.Unavailable, "%s does not answer by SSH: %w", e.address, err)
	}
	return key, nil
}
