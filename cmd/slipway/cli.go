package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/worktree"
)

// cli is what the commands share: flags, the saved sign-in, the output.
type cli struct {
	flags struct{ server, project, output string }
	user  string // who is signed in, as far as it was saved
	out   *printer
}

// saved is the file that `slipway login` writes.
type saved struct {
	Server string `json:"server"`
	User   string `json:"user"`
	Token  string `json:"token"`
}

func configFile() (string, error) {
	if f := os.Getenv("SLIPWAY_CONFIG"); f != "" {
		return f, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder for settings: %w", err)
	}
	return filepath.Join(dir, "slipway", "config.json"), nil
}

// open prepares the output; it is called before every command.
func (c *cli) open(w io.Writer) error {
	if c.flags.output != "text" && c.flags.output != "json" {
		return slipway.Errorf(slipway.Invalid, "--output %q: expected text or json", c.flags.output)
	}
	c.out = newPrinter(w, c.flags.output == "json")
	return nil
}

// load reads the saved sign-in; none is the zero value.
func (c *cli) load() (s saved, err error) {
	file, err := configFile()
	if err != nil {
		return s, err
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the saved sign-in: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, slipway.Errorf(slipway.Invalid, "%s is not valid: %w; sign in again with `slipway login URL`", file, err)
	}
	return s, nil
}

func (c *cli) save(s saved) error {
	file, err := configFile()
	if err != nil {
		return err
	}
	if err := writeJSON(file, s); err != nil {
		return fmt.Errorf("save the sign-in: %w", err)
	}
	return nil
}

// client connects to the server chosen by flag, environment or sign-in, in this order. A saved token is
// sent to the server that made it and to no other.
func (c *cli) client() (*client.Client, error) {
	server, token := strings.TrimSuffix(first(c.flags.server, os.Getenv("SLIPWAY_SERVER")), "/"), os.Getenv("SLIPWAY_TOKEN")
	if server == "" || token == "" {
		saved, err := c.load()
		if err != nil {
			return nil, err
		}
		server, c.user = first(server, saved.Server), saved.User
		if token == "" && server == saved.Server {
			token = saved.Token
		}
	}
	if server == "" {
		return nil, slipway.Errorf(slipway.Unauthorized, "no server: sign in with `slipway login URL` (the sign-in link that `slipway serve` printed)")
	}
	return client.New(server, token)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

var remoteProject = regexp.MustCompile(`^/git/([a-z0-9-]+)(?:/[a-z0-9-]+)?\.git/?$`)

// project finds out which project is meant.
func (c *cli) project(ctx context.Context, api *client.Client) (string, error) {
	if p := first(c.flags.project, os.Getenv("SLIPWAY_PROJECT")); p != "" {
		return p, slipway.CheckName("project", p)
	}
	if name := remoteOf(ctx, ".", api.Address()); name != "" {
		return name, nil
	}
	projects, err := api.Projects(ctx)
	if err != nil {
		return "", err
	}
	if len(projects) == 1 {
		return projects[0].Name, nil
	}
	if len(projects) == 0 {
		return "", slipway.Errorf(slipway.Invalid, "there is no project yet: make one with slipway project add NAME")
	}
	names := make([]string, 0, len(projects))
	for _, p := range projects {
		names = append(names, p.Name)
	}
	return "", slipway.Errorf(slipway.Invalid, "which project? say --project NAME; there are: %s", strings.Join(names, ", "))
}

// remoteOf is the project that a remote of the git repository in a folder names, one of this server rather than
// of another, "" for none.
func remoteOf(ctx context.Context, dir, server string) (name string) {
	out, _ := worktree.Git(ctx, dir, "config", "--get-regexp", `^remote\..*\.url$`) // no answer: none
	for line := range strings.Lines(out) {
		_, remote, _ := strings.Cut(strings.TrimSpace(line), " ")
		u, err := url.Parse(remote)
		if err != nil {
			continue
		}
		m := remoteProject.FindStringSubmatch(u.Path)
		switch {
		case m == nil:
		case strings.HasSuffix(server, "//"+u.Host):
			return m[1]
		default:
			name = first(name, m[1])
		}
	}
	return name
}

// runID reads "12" or "#12"; with no argument it is the newest run of the project.
func (c *cli) runID(ctx context.Context, api *client.Client, args []string) (int64, error) {
	if len(args) > 0 {
		n, err := strconv.ParseInt(strings.TrimPrefix(args[0], "#"), 10, 64)
		if err != nil || n <= 0 {
			return 0, slipway.Errorf(slipway.Invalid, "run %q: expected its number, such as 12", args[0])
		}
		return n, nil
	}
	p, err := c.project(ctx, api)
	if err != nil {
		return 0, err
	}
	runs, err := api.Runs(ctx, slipway.RunFilter{Project: p, Limit: 1})
	if err != nil {
		return 0, err
	}
	if len(runs) == 0 {
		return 0, slipway.Errorf(slipway.NotFound, "project %s has no run yet: push a branch", p)
	}
	return runs[0].ID, nil
}
