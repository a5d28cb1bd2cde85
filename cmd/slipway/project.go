package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) projects() *cobra.Command {
	cmd := &cobra.Command{
		Use: "project", Aliases: []string{"projects"}, Short: "Projects: list, add, show, connect with a forge", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			list, err := api.Projects(cmd.Context())
			if err != nil {
				return err
			}
			if done, err := c.out.value(list); done {
				return err
			}
			var rows [][]string
			for _, p := range list {
				rows = append(rows, []string{p.Name, printable(p.DefaultBranch), first(printable(p.GitURL), api.Address()+"/git/"+p.Name+".git"), ago(p.CreatedAt)})
			}
			c.out.table([]string{"PROJECT", "DEFAULT BRANCH", "REPOSITORY", "CREATED"}, rows)
			return nil
		},
	}
	cmd.AddCommand(c.projectAdd(), c.projectShow(), c.projectConnect(), c.projectAccount())
	return cmd
}

func (c *cli) projectAdd() *cobra.Command {
	var p slipway.Project
	var forge forgeFlags
	cmd := &cobra.Command{
		Use: "add NAME [--git URL]", Short: "Host a new repository, or mirror an outside one: polled, or connected with its forge", Args: cobra.ExactArgs(1),
		Long: "Without --git the repository is hosted here. With --git it is mirrored and polled. With --token-file it is\n" +
			"connected with its forge as well: a webhook is made there, pull requests are built, and commits get statuses.\n" +
			"With --deploy-key it is fetched by SSH with that key; a webhook works then too, and what needs a token does not.",
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Name = args[0]
			api, err := c.client()
			if err != nil {
				return err
			}
			if forge.wanted() {
				if p.GitURL == "" {
					return slipway.Errorf(slipway.Invalid, "--git URL is needed with --forge, --forge-url, --forks, --token-file and --deploy-key: the repository on the forge")
				}
				r, err := forge.request(p.Name, cmd.InOrStdin())
				if err != nil {
					return err
				}
				if ready, err := c.prepareKey(cmd.Context(), api, r, p.GitURL); !ready {
					return err
				}
				made, err := api.CreateConnected(cmd.Context(), p, r)
				if err != nil {
					return err
				}
				return c.connected(made)
			}
			created, err := api.CreateProject(cmd.Context(), p)
			if err != nil {
				return err
			}
			if done, err := c.out.value(created); done {
				return err
			}
			if created.GitURL != "" {
				c.out.line("project %s mirrors %s", created.Name, printable(created.GitURL))
				return nil
			}
			c.out.line("project %s is ready:\n  git remote add slipway %s/git/%s.git\n  git push slipway %s\nGit asks for a user name and a password: %s and a token (slipway users token %s NAME).",
				created.Name, api.Address(), created.Name, created.DefaultBranch, first(c.user, "yours"), first(c.user, "USER"))
			return nil
		},
	}
	cmd.Flags().StringVar(&p.GitURL, "git", "", "URL of the repository to mirror")
	cmd.Flags().StringVar(&p.DefaultBranch, "default-branch", "", "default branch (default: main, or the one of the repository that is mirrored)")
	forge.add(cmd)
	return cmd
}

// forgeFlags say how a project is connected.
type forgeFlags struct {
	kind, address, forks, tokenFile string
	ssh                             keyFlags
}

func (f *forgeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "forge", "", "forge: github, gitlab, gitea (Forgejo too) or azure-devops (default: from the host, where it is a public one)")
	cmd.Flags().StringVar(&f.address, "forge-url", "", "address of the forge, or of its API (default: that of the git URL)")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token that Slipway shows the forge; - reads standard input")
	cmd.Flags().StringVar(&f.forks, "forks", "", "pull requests from forks: run, or approve: wait for a member (default: approve for a public repository, run for a private one)")
	f.ssh.add(cmd)
}

func (f *forgeFlags) wanted() bool {
	return f.kind != "" || f.address != "" || f.forks != "" || f.tokenFile != "" || f.ssh.wanted()
}

// request reads the token and the deploy key. They are never arguments, which other processes could see.
func (f *forgeFlags) request(project string, in io.Reader) (slipway.ConnectRequest, error) {
	r := slipway.ConnectRequest{Project: project, Forge: slipway.ForgeKind(f.kind), Address: f.address, Forks: slipway.ForkPolicy(f.forks)}
	if f.tokenFile == "-" && f.ssh.key == "-" {
		return r, slipway.Errorf(slipway.Invalid, "standard input is the token or the deploy key, not both")
	}
	if err := f.ssh.read(&r, in); err != nil {
		return r, err
	}
	if f.tokenFile == "" {
		if r.ByKey() {
			return r, nil
		}
		return r, slipway.Errorf(slipway.Invalid, "--token-file FILE is needed: the forge's token for Slipway; docs/howto/forge.md says what it must be allowed. For a repository by SSH --deploy-key FILE will do")
	}
	token, err := readSmall(f.tokenFile, "the token", in)
	r.Token = strings.TrimSpace(token)
	return r, err
}

func (c *cli) projectConnect() *cobra.Command {
	var forge forgeFlags
	cmd := &cobra.Command{
		Use: "connect NAME --token-file FILE|--deploy-key FILE", Short: "Connect a mirrored project with its forge, or give it a new token or deploy key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := forge.request(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			if now, err := api.Project(cmd.Context(), args[0]); err == nil && now.Connection != nil && r.Forge == "" && r.Address == "" {
				r.Forge, r.Address, r.Repository = now.Connection.Forge, now.Connection.API, now.Connection.Repository
				r.Forks = cmp.Or(r.Forks, now.Forks)
			}
			if ready, err := c.prepareKey(cmd.Context(), api, r, ""); !ready {
				return err
			}
			made, err := api.Connect(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.connected(made)
		},
	}
	forge.add(cmd)
	return cmd
}

// connected says what came of a connection.
func (c *cli) connected(made slipway.Connected) error {
	if done, err := c.out.value(made); done {
		return err
	}
	d := made.Project
	c.keyed(d)
	if d.Connection == nil {
		return nil
	}
	c.out.line("project %s is connected with %s on %s", d.Project.Name, printable(d.Connection.Repository), d.Connection.Forge.Title())
	byKey := d.Connection.Credential == ""
	if made.Paste == "" {
		c.out.line("its webhook sends to %s", printable(d.HookURL))
	} else {
		c.paste(made, byKey)
	}
	if byKey {
		c.out.line("%s", noToken(d.Project.Name))
		return nil
	}
	c.out.line("%s", forksText(d.Forks))
	c.out.line("to let nothing be merged that is not green, require the status %q in the branch protection", "slipway")
	return nil
}

// paste says what a person enters on the forge's pages, and why.
func (c *cli) paste(made slipway.Connected, byKey bool) {
	why, again := "The webhook could not be made through the API", "The secret is not shown again; `slipway project connect %s` tries once more."
	if byKey {
		why, again = "The webhook is made by a person", "`slipway project connect %s` with the same options shows the secret again."
	}
	c.out.line("\n%s: %s.\nUntil it is there, polling finds what happens, more slowly. To make it yourself:\n", why, strings.TrimSuffix(printable(made.Problem), "."))
	for line := range strings.Lines(made.Paste) {
		c.out.line("%s", printable(strings.TrimSuffix(line, "\n")))
	}
	c.out.line("\n"+again, made.Project.Project.Name)
}

// keyed says with which key a project is fetched, if it has one.
func (c *cli) keyed(d slipway.ProjectDetail) {
	if d.DeployKey == nil {
		return
	}
	c.out.line("project %s is fetched from %s with the deploy key %s", d.Project.Name, printable(d.Project.GitURL), printable(slipway.KeyFingerprint(d.DeployKey.Public)))
	for _, h := range d.DeployKey.HostKeys() {
		c.out.line("host key that is trusted, and no other: %s", printable(h))
	}
	if d.Connection == nil {
		c.out.line("It is polled. Which forge it is on is not known: with --forge KIND a webhook can tell of pushes at once.")
	}
}

func forksText(p slipway.ForkPolicy) string {
	if p == slipway.ForksApprove {
		return "pull requests from forks wait until a member approves that they run (--forks approve)"
	}
	return "pull requests from forks run at once, without secrets (--forks run)"
}

func (c *cli) projectShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [NAME]", Short: "A project, its forge, and what the forge refuses", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			} else if name, err = c.project(cmd.Context(), api); err != nil {
				return err
			}
			d, err := api.Project(cmd.Context(), name)
			if err != nil {
				return err
			}
			if done, err := c.out.value(d); done {
				return err
			}
			c.showProject(d, api.Address())
			return nil
		},
	}
}

func (c *cli) showProject(d slipway.ProjectDetail, address string) {
	rows := [][]string{
		{"project", d.Project.Name},
		{"repository", first(printable(d.Project.GitURL), address+"/git/"+d.Project.Name+".git")},
		{"default branch", printable(d.Project.DefaultBranch)},
	}
	rows = append(rows, keyRows(d.DeployKey)...)
	if k := d.Connection; k != nil {
		hook := "pasted by a person, or not there"
		if len(k.HookIDs) > 0 {
			hook = "made by Slipway"
		}
		delivered := "nothing yet"
		if !d.Health.Delivered.IsZero() {
			delivered = ago(d.Health.Delivered)
		}
		rows = append(rows, []string{"forge", fmt.Sprintf("%s, %s", k.Forge.Title(), printable(first(d.Link, k.Repository)))},
			[]string{"webhook", fmt.Sprintf("%s (%s)", printable(d.HookURL), hook)},
			[]string{"last delivery", delivered})
		if k.Credential != "" {
			rows = append(rows, []string{"forks", forksText(d.Forks)})
		}
		if d.Health.Waiting > 0 {
			rows = append(rows, []string{"to be processed", counted(d.Health.Waiting, "delivery", "deliveries")})
		}
		if d.Health.Behind > 0 && len(d.Health.Problems) > 0 {
			rows = append(rows, []string{"not told yet", counted(d.Health.Behind, "event", "events")})
		}
	}
	for _, r := range rows {
		c.out.line("%-16s %s", r[0]+":", r[1])
	}
	if d.Connection != nil && d.Connection.Credential == "" {
		defer c.out.line("\n%s", noToken(d.Project.Name))
	}
	if d.Health == nil {
		if d.DeployKey != nil {
			c.out.line("%-16s %s", "state:", first(printable(d.DeployKey.Problem), "fetched as it should be"))
		}
		return
	}
	if len(d.Health.Problems) == 0 {
		state := "the forge answers as it should"
		if d.Connection.Credential == "" {
			state = "fetched as it should be"
		}
		c.out.line("%-16s %s", "state:", state)
		return
	}
	c.out.line("\nThe forge does not answer as it should, since %s:", ago(d.Health.Since))
	for _, p := range d.Health.Problems {
		c.out.line("  %s: %s", p.Area, printable(p.Message))
	}
	if d.Connection.Credential == "" {
		c.out.line("Another key: slipway project connect %s --deploy-key FILE, or new", d.Project.Name)
		return
	}
	c.out.line("If it is the token, give a new one: slipway project connect %s --token-file FILE", d.Project.Name)
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func (c *cli) projectAccount() *cobra.Command {
	return &cobra.Command{
		Use: "account ACCOUNT USER", Short: "Say whose an account of the project's forge is; USER none takes that back", Args: cobra.ExactArgs(2),
		Long: "What the account does on the forge is then the user's doing: they are named in runs, and what they ask for in\ncomments takes their role here as well. It holds for every project on that forge.",
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project, err := c.project(cmd.Context(), api)
			if err != nil {
				return err
			}
			user := args[1]
			if user == "none" {
				user = ""
			}
			if err := api.LinkAccount(cmd.Context(), project, args[0], user); err != nil {
				return err
			}
			if done, err := c.out.value(struct{}{}); done {
				return err
			}
			if user == "" {
				c.out.line("the account %s is nobody's here", printable(args[0]))
				return nil
			}
			c.out.line("the account %s is %s here", printable(args[0]), user)
			return nil
		},
	}
}
