// Package ignore says which files of a build context a build does not see: those that its .dockerignore
// excludes. Reading and matching are BuildKit's own, so that what counts as an input of a build is what the
// build gets. It reads no files and knows neither services nor commits.
package ignore

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// MaxSize is how large an ignore file may be, in bytes, to be read.
const MaxSize = 1 << 20

// Files are the names that an ignore file may have, relative to the build context; the first one that is there
// is the only one that counts. dockerfile is relative to the context too, "" for a context without one.
func Files(dockerfile string) []string {
	if dockerfile == "" {
		return []string{".dockerignore"}
	}
	return []string{dockerfile + ".dockerignore", ".dockerignore"}
}

// Parse reads an ignore file. One that a build would stumble over is an error.
func Parse(data []byte) ([]string, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read patterns: %w", err)
	}
	if _, err := New(patterns); err != nil {
		return nil, err
	}
	return patterns, nil
}

// Matcher tells which files are excluded. It remembers folders, and is for one goroutine at a time.
type Matcher struct {
	patterns *patternmatcher.PatternMatcher
	folders  map[string]folder
}

// folder is what is known of a folder of the context.
type folder struct {
	info     patternmatcher.MatchInfo
	excluded bool
}

// New makes a matcher of patterns as Parse returns them.
func New(patterns []string) (*Matcher, error) {
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("patterns: %w", err)
	}
	return &Matcher{patterns: m, folders: map[string]folder{}}, nil
}

// Excluded reports whether a build does not see a file, a link or a folder; name is its path relative to the
// context. What cannot be matched is seen.
func (m *Matcher) Excluded(name string) bool {
	return m.match(name).excluded
}

// Folder is the innermost folder above an excluded file that a build sees, although nothing may be in it: it is
// there because of the file. "" is the context itself.
func (m *Matcher) Folder(name string) string {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if !m.folder(dir).excluded {
			return dir
		}
	}
	return ""
}

func (m *Matcher) folder(dir string) folder {
	f, known := m.folders[dir]
	if !known {
		f = m.match(dir)
		m.folders[dir] = f
	}
	return f
}

// match asks as a build walks: from the context's root down, each with what is known of the folder above.
func (m *Matcher) match(name string) folder {
	var above folder
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		above = m.folder(name[:i])
		if above.excluded && !m.patterns.Exclusions() {
			return above
		}
	}
	excluded, info, err := m.patterns.MatchesUsingParentResults(name, above.info)
	return folder{info, excluded && err == nil}
}
