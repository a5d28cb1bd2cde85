package worktree

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
)

// asked matches the names of files that configuration, plans and surveys read.
var asked = regexp.MustCompile(`(?i)(^slipway\.yaml$|dockerfile|\.dockerignore$|^chart\.yaml$|^values.*\.ya?ml$|compose.*\.ya?ml$|^skaffold\.yaml$|^\.gitmodules$` +
	`|^go\.(mod|work)$|^package\.json$|^pnpm-workspace\.yaml$|\.(cs|fs)proj$|^pom\.xml$|\.gradle(\.kts)?$|^(cargo|pyproject)\.toml$)`)

func isAsked(name string) bool { return asked.MatchString(path.Base(name)) }

// bring fetches in one request the files of a commit that a partial clone left out and whose paths are wanted, into the
// repository, as git in the person's shell keeps them, too. What does not come is asked for again by whoever reads it.
func (w *Tree) bring(ctx context.Context, commit string, wanted func(path string) bool) error {
	if w.fetches == nil || commit == "" {
		return nil
	}
	lacked, err := w.lacked(ctx, commit)
	if err != nil || len(lacked) == 0 {
		return err
	}
	list, err := gitIn(ctx, w.Root, w.Repo.Env, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return err
	}
	var ids strings.Builder
	for line := range strings.SplitSeq(list, "\x00") {
		about, name, _ := strings.Cut(line, "\t")
		if f := strings.Fields(about); len(f) == 3 && lacked[f[2]] && wanted(name) {
			ids.WriteString(f[2] + "\n")
			delete(lacked, f[2])
		}
	}
	if ids.Len() == 0 {
		return nil
	}
	w.missed = w.fetch(ctx, ids.String())
	return w.missed
}

// BringFork is bring for what plans read of the commit at which the working tree left another one.
func (w *Tree) BringFork(ctx context.Context, tip string) {
	if w.fetches == nil || tip == "" {
		return
	}
	if fork, err := w.Repo.MergeBase(ctx, tip, w.Commit); err == nil { // the planner tells of one that is not found
		_ = w.bring(ctx, fork, isAsked)
	}
}

// BringAll is bring for all files of the tree.
func (w *Tree) BringAll(ctx context.Context) error {
	return w.Lacking(w.bring(ctx, w.Commit, func(string) bool { return true }))
}

// lacked are the objects of a commit that are not here.
func (w *Tree) lacked(ctx context.Context, commit string) (map[string]bool, error) {
	list, err := gitIn(ctx, w.Root, w.Repo.Env, "rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk", "--end-of-options", commit)
	if err != nil {
		return nil, err
	}
	lacked := map[string]bool{}
	for line := range strings.Lines(list) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "?"); ok {
			lacked[id] = true
		}
	}
	return lacked, nil
}

// fetch gets objects, one on each line, from the remotes that promised them.
func (w *Tree) fetch(ctx context.Context, ids string) error {
	promised, err := gitIn(ctx, w.Root, nil, "config", "--get-regexp", `^remote\..*\.promisor$`)
	if err != nil {
		return err
	}
	err = errors.New("no remote has promised them")
	for line := range strings.Lines(promised) {
		key, on, _ := strings.Cut(strings.TrimSpace(line), " ")
		remote := strings.TrimSuffix(strings.TrimPrefix(key, "remote."), ".promisor")
		if on == "false" || strings.HasPrefix(remote, "-") {
			continue
		}
		// As git itself gets what it misses.
		if _, err = gitGiven(ctx, w.Root, w.fetches[:1], ids, "-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags",
			"--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin", remote); err == nil {
			return nil
		}
	}
	return err
}

// Lacking says of an error that a partial clone may be behind it, if this is one.
func (w *Tree) Lacking(err error) error {
	if err == nil || w.fetches == nil || slipway.ErrorCode(err) != slipway.Internal {
		return err
	}
	if w.missed != nil {
		err = w.missed
	}
	return slipway.Errorf(slipway.Unavailable, "%w; this clone is partial, and git did not get a file that it lacks from its remote", err)
}

// asThePerson is what lets git talk to the person's own remotes with their own settings, as git in their shell
// does when it misses a file of a partial clone. The protocols come first.
func asThePerson() []string {
	env := []string{"GIT_ALLOW_PROTOCOL=file:git:http:https:ssh"}
	for _, name := range []string{"GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME", "GIT_SSH_COMMAND", "GIT_ASKPASS"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	if _, ok := os.LookupEnv("GIT_CONFIG_GLOBAL"); !ok {
		if home, err := os.UserHomeDir(); err == nil {
			env = append(env, "GIT_CONFIG_GLOBAL="+filepath.Join(home, ".gitconfig"))
		}
	}
	return env
}
