package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/starter"
	"github.com/slipway-cd/slipway/worktree"
)

// newGroup is what can be made: services.
func (c *cli) newGroup() *cobra.Command {
	cmd := &cobra.Command{Use: "new", Short: "Make something new in this repository", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(c.newService())
	return cmd
}

func (c *cli) newService() *cobra.Command {
	var dir, language string
	cmd := &cobra.Command{
		Use: "service NAME", Short: "Make a working service: program, test, Dockerfile, chart",
		Long: "Makes a folder with a program that answers on port 8080, its tests in the stage testrunner of a\n" +
			"Dockerfile, and a chart with values for each environment. It is delivered like any other service from the\n" +
			"first push on; slipway.yaml need not name it.",
		Example: "  slipway new service delivery\n  slipway new service site --language static --dir web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("dir") && dir == "" {
				dir = "."
			}
			return c.makeService(cmd.Context(), args[0], dir, language)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder in which the service's folder is made, relative to the repository (default: where the other services are)")
	cmd.Flags().StringVar(&language, "language", "go", "what it is written in: "+strings.Join(starter.Languages(), ", "))
	return cmd
}

// newResult is a new service as JSON.
type newResult struct {
	Service  string   `json:"service"`
	Language string   `json:"language"`
	Dir      string   `json:"dir"` // relative to the repository
	Files    []string `json:"files"`
}

func (c *cli) makeService(ctx context.Context, name, dir, language string) error {
	if err := slipway.CheckName("service", name); err != nil {
		return err
	}
	root, err := repositoryRoot(ctx, ".")
	if err != nil {
		return err
	}
	project, err := c.localProjectName(ctx, root)
	if err != nil {
		return err
	}
	found, problems := config.Load(os.DirFS(root), config.Options{Project: project, Candidates: slipway.Registry{Host: slipway.EmbeddedRegistry}})
	if len(problems) > 0 {
		return slipway.Errorf(slipway.Invalid, "the configuration of this repository is not valid; mend it first:\n%s", problems)
	}
	if dir == "" {
		dir = besideOthers(found.Services)
	}
	target := path.Join(filepath.ToSlash(dir), name)
	if err := placeForService(found.Services, name, target); err != nil {
		return err
	}
	files, err := starter.Files(starter.Options{Name: name, Language: language, Environments: found.Environments})
	if err != nil {
		return err
	}
	if err := writeService(root, target, files); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(root, "go.work"))
	return c.madeService(newResult{Service: name, Language: language, Dir: target}, files, err == nil)
}

func (c *cli) madeService(made newResult, files []starter.File, workspace bool) error {
	for _, f := range files {
		made.Files = append(made.Files, f.Path)
	}
	if done, err := c.out.value(made); done {
		return err
	}
	c.out.line("%s made %s in %s:", c.out.state("ok"), c.out.bold(made.Service), made.Dir)
	for _, f := range made.Files {
		c.out.line("  %s", f)
	}
	c.out.line("")
	if workspace && made.Language == "go" {
		c.out.line("Take it into the Go workspace:  go work use ./%s", made.Dir)
	}
	c.out.line("Build it, run its tests and check its chart:  slipway run %s", made.Service)
	c.out.line("Deliver it:  git add %s, commit and push", made.Dir)
	return nil
}

// repositoryRoot is the top of the git working tree that a folder is in, else the folder itself. A bare repository, and
// the folder in which git keeps a repository, are refused.
func repositoryRoot(ctx context.Context, dir string) (string, error) {
	if top, err := worktree.Git(ctx, dir, "rev-parse", "--show-toplevel"); err == nil {
		return top, nil
	} else if ctx.Err() != nil {
		return "", err
	}
	if inside, err := worktree.Git(ctx, dir, "rev-parse", "--absolute-git-dir"); err == nil {
		return "", slipway.Errorf(slipway.Invalid, "%s is where git keeps a repository, and no working tree: what is made there is no file of the repository; go to a working tree of it, or make one (git clone %s)", inside, inside)
	}
	return filepath.Abs(dir)
}

// besideOthers is the folder that most services are in, src for the first one.
func besideOthers(services []slipway.Service) string {
	count, best := map[string]int{}, ""
	for _, s := range services {
		if s.Dir == "." {
			continue
		}
		parent := path.Dir(s.Dir)
		count[parent]++
		if best == "" || count[parent] > count[best] || (count[parent] == count[best] && len(parent) < len(best)) {
			best = parent
		}
	}
	return first(best, "src")
}

// placeForService refuses a name that is taken, and a folder in which no service would be found.
func placeForService(services []slipway.Service, name, target string) error {
	if !filepath.IsLocal(filepath.FromSlash(target)) {
		return slipway.Errorf(slipway.Invalid, "--dir: %s is not inside the repository", target)
	}
	parts := strings.Split(target, "/")
	for i, part := range parts {
		switch {
		case strings.HasPrefix(part, "."), slices.Contains([]string{"testdata", "vendor", "node_modules", "examples"}, part):
			return slipway.Errorf(slipway.Invalid, "--dir: no service is searched for in folders named %s; choose another one", part)
		case strings.ContainsAny(part, "\\:\n\t") || slipway.Printable(part) != strings.ToValidUTF8(part, "\uFFFD") || strings.HasPrefix(part, "-"):
			return slipway.Errorf(slipway.Invalid, "--dir: %q does not do as the name of a folder", part)
		case i >= 8:
			return slipway.Errorf(slipway.Invalid, "--dir: %s is deeper than services are searched for: 8 folders at most", target)
		}
	}
	for _, s := range services {
		if s.Name == name {
			return slipway.Errorf(slipway.Conflict, "there is a service %s already, in %s", name, s.Dir)
		}
		if s.Dir != "." && strings.HasPrefix(target+"/", s.Dir+"/") {
			return slipway.Errorf(slipway.Invalid, "--dir: %s is in the folder of the service %s, in which no other is searched for", target, s.Name)
		}
		if strings.HasPrefix(s.Dir+"/", target+"/") {
			return slipway.Errorf(slipway.Conflict, "%s holds the service %s", target, s.Name)
		}
	}
	return nil
}

// writeService writes the files aside and puts the folder into its place when it is whole. What it made
// on the way is taken away again when it does not come to that. Links do not lead out of root.
func writeService(root, target string, files []starter.File) (err error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	defer dir.Close()
	if _, err := dir.Lstat(target); err == nil {
		return slipway.Errorf(slipway.Conflict, "%s is there already", target)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return slipway.Errorf(slipway.Invalid, "--dir %s leads out of the repository, or is no folder: %w", path.Dir(target), err)
	}
	parent := path.Dir(target)
	made, err := makeParents(dir, parent)
	defer func() {
		if err != nil && made != "" {
			err = errors.Join(err, removeEmpty(dir, parent, made))
		}
	}()
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "make the folder %s: %w", parent, err)
	}
	aside := path.Join(parent, fmt.Sprintf(".slipway-new-%d", os.Getpid()))
	if err := dir.Mkdir(aside, 0o755); err != nil {
		return fmt.Errorf("make the service aside: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.RemoveAll(aside))
		}
	}()
	for _, f := range files {
		mode := fs.FileMode(0o644)
		if f.Executable {
			mode = 0o755
		}
		name := path.Join(aside, f.Path)
		if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := dir.WriteFile(name, f.Data, mode); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	if err := dir.Rename(aside, target); err != nil {
		return fmt.Errorf("put %s into its place: %w", target, err)
	}
	return nil
}

// makeParents makes a folder and those above it, and returns the topmost that it made.
func makeParents(dir *os.Root, name string) (made string, err error) {
	for p := name; p != "."; p = path.Dir(p) {
		if _, err := dir.Lstat(p); err == nil {
			break
		}
		made = p
	}
	return made, dir.MkdirAll(name, 0o755)
}

// removeEmpty removes the folders from name up to top that hold nothing.
func removeEmpty(dir *os.Root, name, top string) error {
	for ; ; name = path.Dir(name) {
		if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if name == top {
			return nil
		}
	}
}
