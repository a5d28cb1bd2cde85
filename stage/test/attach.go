package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Bounds of attachments, of one report.
const (
	maxAttachments = 200
	maxAttachment  = 16 << 20 // bytes of one
	maxAttached    = 64 << 20 // bytes of all
	maxWanted      = 2000     // names in result files
)

// Keeper keeps files with a run.
type Keeper interface {
	// Keep keeps what it reads, and returns its digest (sha256:...) and size. Keeping the same bytes again
	// changes nothing.
	Keep(runID int64, r io.Reader) (digest string, size int64, err error)
}

// attachmentExpr is how Jenkins' plugin and others after it name files in a test's output.
var attachmentExpr = regexp.MustCompile(`\[\[ATTACHMENT\|([^\]\n]{1,500})\]\]`)

// attachAll notes the files that a test names in its output.
func (b *reportBuilder) attachAll(output printed, testCase string) {
	for _, part := range [][]byte{output.head, output.tail.b} {
		if !bytes.Contains(part, []byte("[[ATTACHMENT|")) {
			continue
		}
		for _, m := range attachmentExpr.FindAllSubmatch(part, -1) {
			b.attach(string(m[1]), testCase)
		}
	}
}

// attach notes a file that the current result file names.
func (b *reportBuilder) attach(name, testCase string) {
	if len(b.wanted) < maxWanted {
		b.wanted = append(b.wanted, wanted{name: name, from: b.current, testCase: clip(testCase, maxName)})
	}
}

// attachments lists what is worth keeping: files that tests name, result files, and what else is there.
func (b *reportBuilder) attachments() {
	sizes, bases := map[string]int64{}, map[string][]string{}
	for _, list := range [][]other{b.results, b.others} {
		for _, o := range list {
			sizes[o.name] = o.size
			bases[path.Base(o.name)] = append(bases[path.Base(o.name)], o.name)
		}
	}
	p := picker{sizes: sizes, taken: map[string]bool{}}
	for _, w := range b.wanted {
		if name := w.find(sizes, bases[path.Base(path.Clean("/"+slashed(w.name)))]); name != "" {
			p.take(name, w.testCase)
		}
	}
	for _, list := range [][]other{b.results, b.others} {
		for _, o := range list {
			p.take(o.name, "")
		}
	}
	b.report.Attachments = p.out
	if p.left > 0 {
		b.note("%s: not kept as an attachment, and %d more: at most %d files are, of %d MiB each and %d MiB together",
			p.first, p.left-1, maxAttachments, maxAttachment>>20, maxAttached>>20)
	}
}

func slashed(name string) string {
	return strings.TrimPrefix(strings.ReplaceAll(name, `\`, "/"), "file://")
}

// find is the file that a test means: its path beside the result file or in the folder, or in the container.
// Other folders than the one with the results are never looked into.
func (w wanted) find(sizes map[string]int64, sameBase []string) string {
	name := slashed(w.name)
	for _, p := range []string{path.Join(path.Dir(w.from), name), path.Clean(name)} {
		if _, ok := sizes[p]; ok {
			return p
		}
	}
	best := ""
	for _, p := range sameBase {
		if strings.HasSuffix("/"+path.Clean(name), "/"+p) && len(p) > len(best) {
			best = p
		}
	}
	if best == "" && len(sameBase) == 1 {
		best = sameBase[0]
	}
	return best
}

// picker takes attachments while there is room.
type picker struct {
	sizes map[string]int64
	taken map[string]bool
	out   []slipway.Attachment
	bytes int64
	left  int
	first string // that was left
}

func (p *picker) take(name, testCase string) {
	size := p.sizes[name]
	if p.taken[name] || size == 0 {
		return
	}
	p.taken[name] = true
	if len(p.out) == maxAttachments || size > maxAttachment || p.bytes+size > maxAttached {
		if p.left++; p.left == 1 {
			p.first = name
		}
		return
	}
	p.bytes += size
	p.out = append(p.out, slipway.Attachment{Name: name, Size: size, Case: testCase})
}

// keep hands the attachments of a report to the keeper and notes their digests; without a keeper they are
// left out.
func keep(ctx context.Context, k Keeper, runID int64, dir string, report *slipway.TestReport) error {
	found := report.Attachments
	report.Attachments = nil
	if k == nil || len(found) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open the folder of test results: %w", err)
	}
	defer root.Close()
	for _, a := range found {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.Digest, a.Size, err = keepFile(k, runID, root, a.Name); err != nil {
			return fmt.Errorf("keep %s: %w", a.Name, err)
		}
		report.Attachments = append(report.Attachments, a)
	}
	return nil
}

func keepFile(k Keeper, runID int64, root *os.Root, name string) (string, int64, error) {
	f, _, err := open(root, name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	return k.Keep(runID, io.LimitReader(f, maxAttachment))
}
