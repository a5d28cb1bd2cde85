package slipwaytest

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHGit serves the bare repositories of a folder by SSH on loopback, to read, as a forge does: as the user
// git, with public keys alone. Its methods are safe for concurrent use.
type SSHGit struct {
	Address string // host:port

	root     string
	listener net.Listener
	all      sync.WaitGroup

	mu   sync.Mutex
	host ssh.Signer
	// certified is host with a certificate; nil for none.
	certified ssh.Signer
	allowed   map[string]bool // public keys, as ssh.PublicKey.Marshal has them
	open      map[net.Conn]bool
	logins    int
}

// NewSSHGit starts to serve the repositories below root. Nobody's key is allowed yet.
func NewSSHGit(root string) (*SSHGit, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &SSHGit{Address: listener.Addr().String(), root: root, listener: listener, allowed: map[string]bool{}, open: map[net.Conn]bool{}}
	if err := s.NewHostKey(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.all.Go(s.accept)
	return s, nil
}

// NewHostKey gives the host another key.
func (s *SSHGit) NewHostKey() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host, s.certified = signer, nil
	return nil
}

// Certify has an authority sign the host's key for a name; KnownHosts is then still of the key itself.
func (s *SSHGit) Certify(authority ssh.Signer, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cert := &ssh.Certificate{Key: s.host.PublicKey(), CertType: ssh.HostCert, KeyId: name, ValidPrincipals: []string{name}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		return err
	}
	signer, err := ssh.NewCertSigner(cert, s.host)
	if err != nil {
		return err
	}
	s.certified = signer
	return nil
}

// URL is that of a repository.
func (s *SSHGit) URL(path string) string { return "ssh://git@" + s.Address + "/" + path }

// KnownHosts is the line of known_hosts for the host.
func (s *SSHGit) KnownHosts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return knownhosts.Line([]string{s.Address}, s.host.PublicKey()) + "\n"
}

// Fingerprint is that of the host's key.
func (s *SSHGit) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ssh.FingerprintSHA256(s.host.PublicKey())
}

// Allow lets a key in, given as a line of authorized_keys; Forbid takes that back.
func (s *SSHGit) Allow(line string) error { return s.set(line, true) }

// Forbid keeps a key out.
func (s *SSHGit) Forbid(line string) error { return s.set(line, false) }

func (s *SSHGit) set(line string, in bool) error {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed[string(key.Marshal())] = in
	return nil
}

// Logins counts who came in.
func (s *SSHGit) Logins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins
}

// Close stops serving and waits until nothing of it runs.
func (s *SSHGit) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func (s *SSHGit) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[conn] = true
		config := &ssh.ServerConfig{PublicKeyCallback: s.check}
		config.AddHostKey(s.host)
		if s.certified != nil {
			config.AddHostKey(s.certified)
		}
		s.mu.Unlock()
		s.all.Go(func() {
			defer func() {
				s.mu.Lock()
				delete(s.open, conn)
				s.mu.Unlock()
				_ = conn.Close()
			}()
			s.serve(conn, config)
		})
	}
}

func (s *SSHGit) check(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if meta.User() != "git" || !s.allowed[string(key.Marshal())] {
		return nil, fmt.Errorf("key %s is not allowed", ssh.FingerprintSHA256(key))
	}
	return nil, nil
}

func (s *SSHGit) serve(conn net.Conn, config *ssh.ServerConfig) {
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	s.mu.Lock()
	s.logins++
	s.mu.Unlock()
	s.all.Go(func() { ssh.DiscardRequests(requests) })
	for made := range channels {
		if made.ChannelType() != "session" {
			_ = made.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := made.Accept()
		if err != nil {
			return
		}
		s.all.Go(func() { s.session(channel, requests) })
	}
}

// session runs the one command of a session.
func (s *SSHGit) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	protocol := ""
	for r := range requests {
		var env struct{ Name, Value string }
		var command struct{ Line string }
		switch {
		case r.Type == "env" && ssh.Unmarshal(r.Payload, &env) == nil && env.Name == "GIT_PROTOCOL":
			protocol = env.Value
			_ = r.Reply(true, nil)
		case r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil:
			_ = r.Reply(true, nil)
			status := struct{ Code uint32 }{s.uploadPack(channel, command.Line, protocol)}
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(&status))
			return
		default:
			_ = r.Reply(false, nil)
		}
	}
}

func (s *SSHGit) uploadPack(channel ssh.Channel, line, protocol string) (code uint32) {
	path, ok := strings.CutPrefix(line, "git-upload-pack '")
	path, end := strings.CutSuffix(path, "'")
	dir := filepath.Join(s.root, filepath.Clean("/"+path))
	if _, err := os.Stat(dir); !ok || !end || err != nil {
		_, _ = io.WriteString(channel.Stderr(), "ERROR: Repository not found.\n")
		return 1
	}
	cmd := exec.Command("git", "upload-pack", "--strict", dir)
	cmd.Env = append(os.Environ(), "GIT_PROTOCOL="+protocol)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe() // not Stdin: Wait would wait for the client's end of the channel
	if err != nil || cmd.Start() != nil {
		return 1
	}
	s.all.Go(func() {
		_, _ = io.Copy(in, channel)
		_ = in.Close()
	})
	if cmd.Wait() != nil {
		return 1
	}
	return 0
}
