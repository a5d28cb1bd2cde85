package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/worktree"
)

func (c *cli) validate() *cobra.Command {
	codebase := ""
	cmd := &cobra.Command{
		Use: "validate [DIR]", Short: "Check slipway.yaml, Dockerfiles and charts' places; every problem at once",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(first(strings.Join(args, ""), "."))
			if err != nil {
				return err
			}
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				return slipway.Errorf(slipway.Invalid, "%s is not a folder", dir)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				return fmt.Errorf("open %s: %w", dir, err)
			}
			defer root.Close()
			project, err := c.localProjectName(cmd.Context(), dir)
			if err != nil {
				return err
			}
			seen, done, err := worktree.Seen(cmd.Context(), dir, root)
			if err != nil {
				return err
			}
			found, problems := config.Load(seen, config.Offline(project, codebase))
			if err := done(); err != nil {
				return err
			}
			unknown := unknownHere(found)
			if done, err := c.out.value(struct {
				Config   slipway.Config   `json:"config"`
				Problems []config.Problem `json:"problems"`
				Warnings []config.Problem `json:"warnings"`
			}{found, append([]config.Problem{}, problems...), append([]config.Problem{}, unknown...)}); done {
				if err == nil && len(problems) > 0 {
					return errQuiet
				}
				return err
			}
			for _, p := range problems {
				c.out.line("%s", slipway.Printable(p.String()))
			}
			for _, p := range unknown {
				c.out.line("warning: %s", slipway.Printable(p.String()))
			}
			if len(problems) > 0 {
				c.out.line("%s", slipway.Counted(len(problems), "problem"))
				return errQuiet
			}
			c.validated(found)
			return nil
		},
	}
	loneFlag(cmd, &codebase)
	return cmd
}

// unknownHere are the waivers for services that this folder does not have: whether another codebase of the project has
// them, only a server can tell.
func unknownHere(found slipway.Config) config.Problems {
	stray := config.Stray(found, found.Services)
	for i := range stray {
		stray[i].Message += "; not checked: whether another codebase of the project has it"
	}
	return stray
}

// loneFlag says of which codebase the files here are.
func loneFlag(cmd *cobra.Command, codebase *string) {
	cmd.Flags().StringVar(codebase, "codebase", "", "which codebase of a project with several it is (main for the main one): dependsOn and after may name services of others")
}

func (c *cli) validated(found slipway.Config) {
	var rows [][]string
	for _, s := range found.Services {
		tests, chart := "none", "standard"
		if s.Test != nil {
			tests = "stage " + s.Test.Stage
		}
		if s.Chart != "" {
			chart = s.Chart
		}
		rows = append(rows, []string{c.out.bold(s.Name), s.Dir, tests, chart, strings.Join(s.DependsOn, ", ")})
	}
	c.out.table([]string{"SERVICE", "FOLDER", "TESTS", "CHART", "DEPENDS ON"}, rows)
	rows = nil
	for _, e := range found.Environments {
		needs := "automatic"
		if e.Approvals.Required > 0 {
			needs = slipway.Counted(e.Approvals.Required, "approval")
		}
		rows = append(rows, []string{c.out.bold(e.Name), string(e.Trigger), e.Cluster, e.Namespace, needs})
	}
	c.out.line("")
	c.out.table([]string{"ENVIRONMENT", "TRIGGER", "CLUSTER", "NAMESPACE", "DEPLOYS"}, rows)
	c.out.line("\n%s valid: %s, %s", c.out.state("ok"), slipway.Counted(len(found.Services), "service"), slipway.Counted(len(found.Environments), "environment"))
}

func (c *cli) schema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "The JSON Schema of slipway.yaml, for editors",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
