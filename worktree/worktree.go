// Package worktree has git working trees as they lie there, with what is not committed and without what is ignored, also of
// sparse checkouts and partial clones. It touches neither the repository nor its index: what is not committed becomes a
// commit in a scratch folder. What to do with a tree is for others to say.
package worktree

import (
	"bytes"
	"cmp"
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

// Tree is a git working tree as it lies there: what is ignored is left out, what is not committed
// is in it. Open makes one.
type Tree struct {
	Root    string   // absolute
	Repo    git.Repo // reads the repository, and the commit below
	Commit  string   // HEAD when nothing differs from it; else a commit that only Repo sees
	Head    string   // "" before the first commit
	Branch  string   // "" when HEAD names none
	Changed int      // files that differ from HEAD
	Shallow bool     // what came before some commit is not there

	fetches []string // environment in which git may fetch what a partial clone left out
	missed  error    // why it did not come
}

// Open takes the working tree that a folder is in. What is not committed becomes a commit
// whose objects are below scratch; the repository, its index and its refs are not touched.
func Open(ctx context.Context, dir, scratch string) (Tree, error) {
	w := Tree{}
	var err error
	if w.Root, err = gitIn(ctx, dir, nil, "rev-parse", "--show-toplevel"); err != nil {
		return w, slipway.Errorf(slipway.Invalid, "%s is in no working tree of git, which is asked what changed and what is ignored: %w", dir, err)
	}
	ask := func(args ...string) string {
		out, _ := gitIn(ctx, w.Root, nil, args...) // no answer is one too: before the first commit, without a branch
		return out
	}
	w.Head = ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	// The whole name: git's short one is heads/x where there is a tag x besides.
	if branch, ok := strings.CutPrefix(ask("symbolic-ref", "--quiet", "HEAD"), "refs/heads/"); ok {
		w.Branch = branch
	}
	w.Shallow = ask("rev-parse", "--is-shallow-repository") == "true"
	gitDir, err := gitIn(ctx, w.Root, nil, "rev-parse", "--absolute-git-dir")
	if err != nil {
		return w, fmt.Errorf("find the repository: %w", err)
	}
	w.Repo = git.Repo{Dir: gitDir}
	if promisor := ask("config", "--get-regexp", `^remote\..*\.promisor$`); promisor != "" {
		w.fetches = asThePerson()
	}
	if err := w.snapshot(ctx, scratch, ask); err != nil {
		return w, fmt.Errorf("read the working tree: %w", w.Lacking(err))
	}
	_ = w.bring(ctx, w.Commit, isAsked) // who reads a file that did not come says why
	return w, ctx.Err()
}

// Seen is what a folder holds: of the top of a git working tree what git would commit of it, so without what
// is ignored and with what a sparse checkout leaves out; of any other folder all that lies there. done ends the
// reading; its error says that what was read must not be believed.
func Seen(ctx context.Context, dir string, lies *os.Root) (seen fs.FS, done func() error, err error) {
	if _, here := Top(ctx, dir); !here {
		return lies.FS(), func() error { return nil }, ctx.Err()
	}
	scratch, remove, err := Scratch("tree")
	if err != nil {
		return nil, nil, err
	}
	w, err := Open(ctx, dir, scratch)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	tree, err := w.Repo.Tree(ctx, w.Commit)
	if err != nil {
		return nil, nil, errors.Join(w.Lacking(err), remove())
	}
	return tree, func() error { return errors.Join(w.Lacking(tree.Close()), remove()) }, nil
}

// snapshot sets the commit.
func (w *Tree) snapshot(ctx context.Context, scratch string, ask func(...string) string) error {
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
	w.Repo.Env = append(slices.Clone(env), w.fetches...)
	local := append([]string{"GIT_INDEX_FILE=" + index}, env...)
	// What a sparse checkout leaves out of the folder stays as the index has it.
	_, err := gitIn(ctx, w.Root, local, "-c", "advice.addEmbeddedRepo=false", "-c", "core.safecrlf=false", "add", "--all", "--sparse", "--", ".")
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
func (w *Tree) commitIndex(ctx context.Context, env []string) error {
	tree, err := gitIn(ctx, w.Root, env, "write-tree")
	if err != nil {
		return err
	}
	had, _ := gitIn(ctx, w.Root, nil, "rev-parse", "--verify", "--quiet", "HEAD^{tree}") // no answer: before the first commit
	if w.Head != "" && tree == had {
		w.Commit, w.Changed = w.Head, 0
		return nil
	}
	// Equal trees on one HEAD are one commit, whenever they are looked at.
	c := git.NewCommit{Tree: tree, Message: "the working tree", Author: "slipway run", Email: "run@slipway.invalid", Time: git.ExportTime()}
	if w.Head != "" {
		at, err := w.Repo.CommitInfo(ctx, w.Head)
		if err != nil {
			return err
		}
		c.Parents, c.Time = []string{w.Head}, at.Time
	}
	if w.Commit, err = w.Repo.CommitTree(ctx, c); err != nil {
		return err
	}
	files, err := w.Repo.ChangedFiles(ctx, w.Head, w.Commit)
	w.Changed = len(files)
	return err
}

// Relink makes the submodules of the working tree point to other commits.
func (w *Tree) Relink(ctx context.Context, scratch string, commits map[string]string) error {
	env := append([]string{"GIT_INDEX_FILE=" + filepath.Join(scratch, "index")}, w.Repo.Env...)
	for path, commit := range commits {
		if _, err := gitIn(ctx, w.Root, env, "update-index", "--cacheinfo", "160000,"+commit+","+path); err != nil {
			return fmt.Errorf("take submodule %s as it lies there: %w", path, err)
		}
	}
	return w.commitIndex(ctx, env)
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

// Base is the commit that the working tree is compared with, and what people call it: where it left
// the commit that since names, else where it left the default branch. It is "" when there is nothing
// to compare with: then every file counts as new.
func (w *Tree) Base(ctx context.Context, since string) (commit, name string, err error) {
	tip := ""
	if since != "" {
		if tip = w.Resolve(ctx, since); tip == "" {
			return "", "", w.NotHere(since)
		}
		name = since
	} else if name, tip = w.Upstream(ctx); tip == "" {
		return "", "", nil
	}
	if commit, err = w.Repo.MergeBase(ctx, tip, w.Commit); err != nil {
		return "", "", fmt.Errorf("find where this branch left %s: %w", name, err)
	}
	if commit == "" && since != "" {
		commit = tip // no history in common: its files then
	}
	_ = w.bring(ctx, commit, isAsked) // as above
	return commit, name, nil
}

// Unshallow says of a shallow clone what to do.
const Unshallow = "this clone is shallow: git fetch --unshallow brings the commits before"

// NotHere refuses a commit that --since names and that the repository does not have.
func (w *Tree) NotHere(since string) error {
	if w.Shallow {
		return slipway.Errorf(slipway.Invalid, "--since %q names no commit here, and %s", since, Unshallow)
	}
	return slipway.Errorf(slipway.Invalid, "--since %q names no commit here: expected a branch, a tag or a commit", since)
}

// Resolve is the commit that a branch, a tag or a hash names, "" for none.
func (w *Tree) Resolve(ctx context.Context, ref string) string {
	out, _ := gitIn(ctx, w.Root, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}") // no answer: no such commit
	return out
}

// Upstream is the default branch: a remote's, since that is what was pushed, else the local one unless
// that is the branch itself.
func (w *Tree) Upstream(ctx context.Context) (name, tip string) {
	remotes, _ := gitIn(ctx, w.Root, nil, "remote") // none is fine
	var candidates []string
	for _, r := range append([]string{"origin"}, strings.Fields(remotes)...) {
		candidates = append(candidates, r+"/HEAD", r+"/main", r+"/master")
	}
	for _, local := range []string{"main", "master"} {
		if local != w.Branch {
			candidates = append(candidates, local)
		}
	}
	for _, c := range candidates {
		full := "refs/remotes/" + c
		if !strings.Contains(c, "/") {
			full = "refs/heads/" + c
		}
		if tip := w.Resolve(ctx, full); tip != "" {
			return strings.TrimSuffix(c, "/HEAD"), tip
		}
	}
	return "", ""
}

// Describe says what is run, for people.
func (w *Tree) Describe() string {
	at := "no commit yet"
	if w.Head != "" {
		at = slipway.ShortHash(w.Head)
	}
	if w.Branch != "" {
		at += " on " + w.Branch
	}
	switch {
	case w.Changed == 1:
		return at + ", and 1 file that is not committed: it is run as it lies there"
	case w.Changed > 1:
		return fmt.Sprintf("%s, and %d files that are not committed: they are run as they lie there", at, w.Changed)
	}
	return at + ", everything is committed"
}

// Top is the top of the working tree that a folder is in, "" for none, and whether that is the folder itself.
func Top(ctx context.Context, dir string) (top string, here bool) {
	top, err := gitIn(ctx, dir, nil, "rev-parse", "--show-toplevel")
	return top, err == nil && SameFolder(top, dir)
}

// SameFolder reports whether two paths lead to one folder that is there.
func SameFolder(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// Git runs git with the person's own settings in a folder and returns what it prints, without the space around it.
func Git(ctx context.Context, dir string, args ...string) (string, error) {
	return gitIn(ctx, dir, nil, args...)
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
		why := strings.TrimPrefix(slipway.FirstLine(strings.TrimSpace(stderr.String())), "fatal: ")
		for len(args) > 2 && args[0] == "-c" {
			args = args[2:]
		}
		return "", fmt.Errorf("git %s: %w", args[0], errors.New(cmp.Or(why, err.Error())))
	}
	return strings.TrimSpace(string(out)), nil
}

// Named says with what is wrong with the commit of a working tree what that commit is, which git does not know.
func (w *Tree) Named(err error) error {
	code := slipway.ErrorCode(err)
	if w.Changed == 0 || code != slipway.Invalid && code != slipway.NotFound {
		return err
	}
	return slipway.Errorf(code, "%w\n(%s is what lies here, with %s not committed)", err, slipway.ShortHash(w.Commit), slipway.Counted(w.Changed, "file"))
}
