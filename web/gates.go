package web

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Evidence is what gates said, and what they saw.
type Evidence interface {
	Gates(ctx context.Context, by slipway.User, f slipway.GateFilter) ([]slipway.GateResult, error)
	Manifests(ctx context.Context, by slipway.User, run int64, service string) ([]slipway.ManifestReport, error)
	// Scan is what the scan of a service found in a run, SBOM the SPDX document that it names.
	Scan(ctx context.Context, by slipway.User, run int64, service string) (slipway.Scan, error)
	SBOM(ctx context.Context, by slipway.User, project, digest string) ([]byte, error)
}

// Images is what is known of the images that run.
type Images interface {
	// DeployedCounts is how many findings the images of a project have that run now; it is asked on every board.
	DeployedCounts(ctx context.Context, by slipway.User, project string) ([]slipway.ImageCounts, error)
	// DeployedScan is what of a service runs in an environment, with the newest scan of its image; NotFound when
	// nothing does.
	DeployedScan(ctx context.Context, by slipway.User, project, service, environment string) (slipway.DeployedScan, error)
}

// Bounds of what a page shows of gates.
const (
	firstReasons = 10  // of what a gate said, at once
	mostReasons  = 300 // folded away behind those, of all gates together
	manyPassed   = 8   // from that many on, gates that passed are folded away
	mostGates    = 100 // rows of gates that did not pass, and of gates that did
	toldReasons  = 5   // of a gate that failed a step, at the top of the page
	openGates    = 2   // gates that failed and are not told at the top: those are unfolded, unless there are more
)

// gateList is what the gates of a run said: those that failed first, then those that warned.
type gateList struct {
	Run    slipway.Run
	Rows   []gateRow // failed, warned
	Passed []gateRow
	Failed int
	Warned int
	// PassedAll counts those that passed.
	PassedAll int
	Several   bool // there are gates of more than one service
	// Waived is how many reasons to fail were waived after their gate had spoken, Open how many were not.
	Waived, Open int
}

// Folded reports whether the gates that passed are folded away.
func (l gateList) Folded() bool { return len(l.Passed) >= manyPassed }

// Unlisted is how many gates failed or warned, and PassedUnlisted how many passed, that have no row.
func (l gateList) Unlisted() int       { return l.Failed + l.Warned - len(l.Rows) }
func (l gateList) PassedUnlisted() int { return l.PassedAll - len(l.Passed) }

// Few reports whether the gates that are to be unfolded are so few that the list can still be read at a glance.
func (l gateList) Few() bool {
	n := 0
	for _, row := range l.Rows {
		n += boolInt(row.Open)
	}
	return n <= openGates
}

func (l *gateList) rows() []gateRow {
	if l == nil { // none of the services that the page is about
		return nil
	}
	return l.Rows
}

// gateRow is one gate of a service, in all steps in which it spoke.
type gateRow struct {
	Gate, Service string
	Verdict       slipway.Verdict // the worst
	Summary       string          // of the worst
	ID            string          // of its element
	Open          bool            // it is unfolded: it failed, and is not told elsewhere
	Where         []gatePlace
	Said          []gateSaid // the same said in several places is there once; the worst first
}

// gatePlace is where a gate spoke: in an environment, or in a step that belongs to none.
type gatePlace struct {
	Name    string
	Verdict slipway.Verdict
	Href    string // of the step
}

// gateSaid is what a gate said, in one place or more.
type gateSaid struct {
	slipway.GateResult // of the first of them
	Where              []gatePlace
	Evidence           []evidence
	First, Rest        []gateReason
	More               int // reasons that are not shown
}

// evidence is a page where it can be seen what a gate saw.
type evidence struct{ Text, Href string }

// gateReason is a reason, with what can be done about it.
type gateReason struct {
	slipway.GateReason
	Since *slipway.Waiver // given after the gate had spoken
	Ended *slipway.Waiver // that let it through until it ended, or was withdrawn
	Waive string          // where a waiver of it is given
}

// waived are the waivers of a project: those that hold, and the newest of those that do no more.
type waived struct{ holding, over []slipway.Waiver }

// gates reads what the gates of a run said.
func (s *server) gates(r *http.Request, by slipway.User, d slipway.RunDetail, service string) (said []slipway.GateResult, given waived, err error) {
	if s.Evidence == nil {
		return nil, given, nil
	}
	said, err = s.Evidence.Gates(r.Context(), by, slipway.GateFilter{Project: d.Run.Project, RunID: d.Run.ID, Service: service})
	if err != nil || s.Waivers == nil || !slices.ContainsFunc(said, func(g slipway.GateResult) bool { return g.Verdict == slipway.Fail }) {
		return said, given, err
	}
	all, err := s.Waivers.Waivers(r.Context(), by, slipway.WaiverFilter{Project: d.Run.Project})
	if err != nil { // what the gates said is shown all the same
		s.Log.WarnContext(r.Context(), "read waivers", "project", d.Run.Project, "error", err)
		return said, given, nil
	}
	for _, w := range all {
		if w.Holds(s.Now()) {
			given.holding = append(given.holding, w)
		} else if w.Reason != "" && w.Author != "" { // it did hold
			given.over = append(given.over, w)
		}
	}
	return said, given, nil
}

// listGates arranges what the gates of a run said. back is the page that is come back to from a waiver.
func listGates(d slipway.RunDetail, said []slipway.GateResult, given waived, back string) *gateList {
	if len(said) == 0 {
		return nil
	}
	l := &gateList{Run: d.Run}
	rows := map[[2]string]*gateRow{}
	var order []*gateRow
	budget := mostReasons
	for _, g := range said {
		key := [2]string{g.Service, g.Gate}
		row := rows[key]
		if row == nil {
			row = &gateRow{Gate: g.Gate, Service: g.Service, Verdict: slipway.Pass, ID: gateID(g.Service, g.Gate)}
			rows[key], order = row, append(order, row)
		}
		row.add(d, g)
		l.Several = l.Several || g.Service != said[0].Service
	}
	slices.SortStableFunc(order, func(a, b *gateRow) int {
		return cmp.Or(cmp.Compare(badness(b.Verdict), badness(a.Verdict)), strings.Compare(a.Service, b.Service))
	})
	for _, row := range order {
		slices.SortStableFunc(row.Said, func(a, b gateSaid) int { return cmp.Compare(badness(b.Verdict), badness(a.Verdict)) })
		for i := range row.Said {
			l.reasons(d, &row.Said[i], given, back, &budget)
		}
		row.Summary = row.Said[0].Summary
		switch row.Verdict {
		case slipway.Fail:
			l.Failed++
			row.Open = true
		case slipway.Warn:
			l.Warned++
		default:
			if l.PassedAll++; len(l.Passed) < mostGates {
				l.Passed = append(l.Passed, *row)
			}
			continue
		}
		if len(l.Rows) < mostGates {
			l.Rows = append(l.Rows, *row)
		}
	}
	return l
}

func gateID(service, gate string) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", service, gate) //nolint:errcheck // of a hash
	return fmt.Sprintf("gate-%08x", h.Sum32())
}

// add puts a result to those that say the same.
func (row *gateRow) add(d slipway.RunDetail, g slipway.GateResult) {
	at := gatePlace{Name: cmp.Or(g.Environment, kindOf(d, g.Step)), Verdict: g.Verdict, Href: stepHref(d.Run.ID, g.Step)}
	row.Verdict = row.Verdict.Worse(g.Verdict)
	row.Where = addPlace(row.Where, at)
	i := slices.IndexFunc(row.Said, func(o gateSaid) bool { return sameSaid(o.GateResult, g) })
	if i < 0 {
		i = len(row.Said)
		row.Said = append(row.Said, gateSaid{GateResult: g})
	}
	o := &row.Said[i]
	o.Where = addPlace(o.Where, at)
	if o.Environment != g.Environment {
		o.Environment = "" // of several
	}
	o.Evidence = addEvidence(o.Evidence, evidenceOf(d, g))
}

func addEvidence(all, more []evidence) []evidence {
	for _, e := range more {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// addPlace adds a place; of one that is there the worst is kept.
func addPlace(all []gatePlace, at gatePlace) []gatePlace {
	i := slices.IndexFunc(all, func(o gatePlace) bool { return o.Name == at.Name })
	if i < 0 {
		return append(all, at)
	}
	if badness(at.Verdict) >= badness(all[i].Verdict) {
		all[i] = at
	}
	return all
}

func kindOf(d slipway.RunDetail, key string) string {
	for _, st := range d.Steps {
		if st.Spec.Key == key {
			return string(st.Spec.Kind)
		}
	}
	kind, _, _ := strings.Cut(key, "/")
	return kind
}

func sameSaid(a, b slipway.GateResult) bool {
	return a.Verdict == b.Verdict && a.Summary == b.Summary && slices.EqualFunc(a.Reasons, b.Reasons, func(x, y slipway.GateReason) bool {
		same := (x.Waiver == nil) == (y.Waiver == nil) && (x.Waiver == nil || *x.Waiver == *y.Waiver)
		x.Waiver, y.Waiver = nil, nil
		return same && x == y
	})
}

// reasons fills in the reasons of what was said, as far as the page has room.
func (l *gateList) reasons(d slipway.RunDetail, said *gateSaid, given waived, back string, budget *int) {
	for i, r := range said.Reasons {
		if r.Verdict == slipway.Fail {
			if waives(given.holding, said.GateResult, r.Subject) != nil {
				l.Waived++
			} else {
				l.Open++
			}
		}
		switch {
		case i < firstReasons:
			said.First = append(said.First, newReason(d, said.GateResult, r, given, back))
		case *budget > 0:
			*budget--
			said.Rest = append(said.Rest, newReason(d, said.GateResult, r, given, back))
		default:
			said.More++
		}
	}
}

// newReason adds to a reason what can be done about it.
func newReason(d slipway.RunDetail, g slipway.GateResult, r slipway.GateReason, given waived, back string) gateReason {
	row := gateReason{GateReason: r}
	if r.Verdict != slipway.Fail {
		return row
	}
	if row.Since = waives(given.holding, g, r.Subject); row.Since == nil {
		row.Ended = waives(given.over, g, r.Subject)
		row.Waive = waiveHref(d.Run.Project, g, r.Subject, back)
	}
	return row
}

func badness(v slipway.Verdict) int {
	return slices.Index([]slipway.Verdict{slipway.Pass, slipway.Warn, slipway.Fail}, v)
}

// waives is the first of some waivers that is about a reason.
func waives(given []slipway.Waiver, g slipway.GateResult, subject string) *slipway.Waiver {
	for i, w := range given {
		if w.Concerns(g.Gate, g.Service, g.Environment) && w.Covers(subject) {
			return &given[i]
		}
	}
	return nil
}

// waiveHref is the form that lets a subject through, filled in.
func waiveHref(project string, g slipway.GateResult, subject, back string) string {
	q := url.Values{"gate": {g.Gate}, "subject": {subject}, "service": {g.Service}, "back": {back}}
	if g.Environment != "" {
		q.Set("environment", g.Environment)
	}
	return projectHref(project, "waivers") + "?" + q.Encode()
}

// evidenceOf are the pages that show what a gate saw.
func evidenceOf(d slipway.RunDetail, g slipway.GateResult) (out []evidence) {
	has := func(kind slipway.StepKind) bool { return hasStep(d, kind, g.Service) }
	switch g.Gate {
	case slipway.GateTests, slipway.GateCoverage:
		if has(slipway.KindTest) {
			return []evidence{{"test report", reportHref(d.Run.ID, g.Service)}}
		}
		return nil
	case slipway.GateVulnerabilities, slipway.GateDatabase, slipway.GateSecrets:
		if !has(slipway.KindScan) {
			return nil
		}
		out = scanEvidence(d.Run.ID, g.Service)
		if g.Verdict == slipway.Fail && g.Gate != slipway.GateDatabase { // to those that it is about
			out[0] = evidence{"findings that it minds", evidenceHref(d.Run.ID, "findings", g.Service, "counts", "1")}
		}
		return out
	case slipway.GateManifests:
		e := evidence{"manifests", evidenceHref(d.Run.ID, "manifests", g.Service, "environment", g.Environment)}
		if g.Environment != "" {
			e.Text += " in " + g.Environment
		}
		return []evidence{e}
	case slipway.GateSignatures:
		if has(slipway.KindAttest) {
			out = append(out, evidence{"signatures", stepHref(d.Run.ID, slipway.StepKey(slipway.KindAttest, g.Service, ""))})
		}
	}
	return append(out, evidence{"log of " + g.Step, stepHref(d.Run.ID, g.Step)})
}

func scanEvidence(run int64, service string) []evidence {
	return []evidence{{"findings", evidenceHref(run, "findings", service)}, {"SBOM", evidenceHref(run, "sbom", service)}}
}

func reportHref(run int64, service string) string {
	return strings.TrimSuffix(stepHref(run, slipway.StepKey(slipway.KindTest, service, "")), "#step") + "#tests"
}

// evidenceHref is a page about a service in a run; more are keys and values of its query, left out
// where they are empty.
func evidenceHref(run int64, page, service string, more ...string) string {
	q := url.Values{"service": {service}}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] != "" {
			q.Set(more[i], more[i+1])
		}
	}
	return fmt.Sprintf("/runs/%d/%s?%s", run, page, q.Encode())
}

// failedGate is a gate that made a step fail, in short.
type failedGate struct {
	slipway.GateResult
	Environments []string // in which it said the same
	ID           string
	Evidence     []evidence
	Told         []gateReason // that fail it
	More         int
}

// failedGates are the gates that made a step of the run fail. Those of the list are folded: they are told above.
func (p *runPage) failedGates(step string) (out []failedGate) {
	d, back := p.RunDetail, runHref(p.Run.ID)
	for _, g := range p.said {
		if g.Step != step || g.Verdict != slipway.Fail {
			continue
		}
		for i := range p.Gates.rows() {
			if row := &p.Gates.Rows[i]; row.Gate == g.Gate && row.Service == g.Service {
				row.Open = false
			}
		}
		if i := slices.IndexFunc(out, func(o failedGate) bool { return o.Gate == g.Gate && sameSaid(o.GateResult, g) }); i >= 0 {
			out[i].Environments = append(out[i].Environments, g.Environment)
			out[i].Evidence = addEvidence(out[i].Evidence, evidenceOf(d, g))
			continue
		}
		f := failedGate{GateResult: g, ID: gateID(g.Service, g.Gate), Evidence: evidenceOf(d, g)}
		if g.Environment != "" {
			f.Environments = []string{g.Environment}
		}
		for _, r := range g.Reasons {
			switch {
			case r.Verdict != slipway.Fail:
			case len(f.Told) < toldReasons:
				f.Told = append(f.Told, newReason(d, g, r, p.given, back))
			default:
				f.More++
			}
		}
		out = append(out, f)
	}
	return out
}

// stepGate is what a gate said in the step that is looked at.
type stepGate struct {
	slipway.GateResult
	ID string
}

func stepGates(said []slipway.GateResult, step string) (out []stepGate) {
	for _, g := range said {
		if g.Step == step {
			out = append(out, stepGate{g, gateID(g.Service, g.Gate)})
		}
	}
	slices.SortStableFunc(out, func(a, b stepGate) int { return cmp.Compare(badness(b.Verdict), badness(a.Verdict)) })
	return out
}

// stepEvidence are the pages about what a step made, or judged.
func stepEvidence(d slipway.RunDetail, st slipway.Step) (out []evidence) {
	run, service := d.Run.ID, st.Spec.Service
	switch {
	case st.Attempt == 0:
	case st.Spec.Kind == slipway.KindScan:
		return scanEvidence(run, service)
	case st.Spec.Kind == slipway.KindChart:
		return []evidence{{"manifests", evidenceHref(run, "manifests", service)}}
	case st.Spec.Kind == slipway.KindGate:
		return judged(d, service, st.Spec.Environment)
	}
	return out
}

// judged are the pages about all that a service is judged by before an environment.
func judged(d slipway.RunDetail, service, environment string) (out []evidence) {
	if hasStep(d, slipway.KindTest, service) {
		out = append(out, evidence{"test report", reportHref(d.Run.ID, service)})
	}
	if hasStep(d, slipway.KindScan, service) {
		out = append(out, scanEvidence(d.Run.ID, service)...)
	}
	if hasStep(d, slipway.KindChart, service) {
		out = append(out, evidence{"manifests", evidenceHref(d.Run.ID, "manifests", service, "environment", environment)})
	}
	return out
}

// Has reports whether the page has a row of a gate.
func (l *gateList) Has(service, gate string) bool {
	if l == nil {
		return false
	}
	of := func(row gateRow) bool { return row.Service == service && row.Gate == gate }
	return slices.ContainsFunc(l.Rows, of) || slices.ContainsFunc(l.Passed, of)
}

// hasStep reports whether a run has a step of that kind for a service, in no environment.
func hasStep(d slipway.RunDetail, kind slipway.StepKind, service string) bool {
	key := slipway.StepKey(kind, service, "")
	return slices.ContainsFunc(d.Steps, func(st slipway.Step) bool { return st.Spec.Key == key })
}

// gateNote is a line of an approval about a gate.
type gateNote struct {
	Gate, Summary string
	Verdict       slipway.Verdict
}

// splitNotes takes what gates said out of the notes of an approval: "gate NAME: VERDICT: SUMMARY".
func splitNotes(notes []string) map[string]any {
	var gates []gateNote
	var rest []string
	for _, n := range notes {
		text, ok := strings.CutPrefix(n, "gate ")
		name, said, found := strings.Cut(text, ": ")
		verdict, summary, _ := strings.Cut(said, ": ")
		if v := slipway.Verdict(verdict); ok && found && badness(v) >= 0 {
			gates = append(gates, gateNote{name, summary, v})
			continue
		}
		rest = append(rest, n)
	}
	slices.SortStableFunc(gates, func(a, b gateNote) int { return cmp.Compare(badness(b.Verdict), badness(a.Verdict)) })
	return map[string]any{"Gates": gates, "Rest": rest}
}
