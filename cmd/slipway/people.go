package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

func (c *cli) users() *cobra.Command {
	cmd := &cobra.Command{
		Use: "users", Aliases: []string{"user"}, Short: "Users, their roles and credentials", Args: cobra.NoArgs,
		RunE: answer(c, func(ctx context.Context, q question) ([]slipway.User, error) {
			return q.api.Users(ctx)
		}, func(_ question, users []slipway.User) {
			var rows [][]string
			for _, u := range users {
				rows = append(rows, []string{u.Name, strings.Join(rolesOf(u), ", "), ago(u.Created)})
			}
			c.out.table([]string{"USER", "ROLES", "CREATED"}, rows)
		}),
	}
	cmd.AddCommand(c.usersAdd(), c.usersRemove(), c.usersRole(),
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

func rolesOf(u slipway.User) []string {
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
	return roles
}

func (c *cli) usersAdd() *cobra.Command {
	var admin bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a user", Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.User, error) {
			return q.api.CreateUser(ctx, q.args[0], admin)
		}, func(_ question, u slipway.User) {
			c.out.line("user %s added; let them in with `slipway users link %s`", u.Name, u.Name)
		}),
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "admin of the server and of every project")
	return cmd
}

func (c *cli) usersRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a user with every role, token, link and session; what they did stays recorded", Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (struct{}, error) {
			return struct{}{}, q.api.RemoveUser(ctx, q.args[0])
		}, func(q question, _ struct{}) {
			c.out.line("user %s is removed; what they did stays recorded under that name", q.args[0])
		}),
	}
}

func (c *cli) usersRole() *cobra.Command {
	return &cobra.Command{
		Use: "role USER ROLE", Short: "Give a user a role in the project: viewer, developer, approver, admin or none", Args: cobra.ExactArgs(2),
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.User, error) {
			role := slipway.Role(q.args[1])
			if role == "none" {
				role = ""
			}
			return q.api.SetRole(ctx, q.args[0], q.project, role)
		}, func(q question, u slipway.User) {
			if q.args[1] == "none" {
				c.out.line("%s has no role in %s", u.Name, q.project)
				return
			}
			c.out.line("%s is %s of %s", u.Name, q.args[1], q.project)
		}),
	}
}

func (c *cli) usersSecret(use, what string, make func(context.Context, *client.Client, []string) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: what, Args: cobra.RangeArgs(1, 2),
		RunE: answer(c, func(ctx context.Context, q question) (map[string]string, error) {
			secret, err := make(ctx, q.api, q.args)
			return map[string]string{"user": q.args[0], "value": secret}, err
		}, func(_ question, v map[string]string) {
			c.out.line("%s", v["value"])
		}),
	}
}

func (c *cli) tokens() *cobra.Command {
	var user string
	list := answer(c, func(ctx context.Context, q question) ([]slipway.Token, error) {
		who, err := owner(ctx, q.api, user)
		if err != nil {
			return nil, err
		}
		return q.api.Tokens(ctx, who)
	}, func(_ question, tokens []slipway.Token) {
		var rows [][]string
		for _, t := range tokens {
			rows = append(rows, []string{strconv.FormatInt(t.ID, 10), slipway.Printable(t.Name), t.User, ago(t.Created), first(ago(t.Used), "never")})
		}
		c.out.table([]string{"TOKEN", "NAME", "USER", "CREATED", "USED"}, rows)
	})
	cmd := &cobra.Command{
		Use: "tokens", Aliases: []string{"token"}, Short: "Tokens: list, revoke; their values are never shown again", Args: cobra.NoArgs, RunE: list,
		Long: "Your own tokens, or with --user those of somebody else, for admins of the server. `slipway users token` makes one.",
	}
	cmd.PersistentFlags().StringVar(&user, "user", "", "whose tokens (default: yours)")
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "List tokens", Args: cobra.NoArgs, RunE: list}, &cobra.Command{
		Use: "revoke TOKEN", Short: "Revoke a token, by its number: it opens nothing from then on", Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (struct{}, error) {
			id, err := strconv.ParseInt(q.args[0], 10, 64)
			if err != nil || id <= 0 {
				return struct{}{}, slipway.Errorf(slipway.Invalid, "token %q: expected its number, which `slipway tokens` shows", q.args[0])
			}
			who, err := owner(ctx, q.api, user)
			if err != nil {
				return struct{}{}, err
			}
			return struct{}{}, q.api.RevokeToken(ctx, who, id)
		}, func(q question, _ struct{}) {
			c.out.line("token %s is revoked", q.args[0])
		}),
	})
	return cmd
}

// owner is the user named, or who asks.
func owner(ctx context.Context, api *client.Client, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	me, err := api.Whoami(ctx)
	return me.Name, err
}
