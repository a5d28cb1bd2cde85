package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/survey"
	"github.com/slipway-cd/slipway/worktree"
)

func (c *cli) initRepository() *cobra.Command {
	var force, dry bool
	cmd := &cobra.Command{
		Use: "init [DIR]", Short: "Look at a repository, and write slipway.yaml for what differs from the conventions",
		Long: "Finds services, languages, tests, charts and dependencies, and says what it found and why, and what is\n" +
			"missing. It writes slipway.yaml only for what differs from the conventions: often there is nothing to write.",
		Example: "  slipway init\n  slipway init --dry-run",
		Args:    cobra.MaximumNArgs(1),
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
			found, err := survey.Look(seen, project)
			if err = errors.Join(err, done()); err != nil {
				return err
			}
			if top, here := worktree.Top(cmd.Context(), dir); top != "" && !here {
				found.Notes = append(found.Notes, fmt.Sprintf("this folder is not the top of its repository, which is %s: slipway.yaml is read only there", top))
			}
			return c.initialise(root, initialised{Findings: found}, force, dry)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a slipway.yaml that is there")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print slipway.yaml instead of writing it")
	return cmd
}

// initialised is what was found, and whether the file was written.
type initialised struct {
	survey.Findings
	Written bool `json:"written"`
}

// initialise tells what was found and writes what there is to write.
func (c *cli) initialise(root *os.Root, s initialised, force, dry bool) error {
	_, err := root.Lstat(config.Name)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for %s: %w", config.Name, err)
	}
	var refused error
	same := there && !force && s.File != "" && sameText(root, s.File)
	switch {
	case s.File == "" || dry || same:
	case there && !force:
		refused = slipway.Errorf(slipway.Conflict, "%s is there already, and stays as it is: --dry-run prints what would be written, --force replaces it", config.Name)
	default:
		if err := writeConfiguration(root, s.File); err != nil {
			return err
		}
		s.Written = true
	}
	if done, err := c.out.value(s); done {
		return errors.Join(err, refused)
	}
	c.surveyed(s.Findings)
	if len(s.Services)+len(s.Others)+len(s.Notes)+len(s.Problems) > 0 {
		c.out.line("")
	}
	switch {
	case refused != nil:
	case same && !dry:
		c.out.line("%s %s says all of this already; it stays as it is", c.out.state("ok"), config.Name)
	case s.File == "" && len(s.Problems) > 0:
		c.out.line("nothing was written: what is above is to be mended in the files that it names")
	case s.File == "" && there:
		c.out.line("%s everything keeps to the conventions: %s need not say anything of services; it stays as it is", c.out.state("ok"), config.Name)
	case s.File == "" && len(s.Services) > 0:
		c.out.line("%s everything keeps to the conventions: nothing has to be written", c.out.state("ok"))
	case s.File == "":
		c.out.line("no service was found: a service is a folder with a Dockerfile; slipway new service NAME makes one")
	case dry:
		c.out.line("%s", strings.TrimSuffix(slipway.Printable(s.File), "\n"))
	default:
		c.out.line("%s wrote %s, %s; slipway validate shows what it makes of it", c.out.state("ok"), config.Name, slipway.Counted(strings.Count(s.File, "\n"), "line"))
	}
	return refused
}

// sameText reports whether slipway.yaml is as init would write it, whatever ends its lines.
func sameText(root *os.Root, text string) bool {
	have, err := root.ReadFile(config.Name)
	return err == nil && strings.ReplaceAll(string(have), "\r\n", "\n") == text
}

// writeConfiguration writes slipway.yaml, whole or not at all.
func writeConfiguration(root *os.Root, text string) error {
	aside := fmt.Sprintf(".slipway-init-%d", os.Getpid())
	err := root.WriteFile(aside, []byte(text), 0o644)
	if err == nil {
		err = root.Rename(aside, config.Name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", config.Name, err), ignoreMissing(root.Remove(aside)))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// surveyed prints what was found and what is missing.
func (c *cli) surveyed(s survey.Findings) {
	if len(s.Services) > 0 {
		rows := make([][]string, 0, len(s.Services))
		for _, svc := range s.Services {
			language := "unknown"
			if svc.Language != "" {
				language = svc.Language + " (" + svc.Known + ")"
			}
			tests := "none"
			if svc.Tests != "" {
				tests = "stage " + svc.Tests
			}
			var depends []string
			for _, d := range svc.DependsOn {
				depends = append(depends, first(d.Service, d.Path))
			}
			rows = append(rows, []string{c.out.bold(svc.Name), slipway.Printable(svc.Dir), slipway.Printable(language), slipway.Printable(tests), slipway.Printable(first(svc.Chart, "standard")), slipway.Printable(slipway.InShort(depends, 3))})
		}
		c.out.table([]string{"SERVICE", "FOLDER", "LANGUAGE", "TESTS", "CHART", "DEPENDS ON"}, rows)
	}
	var why [][]string
	for _, svc := range s.Services {
		for _, set := range svc.Settings {
			if set.Why != "" && len(set.List) == 0 {
				why = append(why, []string{"  " + svc.Name, set.Key + ": " + slipway.Printable(set.Value), slipway.Printable(set.Why)})
			}
		}
		for _, d := range svc.DependsOn {
			why = append(why, []string{"  " + svc.Name, "depends on " + slipway.Printable(first(d.Service, d.Path)), slipway.Printable(d.Why)})
		}
	}
	c.section("Differs from the conventions, or follows from the code:", why)
	c.missing(s.Services)
	c.section("No service, as they have no Dockerfile and no service depends on them:", otherRows(s.Others))
	c.section("Besides:", paragraphs(s.Notes))
	c.section("To be mended before the first push:", paragraphs(s.Problems))
}

// lack is what is missing, what to do, and the services that it is missing of.
type lack struct {
	what, do string
	services []string
}

// lacks are what is missing, each once.
func lacks(services []survey.Service) (all []lack) {
	for _, svc := range services {
		for _, m := range svc.Missing {
			what, do, _ := strings.Cut(m, ": ")
			at := slices.IndexFunc(all, func(l lack) bool { return l.what == what && l.do == do })
			if at < 0 {
				at, all = len(all), append(all, lack{what: what, do: do})
			}
			all[at].services = append(all[at].services, svc.Name)
		}
	}
	return all
}

// missing prints what is missing: the services, and below them what to do.
func (c *cli) missing(services []survey.Service) {
	all := lacks(services)
	if len(all) > 0 {
		c.out.line("\nMissing:")
	}
	for _, l := range all {
		c.out.line("  %s: %s", c.out.bold(slipway.Printable(l.what)), slipway.InShort(l.services, 10))
		c.out.line("    %s", slipway.Printable(l.do))
	}
}

// otherRows are folders that are no service, of many the first ten.
func otherRows(others []survey.Folder) (rows [][]string) {
	const most = 10
	for i, o := range others {
		if i == most && len(others) > most+1 {
			return append(rows, []string{fmt.Sprintf("  and %d more, which -o json lists", len(others)-most)})
		}
		rows = append(rows, []string{"  " + slipway.Printable(o.Dir), slipway.Printable(o.Language + " (" + o.Known + ")")})
	}
	return rows
}

func paragraphs(texts []string) (rows [][]string) {
	for _, text := range texts {
		rows = append(rows, []string{" ", slipway.Printable(text)})
	}
	return rows
}

func (c *cli) section(title string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	c.out.line("\n%s", title)
	c.out.table(nil, rows)
}
