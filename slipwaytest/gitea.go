package slipwaytest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// GiteaVersion is the Gitea that tests run: the newest that can be built from the Go module proxy (of v1.27.3, which
// is there, modules below gitea.dev are refused).
const GiteaVersion = "v1.26.0"

const giteaModule = "code.gitea.io/gitea"

// InstallGitea builds Gitea from the Go module proxy into the cache folder unless it is there, and
// returns the program and the folder of its source, which holds its templates. It takes five minutes the
// first time on two cores, and needs a C compiler for SQLite.
func InstallGitea(ctx context.Context, say Progress) (program, source string, err error) {
	cache, err := Cache()
	if err != nil {
		return "", "", err
	}
	tools := filepath.Join(cache, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", "", err
	}
	m := module{path: giteaModule + "@" + GiteaVersion, env: []string{"CGO_ENABLED=1"}}
	if source, err = m.download(ctx, tools); err != nil {
		return "", "", err
	}
	program = filepath.Join(tools, "gitea-"+GiteaVersion)
	if _, err := os.Stat(program); err == nil {
		return program, source, nil
	}
	say("building Gitea %s from source, once: about five minutes", GiteaVersion)
	return program, source, m.build(ctx, source, program, "-tags", "sqlite sqlite_unlock_notify",
		"-ldflags", "-s -w -X main.Version="+strings.TrimPrefix(GiteaVersion, "v"), ".")
}

// Gitea is a Gitea process with one administrator, on loopback, with SQLite.
type Gitea struct {
	URL      string
	User     string
	Password string
	Token    string // of User, with every scope
	SSH      string // host:port, as user git
	HostKey  string // fingerprint of the key that the host has for SSH

	program, dir string
	cmd          *exec.Cmd
	done         chan struct{}
}

// giteaConfig leaves away what tests have no use for, and what would reach out of this machine.
const giteaConfig = `APP_NAME = test
RUN_MODE = prod
WORK_PATH = %[1]s
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[2]s
ROOT_URL = http://127.0.0.1:%[2]s/
STATIC_ROOT_PATH = %[3]s
START_SSH_SERVER = true
BUILTIN_SSH_SERVER_USER = git
SSH_LISTEN_HOST = 127.0.0.1
SSH_LISTEN_PORT = %[4]s
SSH_SERVER_HOST_KEYS = %[1]s/host_key
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = %[1]s/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = of-a-test-that-runs-on-loopback
PASSWORD_HASH_ALGO = pbkdf2_v1
[webhook]
ALLOWED_HOST_LIST = loopback
[log]
LEVEL = Warn
MODE = console
[service]
DISABLE_REGISTRATION = true
[cron]
ENABLED = false
[actions]
ENABLED = false
[packages]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[mailer]
ENABLED = false
[repository]
DEFAULT_BRANCH = main
`

var giteaToken = regexp.MustCompile(`[0-9a-f]{40}`)

// StartGitea starts Gitea with a new database in dir and returns when it answers. It ends with this
// process at the latest; its output goes to dir/gitea.log.
func StartGitea(ctx context.Context, dir string, say Progress) (*Gitea, error) {
	program, source, err := InstallGitea(ctx, say)
	if err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	secure, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	g := &Gitea{URL: "http://" + address, SSH: secure, User: "ada", Password: "correct-horse-1", program: program, dir: dir, done: make(chan struct{})}
	_, port, _ := strings.Cut(address, ":")
	_, sshPort, _ := strings.Cut(secure, ":")
	if err := os.WriteFile(g.config(), fmt.Appendf(nil, giteaConfig, dir, port, source, sshPort), 0o600); err != nil {
		return nil, err
	}
	if g.HostKey, err = writeHostKey(filepath.Join(dir, "host_key")); err != nil {
		return nil, err
	}
	if _, err := g.command(ctx, "migrate"); err != nil {
		return nil, err
	}
	if g.Token, err = g.AddUser(ctx, g.User, g.Password, "--admin"); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "gitea.log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	g.cmd = exec.Command(program, "--config", g.config(), "web")
	g.cmd.Dir, g.cmd.Env, g.cmd.Stdout, g.cmd.Stderr = dir, g.env(), log, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Gitea: %w", err)
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err = Await(ctx, 50*time.Millisecond, func() (bool, error) {
		select {
		case <-g.done:
			return false, fmt.Errorf("gitea ended before it was ready")
		default:
		}
		return Answers(ctx, g.URL+"/api/v1/version"), nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its log is %s", err, log.Name()), g.Stop())
	}
	return g, nil
}

// writeHostKey makes a private key for a host, and returns the fingerprint of its public half.
func writeHostKey(path string) (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return "", err
	}
	return ssh.FingerprintSHA256(signer.PublicKey()), os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func (g *Gitea) config() string { return filepath.Join(g.dir, "app.ini") }

func (g *Gitea) env() []string {
	return append(os.Environ(), "HOME="+g.dir, "GITEA_WORK_DIR="+g.dir)
}

func (g *Gitea) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.program, append([]string{"--config", g.config()}, args...)...)
	cmd.Dir, cmd.Env = g.dir, g.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("gitea %s: %w\n%s", args[0], err, tail(out.Bytes(), 20))
	}
	return out.String(), nil
}

// AddUser makes a user and returns a token of theirs with every scope.
func (g *Gitea) AddUser(ctx context.Context, name, password string, flags ...string) (string, error) {
	out, err := g.command(ctx, append([]string{"admin", "user", "create", "--username", name, "--password", password, "--email", name + "@example.com",
		"--must-change-password=false", "--access-token", "--access-token-name", "test", "--access-token-scopes", "all"}, flags...)...)
	if err != nil {
		return "", err
	}
	token := giteaToken.FindString(out)
	if token == "" {
		return "", fmt.Errorf("gitea admin user create printed no token:\n%s", out)
	}
	return token, nil
}

// Call asks Gitea's API as the owner of a token; out may be nil.
func (g *Gitea) Call(ctx context.Context, token, method, path string, in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, g.URL+"/api/v1"+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "token "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, res.Status, body)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	return json.Unmarshal(body, out)
}

// Stop ends the process and waits until it is gone.
func (g *Gitea) Stop() error {
	select {
	case <-g.done:
		return nil
	default:
	}
	if err := g.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop Gitea: %w", err)
	}
	<-g.done
	return nil
}
