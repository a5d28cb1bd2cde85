// Command slipway is all of Slipway in one binary: `slipway serve` is the server, the rest is the
// command line with which people ask it and tell it things.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

// version is set with -ldflags "-X main.version=...".
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == renderCommand {
		renderTemplates(ctx)
		return
	}
	os.Exit(run(ctx))
}

// run runs the command line and returns its exit status.
func run(ctx context.Context) int {
	err := newRoot().ExecuteContext(ctx)
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))):
		return interrupted
	case err != nil && !errors.Is(err, errQuiet):
		fmt.Fprintln(os.Stderr, "slipway: "+slipway.Printable(err.Error()))
	}
	return exitStatus(err)
}

// interrupted is the exit status of a command that was ended by a signal, as of shells.
const interrupted = 130

// errQuiet ends a command with exit status 1 when everything was said already.
var errQuiet = errors.New("")

// exitStatus maps error codes to exit statuses: 1 what was asked about failed, 2 wrong use, 3 not
// signed in or not allowed, 4 not found, 5 conflict, 6 the server or something around it does not
// answer, or not to that many at once, 7 internal.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errQuiet) {
		return 1
	}
	var wrong wrongUse
	if errors.As(err, &wrong) {
		return 2
	}
	var own interface{ ExitStatus() int }
	if errors.As(err, &own) {
		return own.ExitStatus()
	}
	switch slipway.ErrorCode(err) {
	case slipway.Invalid:
		return 2
	case slipway.Unauthorized, slipway.Forbidden:
		return 3
	case slipway.NotFound:
		return 4
	case slipway.Conflict:
		return 5
	case slipway.TooMany, slipway.Unavailable:
		return 6
	}
	return 7
}

// wrongUse is an error of flags and arguments, before a command runs.
type wrongUse struct{ error }

// Unwrap returns what is wrong.
func (e wrongUse) Unwrap() error { return e.error }

// checked makes what a command says about its flags and arguments an error of wrong use.
func checked(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse{err} })
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				if !cmd.HasAvailableSubCommands() || strings.Contains(cmd.Use, " ") {
					err = fmt.Errorf("expected %s, but %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"), given(args))
				}
				return wrongUse{fmt.Errorf("%w%s (%s --help)", err, meant(cmd, args), cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checked(sub)
	}
}

// meant offers the commands that an unknown one is like.
func meant(cmd *cobra.Command, args []string) string {
	if !cmd.HasAvailableSubCommands() || len(args) == 0 {
		return ""
	}
	near := cmd.SuggestionsFor(args[0])
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

// listed gives each group of commands that lists its things when it is called alone a command list, too.
func listed(groups ...*cobra.Command) {
	for _, group := range groups {
		list := &cobra.Command{Use: "list", Short: "List them, as the command does by itself", Args: cobra.NoArgs, RunE: group.RunE}
		list.Flags().AddFlagSet(group.Flags())
		group.AddCommand(list)
	}
}

// given says which arguments there are.
func given(args []string) string {
	switch len(args) {
	case 0:
		return "there is no argument"
	case 1:
		return "there is 1 argument: " + slipway.Printable(args[0])
	}
	return fmt.Sprintf("there are %d arguments: %s", len(args), slipway.Printable(strings.Join(args, " ")))
}

func newRoot() *cobra.Command {
	c := &cli{}
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "From git push to production on Kubernetes",
		Long:          "Slipway takes a service from git push to production on Kubernetes: build, tests, image and chart,\nQA, approval, the same digest in production, verified, and back by itself when it is not healthy.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return c.open(cmd.OutOrStdout())
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.flags.server, "server", "", "address of the server (default: $SLIPWAY_SERVER, else as signed in)")
	f.StringVarP(&c.flags.project, "project", "p", "", "project (default: $SLIPWAY_PROJECT, else from the git remote, else the only one)")
	f.StringVarP(&c.flags.output, "output", "o", "text", "output format: text or json")
	root.AddGroup(
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "do", Title: "Do:"},
		&cobra.Group{ID: "repo", Title: "In a repository:"},
		&cobra.Group{ID: "admin", Title: "Set up:"},
	)
	runs, pulls, waivers := c.runs(), c.pulls(), c.waivers()
	projects, codebases, users, clusters, keys := c.projects(), c.codebases(), c.users(), c.clusters(), c.keys()
	for group, commands := range map[string][]*cobra.Command{
		"see":   {c.status(), runs, c.logs(), c.trace(), c.approvals(), c.releases(), pulls, c.events(), c.tests(), c.gates(), waivers, c.scanImage(), c.verify()},
		"do":    {c.approve(), c.reject(), c.merge(), c.rollback(), c.retry(), c.cancel(), c.lift(), c.waive()},
		"repo":  {c.initRepository(), c.newGroup(), c.run(), c.plan(), c.validate(), c.schema()},
		"admin": {c.serve(), c.login(), c.whoami(), projects, codebases, users, c.tokens(), clusters, c.retentionCommand(), keys, c.doctor(), c.version()},
	} {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(c.cleanup())
	listed(runs, pulls, waivers, projects, codebases, users, clusters, keys)
	root.Args = cobra.NoArgs // an unknown command is wrong use
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	checked(root)
	root.SetHelpTemplate("{{if and .HasParent .Long}}{{.Short}}.\n\n{{end}}" + root.HelpTemplate())
	return root
}
