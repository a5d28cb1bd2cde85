package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) projects() *cobra.Command {
	cmd := &cobra.Command{
		Use: "project", Aliases: []string{"projects"}, Short: "Projects: list, add, show, connect with a forge", Args: cobra.NoArgs,
		RunE: answer(c, func(ctx context.Context, q question) ([]slipway.Project, error) {
			return q.api.Projects(ctx)
		}, func(q question, list []slipway.Project) {
			var rows [][]string
			for _, p := range list {
				rows = append(rows, []string{p.Name, slipway.Printable(p.DefaultBranch), first(slipway.Printable(p.GitURL), gitURL(q, p.Main())), ago(p.CreatedAt)})
			}
			c.out.table([]string{"PROJECT", "DEFAULT BRANCH", "REPOSITORY", "CREATED"}, rows)
		}),
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
					return slipway.Errorf(slipway.Invalid, "%s", needsURL)
				}
				r, err := forge.request(p.Name, "", cmd.InOrStdin())
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
				if done, err := c.out.value(made); done {
					return err
				}
				c.connected(made)
				return nil
			}
			created, err := api.CreateProject(cmd.Context(), p)
			if err != nil {
				return err
			}
			if done, err := c.out.value(created); done {
				return err
			}
			if created.GitURL != "" {
				c.out.line("project %s mirrors %s", created.Name, slipway.Printable(created.GitURL))
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

const needsURL = "--git URL is needed with --forge, --forge-url, --forks, --token-file and --deploy-key: the repository on the forge"

// forgeFlags say how a codebase is connected.
type forgeFlags struct {
	kind, address, forks, tokenFile string
	gitURL                          string // of what is there, if it is another one now
	ssh                             keyFlags
}

func (f *forgeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "forge", "", "forge: github, gitlab, gitea (Forgejo too) or azure-devops (default: from the host, where it is a public one)")
	cmd.Flags().StringVar(&f.address, "forge-url", "", "address of the forge, or of its API (default: that of the git URL)")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the token that Slipway shows the forge; - reads standard input")
	cmd.Flags().StringVar(&f.forks, "forks", "", "pull requests from forks: run, or approve: wait for a member (default: approve for a public repository, run for a private one)")
	f.ssh.add(cmd)
}

// addURL is for what is there already.
func (f *forgeFlags) addURL(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.gitURL, "git", "", "URL at which the repository is from now on; also to say that another repository than before is meant")
}

func (f *forgeFlags) wanted() bool {
	return f.kind != "" || f.address != "" || f.forks != "" || f.tokenFile != "" || f.ssh.wanted()
}

// request reads the token and the deploy key. They are never arguments, which other processes could see. A further
// codebase may do without both.
func (f *forgeFlags) request(project, codebase string, in io.Reader) (slipway.ConnectRequest, error) {
	r := slipway.ConnectRequest{Project: project, Codebase: codebase, Forge: slipway.ForgeKind(f.kind), Address: f.address, GitURL: f.gitURL, Forks: slipway.ForkPolicy(f.forks)}
	if f.tokenFile == "-" && f.ssh.key == "-" {
		return r, slipway.Errorf(slipway.Invalid, "standard input is the token or the deploy key, not both")
	}
	if err := f.ssh.read(&r, in); err != nil {
		return r, err
	}
	if f.tokenFile == "" {
		if r.ByKey() || codebase != "" {
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
			r, err := forge.request(args[0], "", cmd.InOrStdin())
			if err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			if now, err := api.Project(cmd.Context(), args[0]); err == nil {
				as(&r, now.CodebaseDetail)
			}
			if ready, err := c.prepareKey(cmd.Context(), api, r, ""); !ready {
				return err
			}
			made, err := api.Connect(cmd.Context(), r)
			if err != nil {
				return err
			}
			if done, err := c.out.value(made); done {
				return err
			}
			c.connected(made)
			return nil
		},
	}
	forge.add(cmd)
	forge.addURL(cmd)
	return cmd
}

// as connects again what is connected now, where nothing else is said.
func as(r *slipway.ConnectRequest, now slipway.CodebaseDetail) {
	if now.Connection != nil && r.Forge == "" && r.Address == "" {
		r.Forge, r.Address = now.Connection.Forge, now.Connection.API
		if r.GitURL == "" {
			r.Repository = now.Connection.Repository
		}
		r.Forks = cmp.Or(r.Forks, now.Forks)
	}
}

// titleOf names what is connected at the beginning of a sentence, and the command that connects it.
func titleOf(of slipway.Codebase) (title, connect string) {
	if of.Name == "" {
		return "project " + of.Project, "slipway project connect " + of.Project
	}
	return fmt.Sprintf("%s of project %s", of.Title(), of.Project), "slipway codebase connect " + of.Name
}

// connected says what came of a connection.
func (c *cli) connected(made slipway.Connected) {
	d := made.Of()
	title, _ := titleOf(d.Codebase)
	c.keyed(d)
	if d.Connection == nil {
		return
	}
	whose := ""
	if d.Connection.Shared {
		whose = ", with the project's token"
	}
	c.out.line("%s is connected with %s on %s%s", title, slipway.Printable(d.Connection.Repository), d.Connection.Forge.Title(), whose)
	byKey := d.Connection.Credential == ""
	if made.Paste == "" {
		c.out.line("its webhook sends to %s", slipway.Printable(d.HookURL))
	} else {
		c.paste(made, byKey)
	}
	c.out.line("%s", forksText(d.Forks))
	if byKey {
		c.out.line("%s", noToken(d.Codebase))
		return
	}
	c.out.line("to let nothing be merged that is not green, require the status %q in the branch protection", "slipway")
}

// paste says what a person enters on the forge's pages, and why.
func (c *cli) paste(made slipway.Connected, byKey bool) {
	why, again := "The webhook could not be made through the API", "The secret is not shown again; `%s` tries once more."
	if byKey {
		why, again = "The webhook is made by a person", "`%s` with the same options shows the secret again."
	}
	c.out.line("\n%s: %s.\nUntil it is there, polling finds what happens, more slowly. To make it yourself:\n", why, strings.TrimSuffix(slipway.Printable(made.Problem), "."))
	for line := range strings.Lines(made.Paste) {
		c.out.line("%s", slipway.Printable(strings.TrimSuffix(line, "\n")))
	}
	_, connect := titleOf(made.Of().Codebase)
	c.out.line("\n"+again, connect)
}

// keyed says with which key a codebase is fetched, if it has one.
func (c *cli) keyed(d slipway.CodebaseDetail) {
	if d.DeployKey == nil {
		return
	}
	title, _ := titleOf(d.Codebase)
	c.out.line("%s is fetched from %s with the deploy key %s", title, slipway.Printable(d.Codebase.GitURL), slipway.Printable(slipway.KeyFingerprint(d.DeployKey.Public)))
	for _, h := range d.DeployKey.HostKeys() {
		c.out.line("host key that is trusted, and no other: %s", slipway.Printable(h))
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
		RunE: answer(c, func(ctx context.Context, q question) (slipway.ProjectDetail, error) {
			if len(q.args) > 0 {
				return q.api.Project(ctx, q.args[0])
			}
			name, err := c.project(ctx, q.api)
			if err != nil {
				return slipway.ProjectDetail{}, err
			}
			return q.api.Project(ctx, name)
		}, func(q question, d slipway.ProjectDetail) { c.showProject(d, q.api.Address()) }),
	}
}

func (c *cli) showProject(d slipway.ProjectDetail, address string) {
	c.rows([][]string{
		{"project", d.Project.Name},
		{"repository", first(slipway.Printable(d.Project.GitURL), address+"/git/"+d.Project.Name+".git")},
		{"default branch", slipway.Printable(d.Project.DefaultBranch)},
	})
	c.showConnection(d.CodebaseDetail)
	for _, further := range d.Codebases {
		c.out.line("")
		c.rows([][]string{
			{"codebase", further.Codebase.Name},
			{"repository", first(slipway.Printable(further.Codebase.GitURL), address+"/git/"+further.Codebase.Key()+".git")},
			{"default branch", slipway.Printable(further.Codebase.DefaultBranch)},
		})
		c.showConnection(further)
	}
}

func (c *cli) rows(rows [][]string) {
	for _, r := range rows {
		c.out.line("%-16s %s", r[0]+":", r[1])
	}
}

// showConnection shows with which key a codebase is fetched and how it is connected, and what its forge refuses.
func (c *cli) showConnection(d slipway.CodebaseDetail) {
	c.rows(keyRows(d.DeployKey))
	c.rows(pollRows(d.Poll))
	k := d.Connection
	switch {
	case k == nil && d.DeployKey != nil:
		c.rows([][]string{{"state", first(slipway.Printable(d.DeployKey.Problem), "fetched as it should be")}})
		return
	case k == nil:
		if d.Codebase.Name != "" && d.Codebase.GitURL != "" {
			c.rows([][]string{{"forge", "not connected: polled (slipway codebase connect " + d.Codebase.Name + ")"}})
		}
		return
	}
	hook, whose := "pasted by a person, or not there", ""
	if len(k.HookIDs) > 0 {
		hook = "made by Slipway"
	}
	if k.Shared {
		whose = ", with the project's token"
	}
	delivered := "nothing yet"
	if !d.Health.Delivered.IsZero() {
		delivered = ago(d.Health.Delivered)
	}
	c.rows([][]string{
		{"forge", fmt.Sprintf("%s, %s%s", k.Forge.Title(), slipway.Printable(first(d.Link, k.Repository)), whose)},
		{"webhook", fmt.Sprintf("%s (%s)", slipway.Printable(d.HookURL), hook)},
		{"last delivery", delivered},
	})
	c.rows([][]string{{"forks", forksText(d.Forks)}})
	if d.Health.Waiting > 0 {
		c.rows([][]string{{"to be processed", counted(d.Health.Waiting, "delivery", "deliveries")}})
	}
	c.showHealth(d)
	if k.Credential == "" {
		c.out.line("\n%s", noToken(d.Codebase))
	}
}

// pollRows say when a mirrored repository was asked last what is new there.
func pollRows(p *slipway.Poll) [][]string {
	switch {
	case p == nil:
		return nil
	case p.Time.IsZero():
		return [][]string{{"last poll", "not since the server started, " + ago(p.Since)}}
	case p.Problem != "":
		return [][]string{{"last poll", ago(p.Time) + ", and it did nothing: " + slipway.Printable(p.Problem)}}
	}
	return [][]string{{"last poll", ago(p.Time)}}
}

// showHealth shows what the forge of a connected codebase refuses, and what to do.
func (c *cli) showHealth(d slipway.CodebaseDetail) {
	byKey := d.Connection.Credential == ""
	if len(d.Health.Problems) == 0 {
		state := "the forge answers as it should"
		if byKey {
			state = "fetched as it should be"
		}
		c.rows([][]string{{"state", state}})
		return
	}
	if d.Health.Behind > 0 {
		c.rows([][]string{{"not told yet", counted(d.Health.Behind, "event", "events")}})
	}
	c.out.line("\nThe forge does not answer as it should, since %s:", ago(d.Health.Since))
	for _, p := range d.Health.Problems {
		c.out.line("  %s: %s", p.Area, slipway.Printable(p.Message))
	}
	_, connect := titleOf(d.Codebase)
	switch {
	case byKey:
		c.out.line("Another key: %s --deploy-key FILE, or new", connect)
	case d.Connection.Shared:
		c.out.line("If it is the project's token, give a new one: slipway project connect %s --token-file FILE; or one of its own: %s --token-file FILE", d.Codebase.Project, connect)
	default:
		c.out.line("If it is the token, give a new one: %s --token-file FILE", connect)
	}
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// nobody is the user of an account that is nobody's.
const nobody = "none"

func (c *cli) projectAccount() *cobra.Command {
	var codebase string
	cmd := &cobra.Command{
		Use: "account ACCOUNT USER", Short: "Say whose an account of the project's forge is; USER none takes that back", Args: cobra.ExactArgs(2),
		Long: "What the account does on the forge is then the user's doing: they are named in runs, and what they ask for in\ncomments takes their role here as well. It holds for every project on that forge.",
		RunE: inProject(c, func(ctx context.Context, q question) (struct{}, error) {
			user := q.args[1]
			if user == nobody {
				user = ""
			}
			return struct{}{}, q.api.LinkAccount(ctx, slipway.CodebaseKey(q.project, codebase), q.args[0], user)
		}, func(q question, _ struct{}) {
			if q.args[1] == nobody {
				c.out.line("the account %s is nobody's here", slipway.Printable(q.args[0]))
				return
			}
			c.out.line("the account %s is %s here", slipway.Printable(q.args[0]), q.args[1])
		}),
	}
	cmd.Flags().StringVar(&codebase, "codebase", "", "codebase whose forge is meant (default: the main one)")
	return cmd
}
