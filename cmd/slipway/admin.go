package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

func (c *cli) login() *cobra.Command {
	var withToken bool
	cmd := &cobra.Command{
		Use: "login URL", Short: "Sign in with the one-time link of `slipway serve`, or with a token",
		Long: "With a sign-in link (http://127.0.0.1:8080/signin/CODE) the link is used up and a token is made and saved.\nWith --with-token a token is read from standard input.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := url.Parse(args[0])
			if err != nil || u.Host == "" {
				return slipway.Errorf(slipway.Invalid, "%q: expected a URL such as http://127.0.0.1:8080/signin/CODE", args[0])
			}
			server := u.Scheme + "://" + u.Host
			s := saved{Server: server}
			if withToken {
				if _, err := fmt.Fscanln(cmd.InOrStdin(), &s.Token); err != nil {
					return fmt.Errorf("read the token from standard input: %w", err)
				}
			} else {
				code, ok := strings.CutPrefix(u.Path, "/signin/")
				if !ok {
					return slipway.Errorf(slipway.Invalid, "%q is not a sign-in link: give the link that `slipway serve` or `slipway users link` printed, or --with-token", args[0])
				}
				api, err := client.New(server, "")
				if err != nil {
					return err
				}
				host, _ := os.Hostname()
				if _, s.Token, err = api.Login(cmd.Context(), code, "cli on "+first(host, "a laptop")); err != nil {
					return err
				}
			}
			api, err := client.New(server, s.Token)
			if err != nil {
				return err
			}
			me, err := api.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			s.User = me.Name
			if err := c.save(s); err != nil {
				return err
			}
			if done, err := c.out.value(me); done {
				return err
			}
			c.out.line("signed in to %s as %s", server, me.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&withToken, "with-token", false, "read a token from standard input")
	return cmd
}

func (c *cli) whoami() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Who you are on which server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			me, err := api.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.out.value(me); done {
				return err
			}
			c.out.line("%s on %s", me.Name, api.Address())
			return nil
		},
	}
}

func (c *cli) users() *cobra.Command {
	cmd := &cobra.Command{
		Use: "users", Aliases: []string{"user"}, Short: "Users, their roles and credentials", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			list, err := api.Users(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.out.value(list); done {
				return err
			}
			var rows [][]string
			for _, u := range list {
				var roles []string
				if u.Admin {
					roles = append(roles, "admin of the server")
				}
				for _, p := range slices.Sorted(maps.Keys(u.Roles)) {
					roles = append(roles, string(u.Roles[p])+" of "+p)
				}
				if u.Robot != nil {
					roles = append(roles, "robot of "+u.Robot.Project+"/"+u.Robot.Environment)
				}
				rows = append(rows, []string{u.Name, strings.Join(roles, ", "), ago(u.Created)})
			}
			c.out.table([]string{"USER", "ROLES", "CREATED"}, rows)
			return nil
		},
	}
	cmd.AddCommand(c.usersAdd(), c.usersRole(),
		c.usersSecret("token USER [NAME]", "Make a token for git, the registry and the API; shown once", func(ctx context.Context, api *client.Client, args []string) (string, error) {
			name := "token"
			if len(args) > 1 {
				name = args[1]
			}
			return api.CreateToken(ctx, args[0], name)
		}),
		c.usersSecret("link USER", "Make a one-time sign-in link", func(ctx context.Context, api *client.Client, args []string) (string, error) {
			return api.CreateLink(ctx, args[0])
		}))
	return cmd
}

func (c *cli) usersAdd() *cobra.Command {
	var admin bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a user", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			u, err := api.CreateUser(cmd.Context(), args[0], admin)
			if err != nil {
				return err
			}
			if done, err := c.out.value(u); done {
				return err
			}
			c.out.line("user %s added; let them in with `slipway users link %s`", u.Name, u.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "admin of the server and of every project")
	return cmd
}

func (c *cli) usersRole() *cobra.Command {
	return &cobra.Command{
		Use: "role USER ROLE", Short: "Give a user a role in the project: viewer, developer, approver, admin or none", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project, err := c.project(cmd.Context(), api)
			if err != nil {
				return err
			}
			role := slipway.Role(args[1])
			if role == "none" {
				role = ""
			}
			u, err := api.SetRole(cmd.Context(), args[0], project, role)
			if err != nil {
				return err
			}
			if done, err := c.out.value(u); done {
				return err
			}
			if role == "" {
				c.out.line("%s has no role in %s", u.Name, project)
				return nil
			}
			c.out.line("%s is %s of %s", u.Name, role, project)
			return nil
		},
	}
}

func (c *cli) usersSecret(use, what string, make func(context.Context, *client.Client, []string) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: what, Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			secret, err := make(cmd.Context(), api, args)
			if err != nil {
				return err
			}
			if done, err := c.out.value(map[string]string{"user": args[0], "value": secret}); done {
				return err
			}
			c.out.line("%s", secret)
			return nil
		},
	}
}

func (c *cli) clusters() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cluster", Aliases: []string{"clusters"}, Short: "Clusters that Slipway may deploy to: list, add, remove", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			list, err := api.Clusters(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.out.value(list); done {
				return err
			}
			var rows [][]string
			for _, k := range list {
				rows = append(rows, []string{k.Name, printable(k.Context), printable(k.Server), ago(k.Created)})
			}
			c.out.table([]string{"CLUSTER", "CONTEXT", "SERVER", "ADDED"}, rows)
			return nil
		},
	}
	var file, contextName string
	add := &cobra.Command{
		Use: "add NAME", Short: "Register a cluster by name (an environment without `cluster:` uses the one named default)", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := first(file, os.Getenv("KUBECONFIG"), os.ExpandEnv("$HOME/.kube/config"))
			b, err := os.ReadFile(path)
			if err != nil {
				return slipway.Errorf(slipway.Invalid, "read kubeconfig: %w (choose one with --kubeconfig)", err)
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			k, err := api.AddCluster(cmd.Context(), args[0], contextName, b)
			if err != nil {
				return err
			}
			if done, err := c.out.value(k); done {
				return err
			}
			c.out.line("cluster %s is %s (context %s)", k.Name, printable(k.Server), printable(k.Context))
			return nil
		},
	}
	add.Flags().StringVar(&file, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, else ~/.kube/config)")
	add.Flags().StringVar(&contextName, "context", "", "context in it (default: its current one)")
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Forget a cluster; nothing in it changes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if err := api.RemoveCluster(cmd.Context(), args[0]); err != nil {
				return err
			}
			if done, err := c.out.value(struct{}{}); done {
				return err
			}
			c.out.line("cluster %s is forgotten; nothing in it changed", args[0])
			return nil
		},
	}
	cmd.AddCommand(add, remove)
	return cmd
}
