package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/ignore"
)

// Question is what happened, as far as it decides which services run.
type Question struct {
	Event         slipway.EventKind
	Ref           string // that was pushed, full: refs/heads/feature/x
	DefaultBranch string
	Config        slipway.Config // of the commit that was pushed
	// Since is what was built before. A service is as it was when it is as in one of them. None: nothing
	// was built before, and everything runs.
	Since []Since
	// Built says where the services of the branch were done, for the words and for what is not finished.
	Built slipway.Built
	// Nothing says why Since is empty, for people; "" when nothing was built before.
	Nothing string
	// Ignores keeps what is worth keeping from one question to the next, and changes no answer; may be nil.
	Ignores *ignore.Cache

	gone []slipway.Service // Answer.Removed
}

// Since is a commit whose services were built, and what is different from it.
type Since struct {
	// Config is what that commit said, nil when it says nothing that can be read.
	Config *slipway.Config
	Files  []string // that differ, deleted ones and both names of renamed ones included
	// Folders are those of Answer.Doubts that one of the two commits does not have.
	Folders []string
	Commit  string
	Name    string // for people: what the commit is; may be empty
	// Fork: it is where the branch left the one that it is to be merged into. What differs from there is what the
	// branch did.
	Fork bool
	// Services are those that were built there; nil: all.
	Services map[string]bool
}

// Answer says of each service whether it runs.
type Answer struct {
	Changes map[string]Change // by service; every service has one
	Removed []slipway.Service // that are no longer there, as they were
	// Doubts are folders, by the index of Since, in which files changed that a build does not see. The build sees the
	// folder: where only one of the two commits has it, the image is another one, and Affected is to be asked again
	// with it among Folders.
	Doubts [][]string
}

// Affected decides which services a push affects, and why. It is a function of its argument: it compares
// trees and configurations, and nothing that a forge says of a push matters (D4).
//
// A service runs when its code changed (its folder, what its Dockerfile copies from elsewhere, what it
// depends on), when a setting of it in slipway.yaml changed that makes another image of the same code,
// or when its chart or what the chart is deployed with changed; in the last case alone no image is built.
// Branches, tags and paths that its trigger leaves out do not count.
func Affected(q Question) Answer {
	a := Answer{Changes: make(map[string]Change, len(q.Config.Services))}
	a.Removed = removed(q)
	q.gone = a.Removed
	var views []map[string]Change
	for _, since := range q.Since {
		changes, doubts := compare(q, since)
		views, a.Doubts = append(views, changes), append(a.Doubts, doubts)
	}
	only := ownBranch(q)
	for _, s := range q.Config.Services {
		c := q.change(s, views)
		if was, ok := q.formerly(s); ok {
			c.Was = was.Name
		}
		if why, bypass := triggered(q, s, only); why != "" {
			c.Changed, c.ChartOnly, c.Why = false, false, why
		} else if bypass != "" {
			c.Changed, c.ChartOnly, c.Why = true, false, bypass
		}
		a.Changes[s.Name] = c
	}
	return a
}

// change is what is different of a service, by the views of what was built before.
func (q Question) change(s slipway.Service, views []map[string]Change) Change {
	var c Change
	at := -1
	for i, v := range views {
		if !q.Since[i].about(s.Name) {
			continue
		}
		other := v[s.Name]
		less := !other.Changed && c.Changed || other.Changed && c.Changed && other.ChartOnly && !c.ChartOnly
		nearer := q.Since[i].Fork && other.Changed == c.Changed && other.ChartOnly == c.ChartOnly && other.Total < c.Total
		if at < 0 || less || nearer {
			c = other
			if at >= 0 && !c.Changed && (less || c.Total == 0) && q.Since[i].Name != "" {
				c.Why = "it is as in " + q.Since[i].Name
			}
			if i > 0 && len(q.Since[i].Services) > 0 {
				c.Since = q.Since[i].Commit
			}
		}
		at = max(at, i)
	}
	if at < 0 {
		return Change{Changed: true, Why: q.alone(s), Waiting: q.waiting(s)}
	}
	if why := q.unfinished(s); why != "" && !c.Changed {
		c.Changed, c.Why, c.Since = true, why, ""
	}
	c.Unchanged, c.Waiting = !c.Changed, q.waiting(s)
	return c
}

// removed are the services that everything that was built before has, and the commit has not. Of the commits
// of the branch itself the newest is what it was before.
func removed(q Question) (out []slipway.Service) {
	there := names(q.Config)
	for i, since := range q.Since {
		if since.Config == nil || i > 0 && since.Services != nil {
			continue
		}
		if i == 0 {
			for _, s := range since.Config.Services {
				if !there[s.Name] {
					out = append(out, s)
				}
			}
			continue
		}
		before := names(*since.Config)
		out = slices.DeleteFunc(out, func(s slipway.Service) bool { return !before[s.Name] })
	}
	return out
}

func names(c slipway.Config) map[string]bool {
	out := make(map[string]bool, len(c.Services))
	for _, s := range c.Services {
		out[s.Name] = true
	}
	return out
}

// ownBranch is the service whose branch was pushed: feature/<service>/* and topic/<service>/* (S32, S33);
// "" for a branch of all.
func ownBranch(q Question) string {
	if q.Event != slipway.BranchPush {
		return ""
	}
	branch, ok := strings.CutPrefix(q.Ref, "refs/heads/")
	if !ok {
		return ""
	}
	parts := strings.SplitN(branch, "/", 3)
	if len(parts) < 3 || parts[2] == "" || (parts[0] != "feature" && parts[0] != "topic") {
		return ""
	}
	if _, ok := q.Config.Service(parts[1]); !ok {
		return ""
	}
	return parts[1]
}

// Tagged reports whether the trigger of a service names a tag: its full ref, refs/tags/v1.0.0. Then it
// runs the service.
func Tagged(s slipway.Service, ref string) bool {
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	return ok && named(tag, s.Trigger.Tags.Include, s.Trigger.Tags.Exclude, "tags")
}

// triggered says why a ref does not run a service, whatever changed, or why it does, whatever changed.
// Both are empty when that depends on what changed.
func triggered(q Question, s slipway.Service, only string) (skipped, runs string) {
	t := s.Trigger
	if tag, ok := strings.CutPrefix(q.Ref, "refs/tags/"); ok {
		if Tagged(s, q.Ref) {
			return "", fmt.Sprintf("tag %s is one that its trigger names, whatever files changed", show(tag))
		}
		return fmt.Sprintf("its trigger does not name tag %s", show(tag)), ""
	}
	branch, ok := strings.CutPrefix(q.Ref, "refs/heads/")
	if !ok || (q.Event != slipway.BranchPush && q.Event != slipway.DefaultPush) {
		return "", ""
	}
	if only != "" && only != s.Name {
		return fmt.Sprintf("branch %s is for %s alone", show(branch), only), ""
	}
	include := t.Branches.Include
	if len(include) == 0 {
		include = []string{"*"}
	}
	if !named(branch, include, t.Branches.Exclude, "heads") {
		return fmt.Sprintf("its trigger leaves out branch %s", show(branch)), ""
	}
	return "", ""
}

// compare says of each service what is different from one commit, and which folders may make a difference.
func compare(q Question, since Since) (map[string]Change, []string) {
	g := newGraph(q.Config)
	g.ignores.cache = q.Ignores
	defer g.ignores.close()
	g.ignores.moved = make(map[string]bool, len(since.Folders))
	for _, folder := range since.Folders {
		g.ignores.moved[folder] = true
	}
	g.count(since.Files)
	g.spread()
	v := view{graph: g, asked: q, since: since, total: len(since.Files), all: since.everyService(q)}
	for _, f := range since.Files {
		if v.first == "" || f < v.first {
			v.first = f
		}
	}
	if since.Config != nil {
		v.old = make(map[string]slipway.Service, len(since.Config.Services))
		for _, s := range since.Config.Services {
			v.old[s.Name] = s
		}
	}
	out := make(map[string]Change, len(g.services))
	for i := range g.services {
		out[g.services[i].Name] = v.change(i, q.Config.Services[i])
	}
	return out, g.ignores.doubtful()
}

// everyService finds what of the configuration changed that concerns every service.
func (s Since) everyService(q Question) (out settings) {
	if s.Config == nil {
		for _, f := range s.Files {
			if f == configFile {
				out.code = append(out.code, "slipway.yaml changed, and what the commit before said of services was not valid")
			}
		}
		return out
	}
	if q.Event != slipway.DefaultPush {
		return out
	}
	if s.Config.Candidates != q.Config.Candidates {
		out.code = append(out.code, "the registry of candidates changed in slipway.yaml")
	}
	for _, e := range changedEnvironments(*s.Config, q.Config) {
		out.chart = append(out.chart, fmt.Sprintf("environment %s changed in slipway.yaml", e))
	}
	return out
}

// configFile is where the settings are.
const configFile = "slipway.yaml"

// view is one comparison.
type view struct {
	*graph
	asked Question
	since Since
	old   map[string]slipway.Service // by name; nil when not known
	all   settings
	total int
	first string // changed file by name
}

// change sums up what is different of one service.
func (v view) change(i int, s slipway.Service) Change {
	sa := v.services[i]
	c := Change{Total: v.total, Example: v.first}
	why, code := v.codeReasons(i, s, &c)
	if code {
		c.Changed, c.Why = true, strings.Join(why, "; ")
		return c
	}
	why = v.chartReasons(sa, s, &c)
	if len(why) > 0 {
		c.Changed, c.ChartOnly, c.Why = true, true, strings.Join(why, "; ")
		return c
	}
	if byTrigger, byBuild := v.hidden(i); byTrigger.files+byBuild.files > 0 {
		file := ""
		if s.Ignore != nil {
			file = s.Ignore.File
		}
		c.Why = excludedFiles(byTrigger, byBuild, v.total, file)
	}
	return c
}

// codeReasons also fills in the files of a service whose own code changed; then there is no reason in
// words unless there are others.
func (v view) codeReasons(i int, s slipway.Service, c *Change) (why []string, code bool) {
	if v.old != nil {
		was, known := v.old[s.Name]
		if !known {
			return []string{v.asked.appeared(s, *v.since.Config)}, true
		}
		changed := changedSettings(was, s)
		for _, key := range changed.code {
			why = append(why, fmt.Sprintf("its %s changed in the configuration", key))
		}
	}
	why = append(why, v.all.code...)
	cause := v.nodes[i].cause
	if cause == nil {
		return why, len(why) > 0
	}
	a := v.at(cause.area)
	if cause.via != "" {
		return append([]string{v.describe(s, cause)}, why...), true
	}
	c.Files, c.Example = a.files, a.example
	if len(why) > 0 {
		why = append([]string{ownFiles(s, a.files, v.total, a.example)}, why...)
	}
	return why, true
}

// at is an area by its number.
func (v view) at(i int) *area { return &v.graph.all[i] }

func (v view) chartReasons(sa serviceAreas, s slipway.Service, c *Change) (why []string) {
	if sa.chart >= 0 {
		if a := v.at(sa.chart); a.files > 0 {
			c.Files, c.Example = a.files, a.example
			why = append(why, filesUnder(folderName(s.Chart), a.files, v.total, a.example))
		}
	}
	if was, known := v.old[s.Name]; known {
		for _, key := range changedSettings(was, s).chart {
			why = append(why, fmt.Sprintf("its %s changed in the configuration", key))
		}
	}
	return append(why, v.all.chart...)
}

// hidden are the changed files that would have counted for a service but for what its trigger excludes, and
// but for what its build does not see.
func (v view) hidden(i int) (byTrigger, byBuild hidden) {
	sa := v.services[i]
	for _, n := range append([]int{sa.code, sa.chart}, sa.copies...) {
		if n < 0 {
			continue
		}
		a := v.at(n)
		if n == sa.code || n == sa.chart {
			byTrigger.join(a.hidden)
		}
		byBuild.join(a.unseen)
	}
	byBuild.files = min(byBuild.files, v.total) // what is copied may be named twice
	return byTrigger, byBuild
}

// maxBetween is how many steps of a way are named one by one.
const maxBetween = 3

// describe tells of a change on the way of what depends on it.
func (v view) describe(s slipway.Service, c *cause) string {
	a := v.at(c.area)
	changed := show(a.example) + " changed"
	switch {
	case a.files > 1 && a.files == v.total:
		changed = fmt.Sprintf("all %d changed files are there, such as %s", v.total, show(a.example))
	case a.files > 1:
		changed = fmt.Sprintf("%d of the %d changed files are there, such as %s", a.files, v.total, show(a.example))
	}
	way := "it depends on " + show(c.via)
	if c.line > 0 {
		way = fmt.Sprintf("its Dockerfile copies %s (%s:%d)", folderName(c.via), show(join(s.Dir, s.Dockerfile)), c.line)
	}
	between, last, all := 0, "", ""
	for next := c.next; next != nil && next.via != ""; next = next.next {
		between++
		last = next.via
		all += ", which depends on " + show(last)
	}
	if between <= maxBetween {
		way += all
	} else {
		way += fmt.Sprintf(", and through it and %d more on %s", between-1, show(last))
	}
	return way + ": " + changed
}

func join(dir, file string) string {
	if dir == "." {
		return file
	}
	return dir + "/" + file
}

// place is what a service's own code is, in words that continue "are under".
func place(s slipway.Service) string {
	if len(s.Trigger.Paths.Include) > 0 {
		return "the paths of its trigger"
	}
	return folderName(s.Dir)
}

// ownFiles says which files of a service's own code changed. Its Dockerfile counts whatever its trigger names.
func ownFiles(s slipway.Service, files, total int, example string) string {
	where := place(s)
	if len(s.Trigger.Paths.Include) > 0 && slices.Contains(definitions(s), example) {
		where += ", to which its Dockerfile belongs"
	}
	return filesUnder(where, files, total, example)
}

func folderName(dir string) string {
	if dir == "." {
		return "the repository's root"
	}
	return show(dir)
}

func filesUnder(where string, files, total int, example string) string {
	switch {
	case total == 1:
		return cmp.Or(show(example), "a file under "+where) + " changed"
	case files == total:
		return fmt.Sprintf("all %d changed files are under %s%s", total, where, such(example))
	case files == 1:
		return fmt.Sprintf("1 of the %d changed files is under %s: %s", total, where, show(example))
	}
	return fmt.Sprintf("%d of the %d changed files are under %s%s", files, total, where, such(example))
}

func such(example string) string {
	if example == "" {
		return ""
	}
	return ", such as " + show(example)
}
