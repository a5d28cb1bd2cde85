package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Bounds of what a page shows of manifests.
const (
	pageLines   = 4000 // of YAML on the page, all objects together
	objectLines = 400  // of one object with remarks; of a longer one the lines around them are shown
	aroundLines = 6
	lineRunes   = 1000
	pageRemarks = 300 // in the list at the top
)

// manifestsPage is what a chart renders for an environment, with what is remarkable beside it.
type manifestsPage struct {
	Run          slipway.Run
	Service      string
	Environment  string
	Environments []string
	Report       slipway.ManifestReport
	Only         string // the object that was asked for
	Remarks      []manifestRemark
	More         int // remarks that are not listed
	Objects      []*manifestObject
	File         string // where all of it is as text
	Missing      bool
	lines        int // that there is still room for
}

// manifestRemark is a problem, with the element that it stands beside.
type manifestRemark struct {
	slipway.ManifestProblem
	Anchor string
}

type manifestObject struct {
	slipway.ManifestObject
	ID     string
	Count  int // remarks
	Parts  []manifestPart
	Hidden int    // lines that are not shown
	Whole  string // where all lines are shown
}

// manifestPart is some lines, and the remarks about the last of them.
type manifestPart struct {
	Text    string // lines that nobody remarks on
	Line    string // that is remarked on
	Remarks []manifestRemark
	Skipped int // lines left out before it
}

func (s *server) manifests(r *http.Request, by slipway.User) (string, view, error) {
	d, service, err := s.subject(r, by)
	if err != nil {
		return "", view{}, err
	}
	p := &manifestsPage{Run: d.Run, Service: service, Only: r.FormValue("object")}
	v := view{Title: "Manifests of " + service, Project: d.Run.Project, Tab: "runs", Data: p}
	reports, err := s.Evidence.Manifests(r.Context(), by, d.Run.ID, service)
	if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && len(reports) == 0) {
		p.Missing = true
		return "manifests", v, nil
	}
	if err != nil {
		return "", view{}, err
	}
	p.Report = chooseReport(reports, r.FormValue("environment"))
	for _, m := range reports {
		p.Environments = append(p.Environments, m.Environment)
	}
	p.Environment = p.Report.Environment
	p.File = evidenceHref(d.Run.ID, "manifests.yaml", service, "environment", p.Environment)
	if p.Environment != "" {
		v.Title += " in " + p.Environment
	}
	p.annotate()
	return "manifests", v, nil
}

// chooseReport is that of the environment, else the first with remarks, else the first.
func chooseReport(all []slipway.ManifestReport, env string) slipway.ManifestReport {
	i := slices.IndexFunc(all, func(m slipway.ManifestReport) bool { return env != "" && m.Environment == env })
	if i < 0 {
		i = slices.IndexFunc(all, func(m slipway.ManifestReport) bool { return len(m.Problems) > 0 })
	}
	return all[max(0, i)]
}

// annotate puts each problem beside the line that it is about.
func (p *manifestsPage) annotate() {
	remarks := map[string][]manifestRemark{}
	known := map[string]bool{}
	for _, o := range p.Report.Objects {
		known[o.Name] = true
	}
	for i, problem := range p.Report.Problems {
		m := manifestRemark{ManifestProblem: problem}
		if known[problem.Object] {
			m.Anchor = fmt.Sprintf("remark-%d", i+1)
			remarks[problem.Object] = append(remarks[problem.Object], m)
		}
		if len(p.Remarks) < pageRemarks {
			p.Remarks = append(p.Remarks, m)
		} else {
			p.More++
		}
	}
	objects := slices.Clone(p.Report.Objects)
	slices.SortStableFunc(objects, func(a, b slipway.ManifestObject) int {
		return cmp.Compare(len(remarks[b.Name]), len(remarks[a.Name]))
	})
	p.lines = pageLines
	for i, o := range objects {
		row := &manifestObject{ManifestObject: o, ID: fmt.Sprint("object-", i+1), Count: len(remarks[o.Name]),
			Whole: evidenceHref(p.Run.ID, "manifests", p.Service, "environment", p.Environment, "object", o.Name)}
		if p.Only != "" && o.Name != p.Only {
			delete(remarks, o.Name)
			continue
		}
		p.show(row, remarks[o.Name])
		delete(remarks, o.Name) // of two objects of one name the first has them
		p.Objects = append(p.Objects, row)
	}
	if p.Only != "" { // the list leads to the other page
		p.Remarks, p.More = nil, 0
	}
}

// show lays out an object as far as the page has room.
func (p *manifestsPage) show(o *manifestObject, remarks []manifestRemark) {
	lines := strings.Split(strings.TrimRight(o.YAML, "\n"), "\n")
	if o.YAML == "" {
		lines = nil
	}
	beside := map[int][]manifestRemark{}
	for _, m := range remarks {
		n := lineOf(lines, m.Path)
		beside[n] = append(beside[n], m)
	}
	whole := p.Only != "" || len(lines) <= objectLines
	if top := beside[-1]; len(top) > 0 { // about no line
		o.Parts = append(o.Parts, manifestPart{Remarks: top})
	}
	var text strings.Builder
	skipped := 0
	for i, line := range lines {
		switch {
		case p.lines <= 0 || (!whole && !near(beside, i)):
			skipped++
			o.Hidden++
			if text.Len() > 0 {
				o.Parts = append(o.Parts, manifestPart{Text: text.String()})
				text.Reset()
			}
			if len(beside[i]) > 0 {
				o.Parts = append(o.Parts, manifestPart{Remarks: beside[i], Skipped: skipped})
				skipped = 0
			}
			continue
		case skipped > 0:
			o.Parts = append(o.Parts, manifestPart{Skipped: skipped})
			skipped = 0
		}
		p.lines--
		line = visible(clipLine(line))
		if len(beside[i]) == 0 {
			text.WriteString(line)
			text.WriteByte('\n')
			continue
		}
		o.Parts = append(o.Parts, manifestPart{Text: text.String(), Line: line, Remarks: beside[i]})
		text.Reset()
	}
	if text.Len() > 0 {
		o.Parts = append(o.Parts, manifestPart{Text: text.String()})
	}
	if skipped > 0 {
		o.Parts = append(o.Parts, manifestPart{Skipped: skipped})
	}
}

func near(beside map[int][]manifestRemark, i int) bool {
	if len(beside) == 0 || (len(beside) == 1 && len(beside[-1]) > 0) {
		return i < 2*aroundLines // its beginning
	}
	for j := max(0, i-aroundLines); j <= i+aroundLines; j++ {
		if len(beside[j]) > 0 {
			return true
		}
	}
	return false
}

func clipLine(line string) string {
	if len(line) <= lineRunes {
		return line
	}
	n := lineRunes
	for n > 0 && line[n]&0xc0 == 0x80 { // not within a character
		n--
	}
	return line[:n] + fmt.Sprintf(" … and %d bytes more", len(line)-n)
}

// lineOf is the line of a YAML text, as Slipway writes it, that the longest known part of a path leads to; -1
// when none does. A path is spec.containers[web].image, metadata.labels["a/b"]; items of lists are called by
// their name or their index.
func lineOf(lines []string, path string) int {
	at, from, to, column := -1, 0, len(lines), 0
	for path != "" {
		key, rest, item := nextKey(path)
		path = rest
		var next int
		if item {
			next = itemOf(lines, from, to, key)
		}
		if !item || next < 0 {
			next = keyOf(lines, from, to, column, key)
			if next < 0 {
				return at
			}
			column = keyColumn(lines[next])
		} else {
			column = keyColumn(lines[next])
		}
		at = next
		from, to = inside(lines, next, to, column, item)
		column = -1
		if from < to {
			column = keyColumn(lines[from])
		}
	}
	return at
}

// inside are the lines of the value that begins in a line: of an item, the line itself is among them.
func inside(lines []string, at, to, column int, item bool) (from, end int) {
	from = at + 1
	if item {
		from = at
		column -= 2 // of its dash
	}
	for end = at + 1; end < to; end++ {
		if text := strings.TrimLeft(lines[end], " "); text != "" {
			depth := len(lines[end]) - len(text)
			if depth < column || (depth == column && (item || !strings.HasPrefix(text, "- "))) {
				break
			}
		}
	}
	return from, end
}

// keyColumn is where the first key of a line begins: behind the dashes of items.
func keyColumn(line string) int {
	n := 0
	for n < len(line) && (line[n] == ' ' || (line[n] == '-' && n+1 < len(line) && line[n+1] == ' ')) {
		n++
	}
	return n
}

func keyOf(lines []string, from, to, column int, key string) int {
	if column < 0 {
		return -1
	}
	names := []string{key + ":", strconv.Quote(key) + ":", "'" + key + "':"}
	for i := from; i < to; i++ {
		if keyColumn(lines[i]) != column {
			continue
		}
		text := lines[i][column:]
		for _, name := range names {
			if rest, ok := strings.CutPrefix(text, name); ok && (rest == "" || rest[0] == ' ') {
				return i
			}
		}
	}
	return -1
}

// itemOf is the line in which an item of the list begins: that of the name, else that of the index.
func itemOf(lines []string, from, to int, key string) int {
	if from >= to {
		return -1
	}
	dash := len(lines[from]) - len(strings.TrimLeft(lines[from], " "))
	index, err := strconv.Atoi(key)
	n, start := -1, -1
	for i := from; i < to; i++ {
		if strings.HasPrefix(lines[i][min(dash, len(lines[i])):], "- ") && strings.TrimLeft(lines[i], " ") == lines[i][dash:] {
			n++
			start = i
			if err == nil && n == index {
				return i
			}
		}
		if start >= 0 && keyColumn(lines[i]) == dash+2 && strings.Trim(strings.TrimPrefix(lines[i][dash+2:], "name: "), `"'`) == key && strings.HasPrefix(lines[i][dash+2:], "name: ") {
			return start
		}
	}
	return -1
}

// nextKey takes the first key off a path; item: it stood in brackets.
func nextKey(path string) (key, rest string, item bool) {
	if path[0] != '[' {
		end := strings.IndexAny(path, ".[")
		switch {
		case end < 0:
			return path, "", false
		case path[end] == '.':
			return path[:end], path[end+1:], false
		}
		return path[:end], path[end:], false
	}
	if quoted, err := strconv.QuotedPrefix(path[1:]); err == nil {
		if key, err = strconv.Unquote(quoted); err == nil {
			return key, strings.TrimPrefix(strings.TrimPrefix(path[1+len(quoted):], "]"), "."), false
		}
	}
	key, rest, _ = strings.Cut(path[1:], "]")
	return key, strings.TrimPrefix(rest, "."), true
}

// manifestsFile is all that a chart renders for an environment, as text.
func (s *server) manifestsFile(w http.ResponseWriter, r *http.Request) {
	by, ok := s.user(w, r)
	if !ok {
		return
	}
	d, service, err := s.subject(r, by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	reports, err := s.Evidence.Manifests(r.Context(), by, d.Run.ID, service)
	if err == nil && len(reports) == 0 {
		err = slipway.Errorf(slipway.NotFound, "run #%d rendered no chart of %s", d.Run.ID, service)
	}
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	report := chooseReport(reports, r.FormValue("environment"))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	for _, o := range report.Objects {
		fmt.Fprintf(w, "---\n# %s, %s\n%s", visible(o.Name), visible(o.Template), visible(o.YAML)) //nolint:errcheck // the reader is gone
		if o.YAML == "" {
			fmt.Fprintln(w, "# too long to be kept") //nolint:errcheck // the reader is gone
		}
	}
}
