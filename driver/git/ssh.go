package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/slipway-cd/slipway"
)

// SSH is how one repository is reached by SSH with a key of its own: by the ssh program, with nothing of the
// user's or the machine's configuration, keys and agent.
type SSH struct {
	Key   string // private key without a passphrase, in OpenSSH's form or PEM; it is never written to a file
	Hosts string // lines of known_hosts: the keys of which the host must have one
	// Dir is the folder for the agent's socket, which only its owner may enter; its path must be short. Empty:
	// the system's for temporary files.
	Dir string
}

// sshCommand is what git starts. It is the same for every repository: what differs comes by the environment.
// ssh itself puts the path into the option, so that no shell reads it.
const sshCommand = `ssh -F none -a -x -T -oBatchMode=yes -oStrictHostKeyChecking=yes '-oUserKnownHostsFile=${SLIPWAY_KNOWN_HOSTS}' ` +
	`-oGlobalKnownHostsFile=none -oUpdateHostKeys=no -oVerifyHostKeyDNS=no -oCheckHostIP=no -oIdentityFile=none -oIdentitiesOnly=no ` +
	`-oPreferredAuthentications=publickey -oAddKeysToAgent=no -oControlMaster=no -oControlPath=none -oProxyCommand=none ` +
	`-oClearAllForwardings=yes -oPermitLocalCommand=no -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4 -oLogLevel=ERROR`

// open starts an agent with the key and returns what ssh needs in its environment, until close.
func (a SSH) open() (env []string, closing func(), err error) {
	key, err := parseKey(a.Key)
	if err != nil {
		return nil, nil, err
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		return nil, nil, slipway.Errorf(slipway.Unavailable, "ssh is not installed on this machine: install it (apt install openssh-client)")
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return nil, nil, fmt.Errorf("give the deploy key to an agent: %w", err)
	}
	dir, err := os.MkdirTemp(a.Dir, "ssh-") // 0700
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder for the SSH agent: %w", err)
	}
	hosts, socket := filepath.Join(dir, "hosts"), filepath.Join(dir, "agent")
	if err := os.WriteFile(hosts, []byte(a.Hosts), 0o600); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("write the host keys: %w", err), os.RemoveAll(dir))
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open the SSH agent: %w", err), os.RemoveAll(dir))
	}
	stop := serveAgent(listener, ring)
	return []string{"GIT_SSH_COMMAND=" + sshCommand, "GIT_SSH_VARIANT=ssh", "GIT_ALLOW_PROTOCOL=ssh", "SSH_AUTH_SOCK=" + socket, "SLIPWAY_KNOWN_HOSTS=" + hosts},
		func() { stop(); _ = os.RemoveAll(dir) }, nil
}

// serveAgent answers on a socket until stop, which waits for all that it began.
func serveAgent(listener net.Listener, ring agent.Agent) (stop func()) {
	var mu sync.Mutex
	var all sync.WaitGroup
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			all.Go(func() {
				_ = agent.ServeAgent(ring, conn) // it ends when ssh does
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
				_ = conn.Close()
			})
		}
	})
	return func() {
		_ = listener.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	}
}

// endpoint is where a URL by SSH leads.
type endpoint struct{ user, address string } // address: host:port

// endpointOf reads a URL by SSH, that of scp too. A key is for a user, so it must name one.
func endpointOf(raw string) (endpoint, error) {
	if err := CheckURL(raw, false); err != nil {
		return endpoint{}, err
	}
	var e endpoint
	if u, err := url.Parse(raw); err == nil && u.Scheme == "ssh" {
		port := u.Port()
		if port == "" {
			port = "22"
		}
		e = endpoint{u.User.Username(), net.JoinHostPort(u.Hostname(), port)}
	} else if m := scpExpr.FindStringSubmatch(raw); m != nil && !strings.Contains(raw, "://") {
		e = endpoint{m[1], net.JoinHostPort(m[2], "22")}
	} else {
		return e, slipway.Errorf(slipway.Invalid, "a deploy key is for a repository by SSH: give a git URL such as git@host:owner/name.git or ssh://git@host/owner/name.git")
	}
	if e.user == "" {
		return e, slipway.Errorf(slipway.Invalid, "the git URL names no user: with a deploy key it does, such as git@%s", e.address)
	}
	return e, nil
}

// dialTimeout bounds a handshake that asks what is wrong, or which key a host has.
const dialTimeout = 20 * time.Second

// handshake connects as far as the configuration lets it, and closes again. reached is false if the host did
// not answer as an SSH server does.
func (e endpoint) handshake(ctx context.Context, config *ssh.ClientConfig) (reached bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", e.address)
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close() //nolint:errcheck // nothing was sent that matters
	config.User = e.user
	check := config.HostKeyCallback
	config.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		reached = true
		return check(host, remote, key)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, e.address, config)
	if err != nil {
		return reached, err
	}
	go ssh.DiscardRequests(requests)
	go func() {
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "")
		}
	}()
	return true, c.Close()
}

// explain says why ssh did not get in: the host does not answer, has another key than it should, or does not
// take the deploy key. Nil if none of these is so now.
func (a SSH) explain(ctx context.Context, raw string) error {
	at, err := endpointOf(raw)
	if err != nil {
		return err
	}
	signer, err := signerOf(a.Key)
	if err != nil {
		return err
	}
	var presented ssh.PublicKey
	var asked bool
	reached, err := at.handshake(ctx, &ssh.ClientConfig{
		HostKeyAlgorithms: algorithms(a.Hosts),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if presented = key; !holds(at, a.Hosts, key) {
				return errOtherKey
			}
			return nil
		},
		Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			asked = true
			return []ssh.Signer{signer}, nil
		})},
	})
	var net net.Error
	var negotiation *ssh.AlgorithmNegotiationError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errOtherKey):
		return otherHostKey(at, presented, a.Hosts)
	case errors.As(err, &negotiation): // of none of the kinds that are known
		if key, serr := at.scan(ctx); serr == nil && !holds(at, a.Hosts, key) {
			return otherHostKey(at, key, a.Hosts)
		}
		return slipway.Errorf(slipway.Unavailable, "SSH with %s: %w", at.address, err)
	case !reached, errors.Is(err, io.EOF), errors.As(err, &net), ctx.Err() != nil:
		return slipway.Errorf(slipway.Unavailable, "%s does not answer by SSH: %w", at.address, err)
	case asked:
		return slipway.Errorf(slipway.Forbidden, "%s does not take the deploy key %s for user %s: enter its public half on the forge as a deploy key of this repository, or give another key",
			at.address, fingerprint(signer.PublicKey()), at.user)
	}
	return slipway.Errorf(slipway.Unavailable, "SSH with %s: %w", at.address, err)
}

var errOtherKey = errors.New("the host has another key")

func otherHostKey(at endpoint, have ssh.PublicKey, known string) error {
	return slipway.Errorf(slipway.Conflict, "the host key of %s is %s, and not what is trusted: %s. Somebody may be between, so nothing is fetched. If the host was given a new key, compare that with what its operator publishes, and trust it with `slipway project connect NAME --host-key %[4]s`, of a further codebase with `slipway codebase connect NAME --host-key %[4]s`",
		at.address, keyTitle(have), strings.Join(titles(known), ", "), fingerprint(have))
}
