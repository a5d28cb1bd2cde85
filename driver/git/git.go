// Package git works on bare repositories through the git command: it reads commits, trees and
// differences, moves refs, merges, mirrors outside repositories and checks trees out into folders.
//
// It never trusts what is in a repository: no hook, no configuration of the machine or the user and
// no attribute of the content has an effect, names are checked before git sees them, and output is
// bounded. It knows nothing of services, runs or who may do what, and it does not serve
// repositories: that is hosting/gitserver.
package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Repo is a bare repository on disk. Its zero value with a Dir is ready to use, its methods are safe
// for concurrent use. Every method ends git and what git started when its context ends.
type Repo struct {
	Dir string // absolute path of the bare repository
	// Readers answer what they can without a process of its own. Nil: git commands answer everything.
	Readers *Readers
	// Env is added to git's environment: GIT_OBJECT_DIRECTORY and GIT_ALTERNATE_OBJECT_DIRECTORIES
	// of a push whose objects are still in quarantine. Refs cannot be moved then.
	Env []string
}

var hashExpr = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

var shortHashExpr = regexp.MustCompile(`^[0-9a-f]{4,64}$`)

// emptyTree is the hash of the tree without entries; git knows it without it being stored.
const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

func checkHash(hash string) error {
	if !hashExpr.MatchString(hash) {
		return slipway.Errorf(slipway.Invalid, "%.80q is not the full hash of a commit", hash)
	}
	return nil
}

func checkHashes(hashes ...string) error {
	for _, h := range hashes {
		if err := checkHash(h); err != nil {
			return err
		}
	}
	return nil
}

// Init makes an empty bare repository whose HEAD is the default branch. Doing it again changes
// nothing but the default branch. A full disk is slipway.Unavailable.
func Init(ctx context.Context, dir, defaultBranch string) (Repo, error) {
	r := Repo{Dir: dir}
	head := "refs/heads/" + defaultBranch
	if err := slipway.CheckRef(head); err != nil {
		return r, err
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		_, err = r.output(ctx, "init", "--quiet", "--bare", "--template=", "--initial-branch="+defaultBranch, "--", dir)
	}
	if err == nil {
		err = r.SetDefaultBranch(ctx, defaultBranch)
	}
	switch {
	case err == nil:
		return r, nil
	case full(err):
		return r, slipway.Errorf(slipway.Unavailable, "make repository %s: the disk is full: make room and try again: %w", dir, err)
	}
	return r, fmt.Errorf("make repository %s: %w", dir, err)
}

// SetDefaultBranch makes HEAD name a branch, which need not exist yet.
func (r Repo) SetDefaultBranch(ctx context.Context, branch string) error {
	ref := "refs/heads/" + branch
	if err := slipway.CheckRef(ref); err != nil {
		return err
	}
	_, err := r.output(ctx, "symbolic-ref", "HEAD", ref)
	return err
}

// DefaultBranch is the branch that HEAD names.
func (r Repo) DefaultBranch(ctx context.Context) (string, error) {
	out, err := r.output(ctx, "symbolic-ref", "HEAD")
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "refs/heads/"), err
}

// Resolve returns the commit that a full ref name, HEAD, or a full or abbreviated hash stands for;
// slipway.NotFound if there is none.
func (r Repo) Resolve(ctx context.Context, ref string) (string, error) {
	if ref != "HEAD" && !shortHashExpr.MatchString(ref) {
		if err := slipway.CheckRef(ref); err != nil {
			return "", err
		}
	}
	if commit, err := r.resolveThrough(ctx, ref); err == nil {
		return commit, nil
	}
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if _, ok := exitStatus(err); ok {
		return "", slipway.Errorf(slipway.NotFound, "%s is not a commit of this repository", ref)
	}
	return strings.TrimSpace(string(out)), err
}

// Refs returns every ref below the prefixes (whole path parts: "refs/heads") with the hash it holds:
// of the tag object for an annotated tag. Without a prefix it returns branches and tags.
func (r Repo) Refs(ctx context.Context, prefixes ...string) (map[string]string, error) {
	if len(prefixes) == 0 {
		prefixes = []string{"refs/heads", "refs/tags"}
	}
	args := []string{"for-each-ref", "--format=%(objectname) %(refname)", "--"}
	for _, p := range prefixes {
		p = strings.TrimSuffix(p, "/")
		if err := slipway.CheckRef(p); err != nil {
			return nil, err
		}
		args = append(args, p)
	}
	out, err := r.output(ctx, args...)
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if hash, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			refs[ref] = hash
		}
	}
	return refs, nil
}

// exists reports whether an object is in the repository.
func (r Repo) exists(ctx context.Context, hash string) bool {
	_, err := r.output(ctx, "cat-file", "-e", hash)
	return err == nil
}

// missing turns err into slipway.NotFound if it came from git and one of the commits is not there.
func (r Repo) missing(ctx context.Context, err error, commits ...string) error {
	var exit *exitError
	if !errors.As(err, &exit) {
		return err
	}
	for _, c := range commits {
		if !r.exists(ctx, c+"^{commit}") && ctx.Err() == nil {
			return slipway.Errorf(slipway.NotFound, "commit %s is not in this repository", c)
		}
	}
	return err
}
