package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/driver/git"
)

// keyFlags say with which key a repository is fetched by SSH, and which host keys are trusted.
type keyFlags struct {
	key, knownHosts, hostKey string
}

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "deploy-key", "", "file with the private key that git fetches with by SSH; - reads standard input, new has Slipway make a key pair")
	cmd.Flags().StringVar(&f.knownHosts, "known-hosts", "", "file in the form of known_hosts with the host's key")
	cmd.Flags().StringVar(&f.hostKey, "host-key", "", "fingerprint of the host's key, SHA256:..., as its operator publishes it")
}

func (f *keyFlags) wanted() bool { return f.key != "" || f.knownHosts != "" || f.hostKey != "" }

// read puts what the flags name into a request. The key is never an argument, which other processes could see.
func (f *keyFlags) read(r *slipway.ConnectRequest, in io.Reader) (err error) {
	if r.HostKey = f.hostKey; f.hostKey != "" && !strings.HasPrefix(f.hostKey, "SHA256:") {
		return slipway.Errorf(slipway.Invalid, "--host-key %s: expected a fingerprint such as SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU", slipway.Printable(f.hostKey))
	}
	if f.hostKey != "" && f.knownHosts != "" {
		return slipway.Errorf(slipway.Invalid, "give --known-hosts or --host-key, not both")
	}
	if f.knownHosts != "" {
		if r.KnownHosts, err = readSmall(f.knownHosts, "the known hosts", in); err != nil {
			return err
		}
	}
	if r.DeployKey = f.key; f.key != "" && f.key != slipway.NewDeployKey {
		r.DeployKey, err = readSmall(f.key, "the deploy key", in)
	}
	return err
}

// readSmall reads a file that must not be empty; - is standard input.
func readSmall(path, what string, in io.Reader) (string, error) {
	const most = 512 << 10
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", slipway.Errorf(slipway.Invalid, "read %s: %w", what, err)
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return "", slipway.Errorf(slipway.Invalid, "read %s: %w", what, err)
	case len(b) > most:
		return "", slipway.Errorf(slipway.Invalid, "%s: more than %d bytes", what, most)
	case strings.TrimSpace(string(b)) == "":
		return "", slipway.Errorf(slipway.Invalid, "%s: the file is empty", what)
	}
	return string(b), nil
}

// prepareKey has Slipway make a key if the request asks for that, and reports whether the host takes it. If not,
// it says what to do.
func (c *cli) prepareKey(ctx context.Context, api *client.Client, r slipway.ConnectRequest, gitURL string) (bool, error) {
	if r.DeployKey != slipway.NewDeployKey {
		return true, nil
	}
	k, err := api.PrepareKey(ctx, r, gitURL)
	if err != nil || k.Accepted {
		return err == nil, err
	}
	if done, err := c.out.value(k); done {
		return false, err
	}
	c.out.line("Slipway made a deploy key for %s. Enter its public half\n%s:\n\n%s\n", slipway.Printable(k.GitURL), slipway.Printable(k.Where), slipway.Printable(k.Public))
	for _, h := range k.HostKeys() {
		c.out.line("host key that is trusted: %s", slipway.Printable(h))
	}
	c.out.line("\nThen run the same command again. Nothing is fetched until the host takes the key; the private half stays here, encrypted.")
	return false, nil
}

// noToken says what a codebase does without that has a deploy key alone.
func noToken(of slipway.Codebase) string {
	_, connect := titleOf(of)
	share := ""
	if of.Name != "" {
		share = "\nOn the project's forge this has it use the project's token: " + connect
	}
	return "Without a token for the forge's API: pushes are built, and pull requests of which the webhook tells; those whose commits are in no branch of\n" +
		"the repository count as from forks. Commits get no statuses, pull requests no comment, /slipway comments are not obeyed, a pull request\n" +
		"whose webhook was lost is not found by polling, and Slipway makes no webhook by itself.\n" +
		"With one, all of that works: " + connect + " --token-file FILE" + share
}

func keyRows(k *slipway.DeployKey) (rows [][]string) {
	if k == nil {
		return nil
	}
	rows = [][]string{{"deploy key", slipway.Printable(slipway.KeyFingerprint(k.Public))}, {"public half", slipway.Printable(k.Public)}}
	for _, h := range k.HostKeys() {
		rows = append(rows, []string{"host key", slipway.Printable(h)})
	}
	return rows
}

// sshDir is the folder for agents of SSH. The path of a socket has at most 107 bytes, so that a data folder with
// a long name has it among the temporary files.
func sshDir(data string) (dir string, remove func() error, err error) {
	dir = filepath.Join(data, "ssh")
	if len(dir) > 80 {
		if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, err
		}
		dir, err = os.MkdirTemp("", "slipway-ssh-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	dir, err = emptied(dir)
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// byKey is how a codebase is fetched with its deploy key, nil if it has none for where it is.
func (s *server) byKey(ctx context.Context, c slipway.Codebase) (*git.SSH, error) {
	k, err := s.store.DeployKey(ctx, c.Key(), true)
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && k.GitURL != c.GitURL {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	private, err := s.store.PrivateKey(ctx, k)
	if err != nil {
		return nil, err
	}
	return &git.SSH{Key: private, Hosts: k.Hosts, Dir: s.sshDir}, nil
}
