package git

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

const (
	modulesFile   = ".gitmodules"
	maxModules    = 1 << 20 // bytes of .gitmodules
	maxSubmodules = 100     // of one commit, those of its submodules included
	maxNested     = 5       // submodules in submodules
)

// Submodule is a folder of a tree that stands for a commit of another repository.
type Submodule struct {
	Path   string
	Commit string
	URL    string // as .gitmodules has it; nobody has checked it
}

// Submodules lists those of a commit that .gitmodules names, by path. What it says of anything that is no
// submodule of the tree does not count, and nothing of it is followed.
func (r Repo) Submodules(ctx context.Context, commit string) ([]Submodule, error) {
	text, err := r.ReadFile(ctx, commit, modulesFile, maxModules)
	if slipway.ErrorCode(err) == slipway.NotFound && r.exists(ctx, commit+"^{commit}") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	urls, err := r.modules(ctx, string(text))
	if err != nil || len(urls) == 0 {
		return nil, err
	}
	args := []string{"ls-tree", "-z", "--full-tree", commit, "--"}
	for path := range urls {
		args = append(args, path)
	}
	slices.Sort(args[5:])
	out, err := r.run(ctx, call{args: args, env: []string{"GIT_LITERAL_PATHSPECS=1"}})
	if err != nil {
		return nil, r.missing(ctx, err, commit)
	}
	entries, err := parseEntries(splitNUL(out))
	if err != nil {
		return nil, fmt.Errorf("list submodules of %s: %w", commit, err)
	}
	var list []Submodule
	for _, e := range entries {
		if e.mode == modeSubmodule && checkPath(e.path) == nil {
			list = append(list, Submodule{Path: e.path, Commit: e.hash, URL: urls[e.path]})
		}
	}
	return list, nil
}

// modules are the URLs in a .gitmodules file by path. The file is read as configuration and has no effect.
func (r Repo) modules(ctx context.Context, text string) (map[string]string, error) {
	out, err := r.run(ctx, call{args: []string{"config", "--no-includes", "-z", "--list", "--file", "-"}, stdin: strings.NewReader(text), max: 2 * maxModules})
	if _, ok := exitStatus(err); ok {
		return nil, slipway.Errorf(slipway.Invalid, "%s cannot be read: %w", modulesFile, err)
	}
	if err != nil {
		return nil, err
	}
	type module struct{ path, url string }
	byName := map[string]module{}
	for _, line := range splitNUL(out) {
		key, value, _ := strings.Cut(line, "\n")
		name, ok := strings.CutPrefix(key, "submodule.")
		if !ok {
			continue
		}
		m := byName[name[:max(strings.LastIndexByte(name, '.'), 0)]]
		switch {
		case strings.HasSuffix(name, ".path"):
			m.path = value
		case strings.HasSuffix(name, ".url"):
			m.url = value
		}
		byName[name[:max(strings.LastIndexByte(name, '.'), 0)]] = m
	}
	urls := map[string]string{}
	for _, m := range byName {
		if fs.ValidPath(m.path) && m.path != "." && !strings.HasPrefix(m.path, "-") {
			urls[m.path] = m.url
		}
	}
	if len(urls) > maxSubmodules {
		return nil, slipway.Errorf(slipway.Invalid, "%s names %d submodules: at most %d", modulesFile, len(urls), maxSubmodules)
	}
	return urls, nil
}
