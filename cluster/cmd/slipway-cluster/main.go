// Command slipway-cluster starts and removes a Kubernetes with one node on
// this machine, for demonstrations and tests of Slipway.
//
// Exit status: 0 done, 1 error, 2 wrong usage, 3 (status) the cluster does not
// run, 4 (status) some of it does not work.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway/cluster"
)

const (
	exitError    = 1
	exitUsage    = 2
	exitStopped  = 3
	exitDegraded = 4
)

// exitCode is an error that was already told and has a status of its own.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "slipway-cluster: %v\n", err)
		os.Exit(exitUsage)
	default:
		fmt.Fprintf(os.Stderr, "slipway-cluster: %v\n", err)
		os.Exit(exitError)
	}
}

// flags are those every command has.
type flags struct{ name, dir string }

func newCommand() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use:   "slipway-cluster",
		Short: "A local Kubernetes with one node that leaves nothing behind",
		Long: "slipway-cluster starts and removes a complete Kubernetes with one node on this machine.\n" +
			"Nothing of it can be reached from another machine. It needs root.",
		SilenceUsage: true, SilenceErrors: true, TraverseChildren: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; slipway-cluster --help lists them", args[0])}
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.PersistentFlags().StringVar(&f.name, "name", os.Getenv("SLIPWAY_CLUSTER_NAME"),
		"name of the cluster (SLIPWAY_CLUSTER_NAME; default "+cluster.DefaultName+")")
	root.PersistentFlags().StringVar(&f.dir, "dir", os.Getenv("SLIPWAY_CLUSTER_DIR"),
		"folder of the cluster (SLIPWAY_CLUSTER_DIR; default /var/lib/slipway-cluster/NAME)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(upCommand(f), downCommand(f), statusCommand(f), kubeconfigCommand(f),
		registryCommand(f), kubectlCommand(f), toolsCommand())
	for _, sub := range root.Commands() {
		check := sub.Args
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if check == nil {
				return nil
			}
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	return root
}

// named finds the cluster the flags mean, and without any the one with the
// default name. Commands that start or remove a cluster use it: the machine's
// one cluster may be somebody else's, so it has to be named to be removed.
func (f *flags) named() (*cluster.Cluster, error) {
	c, err := cluster.Load(f.name, f.dir)
	if err != nil || f.name != "" || f.dir != "" {
		return c, err
	}
	current, err := cluster.Current()
	if err != nil {
		return nil, err
	}
	if current != nil && current.Dir != c.Dir {
		return nil, fmt.Errorf("this machine's cluster is %s in %s, which may be somebody else's; if it is meant, add: --dir %s",
			current.Name, current.Dir, current.Dir)
	}
	return c, nil
}

// load finds the cluster the flags mean. Without any, that is the machine's
// one cluster.
func (f *flags) load() (*cluster.Cluster, error) {
	dir := f.dir
	if dir == "" && f.name == "" {
		current, err := cluster.Current()
		if err != nil {
			return nil, err
		}
		if current != nil {
			dir = current.Dir
		}
	}
	return cluster.Load(f.name, dir)
}

// existing is load for commands that need a cluster that was started.
func (f *flags) existing() (*cluster.Cluster, error) {
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	if _, err := cluster.Open(c.Dir); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no cluster in %s; start one with: slipway-cluster up", c.Dir)
	}
	return c, nil
}
