package act

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// notes are what people should know of a run's commit besides its plan.
func (p *Planner) notes(ctx context.Context, run slipway.Run) ([]string, error) {
	if run.Fork { // strangers hear nothing of the project
		return nil, nil
	}
	var lines []string
	if p.Foreign != nil {
		var err error
		lines, err = p.Foreign(ctx, slipway.CodebaseKey(run.Project, run.Codebase), run.Commit)
		if err != nil && slipway.ErrorCode(err) != slipway.Invalid { // the plan has said so where it matters
			return nil, err
		}
	}
	large, err := p.largeFiles(ctx, run)
	if err != nil {
		return nil, err
	}
	lines = append(lines, large...)
	stray, err := p.strayOf(ctx, run)
	return append(slices.Clip(lines), stray...), err
}

// largeFiles warns of files that are kept in Git LFS: what git has of them is a pointer, and nothing fetches more. It
// reads .gitattributes at the top and in the folders of services.
func (p *Planner) largeFiles(ctx context.Context, run slipway.Run) (lines []string, err error) {
	key := slipway.CodebaseKey(run.Project, run.Codebase)
	own, _, err := p.services(ctx, key, run.Commit, p.Repo(key).Tree)
	if err != nil {
		return nil, ignoreInvalid(err)
	}
	tree, err := p.Repo(key).Tree(ctx, run.Commit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	files := []string{".gitattributes"}
	for _, s := range own.Services {
		if file := path.Join(s.Dir, ".gitattributes"); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for _, file := range files {
		f, err := tree.Open(file)
		if err != nil {
			continue // not there, or no file; Close says what could not be read
		}
		data, err := io.ReadAll(io.LimitReader(f, maxAttributes))
		if err = errors.Join(err, f.Close()); err != nil {
			continue
		}
		for i, line := range strings.Split(string(data), "\n") {
			words := strings.Fields(line)
			if len(words) > 1 && !strings.HasPrefix(words[0], "#") && slices.Contains(words[1:], "filter=lfs") {
				lines = append(lines, fmt.Sprintf("warning: %s:%d: what fits %s is kept in Git LFS, which is not fetched: builds get its pointers", slipway.CleanLine(file, 200), i+1, slipway.CleanLine(words[0], 100)))
				break
			}
		}
	}
	return lines, nil
}

// maxAttributes bounds what is read of a .gitattributes.
const maxAttributes = 64 << 10

// strayOf warns of waivers and rules of slipway.yaml for services that no codebase has, once the run's commit is what its branch
// is, or is merged. What is not valid is said elsewhere.
func (p *Planner) strayOf(ctx context.Context, run slipway.Run) ([]string, error) {
	c, err := p.Codebase(ctx, slipway.CodebaseKey(run.Project, run.Codebase))
	if err != nil || c.Linked || run.Event != slipway.DefaultPush && (run.Event != slipway.PullUpdate || run.Base != c.DefaultBranch) {
		return nil, err
	}
	repo := p.Repo(c.Key())
	var policy slipway.Config
	if c.Name == "" {
		policy, _, err = p.policyAt(ctx, c.Project, run.Commit, repo.Tree)
	} else {
		policy, _, err = p.policyNow(ctx, c.Project)
	}
	if err != nil || !config.NamesServices(policy) {
		return nil, ignoreInvalid(err)
	}
	own, problems, err := p.services(ctx, c.Key(), run.Commit, repo.Tree)
	if err != nil || len(problems) > 0 {
		return nil, ignoreInvalid(err)
	}
	stray, err := p.stray(ctx, c, policy, own.Services)
	var lines []string
	for _, problem := range stray {
		of := ""
		if c.Name != "" {
			of = "of the main codebase, "
		}
		lines = append(lines, "warning: "+of+problem.String())
	}
	return lines, err
}

// stray are the waivers and rules of a policy for services that neither a codebase, which has these, nor any other one has;
// none while one of them cannot be read, as it may have them.
func (p *Planner) stray(ctx context.Context, c slipway.Codebase, policy slipway.Config, own []slipway.Service) (config.Problems, error) {
	others, err := p.others(ctx, c, slipway.Config{})
	if err != nil {
		return nil, err
	}
	services := slices.Clone(own)
	for _, o := range others {
		if o.Problem != "" {
			return nil, nil
		}
		services = append(services, o.Config.Services...)
	}
	return config.Stray(policy, services), nil
}

// serviceNames are those that the default branches of the project's codebases have; nil when no waiver is for a single
// service, or not all of them can be read.
func (p *Planner) serviceNames(ctx context.Context, project string, waivers []slipway.Waiver) ([]string, error) {
	if !slices.ContainsFunc(waivers, func(w slipway.Waiver) bool { return w.Service != "" }) {
		return nil, nil
	}
	pr, err := p.Projects.Project(ctx, project)
	if err != nil {
		return nil, err
	}
	main, err := p.other(ctx, pr.Main(), slipway.Config{})
	if err != nil {
		return nil, err
	}
	others, err := p.others(ctx, pr.Main(), slipway.Config{})
	names := []string{}
	for _, o := range append(others, main) {
		if o.Problem != "" {
			return nil, err
		}
		for _, s := range o.Config.Services {
			names = append(names, s.Name)
		}
	}
	return names, err
}

func ignoreInvalid(err error) error {
	if slipway.ErrorCode(err) == slipway.Invalid {
		return nil
	}
	return err
}
