package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) codebases() *cobra.Command {
	cmd := &cobra.Command{
		Use: "codebase", Aliases: []string{"codebases"}, Short: "Git repositories of a project: list, add further ones, remove", Args: cobra.NoArgs,
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.Codebase, error) {
			return q.api.Codebases(ctx, q.project)
		}, func(q question, list []slipway.Codebase) {
			var rows [][]string
			for _, b := range list {
				builds := "by itself"
				if b.Linked {
					builds = "where it is linked"
				}
				rows = append(rows, []string{first(b.Name, slipway.MainCodebase), slipway.Printable(b.DefaultBranch), first(slipway.Printable(b.GitURL), gitURL(q, b)), builds, ago(b.CreatedAt)})
			}
			c.out.table([]string{"CODEBASE", "DEFAULT BRANCH", "REPOSITORY", "BUILT", "CREATED"}, rows)
		}),
	}
	cmd.AddCommand(c.codebaseAdd(), c.codebaseConnect(), &cobra.Command{
		Use: "remove NAME", Short: "Take a further codebase away; refused while services of it are deployed", Args: cobra.ExactArgs(1),
		Long: "Its connection with a forge and its credential are forgotten, and the webhook that Slipway made there is removed.",
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.Removed, error) {
			return q.api.RemoveCodebase(ctx, q.project, q.args[0])
		}, func(q question, left slipway.Removed) {
			c.out.line("codebase %s is no longer part of project %s; its repository stays on the server, under repos/.removed", q.args[0], q.project)
			if left.Problem != "" {
				c.out.line("%s", slipway.Printable(left.Problem))
			}
		}),
	})
	return cmd
}

// gitURL is where a codebase is that is hosted here.
func gitURL(q question, b slipway.Codebase) string {
	return q.api.Address() + "/git/" + b.Key() + ".git"
}

func (c *cli) codebaseAdd() *cobra.Command {
	var b slipway.Codebase
	var forge forgeFlags
	cmd := &cobra.Command{
		Use: "add NAME [--git URL]", Short: "Add a further repository to a project: hosted here, or mirrored and connected with its forge", Args: cobra.ExactArgs(1),
		Long: "Its services are services of the project: their names differ from all others, and they may depend on services of\n" +
			"its other codebases. The main codebase keeps saying which environments there are.\n" +
			"With --git it is mirrored. On the host of the project's forge it is connected there with the project's token; with\n" +
			"--token-file it is connected with its own, on any forge. With --deploy-key it is fetched by SSH with that key; a\n" +
			"webhook works then too, and what needs a token does not. Otherwise it is polled, without a token.\n" +
			"With --linked a push to it makes no run: it is built and deployed from the codebase that links it as a submodule.",
	}
	cmd.RunE = c.connecting(&forge, &b.GitURL, func(ctx context.Context, q question, r slipway.ConnectRequest) (slipway.Connected, error) {
		b.Project, b.Name = q.project, q.args[0]
		if !forge.wanted() {
			return q.api.CreateCodebase(ctx, b, nil)
		}
		return q.api.CreateCodebase(ctx, b, &r)
	}, func(q question, out slipway.Connected) {
		made := out.Of()
		switch at := made.Codebase; {
		case made.Connection != nil || made.DeployKey != nil:
			c.connected(out)
		case at.GitURL != "":
			c.out.line("codebase %s of project %s mirrors %s, by polling", at.Name, at.Project, slipway.Printable(at.GitURL))
			if out.Problem != "" {
				c.out.line("It is not connected with its forge: %s", slipway.Printable(out.Problem))
			}
			c.out.line("for its webhook, pull requests and commit statuses: slipway codebase connect %s --token-file FILE", at.Name)
		default:
			c.out.line("codebase %s of project %s is ready:\n  git remote add slipway %s\n  git push slipway %s\nAs a submodule of the main codebase: git submodule add ../%s.git; of another one: ../%s.git",
				at.Name, at.Project, gitURL(q, at), at.DefaultBranch, at.Key(), at.Name)
		}
	})
	cmd.Flags().StringVar(&b.GitURL, "git", "", "URL of the repository to mirror")
	cmd.Flags().StringVar(&b.DefaultBranch, "default-branch", "", "default branch (default: main, or the one of the repository that is mirrored)")
	cmd.Flags().BoolVar(&b.Linked, "linked", false, "a push makes no run: it is built and deployed where it is linked as a submodule")
	forge.add(cmd)
	return cmd
}

func (c *cli) codebaseConnect() *cobra.Command {
	var forge forgeFlags
	cmd := &cobra.Command{
		Use: "connect NAME [--token-file FILE|--deploy-key FILE]", Short: "Connect a mirrored codebase with its forge, or give it a new token or deploy key", Args: cobra.ExactArgs(1),
		Long: "Without --token-file and --deploy-key it shares the project's token, which takes a codebase on the host of the\n" +
			"project's forge. A deploy key that it has stays what it is fetched with.",
	}
	cmd.RunE = c.connecting(&forge, nil, func(ctx context.Context, q question, r slipway.ConnectRequest) (slipway.Connected, error) {
		return q.api.Connect(ctx, r)
	}, func(_ question, made slipway.Connected) { c.connected(made) })
	forge.add(cmd)
	forge.addURL(cmd)
	return cmd
}

// connecting is inProject for a command that connects a further codebase. What its flags leave out is as it is now.
// A deploy key that Slipway is to make is made first, and until the host takes it nothing else follows. gitURL is
// where a codebase to come is, nil for one that is there.
func (c *cli) connecting(forge *forgeFlags, gitURL *string, ask func(context.Context, question, slipway.ConnectRequest) (slipway.Connected, error), show func(question, slipway.Connected)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		api, err := c.client()
		if err != nil {
			return err
		}
		project, err := c.project(cmd.Context(), api)
		if err != nil {
			return err
		}
		at := ""
		if gitURL != nil {
			if at = *gitURL; at == "" && forge.wanted() {
				return slipway.Errorf(slipway.Invalid, "%s", needsURL)
			}
		}
		r, err := forge.request(project, args[0], cmd.InOrStdin())
		if err != nil {
			return err
		}
		now, err := api.Project(cmd.Context(), project)
		if err != nil {
			return err
		}
		for _, d := range now.Codebases {
			if d.Codebase.Name == r.Codebase {
				as(&r, d)
			}
		}
		if ready, err := c.prepareKey(cmd.Context(), api, r, at); !ready {
			return err
		}
		return answered(cmd.Context(), c, question{api: api, project: project, args: args}, func(ctx context.Context, q question) (slipway.Connected, error) {
			return ask(ctx, q, r)
		}, show)
	}
}
