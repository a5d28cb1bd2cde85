package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// tree is the files of a repository by path; "" removes one, a leading "-> " makes a link.
type tree map[string]string

// with is t with changes.
func (t tree) with(changes tree) tree {
	out := maps.Clone(t)
	maps.Copy(out, changes)
	return out
}

// repo is a clone on a developer's laptop.
type repo struct {
	t       *testing.T
	site    *site
	project string
	dir     string
}

func newRepo(t *testing.T, s *site, project string, files tree) *repo {
	t.Helper()
	r := &repo{t: t, site: s, project: project, dir: t.TempDir()}
	r.git("init", "--quiet", "--initial-branch", "main")
	r.git("config", "user.name", "Ada")
	r.git("config", "user.email", "ada@example.com")
	r.git("config", "gc.auto", "0")
	for _, user := range []string{"ada", "bob", "eve", "admin"} {
		r.git("remote", "add", user, strings.Replace(s.url(), "http://", "http://"+user+":"+s.tokens[user]+"@", 1)+"/git/"+project+".git")
	}
	r.commit("The first commit", files)
	return r
}

// git runs git and wants it to succeed.
func (r *repo) git(args ...string) string {
	r.t.Helper()
	out, err := r.tryGit(r.t.Context(), args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (r *repo) tryGit(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// write puts files into the working tree.
func (r *repo) write(files tree) {
	r.t.Helper()
	for name, text := range files {
		path := filepath.Join(r.dir, name)
		err := os.RemoveAll(path)
		if err == nil && text != "" {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if target, link := strings.CutPrefix(text, "-> "); err == nil && link {
			err = os.Symlink(target, path)
		} else if err == nil && text != "" {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// commit changes files and returns the commit.
func (r *repo) commit(message string, files tree) string {
	r.t.Helper()
	r.write(files)
	r.git("add", "--all")
	r.git("commit", "--quiet", "--allow-empty", "-m", message)
	return r.head()
}

func (r *repo) head() string { return r.git("rev-parse", "HEAD") }

// push pushes as ada, or as bob to the default branch, wants that to succeed, and returns the run it
// made.
func (r *repo) push(refspec string) slipway.Run {
	r.t.Helper()
	user := "ada"
	if refspec == "main" {
		user = "bob"
	}
	out, err := r.pushAs(r.t.Context(), user, refspec)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.madeRun(out)
}

// pushAs pushes as somebody and returns what git printed.
func (r *repo) pushAs(ctx context.Context, user, refspec string, options ...string) (string, error) {
	return r.tryGit(ctx, append(append([]string{"push"}, options...), user, refspec)...)
}

// refused pushes as somebody, wants it refused with that in the message, and the ref where it was.
func (r *repo) refused(user, refspec, want string) {
	r.t.Helper()
	_, ref, _ := strings.Cut(refspec, ":")
	before := r.remote(ref)
	out, err := r.pushAs(r.t.Context(), user, refspec)
	if err == nil {
		r.t.Errorf("push %s as %s was not refused:\n%s", refspec, user, out)
		return
	}
	if !strings.Contains(out, want) {
		r.t.Errorf("push %s as %s: the message does not say %q:\n%s", refspec, user, want, out)
	}
	if after := r.remote(ref); after != before {
		r.t.Errorf("push %s as %s was refused, and the ref moved from %q to %q", refspec, user, before, after)
	}
}

// remote is the commit of a ref on the server, "" when there is none.
func (r *repo) remote(ref string) string {
	r.t.Helper()
	out := r.git("ls-remote", "admin")
	for line := range strings.Lines(out) {
		if commit, name, _ := strings.Cut(strings.TrimSpace(line), "\t"); name == ref {
			return commit
		}
	}
	return ""
}

// madeRun is the run that a push says it made.
func (r *repo) madeRun(out string) slipway.Run {
	r.t.Helper()
	_, rest, ok := strings.Cut(out, "run #")
	var id int64
	if _, err := fmt.Sscanf(rest, "%d", &id); err != nil || !ok {
		r.t.Fatalf("the push does not say which run it made:\n%s", out)
	}
	d, err := r.site.as("ada").Run(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(out, r.site.url()+fmt.Sprintf("/runs/%d", id)) {
		r.t.Errorf("the push does not print the run's URL:\n%s", out)
	}
	return d.Run
}
