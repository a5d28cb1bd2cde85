package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// sorted is the list, never nil, in order.
func sorted(list []slipway.Finding) []slipway.Finding {
	if list == nil {
		return []slipway.Finding{}
	}
	Sort(list)
	return list
}

// Sort puts the worst first; equal ones by package, name and place, so that two scans read alike.
func Sort(list []slipway.Finding) {
	order := slipway.Severities()
	slices.SortStableFunc(list, func(a, b slipway.Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity)),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Package, b.Package), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line),
		)
	})
}

// Summary is a scan in one line: "214 packages, 2 critical, 5 high; 1 secret".
func Summary(s slipway.Scan) string {
	count := map[slipway.Severity]int{}
	secrets := 0
	for _, f := range s.Findings {
		if f.Kind == slipway.FindingSecret {
			secrets++
			continue
		}
		count[f.Severity]++
	}
	var parts []string
	if s.Packages > 0 || (len(s.Findings) == 0 && len(s.Problems) == 0) {
		parts = append(parts, slipway.Counted(s.Packages, "package"))
	}
	for _, v := range slipway.Severities() {
		if count[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[v], v))
		}
	}
	switch {
	case s.Database.Missing != "":
		parts = append(parts, "no vulnerability database")
	case len(count) == 0 && len(s.Problems) == 0:
		parts = append(parts, "no known vulnerability")
	}
	out := []string{strings.Join(parts, ", ")}
	if secrets > 0 {
		out = append(out, slipway.Counted(secrets, "secret"))
	}
	switch n := len(s.Problems); n {
	case 0:
	case 1:
		out = append(out, "1 part was not looked at")
	default:
		out = append(out, fmt.Sprintf("%d parts were not looked at", n))
	}
	return strings.Join(slices.DeleteFunc(out, func(part string) bool { return part == "" }), "; ")
}

// maxTold bounds the table in the log; all findings are kept with the scan.
const maxTold = 20

// tell writes the scan to the log, worst first.
func tell(env stage.Env, s slipway.Scan) {
	if s.Database.Missing != "" {
		env.Log.Printf("no vulnerability can be found: %s", s.Database.Missing)
	} else if !s.Database.Built.IsZero() {
		env.Log.Printf("vulnerability database of %s", s.Database.Built.UTC().Format("2006-01-02"))
	}
	for _, line := range table(s.Findings, maxTold) {
		env.Log.Printf("%s", line)
	}
	for _, p := range s.Problems {
		env.Log.Printf("%s", p)
	}
	env.Log.Printf("%s", Summary(s))
}

// table is the first findings as lines of aligned columns, with a heading; nothing for none. limit 0 means
// all.
func table(list []slipway.Finding, limit int) []string {
	if len(list) == 0 {
		return nil
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEVERITY\tFINDING\tPACKAGE\tFIXED IN\tPLACE")
	shown := list
	if limit > 0 && len(list) > limit {
		shown = list[:limit]
	}
	for _, f := range shown {
		pkg := strings.TrimSpace(f.Package + " " + f.Version)
		place := f.Path
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.Path, f.Line)
		}
		if f.InBase {
			place += " (base image)"
		}
		if f.Dismissed != "" {
			place += " (dismissed by its report)"
		}
		fixed := f.FixedIn
		if fixed == "" && f.Kind == slipway.FindingVulnerability {
			fixed = "-"
		}
		if f.Kind == slipway.FindingSecret && f.Title != "" {
			pkg = f.Title
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Severity, f.ID, pkg, fixed, place)
	}
	w.Flush()
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	if n := len(list) - len(shown); n > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more", n))
	}
	return lines
}
