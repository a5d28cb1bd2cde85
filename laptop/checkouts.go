// Package laptop does for a person what a server does after a push: it plans for the working trees that lie there, runs
// builds, tests and checks of charts with results of its own, and deploys where it is told to. It asks no server and keeps
// nothing but results on the same inputs. It prints nothing; which technology does a step is for whoever wires it.
package laptop

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/repos"
	"github.com/slipway-cd/slipway/worktree"
)

// Named says which codebase of a project the one here is, and where others are checked out.
type Named struct {
	Given  []string // NAME of the one here, NAME=PATH of another
	Linked []string // NAME of one that is delivered from where it is a submodule
}

// elsewhere is a codebase and the folder where it is checked out.
type elsewhere struct{ name, path string }

// Main is where the main codebase is checked out when that is another folder than the one here; "" when nobody said so.
func (o Named) Main() string {
	for _, v := range o.Given {
		if name, path, _ := strings.Cut(v, "="); name == slipway.MainCodebase {
			return path
		}
	}
	return ""
}

// parse returns what the flags say; own is "" when they do not.
func (o Named) parse() (own string, others []elsewhere, err error) {
	seen := map[string]bool{}
	for _, v := range o.Given {
		name, path, other := strings.Cut(v, "=")
		if err := slipway.CheckName("codebase", name); err != nil {
			return "", nil, fmt.Errorf("--codebase %q: %w", v, err)
		}
		switch {
		case seen[name]:
			return "", nil, slipway.Errorf(slipway.Invalid, "--codebase %s is said twice", name)
		case other && path == "":
			return "", nil, slipway.Errorf(slipway.Invalid, "--codebase %s: say where it is checked out: %s=PATH", v, name)
		case other:
			others = append(others, elsewhere{name, path})
		case own != "":
			return "", nil, slipway.Errorf(slipway.Invalid, "--codebase %s and --codebase %s: the one here has one name; of others say NAME=PATH", own, name)
		default:
			own = name
		}
		seen[name] = true
	}
	switch {
	case own == "" && seen[slipway.MainCodebase]:
		return "", nil, slipway.Errorf(slipway.Invalid, "--codebase main=PATH: then this is a further one: say which, with --codebase NAME")
	case own != "" && own != slipway.MainCodebase && len(others) > 0 && !seen[slipway.MainCodebase]:
		return "", nil, slipway.Errorf(slipway.Invalid, "--codebase main=PATH is missing: the main codebase says which environments there are")
	}
	return own, others, nil
}

// checkout is a working copy of a codebase.
type checkout struct {
	codebase slipway.Codebase
	path     string // for people
	w        worktree.Tree
	at       []repos.Address // where it may be cloned from, as its remotes say
}

// Checkouts are the codebases of a project that are at hand. Open makes them.
type Checkouts struct {
	here   checkout
	others []checkout
	lone   string // name of the only one at hand of several; "": there are no others, or they are here
	links  []submoduleLink
	notes  []string // what people should know, a sentence each
}

// submoduleLink says which codebase a submodule of another one is.
type submoduleLink struct{ from, url, key string }

// Open opens the codebases that named and the submodules of the one here name.
func Open(ctx context.Context, project string, w worktree.Tree, o Named, scratch string) (Checkouts, error) {
	own, given, err := o.parse()
	if err != nil {
		return Checkouts{}, err
	}
	x := Checkouts{here: checkout{codebase: slipway.Codebase{Project: project, DefaultBranch: hereBranch}, path: ".", w: w, at: remotesOf(ctx, w.Root)}}
	if own != slipway.MainCodebase {
		x.here.codebase.Name = own
	}
	for _, g := range given {
		if err := x.open(ctx, g.name, g.path, scratch); err != nil {
			return x, err
		}
	}
	if err := x.submodules(ctx, scratch); err != nil {
		return x, err
	}
	for _, name := range o.Linked {
		i := slices.IndexFunc(x.others, func(c checkout) bool { return c.codebase.Name == name })
		if i < 0 {
			return x, slipway.Errorf(slipway.Invalid, "--linked %s: no such codebase is at hand: say where it is checked out with --codebase %s=PATH", name, name)
		}
		x.others[i].codebase.Linked = true
	}
	main := slices.ContainsFunc(x.others, func(c checkout) bool { return c.codebase.Name == "" })
	if own != "" && (len(x.others) == 0 || x.here.codebase.Name != "" && !main) {
		x.lone, x.here.codebase.Name, x.others = own, "", nil
	}
	return x, nil
}

// open adds a working copy. It is taken as it lies there.
func (x *Checkouts) open(ctx context.Context, name, path, scratch string) error {
	w, err := worktree.Open(ctx, path, filepath.Join(scratch, "codebases", name))
	if err != nil {
		return fmt.Errorf("codebase %s: %w", name, err)
	}
	if folder, err := filepath.Abs(path); err == nil && w.Root == x.here.w.Root && !worktree.SameFolder(folder, w.Root) {
		return slipway.Errorf(slipway.Invalid, "--codebase %s=%s: no repository of its own is there; a submodule comes with git submodule update --init %s", name, path, path)
	}
	if w.Commit == "" || w.Root == x.here.w.Root {
		return slipway.Errorf(slipway.Invalid, "--codebase %s=%s: that is the repository here, or holds nothing", name, path)
	}
	upstream, _ := w.Upstream(ctx)
	c := slipway.Codebase{Project: x.here.codebase.Project, Name: name, DefaultBranch: defaultName(ctx, w, upstream)}
	if name == slipway.MainCodebase {
		c.Name = ""
	}
	x.others = append(x.others, checkout{codebase: c, path: path, w: w, at: remotesOf(ctx, w.Root)})
	return nil
}

// submodules finds out which submodules of the codebase here are codebases: those whose folder was given,
// whose URL is that of one that was given, or that of a codebase of this project on the server of the one here.
// They count as they lie there.
func (x *Checkouts) submodules(ctx context.Context, scratch string) error {
	list, err := x.here.w.Repo.Submodules(ctx, x.here.w.Commit)
	if err != nil || len(list) == 0 {
		return err
	}
	moved := map[string]string{}
	for _, s := range list {
		folder := filepath.Join(x.here.w.Root, filepath.FromSlash(s.Path))
		c, err := x.codebaseAt(ctx, s, folder, scratch)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		x.links = append(x.links, submoduleLink{x.here.codebase.Key(), s.URL, c.codebase.Key()})
		if c.w.Root == folder && c.w.Commit != s.Commit {
			moved[s.Path] = c.w.Commit
		}
	}
	if len(moved) == 0 {
		return nil
	}
	return x.here.w.Relink(ctx, scratch, moved)
}

// codebaseAt is the codebase that a submodule is, nil for none.
func (x *Checkouts) codebaseAt(ctx context.Context, s git.Submodule, folder, scratch string) (*checkout, error) {
	meant := repos.Resolve(s.URL, x.here.at)
	for i := range x.others {
		c := &x.others[i]
		if c.w.Root == folder || slices.ContainsFunc(c.at, func(a repos.Address) bool { return slices.Contains(meant, a) }) {
			return c, nil
		}
	}
	name, ok := x.named(meant)
	root, _ := worktree.Git(ctx, x.here.w.Root, "-C", folder, "rev-parse", "--show-toplevel") // no answer: nothing is there
	switch {
	case !ok:
		note := fmt.Sprintf("submodule %s counts as an empty folder", s.Path)
		if root == folder {
			note += ", as on a server, which builds nothing of what is no codebase of the project"
		}
		note += fmt.Sprintf(": if it is a codebase of the project, say --codebase NAME=%s", s.Path)
		if root != folder {
			note += fmt.Sprintf(" (once it is checked out: git submodule update --init %s)", s.Path)
		}
		x.notes = append(x.notes, note)
		return nil, nil
	case root != folder:
		x.notes = append(x.notes, fmt.Sprintf("submodule %s counts as an empty folder: codebase %s is not checked out there (git submodule update --init %s)", s.Path, name, s.Path))
		return nil, nil
	}
	if err := x.open(ctx, name, folder, scratch); err != nil {
		return nil, err
	}
	c := &x.others[len(x.others)-1]
	c.path = s.Path
	return c, nil
}

// named is the name of the codebase that an address is of on the server of the one here.
func (x *Checkouts) named(meant []repos.Address) (string, bool) {
	main := "/git/" + x.here.codebase.Project
	for _, own := range x.here.at {
		if own.Path != main && !strings.HasPrefix(own.Path, main+"/") {
			continue
		}
		for _, a := range meant {
			if a.Host != own.Host || a.Path == own.Path {
				continue
			}
			if name, ok := strings.CutPrefix(a.Path, main+"/"); ok && slipway.ValidName(name) {
				return name, true
			}
			if a.Path == main {
				return slipway.MainCodebase, true
			}
		}
	}
	return "", false
}

// remotesOf are the addresses of a working copy's remotes.
func remotesOf(ctx context.Context, root string) (out []repos.Address) {
	text, _ := worktree.Git(ctx, root, "config", "--get-regexp", `^remote\..*\.url$`) // no answer: none
	for line := range strings.Lines(text) {
		_, raw, _ := strings.Cut(strings.TrimSpace(line), " ")
		if a, ok := repos.ParseAddress(raw); ok {
			out = append(out, a)
		}
	}
	return out
}

// find is git.Whole's: the repository that a submodule's URL stands for.
func (x Checkouts) find(_ context.Context, from, raw string) (string, git.Repo, bool, error) {
	for _, l := range x.links {
		if l.from == from && l.url == raw {
			return l.key, x.by(l.key).w.Repo, true, nil
		}
	}
	meant := repos.Resolve(raw, x.by(from).at)
	for _, c := range append([]checkout{x.here}, x.others...) {
		if slices.ContainsFunc(c.at, func(a repos.Address) bool { return slices.Contains(meant, a) }) {
			return c.codebase.Key(), c.w.Repo, true, nil
		}
	}
	return "", git.Repo{}, false, nil
}

// by is the codebase of a key; the zero value when it is not at hand.
func (x Checkouts) by(key string) checkout {
	for _, c := range append([]checkout{x.here}, x.others...) {
		if c.codebase.Key() == key {
			return c
		}
	}
	return checkout{}
}

// Repo is the repository of a codebase with what is in its submodules, as far as that is at hand.
func (x Checkouts) Repo(key string) repos.Repo {
	r := repos.Of(git.Whole{Repo: x.by(key).w.Repo})
	if len(x.others) > 0 {
		r.Key, r.Find = key, x.find
	}
	return r
}

// options are what the configuration of the codebase here is read with.
func (x Checkouts) options() config.Options {
	own := cmp.Or(x.lone, x.here.codebase.Name)
	if own == "" && len(x.others) > 0 {
		own = slipway.MainCodebase
	}
	return config.Offline(x.here.codebase.Project, own)
}

// planner is the server's, for the codebases at hand: branches are those of the one here, the default branches
// of others are what lies there. branch is the default branch of the one here.
func (x Checkouts) planner(branch string, branches map[string]string) (*act.Planner, slipway.Project) {
	project := slipway.Project{ID: 1, Name: x.here.codebase.Project, DefaultBranch: branch}
	if x.here.codebase.Name != "" {
		project.DefaultBranch = x.by(project.Name).codebase.DefaultBranch
	}
	x.here.codebase.DefaultBranch = branch
	p := &act.Planner{
		Repo: func(key string) act.PlanRepo {
			if key == x.here.codebase.Key() {
				return localRepo{x.Repo(key), branches}
			}
			other := x.by(key)
			return localRepo{x.Repo(key), map[string]string{other.codebase.DefaultBranch: other.w.Commit}}
		},
		Projects: localProject{project}, Lone: x.lone, Shallow: x.here.w.Shallow,
		Candidates: slipway.Registry{Host: slipway.EmbeddedRegistry}, Production: slipway.Registry{Host: slipway.EmbeddedRegistry, Prefix: "prod"},
	}
	if len(x.others) > 0 {
		p.Codebases = x
	}
	return p, project
}

// Codebases lists the further ones by name.
func (x Checkouts) Codebases(context.Context, string) (out []slipway.Codebase, err error) {
	for _, c := range append([]checkout{x.here}, x.others...) {
		if c.codebase.Name != "" {
			out = append(out, c.codebase)
		}
	}
	slices.SortFunc(out, func(a, b slipway.Codebase) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

var errNoServer = slipway.Errorf(slipway.Invalid, "there is no server to change the codebases of")

// CreateCodebase makes none.
func (Checkouts) CreateCodebase(_ context.Context, c slipway.Codebase, _ string) (slipway.Codebase, error) {
	return c, errNoServer
}

// RemoveCodebase removes none.
func (Checkouts) RemoveCodebase(context.Context, string, string, string) error { return errNoServer }

// Missing says of services of the codebase here which ones they depend on that are nowhere at hand, and what to
// do about it. What cannot be read is somebody else's to tell.
func (x Checkouts) Missing(ctx context.Context) (said []string) {
	if x.lone != "" {
		return nil
	}
	read := func(c checkout) []slipway.Service {
		files, err := x.Repo(c.codebase.Key()).Tree(ctx, c.w.Commit)
		if err != nil {
			return nil
		}
		found, _ := config.LoadServices(files, config.Options{Project: c.codebase.Project, Several: true, Further: c.codebase.Name})
		if err := files.Close(); err != nil {
			return nil
		}
		return found.Services
	}
	known := map[string]bool{}
	for _, o := range x.others {
		for _, s := range read(o) {
			known[s.Name] = true
		}
	}
	for _, s := range read(x.here) {
		for _, e := range s.Elsewhere {
			if !known[e.Service] {
				said = append(said, fmt.Sprintf("slipway.yaml:%d: services.%s: there is no service %s %s; if another codebase of the project has it, say where that is checked out: --codebase NAME=PATH",
					e.Line, s.Name, e.Service, x.where()))
			}
		}
	}
	return said
}

// explain adds to a plan's error what is missing on this machine.
func (x Checkouts) explain(ctx context.Context, err error) error {
	err = x.here.w.Named(err)
	if slipway.ErrorCode(err) != slipway.Invalid {
		return err
	}
	said := strings.Join(x.Missing(ctx), "\n")
	switch {
	case said == "":
		return err
	case len(x.others) == 0:
		return slipway.Errorf(slipway.Invalid, "%w\n%s", err, said)
	}
	return slipway.Errorf(slipway.Invalid, "%s", said)
}

// where says which codebases are at hand.
func (x Checkouts) where() string {
	if len(x.others) == 0 {
		return "here"
	}
	var names []string
	for _, o := range x.others {
		names = append(names, o.codebase.Title())
	}
	return "here, nor in " + strings.Join(names, " or ")
}

// heldCodebase is another codebase that a plan was made with.
type heldCodebase struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Commit      string `json:"commit"` // its HEAD
	Uncommitted int    `json:"uncommitted"`
}

func (x Checkouts) held() (out []heldCodebase) {
	for _, o := range x.others {
		out = append(out, heldCodebase{cmp.Or(o.codebase.Name, slipway.MainCodebase), o.path, o.w.Head, o.w.Changed})
	}
	return out
}

// Told says which other codebases are at hand, and how they are: a line each.
func (x Checkouts) Told() (lines []string) {
	for _, o := range x.others {
		lines = append(lines, fmt.Sprintf("%s in %s: %s", o.codebase.Title(), o.path, o.w.Describe()))
	}
	return append(lines, x.notes...)
}

// Here is the working tree of the codebase here.
func (x Checkouts) Here() worktree.Tree { return x.here.w }

// Base is the commit that the codebase here is compared with, as worktree.Tree has it, and what people call it.
func (x *Checkouts) Base(ctx context.Context, since string) (commit, name string, err error) {
	return x.here.w.Base(ctx, since)
}

// Configuration is what the codebase here says, and what is wrong with it.
func (x Checkouts) Configuration(ctx context.Context) (slipway.Config, config.Problems, error) {
	files, err := x.Repo(x.here.codebase.Key()).Tree(ctx, x.here.w.Commit)
	if err != nil {
		return slipway.Config{}, nil, x.here.w.Lacking(err)
	}
	found, problems := config.Load(files, x.options())
	return found, problems, x.here.w.Lacking(files.Close())
}

// Bring fetches what partial clones of the codebases at hand left out.
func (x Checkouts) Bring(ctx context.Context) error {
	for _, c := range append([]checkout{x.here}, x.others...) {
		if err := c.w.BringAll(ctx); err != nil {
			return err
		}
	}
	return nil
}
