package test

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
)

// Bounds of what is read, whatever the files say.
const (
	maxFiles    = 10_000    // files that are looked at
	maxFile     = 64 << 20  // bytes read of one result file
	maxTotal    = 256 << 20 // bytes read of all result files
	maxProblems = 50
)

// Read reads the results of tests below dir into one report: JUnit and TRX files, the output of
// `go test -json`, and coverage in the formats of Cobertura, LCOV and Go. What a file is, is told by what is in
// it. Files that are no results are attachments, named in the report and not kept yet. A result file that is
// not read, or not to its end, is a problem in the report; what else was left out is a note. Links, devices and pipes are not opened.
func Read(dir string) slipway.TestReport {
	b := newReport()
	root, err := os.OpenRoot(dir)
	if err != nil {
		b.problem("%v", err)
		return b.finish()
	}
	defer root.Close()
	b.list(root)
	for _, name := range b.names {
		if b.read >= maxTotal {
			b.problem("%s: not read: the result files before it have %d MiB together, which is the most that is read", name, maxTotal>>20)
			break
		}
		b.file(root, name)
	}
	return b.finish()
}

// list finds the files, in the order of their names.
func (b *reportBuilder) list(root *os.Root) {
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			b.problem("%v", err)
			return nil
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			tell := b.note
			if MayHold(name, false) {
				tell = b.problem
			}
			tell("%s: is %s, which is not followed or opened", name, kindOf(d.Type()))
			return nil
		case len(b.names) == maxFiles:
			b.problem("%s and what follows: not read: there are more than %d files", name, maxFiles)
			return fs.SkipAll
		}
		b.names = append(b.names, name)
		return nil
	})
	if err != nil {
		b.problem("%v", err)
	}
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a link"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// open opens a file that is a file: not one that became a pipe since it was listed, and not a second name of
// one that may be elsewhere.
func open(root *os.Root, name string) (*os.File, int64, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is %s, which is not read", name, kindOf(info.Mode()))
	}
	if err == nil && links(info) > 1 {
		err = fmt.Errorf("%s: is a hard link, which is not read", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// file reads a file if it holds results, and notes it as an attachment else.
func (b *reportBuilder) file(root *os.Root, name string) {
	f, size, err := open(root, name)
	if err != nil {
		b.problem("%v", err)
		return
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	head, err := in.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		b.problem("%s: %v", name, err)
		return
	}
	limited := &counted{in: io.LimitReader(in, min(maxFile, maxTotal-b.read)), max: size}
	b.current = name
	err = b.parse(kind(name, head), limited)
	b.current = ""
	b.read += limited.n
	switch {
	case errors.Is(err, errOther):
		if isTAP(name, head) {
			b.note("%s: not read: it is a report in TAP; have the tests write JUnit or TRX too", name)
		}
		b.others = append(b.others, other{name, size})
		return
	case limited.cut():
		b.problem("%s: has %d MiB; what comes after the first %d is not read", name, size>>20, limited.n>>20)
	case err != nil:
		b.problem("%s: %v", name, err)
	}
	b.results = append(b.results, other{name, size})
	if b.tests && (err == nil || b.took || limited.cut()) {
		b.report.Files = append(b.report.Files, name)
	}
	b.tests, b.took = false, false
}

// counted counts what is read of a file.
type counted struct {
	in  io.Reader
	n   int64
	max int64 // size of the file
	end bool
}

// Read reads.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	c.end = c.end || errors.Is(err, io.EOF)
	return n, err
}

// cut reports whether reading ended before the file did.
func (c *counted) cut() bool { return c.end && c.n < c.max }

// errOther says that a file holds no results of tests.
var errOther = errors.New("not a result file")

// format is what a file holds.
type format int

const (
	formatOther format = iota
	formatXML
	formatGoTest
	formatLCOV
	formatGoCover
)

// sniffed is how much of a file tells what it holds.
const sniffed = 4 << 10

// kind tells the format of a file by its beginning; files named .xml and .trx are to be XML.
func kind(name string, head []byte) format {
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch strings.ToLower(path.Ext(name)) {
	case ".xml", ".trx":
		return formatXML
	case ".junit", "":
		if bytes.HasPrefix(text, []byte("<")) {
			return formatXML
		}
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	switch {
	case slices.Contains([]string{"mode: set", "mode: count", "mode: atomic"}, string(bytes.TrimSpace(first))):
		return formatGoCover
	case bytes.HasPrefix(withoutComments(text), []byte("TN:")), bytes.HasPrefix(withoutComments(text), []byte("SF:")):
		return formatLCOV
	case isGoTest(text):
		return formatGoTest
	}
	return formatOther
}

// withoutComments is a text without the lines before others that begin with #, as lcov 2 may write them.
func withoutComments(text []byte) []byte {
	for bytes.HasPrefix(text, []byte("#")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	return text
}

// isTAP tells the output of the Test Anything Protocol, which is not read, by its name or its first line.
func isTAP(name string, head []byte) bool {
	return strings.EqualFold(path.Ext(name), ".tap") || bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte("TAP version "))
}

// MayHold reports whether a file that cannot be looked into may hold results, as far as its name tells: a link or a
// device only where the name says so, a file unless it is named as a picture, a page or an archive.
func MayHold(name string, regular bool) bool {
	if !regular {
		return kind(name, nil) == formatXML
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".webm", ".mp4", ".pdf", ".html", ".htm", ".css", ".js", ".map", ".zip", ".gz", ".tgz", ".tar", ".xz", ".zst", ".har":
		return false
	}
	return true
}

func (b *reportBuilder) parse(f format, r io.Reader) error {
	switch f {
	case formatXML:
		return b.parseXML(r)
	case formatGoTest:
		b.tests = true
		return b.parseGoTest(r)
	case formatLCOV:
		return b.coverage.ofLCOV(path.Dir(b.current)).lcov(r)
	case formatGoCover:
		return b.coverage.goProfile(r)
	}
	return errOther
}

func (b *reportBuilder) parseXML(r io.Reader) error {
	d, err := newDocument(r)
	if err != nil {
		return err
	}
	start, err := d.root()
	if err != nil {
		return err
	}
	err = b.rootElement(d, start)
	if errors.Is(err, errOther) {
		b.tests = false
		if other := unread(start); other != "" {
			b.note("%s: not read: it is %s", b.current, other)
		}
		return err
	}
	if err == nil {
		err = b.moreRoots(d)
	}
	for _, n := range d.in.notes {
		b.note("%s: %s", b.current, n)
	}
	for _, p := range d.in.bombs {
		b.problem("%s: %s", b.current, p)
	}
	if errors.Is(err, errFull) {
		return nil
	}
	return err
}

// rootElement reads a report from its root to its end.
func (b *reportBuilder) rootElement(d *document, start xml.StartElement) error {
	b.tests = b.tests || start.Name.Local != "coverage"
	switch start.Name.Local {
	case "testsuites", "testsuite":
		return junit{document: d, out: b}.suites(start, "")
	case "TestRun":
		return (&trx{document: d, out: b}).run(start)
	case "coverage":
		return b.coverage.cobertura(d, path.Dir(b.current))
	}
	return errOther
}

// moreRoots reads the reports that were written behind the first one, by tools that append or by cat: a failure must
// not be lost in one. Whatever else stands there is an error.
func (b *reportBuilder) moreRoots(d *document) error {
	for {
		start, err := d.another()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.rootElement(d, start); errors.Is(err, errOther) {
			return fmt.Errorf("line %d: <%s> stands behind the end of the report, and is not read", d.in.line, clip(start.Name.Local, 100))
		} else if err != nil {
			return err
		}
	}
}

// unread names a report that is known and not read, and what to have written in its place.
func unread(root xml.StartElement) string {
	const junit = "; have the tests write JUnit or TRX too"
	switch root.Name.Local {
	case "test-run", "test-results":
		return "a report of NUnit" + junit
	case "assemblies", "assembly":
		return "a report of xUnit.net" + junit
	case "testng-results":
		return "a report of TestNG" + junit
	case "robot":
		return "a report of Robot Framework" + junit
	case "Site", "Testing":
		return "a report of CTest" + junit
	case "Catch", "Catch2TestRun", "TestLog", "TestResult", "doctest":
		return "a report in a form of its own" + junit
	case "report":
		return "a report of JaCoCo; have coverage written as Cobertura or LCOV too"
	case "coverage":
		if attr(root, "line-rate") != "" { // Cobertura's, of nothing
			return ""
		}
		return "coverage in a form of its own; have it written as Cobertura or LCOV too"
	}
	return ""
}

// seconds reads "1.5", "1,234.5" and, as some locales write it, "1,5" and "1.234,5".
func seconds(s string) time.Duration {
	s = strings.TrimSuffix(strings.TrimSpace(s), "s")
	comma, dot := strings.LastIndexByte(s, ','), strings.LastIndexByte(s, '.')
	switch {
	case comma >= 0 && dot > comma, strings.Count(s, ",") > 1:
		s = strings.ReplaceAll(s, ",", "")
	case comma >= 0:
		s = strings.ReplaceAll(s, ".", "")
		s = strings.Replace(s, ",", ".", 1)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e7) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}
