package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kube"
)

// renderCommand is the argument that makes this program the process in which charts' templates run: a
// bounded one without secrets (see driver/helmchart.Serve). It is not a command for people.
const renderCommand = "render-templates"

func renderTemplates(ctx context.Context) {
	if err := helmchart.Serve(ctx, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// finding is one thing that doctor looked at.
type finding = buildkit.Finding

func (c *cli) doctor() *cobra.Command {
	var data, kubeconfig, address string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check what Slipway needs from this machine and a cluster, and say what to do",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(data)
			if err != nil {
				return err
			}
			found := append(gitFindings(cmd.Context()), dataFindings(dir)...)
			built, err := buildFindings(cmd.Context(), address, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			found = append(found, built...)
			scans, err := scanFindings(dir)
			if err != nil {
				return err
			}
			found = append(found, scans...)
			found = append(found, clusterFindings(cmd.Context(), first(kubeconfig, os.Getenv("KUBECONFIG")))...)
			return c.diagnosis(found)
		},
	}
	cmd.Flags().StringVar(&data, "data", "slipway-data", "data folder of the server")
	cmd.Flags().StringVar(&address, "buildkit", "", "address of a BuildKit, as for serve")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of a cluster to check (default: $KUBECONFIG)")
	return cmd
}

func (c *cli) diagnosis(found []finding) error {
	var bad int
	for _, f := range found {
		if !f.OK && f.Needed {
			bad++
		}
	}
	done, err := c.out.value(found)
	if !done {
		var rows [][]string
		for _, f := range found {
			state := "ok"
			switch {
			case !f.OK && f.Needed:
				state = "missing"
			case !f.OK:
				state = "warning"
			}
			what := f.Detail
			if !f.OK && f.Do != "" {
				what += " → " + f.Do
			}
			rows = append(rows, []string{c.out.state(state), f.Name, what})
		}
		c.out.table([]string{"", "CHECKED", "FOUND"}, rows)
	}
	if err == nil && bad > 0 {
		err = errQuiet
	}
	return err
}

// scanFindings looks for the scanner, and whether its database is of use: without either, images are not judged
// by what is known to be wrong with them, and the gates say so.
func scanFindings(dir string) ([]finding, error) {
	program, err := grype.Find("")
	if err != nil {
		return nil, err
	}
	scanner := finding{Name: "scanner", OK: program != "", Detail: first(program, "slipway-scanner was not found: not beside this program, not in PATH"),
		Do: "build it (cd scanner && go build ./cmd/slipway-scanner) and put it beside this program, or name it with serve --scanner"}
	g, err := grype.New(grype.Options{Program: program, Database: filepath.Join(dir, "vulnerabilities")})
	if err != nil {
		return nil, err
	}
	defer g.Close() //nolint:errcheck // a folder that stays empty
	db := g.Database()
	known := finding{Name: "vulnerability database", OK: db.Missing == "", Detail: db.Missing,
		Do: "bring one: serve --scan-database URL|FOLDER|FILE, or slipway scan db import (docs/howto/vulnerability-database.md)"}
	if known.OK {
		known.Detail = "built " + ago(db.Built)
	}
	return []finding{scanner, known}, nil
}

func gitFindings(ctx context.Context) []finding {
	f := finding{Name: "git", Needed: true, Do: "apt-get install git (2.38 or newer)"}
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	var major, minor int
	if _, serr := fmt.Sscanf(string(out), "git version %d.%d", &major, &minor); err != nil || serr != nil {
		f.Detail = "git does not run"
		return []finding{f}
	}
	f.Detail, f.OK = strings.TrimSpace(string(out)), major > 2 || (major == 2 && minor >= 38)
	backend := finding{Name: "git http-backend", Needed: true, Do: "install git's http-backend (part of Debian's git)"}
	path, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if _, serr := os.Stat(filepath.Join(strings.TrimSpace(string(path)), "git-http-backend")); err == nil && serr == nil {
		backend.OK, backend.Detail = true, strings.TrimSpace(string(path))
	} else {
		backend.Detail = "not found"
	}
	return []finding{f, backend, sshFinding(ctx)}
}

// sshFinding looks for the client of OpenSSH, which git starts for repositories by SSH: one that puts variables
// of the environment into its options.
func sshFinding(ctx context.Context) finding {
	f := finding{Name: "ssh", Do: "for repositories by SSH (--deploy-key): apt-get install openssh-client (8.4 or newer)"}
	out, err := exec.CommandContext(ctx, "ssh", "-V").CombinedOutput()
	var major, minor int
	if _, serr := fmt.Sscanf(string(out), "OpenSSH_%d.%d", &major, &minor); err != nil || serr != nil {
		f.Detail = "OpenSSH's client does not run"
		return f
	}
	f.Detail, f.OK = strings.TrimSpace(string(out)), major > 8 || major == 8 && minor >= 4
	return f
}

// dataFindings checks that the data folder can be written and has hard links, with which the registry
// retags without copying.
func dataFindings(dir string) []finding {
	f := finding{Name: "data folder", Needed: true, Detail: dir, Do: "choose a folder on a local file system with --data"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.Detail = err.Error()
		return []finding{f}
	}
	a, b := filepath.Join(dir, ".doctor-a"), filepath.Join(dir, ".doctor-b")
	defer os.Remove(a)
	defer os.Remove(b)
	err := os.WriteFile(a, []byte("x"), 0o600)
	if err == nil {
		err = os.Link(a, b)
	}
	if err != nil {
		f.Detail = err.Error()
		return []finding{f}
	}
	f.OK = true
	f.Detail += ": writable, with hard links"
	return []finding{f}
}

// buildFindings tries a BuildKit: the one that serve would use, or one of Slipway's own in a folder
// that is removed again.
func buildFindings(ctx context.Context, address string, progress io.Writer) (found []finding, err error) {
	dir, err := os.MkdirTemp("", "slipway-doctor-")
	if err != nil {
		return nil, err
	}
	o := buildkit.Options{Dir: dir, Address: address, Progress: func(line string) { fmt.Fprintln(progress, line) }}
	e, err := buildkit.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, closing(e.Close), closing(func(ctx context.Context) error { return buildkit.Remove(ctx, o, true) }), os.RemoveAll(dir))
	}()
	return e.Probe(ctx), nil
}

func clusterFindings(ctx context.Context, kubeconfig string) []finding {
	f := finding{Name: "cluster", Do: "give a kubeconfig with --kubeconfig, or start the local one: slipway-cluster up"}
	if kubeconfig == "" {
		f.Detail = "none given"
		return []finding{f}
	}
	b, err := os.ReadFile(kubeconfig)
	if err != nil {
		f.Detail = err.Error()
		return []finding{f}
	}
	f.Needed = true
	cut, name, server, err := kube.ReadConfig(b, "")
	if err != nil {
		f.Detail = err.Error()
		return []finding{f}
	}
	version, err := kube.New(kube.OneCluster(cut)).Check(ctx, name)
	if err != nil {
		f.Detail = fmt.Sprintf("%s (context %s): %v", server, name, err)
		return []finding{f}
	}
	f.OK, f.Detail = true, fmt.Sprintf("%s (context %s): Kubernetes %s", server, name, version)
	return []finding{f}
}

// cleanup is the hidden command with which the demo takes away what a stopped server's BuildKit left.
func (c *cli) cleanup() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "cleanup", Short: "Remove what the BuildKit of a stopped server left: processes, mounts, network, cache", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(data)
			if err != nil {
				return err
			}
			unlock, err := lockData(dir)
			if err != nil {
				return err
			}
			defer unlock()
			return buildkit.Remove(cmd.Context(), buildkit.Options{Dir: filepath.Join(dir, "buildkit")}, true)
		},
	}
	cmd.Flags().StringVar(&data, "data", "slipway-data", "data folder of the stopped server")
	return cmd
}
