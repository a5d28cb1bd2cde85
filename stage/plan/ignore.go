package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/ignore"
)

// ignores are what builds leave out of their contexts. Services with the same rules share them, and each rule
// is asked once for a file.
type ignores struct {
	sets     []ignored // after the first, which leaves nothing out
	known    map[string]int
	matchers map[string]*ignore.Matcher // by the text of their patterns; nil: they are no patterns
	moved    map[string]bool            // folders that one of the two commits has not
	doubts   map[string]bool            // folders of which it matters whether they are among moved
	cache    *ignore.Cache              // where matchers come from; may be nil
}

// ignored is what one build leaves out of its context.
type ignored struct {
	context  string
	patterns []string
	text     string
	last     int // number of the file asked last, from 1
	hides    bool
}

// of is the set of a service, 0 for one whose build sees all of its context.
func (i *ignores) of(s slipway.Service) int {
	if s.Ignore == nil || len(s.Ignore.Patterns) == 0 {
		return 0
	}
	if i.known == nil {
		i.known, i.matchers, i.sets = map[string]int{}, map[string]*ignore.Matcher{}, make([]ignored, 1)
		i.doubts = map[string]bool{}
	}
	context, _ := s.BuildContext()
	text := strings.Join(s.Ignore.Patterns, "\n")
	key := clean(context) + "\n" + text
	if at, ok := i.known[key]; ok {
		return at
	}
	i.sets = append(i.sets, ignored{context: clean(context), patterns: s.Ignore.Patterns, text: text})
	i.known[key] = len(i.sets) - 1
	return len(i.sets) - 1
}

// hides reports whether a build does not see a file, and nothing that is there because of it: a folder that
// is not left out comes with the first file in it, and goes with the last one.
func (i *ignores) hides(set, n int, file string) bool {
	s := &i.sets[set]
	if s.last == n {
		return s.hides
	}
	s.last, s.hides = n, false
	m := i.matcher(s)
	if m == nil || file == s.context || !within(file, s.context) {
		return false
	}
	name := file
	if s.context != "." {
		name = file[len(s.context)+1:]
	}
	if !m.Excluded(name) {
		return false
	}
	if folder := m.Folder(name); folder != "" {
		folder = join(s.context, folder)
		if i.moved[folder] {
			return false
		}
		i.doubts[folder] = true
	}
	s.hides = true
	return true
}

func (i *ignores) matcher(s *ignored) *ignore.Matcher {
	m, known := i.matchers[s.text]
	if !known {
		m, _ = i.cache.Take(s.text, s.patterns) // what are no patterns hides nothing
		i.matchers[s.text] = m
	}
	return m
}

// close gives the matchers back.
func (i *ignores) close() { i.cache.Give(i.matchers) }

// doubtful are the folders that hides was not told about, sorted.
func (i *ignores) doubtful() []string { return slices.Sorted(maps.Keys(i.doubts)) }

// unseenBy is what a service's build leaves out, of paths relative to the repository; nil for nothing. It is for
// one goroutine at a time.
func unseenBy(s slipway.Service) func(file string) bool {
	var i ignores
	set, n := i.of(s), 0
	if set == 0 {
		return nil
	}
	return func(file string) bool {
		n++
		return i.hides(set, n, file)
	}
}

// excludedFiles says that all files that are a service's own are left out, in words that continue "skipped, ".
func excludedFiles(byTrigger, byBuild hidden, total int, file string) string {
	if byBuild.files == 0 {
		if byTrigger.files == 1 {
			return "the changed file that is its own is one that its trigger excludes: " + show(byTrigger.example)
		}
		return fmt.Sprintf("all %d changed files that are its own are ones that its trigger excludes%s", byTrigger.files, such(byTrigger.example))
	}
	from := "excluded from its image by " + show(file)
	switch {
	case byTrigger.files > 0:
		return fmt.Sprintf("of the %d changed files that are its own, its trigger excludes %d and %d %s %s%s", byTrigger.files+byBuild.files, byTrigger.files,
			byBuild.files, map[bool]string{true: "is", false: "are"}[byBuild.files == 1], from, such(byBuild.example))
	case total == 1:
		return fmt.Sprintf("the changed file is %s: %s", from, show(byBuild.example))
	case byBuild.files == total:
		return fmt.Sprintf("all %d changed files are %s%s", total, from, such(byBuild.example))
	case byBuild.files == 1:
		return fmt.Sprintf("the changed file that is its own is %s: %s", from, show(byBuild.example))
	}
	return fmt.Sprintf("all %d changed files that are its own are %s%s", byBuild.files, from, such(byBuild.example))
}
