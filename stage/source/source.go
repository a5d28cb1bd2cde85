// Package source answers what a commit means for the services of a repository: which of them
// changed since what was built before (D4), and which commit is each one's revision (D15). It also
// keeps the checked-out trees that the steps of a run share.
//
// It compares trees and nothing else: what a forge says in a payload does not matter. It does not
// decide what runs; that is stage/plan.
package source

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Repo is the repository that is asked. Commits are full hashes. A commit that the repository does
// not have is slipway.NotFound.
type Repo interface {
	// ChangedFiles returns the paths that differ between the trees of two commits, deleted ones
	// included; base "" is the empty tree.
	ChangedFiles(ctx context.Context, base, head string) ([]string, error)
	// MergeBase returns the best common ancestor, "" if there is none.
	MergeBase(ctx context.Context, a, b string) (string, error)
	// Newest returns the newest commit in the history of commit that touched one of the included
	// paths and not only excluded ones, "" if there is none.
	Newest(ctx context.Context, commit string, include, exclude []string) (string, time.Time, error)
}

// Service is what of a service matters here: the folders that its image and its chart are made of.
type Service struct {
	Name  string
	Dir   string // relative to the repository; "." is the root
	Chart string // chart folder, relative to the repository; empty: the standard chart
}

// Services takes from the services of a configuration what matters here.
func Services(all []slipway.Service) []Service {
	list := make([]Service, len(all))
	for i, s := range all {
		list[i] = Service{Name: s.Name, Dir: s.Dir, Chart: s.Chart}
	}
	return list
}

// Input is the event whose changes are asked for.
type Input struct {
	Event  slipway.EventKind
	Commit string
	// Before is the last commit of the branch that was built; "" or the zero hash for a new branch.
	Before string
	// BaseTip is the tip of the branch that a pull request is to be merged into.
	BaseTip string
	// DefaultTip is the tip of the default branch; "" if it does not exist yet.
	DefaultTip string
	Services   []Service
}

// ServiceChange says what changed of one service. A file belongs to the service whose folder is the
// nearest above it and to each service whose chart folder it is in; what is in no other service's
// folders belongs to the service at the root.
type ServiceChange struct {
	Changed bool
	Files   int    // changed files of the service
	Total   int    // changed files in the repository
	Example string // one of Files, the first by name; or, if there is none, one of Total
	// Revision is the newest commit that touched the service, and RevisionTime when it was
	// committed. Changes leaves them empty, Revisions finds them.
	Revision     string
	RevisionTime time.Time
}

// Changes returns what changed for each service, by name, and the commit that was compared with, ""
// for the empty tree. It asks the repository for one difference, however many services there are.
func Changes(ctx context.Context, repo Repo, in Input) (map[string]ServiceChange, string, error) {
	base, err := compareWith(ctx, repo, in)
	if err != nil {
		return nil, "", fmt.Errorf("find what to compare %s with: %w", slipway.ShortHash(in.Commit), err)
	}
	files, err := repo.ChangedFiles(ctx, base, in.Commit)
	if slipway.ErrorCode(err) == slipway.NotFound && base != "" && base == in.Before {
		// Force-pushed away and pruned since.
		if base, err = fork(ctx, repo, in.DefaultTip, in.Commit); err == nil {
			files, err = repo.ChangedFiles(ctx, base, in.Commit)
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("compare %s with %s: %w", slipway.ShortHash(in.Commit), orEmptyTree(base), err)
	}
	return assign(in.Services, files), base, nil
}

func orEmptyTree(base string) string {
	if base == "" {
		return "the empty tree"
	}
	return slipway.ShortHash(base)
}

// compareWith is the commit whose tree the event is compared with, "" for the empty tree.
func compareWith(ctx context.Context, repo Repo, in Input) (string, error) {
	switch {
	case in.Event == slipway.PullUpdate:
		return fork(ctx, repo, in.BaseTip, in.Commit)
	case in.Before != "" && in.Before != slipway.ZeroHash:
		return in.Before, nil
	case in.Event == slipway.DefaultPush:
		return "", nil
	}
	return fork(ctx, repo, in.DefaultTip, in.Commit)
}

// fork is where a branch left another one.
func fork(ctx context.Context, repo Repo, tip, commit string) (string, error) {
	if tip == "" || tip == slipway.ZeroHash {
		return "", nil
	}
	return repo.MergeBase(ctx, tip, commit)
}

// owners finds the services that a path belongs to.
type owners struct {
	dirs   map[string][]int // folder -> services with that Dir
	charts map[string][]int // folder -> services with that Chart
}

func ownersOf(services []Service) owners {
	o := owners{dirs: map[string][]int{}, charts: map[string][]int{}}
	for i, s := range services {
		dir := clean(s.Dir)
		o.dirs[dir] = append(o.dirs[dir], i)
		if s.Chart != "" {
			chart := clean(s.Chart)
			o.charts[chart] = append(o.charts[chart], i)
		}
	}
	return o
}

func clean(p string) string { return path.Join(".", path.Clean("/" + p)[1:]) }

// of calls yield for each service the file belongs to, perhaps more than once for one of them.
func (o owners) of(file string, yield func(service int)) {
	owned := false
	for dir := parent(file); dir != "."; dir = parent(dir) {
		for _, i := range o.charts[dir] {
			owned = true
			yield(i)
		}
		if list := o.dirs[dir]; len(list) > 0 {
			for _, i := range list {
				yield(i)
			}
			return
		}
	}
	for _, i := range o.charts["."] {
		yield(i)
	}
	if owned {
		return
	}
	for _, i := range o.dirs["."] {
		yield(i)
	}
}

// parent is the folder of a slash-separated path: path.Dir without its cleaning.
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		return p[:i]
	}
	return "."
}

// assign counts the changed files of each service in one pass.
func assign(services []Service, files []string) map[string]ServiceChange {
	type tally struct {
		files   int
		example string
		last    int // index of the file counted last, plus one
	}
	tallies := make([]tally, len(services))
	o := ownersOf(services)
	first := ""
	for n, file := range files {
		if first == "" || file < first {
			first = file
		}
		o.of(file, func(i int) {
			t := &tallies[i]
			if t.last == n+1 {
				return
			}
			t.last = n + 1
			t.files++
			if t.example == "" || file < t.example {
				t.example = file
			}
		})
	}
	changes := make(map[string]ServiceChange, len(services))
	for i, s := range services {
		t := tallies[i]
		c := ServiceChange{Changed: t.files > 0, Files: t.files, Total: len(files), Example: t.example}
		if c.Example == "" {
			c.Example = first
		}
		changes[s.Name] = c
	}
	return changes
}

// Revision is the newest commit that touched what a service is made of.
type Revision struct {
	Commit string
	Time   time.Time // when it was committed
}

// Revisions returns the revision of each named service as of a commit (D15). All services of the
// repository are given, since what belongs to one does not belong to another; history is searched
// only for the named ones, a few at a time.
func Revisions(ctx context.Context, repo Repo, commit string, all []Service, names []string) (map[string]Revision, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		found = make(map[string]Revision, len(names))
		wg    sync.WaitGroup
		slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rev, err := revision(ctx, repo, commit, all, name)
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			found[name] = rev
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return found, nil
}

func revision(ctx context.Context, repo Repo, commit string, all []Service, name string) (Revision, error) {
	if ctx.Err() != nil {
		return Revision{}, context.Cause(ctx)
	}
	sets, ok := inputs(all, name)
	if !ok {
		return Revision{}, slipway.Errorf(slipway.NotFound, "there is no service %q", name)
	}
	var rev Revision
	for _, set := range sets {
		hash, when, err := repo.Newest(ctx, commit, set.include, set.exclude)
		if err == nil {
			rev, err = newer(ctx, repo, rev, Revision{Commit: hash, Time: when})
		}
		if err != nil {
			return Revision{}, fmt.Errorf("find the revision of service %s: %w", name, err)
		}
	}
	if rev.Commit == "" {
		return Revision{}, slipway.Errorf(slipway.NotFound, "no commit up to %s touched service %s", slipway.ShortHash(commit), name)
	}
	return rev, nil
}

// newer is the one of two revisions that comes after the other.
func newer(ctx context.Context, repo Repo, a, b Revision) (Revision, error) {
	if a.Commit == "" || a.Commit == b.Commit {
		return b, nil
	}
	if b.Commit == "" {
		return a, nil
	}
	base, err := repo.MergeBase(ctx, a.Commit, b.Commit)
	switch {
	case err != nil:
		return Revision{}, err
	case base == a.Commit:
		return b, nil
	case base == b.Commit:
		return a, nil
	}
	if c := cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Commit, b.Commit)); c < 0 {
		return b, nil
	}
	return a, nil
}

// pathset is folders without some of those in them.
type pathset struct{ include, exclude []string }

// inputs returns what a service is made of, as owners sees it: one set, or one for the folder and one
// for the chart where a folder that is left out of one is part of the other.
func inputs(all []Service, name string) ([]pathset, bool) {
	i := slices.IndexFunc(all, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return nil, false
	}
	dir := clean(all[i].Dir)
	code := pathset{include: []string{dir}}
	for _, s := range all {
		if d := clean(s.Dir); d != dir && within(d, dir) {
			code.exclude = append(code.exclude, d)
		}
		if c := clean(s.Chart); dir == "." && s.Name != name && s.Chart != "" && c != "." {
			code.exclude = append(code.exclude, c)
		}
	}
	if all[i].Chart == "" {
		return []pathset{code}, true
	}
	chart := clean(all[i].Chart)
	meets := func(d string) bool { return within(d, chart) || within(chart, d) }
	if !slices.ContainsFunc(code.exclude, meets) && !(chart != dir && within(dir, chart)) {
		if !within(chart, dir) {
			code.include = append(code.include, chart)
			code.exclude = append(code.exclude, foldersIn(all, chart)...)
		}
		return []pathset{code}, true
	}
	return []pathset{code, {include: []string{chart}, exclude: foldersIn(all, chart)}}, true
}

// foldersIn is the folders of services below a chart folder.
func foldersIn(all []Service, chart string) []string {
	var list []string
	for _, s := range all {
		if d := clean(s.Dir); d != chart && within(d, chart) {
			list = append(list, d)
		}
	}
	return list
}

// within reports whether folder p is folder dir or below it.
func within(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}
