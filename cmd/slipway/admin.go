package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
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
		RunE: answer(c, func(ctx context.Context, q question) (slipway.User, error) {
			return q.api.Whoami(ctx)
		}, func(q question, me slipway.User) {
			c.out.line("%s on %s", me.Name, q.api.Address())
		}),
	}
}

func (c *cli) clusters() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cluster", Aliases: []string{"clusters"}, Short: "Clusters that Slipway may deploy to: list, add, remove", Args: cobra.NoArgs,
		RunE: answer(c, func(ctx context.Context, q question) ([]slipway.Cluster, error) {
			return q.api.Clusters(ctx)
		}, func(_ question, clusters []slipway.Cluster) {
			var rows [][]string
			for _, k := range clusters {
				rows = append(rows, []string{k.Name, slipway.Printable(k.Context), slipway.Printable(k.Server), ago(k.Created)})
			}
			c.out.table([]string{"CLUSTER", "CONTEXT", "SERVER", "ADDED"}, rows)
		}),
	}
	cmd.AddCommand(c.clustersAdd(), &cobra.Command{
		Use: "remove NAME", Short: "Forget a cluster; nothing in it changes", Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (struct{}, error) {
			return struct{}{}, q.api.RemoveCluster(ctx, q.args[0])
		}, func(q question, _ struct{}) {
			c.out.line("cluster %s is forgotten; nothing in it changed", q.args[0])
		}),
	})
	return cmd
}

func (c *cli) clustersAdd() *cobra.Command {
	var file, contextName string
	add := &cobra.Command{
		Use: "add NAME", Short: "Register a cluster by name (an environment without `cluster:` uses the one named default)", Args: cobra.ExactArgs(1),
	}
	var kubeconfig []byte
	ask := answer(c, func(ctx context.Context, q question) (slipway.Cluster, error) {
		return q.api.AddCluster(ctx, q.args[0], contextName, kubeconfig)
	}, func(_ question, k slipway.Cluster) {
		c.out.line("cluster %s is %s (context %s)", k.Name, slipway.Printable(k.Server), slipway.Printable(k.Context))
	})
	add.RunE = func(cmd *cobra.Command, args []string) (err error) {
		path := first(file, os.Getenv("KUBECONFIG"), os.ExpandEnv("$HOME/.kube/config"))
		if kubeconfig, err = os.ReadFile(path); err != nil {
			return slipway.Errorf(slipway.Invalid, "read kubeconfig: %w (choose one with --kubeconfig)", err)
		}
		return ask(cmd, args)
	}
	add.Flags().StringVar(&file, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, else ~/.kube/config)")
	add.Flags().StringVar(&contextName, "context", "", "context in it (default: its current one)")
	return add
}
