package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
)

// worktree is a git working tree as it lies there: what is ignored is left out, what is not committed
// is in it.
type worktree struct {
	root    string   // absolute
	repo    git.Repo // reads the repository, and the commit below
	commit  string   // HEAD when nothing differs from it; else a commit that only repo sees
	head    string   // "" before the first commit
	branch  string   // "" when HEAD names none
	changed int      // files that differ from HEAD
	fetches []string // environment in which git may fetch what a partial clone left out
	missed  error    // why it did not come
}

// openWorktree takes the working tree that a folder is in. What is not committed becomes a commit
// whose objects are below scratch; the repository, its index and its refs are not touched.
func openWorktree(ctx context.Context, dir, scratch string) (worktree, error) {
	w := worktree{}
	var err error
	if w.root, err = gitIn(ctx, dir, nil, "rev-parse", "--show-toplevel"); err != nil {
		return w, slipway.Errorf(slipway.Invalid, "%s is in no working tree of git, which is asked what changed and what is ignored: %w", dir, err)
	}
	ask := func(args ...string) string {
		out, _ := gitIn(ctx, w.root, nil, args...) // no answer is one too: before the first commit, without a branch
		return out
	}
	w.head = ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	w.branch = ask("symbolic-ref", "--quiet", "--short", "HEAD")
	gitDir, err := gitIn(ctx, w.root, nil, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return w, fmt.Errorf("find the repository: %w", err)
	}
	w.repo = git.Repo{Dir: gitDir}
	if promisor := ask("config", "--get-regexp", `^remote\..*\.promisor$`); promisor != "" {
		w.fetches = asThePerson()
	}
	if err := w.snapshot(ctx, scratch, ask); err != nil {
		return w, fmt.Errorf("read the working tree: %w", w.lacking(err))
	}
	_ = w.bring(ctx, w.commit, isAsked) // who reads a file that did not come says why
	return w, ctx.Err()
}

// asGitSees is what a folder holds: of the top of a git working tree what git would commit of it, so without what
// is ignored and with what a sparse checkout leaves out; of any other folder all that lies there. done ends the
// reading; its error says that what was read must not be believed.
func asGitSees(ctx context.Context, dir string, lies *os.Root) (seen fs.FS, done func() error, err error) {
	top, err := gitIn(ctx, dir, nil, "rev-parse", "--show-toplevel")
	if err != nil || !sameFolder(top, dir) {
		return lies.FS(), func() error { return nil }, ctx.Err()
	}
	scratch, remove, err := newScratch("tree")
	if err != nil {
		return nil, nil, err
	}
	w, err := openWorktree(ctx, dir, scratch)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	tree, err := w.repo.Tree(ctx, w.commit)
	if err != nil {
		return nil, nil, errors.Join(w.lacking(err), remove())
	}
	return tree, func() error { return errors.Join(w.lacking(tree.Close()), remove()) }, nil
}

// snapshot sets the commit.
func (w *worktree) snapshot(ctx context.Context, scratch string, ask func(...string) string) error {
	objects, index := filepath.Join(scratch, "objects"), filepath.Join(scratch, "index")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return err
	}
	if err := copyIndex(ask("rev-parse", "--path-format=absolute", "--git-path", "index"), index); err != nil {
		return err
	}
	env := []string{
		"GIT_OBJECT_DIRECTORY=" + objects,
		"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + quotedPath(ask("rev-parse", "--path-format=absolute", "--git-path", "objects")),
	}
	w.repo.Env = append(slices.Clone(env), w.fetches...)
	local := append([]string{"GIT_INDEX_FILE=" + index}, env...)
	// What a sparse checkout leaves out of the folder stays as the index has it.
	_, err := gitIn(ctx, w.root, local, "-c", "advice.addEmbeddedRepo=false", "-c", "core.safecrlf=false", "add", "--all", "--sparse", "--", ".")
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "git does not take the files as they lie there, which git add --dry-run --all shows: %w", err)
	}
	return w.commitIndex(ctx, local)
}

// commitIndex makes a commit of the index that env names, on HEAD, and sets it. HEAD itself is taken when
// nothing differs.
func (w *worktree) commitIndex(ctx context.Context, env []string) error {
	tree, err := gitIn(ctx, w.root, env, "write-tree")
	if err != nil {
		return err
	}
	had, _ := gitIn(ctx, w.root, nil, "rev-parse", "--verify", "--quiet", "HEAD^{tree}") // no answer: before the first commit
	if w.head != "" && tree == had {
		w.commit, w.changed = w.head, 0
		return nil
	}
	// Equal trees on one HEAD are one commit, whenever they are looked at.
	c := git.NewCommit{Tree: tree, Message: "the working tree", Author: "slipway run", Email: "run@slipway.invalid", Time: git.ExportTime()}
	if w.head != "" {
		at, err := w.repo.CommitInfo(ctx, w.head)
		if err != nil {
			return err
		}
		c.Parents, c.Time = []string{w.head}, at.Time
	}
	if w.commit, err = w.repo.CommitTree(ctx, c); err != nil {
		return err
	}
	files, err := w.repo.ChangedFiles(ctx, w.head, w.commit)
	w.changed = len(files)
	return err
}

// copyIndex copies git's index, if there is one, with its time: git looks again into files that are as old
// as the index, and takes those that are older for what it knows of them.
func copyIndex(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	have, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, have, 0o600)
	}
	if err == nil {
		err = os.Chtimes(to, info.ModTime(), info.ModTime())
	}
	return err
}

// quotedPath is a path as GIT_ALTERNATE_OBJECT_DIRECTORIES takes it.
func quotedPath(p string) string {
	if !strings.ContainsAny(p, `:"`) {
		return p
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
}

// base is the commit that the working tree is compared with, and what people call it: where it left
// the commit that since names, else where it left the default branch. It is "" when there is nothing
// to compare with: then every file counts as new.
func (w *worktree) base(ctx context.Context, since string) (commit, name string, err error) {
	resolve := func(ref string) string {
		out, err := gitIn(ctx, w.root, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
		if err != nil {
			return ""
		}
		return out
	}
	tip := ""
	if since != "" {
		if tip = resolve(since); tip == "" {
			return "", "", w.notHere(ctx, since)
		}
		name = since
	} else if name, tip = w.upstream(ctx, resolve); tip == "" {
		return "", "", nil
	}
	if commit, err = w.repo.MergeBase(ctx, tip, w.commit); err != nil {
		return "", "", fmt.Errorf("find where this branch left %s: %w", name, err)
	}
	if commit == "" && since != "" {
		commit = tip // no history in common: its files then
	}
	_ = w.bring(ctx, commit, isAsked) // as above
	return commit, name, nil
}

// notHere refuses a commit that --since names and that the repository does not have.
func (w *worktree) notHere(ctx context.Context, since string) error {
	shallow, _ := gitIn(ctx, w.root, nil, "rev-parse", "--is-shallow-repository") // no answer: it is not known to be
	if shallow == "true" {
		return slipway.Errorf(slipway.Invalid, "--since %q names no commit here, and this clone is shallow: git fetch --unshallow brings the commits before", since)
	}
	return slipway.Errorf(slipway.Invalid, "--since %q names no commit here: expected a branch, a tag or a commit", since)
}

// upstream is the default branch: a remote's, since that is what was pushed, else the local one unless
// that is the branch itself.
func (w *worktree) upstream(ctx context.Context, resolve func(string) string) (name, tip string) {
	remotes, _ := gitIn(ctx, w.root, nil, "remote") // none is fine
	var candidates []string
	for _, r := range append([]string{"origin"}, strings.Fields(remotes)...) {
		candidates = append(candidates, r+"/HEAD", r+"/main", r+"/master")
	}
	for _, local := range []string{"main", "master"} {
		if local != w.branch {
			candidates = append(candidates, local)
		}
	}
	for _, c := range candidates {
		full := "refs/remotes/" + c
		if !strings.Contains(c, "/") {
			full = "refs/heads/" + c
		}
		if tip := resolve(full); tip != "" {
			return strings.TrimSuffix(c, "/HEAD"), tip
		}
	}
	return "", ""
}

// describe says what is run, for people.
func (w *worktree) describe() string {
	at := "no commit yet"
	if w.head != "" {
		at = slipway.ShortHash(w.head)
	}
	if w.branch != "" {
		at += " on " + w.branch
	}
	switch {
	case w.changed == 1:
		return at + ", and 1 file that is not committed: it is run as it lies there"
	case w.changed > 1:
		return fmt.Sprintf("%s, and %d files that are not committed: they are run as they lie there", at, w.changed)
	}
	return at + ", everything is committed"
}

// gitIn runs git with the person's own settings in a folder and returns what it prints, without the
// space around it. What a hook of git set for its own repository does not count.
func gitIn(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	return gitGiven(ctx, dir, env, "", args...)
}

// gitGiven is gitIn with something to read on standard input.
func gitGiven(ctx context.Context, dir string, env []string, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH":
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		why := strings.TrimPrefix(firstLine(strings.TrimSpace(stderr.String())), "fatal: ")
		for len(args) > 2 && args[0] == "-c" {
			args = args[2:]
		}
		return "", fmt.Errorf("git %s: %w", args[0], errors.New(first(why, err.Error())))
	}
	return strings.TrimSpace(string(out)), nil
}

// named says with what is wrong with the commit of a working tree what that commit is, which git does not know.
func (w worktree) named(err error) error {
	code := slipway.ErrorCode(err)
	if w.changed == 0 || code != slipway.Invalid && code != slipway.NotFound {
		return err
	}
	return slipway.Errorf(code, "%w\n(%s is what lies here, with %s not committed)", err, slipway.ShortHash(w.commit), plural(w.changed, "file"))
}
