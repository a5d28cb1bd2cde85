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
				rows = append(rows, []string{first(b.Name, slipway.MainCodebase), printable(b.DefaultBranch), first(printable(b.GitURL), gitURL(q, b)), builds, ago(b.CreatedAt)})
			}
			c.out.table([]string{"CODEBASE", "DEFAULT BRANCH", "REPOSITORY", "BUILT", "CREATED"}, rows)
		}),
	}
	cmd.AddCommand(c.codebaseAdd(), &cobra.Command{
		Use: "remove NAME", Short: "Take a further codebase away; refused while services of it are deployed", Args: cobra.ExactArgs(1),
		RunE: inProject(c, func(ctx context.Context, q question) (struct{}, error) {
			return struct{}{}, q.api.RemoveCodebase(ctx, q.project, q.args[0])
		}, func(q question, _ struct{}) {
			c.out.line("codebase %s is no longer part of project %s; its repository stays on the server, under repos/.removed", q.args[0], q.project)
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
	cmd := &cobra.Command{
		Use: "add NAME [--git URL]", Short: "Add a further repository to a project: hosted here, or mirrored and polled", Args: cobra.ExactArgs(1),
		Long: "Its services are services of the project: their names differ from all others, and they may depend on services of\n" +
			"its other codebases. The main codebase keeps saying which environments there are.\n" +
			"With --linked a push to it makes no run: it is built and deployed from the codebase that links it as a submodule.",
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.Codebase, error) {
			b.Project, b.Name = q.project, q.args[0]
			return q.api.CreateCodebase(ctx, b)
		}, func(q question, made slipway.Codebase) {
			if made.GitURL != "" {
				c.out.line("codebase %s of project %s mirrors %s", made.Name, made.Project, printable(made.GitURL))
				return
			}
			c.out.line("codebase %s of project %s is ready:\n  git remote add slipway %s\n  git push slipway %s\nAs a submodule of the main codebase: git submodule add ../%s.git; of another one: ../%s.git",
				made.Name, made.Project, gitURL(q, made), made.DefaultBranch, made.Key(), made.Name)
		}),
	}
	cmd.Flags().StringVar(&b.GitURL, "git", "", "URL of the repository to mirror; it is fetched without a credential")
	cmd.Flags().StringVar(&b.DefaultBranch, "default-branch", "", "default branch (default: main, or the one of the repository that is mirrored)")
	cmd.Flags().BoolVar(&b.Linked, "linked", false, "a push makes no run: it is built and deployed where it is linked as a submodule")
	return cmd
}
