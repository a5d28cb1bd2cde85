package test

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Bounds of coverage.
const (
	maxCovered      = 1_000_000 // lines or blocks
	maxCoveredFiles = 200       // listed in the report
)

// coverage merges reports: what any of them saw run was run. Lines count for Cobertura and LCOV, statements
// for Go.
type coverage struct {
	files map[string]map[uint64]int32 // by path: line or block -> statements, shifted by one; the last bit: run
	n     int
	notes []string
	full  bool
	// Folders with a Cobertura report: LCOV files beside one say the same in other words.
	cobertures map[string]bool
	lcovs      map[string]*coverage // by folder
}

func newCoverage() *coverage {
	return &coverage{files: map[string]map[uint64]int32{}, cobertures: map[string]bool{}, lcovs: map[string]*coverage{}}
}

func (c *coverage) add(file string, at uint64, statements int, run bool) {
	if statements < 0 || statements > 1<<20 {
		return
	}
	of := c.files[file]
	old, known := of[at]
	if !known {
		if c.n == maxCovered {
			if !c.full {
				c.full = true
				c.notes = append(c.notes, fmt.Sprintf("coverage: more than %d lines; the rest is left out", maxCovered))
			}
			return
		}
		if of == nil {
			of = map[uint64]int32{}
			c.files[file] = of
		}
		c.n++
	}
	v := max(old>>1, int32(statements))<<1 | old&1
	if run {
		v |= 1
	}
	of[at] = v
}

// ofLCOV is where the LCOV files of a folder are counted.
func (c *coverage) ofLCOV(dir string) *coverage {
	if c.lcovs[dir] == nil {
		c.lcovs[dir] = newCoverage()
	}
	return c.lcovs[dir]
}

// sum is the coverage of all files; nil when there is no report.
func (c *coverage) sum() *slipway.Coverage {
	for _, dir := range slices.Sorted(maps.Keys(c.lcovs)) {
		l := c.lcovs[dir]
		if c.cobertures[dir] {
			continue
		}
		c.notes = append(c.notes, l.notes...)
		for name, lines := range l.files {
			for at, v := range lines {
				c.add(name, at, int(v>>1), v&1 == 1)
			}
		}
	}
	if len(c.files) == 0 {
		return nil
	}
	out := &slipway.Coverage{}
	for name, lines := range c.files {
		f := slipway.FileCoverage{Path: name}
		for _, v := range lines {
			f.Total += int(v >> 1)
			if v&1 == 1 {
				f.Covered += int(v >> 1)
			}
		}
		out.Covered += f.Covered
		out.Total += f.Total
		if f.Total > 0 {
			out.Files = append(out.Files, f)
		}
	}
	slices.SortFunc(out.Files, func(a, b slipway.FileCoverage) int {
		return cmp.Or(cmp.Compare(a.Covered*b.Total, b.Covered*a.Total), cmp.Compare(b.Total, a.Total), cmp.Compare(a.Path, b.Path))
	})
	out.Files = out.Files[:min(len(out.Files), maxCoveredFiles)]
	return out
}

func coveredPath(name string, roots []string) string {
	name = path.Clean(strings.ReplaceAll(strings.TrimSpace(name), `\`, "/"))
	for _, r := range roots {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(r, "/")+"/"); ok && r != "" {
			return clip(rest, maxName)
		}
	}
	return clip(strings.TrimPrefix(name, "./"), maxName)
}

// cobertura reads what Cobertura and many tools after it write. Lines of methods are those of their class
// again.
func (c *coverage) cobertura(d *document, dir string) error {
	var roots []string
	found := false
	file := ""
	var section func(e xml.StartElement) error
	section = func(e xml.StartElement) error {
		switch e.Name.Local {
		case "sources", "packages", "package", "classes", "lines":
			return d.each(section)
		case "source":
			text, err := d.text(maxName)
			if len(roots) < 100 {
				roots = append(roots, path.Clean(strings.ReplaceAll(strings.TrimSpace(text), `\`, "/")))
			}
			return err
		case "class":
			found = true
			file = coveredPath(attr(e, "filename"), roots)
			return d.each(section)
		case "line":
			n, err := strconv.ParseUint(attr(e, "number"), 10, 32)
			if err == nil && file != "" && file != "." {
				c.add(file, n, 1, hit(attr(e, "hits")))
			}
		}
		return d.skip()
	}
	if err := d.each(section); err != nil {
		return err
	}
	if !found {
		return errOther
	}
	c.cobertures[dir] = true
	return nil
}

func hit(count string) bool {
	count = strings.TrimSpace(count)
	return strings.Trim(count, "0") != "" && !strings.HasPrefix(count, "-")
}

// lcov reads what geninfo and many tools after it write: SF:file, DA:line,hits, end_of_record.
func (c *coverage) lcov(r io.Reader) error {
	file, seen := "", false
	return eachLine(r, func(n int, line string) error {
		if strings.HasPrefix(line, "#") {
			return nil
		}
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "SF":
			file, seen = coveredPath(value, nil), true
		case "DA":
			number, rest, _ := strings.Cut(value, ",")
			hits, _, _ := strings.Cut(rest, ",") // a checksum may follow
			at, err := strconv.ParseUint(number, 10, 32)
			if err != nil || file == "" {
				return fmt.Errorf("line %d: %q is no line of a file", n, clip(line, 100))
			}
			c.add(file, at, 1, hit(hits))
		case "end_of_record":
			file = ""
		case "TN":
			return nil
		default:
			if !seen {
				return errOther
			}
		}
		return nil
	})
}

// goProfile reads what `go test -coverprofile` writes: file:line.column,line.column statements count.
func (c *coverage) goProfile(r io.Reader) error {
	return eachLine(r, func(n int, line string) error {
		if n == 1 || strings.HasPrefix(line, "mode: ") || line == "" {
			return nil
		}
		i := strings.LastIndexByte(line, ':')
		if i < 0 {
			return fmt.Errorf("line %d: %q is no block of a file", n, clip(line, 100))
		}
		var l0, c0, l1, c1, statements, count uint64
		if _, err := fmt.Sscanf(line[i+1:], "%d.%d,%d.%d %d %d", &l0, &c0, &l1, &c1, &statements, &count); err != nil {
			return fmt.Errorf("line %d: %q is no block of a file", n, clip(line, 100))
		}
		c.add(coveredPath(line[:i], nil), l0<<44|c0&0xfff<<32|l1&0xfffff<<12|c1&0xfff, int(min(statements, 1<<21)), count > 0)
		return nil
	})
}

// eachLine calls fn for each line, without its end; lines that are too long are left out.
func eachLine(r io.Reader, fn func(n int, line string) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		text, _, err := readLine(in)
		if ferr := fn(n, strings.TrimSpace(string(text))); ferr != nil {
			return ferr
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}
