package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/slipway-cd/slipway"
)

// A plan may leave a service to an earlier run that waits for people with the same of it, and for nothing else. Then a
// push that has nothing of the service does not deliver it again as far as that, and does not ask for its approval again.

// maxWaiting bounds how many runs that wait for people a plan looks at; the services of older ones run.
const maxWaiting = 100

// waiting is a run of which some step waits for people, with the steps alone that have not ended well.
type waiting struct {
	runRow
	of      map[string][]*stepRow // by service
	keys    map[string]*stepRow
	because map[string][]string
	taken   map[string]int64  // services that the run is not to deliver any more
	at      map[string]string // the newest commit at which a service was left to the run
}

// waits are the services that runs of the default branch before a run (0: all) wait for people with, by the newest run
// of each. Their steps are not read.
func waits(ctx context.Context, q querier, project, codebase, ref string, before int64) (map[string]slipway.WaitingRun, error) {
	rows, err := list(ctx, q, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE fulfilled = 0 AND run_id IN (SELECT DISTINCT s.run_id FROM steps s JOIN runs r ON r.id = s.run_id
			WHERE s.state = 'waiting' AND r.project = $1 AND r.codebase = $2 AND r.ref = $3 AND ($4 = 0 OR r.id < $4) AND r.event = 'merge' AND r.cancel = ''
			ORDER BY s.run_id DESC LIMIT $5) ORDER BY run_id, id`, project, codebase, ref, before, maxWaiting)
	if err != nil {
		return nil, fmt.Errorf("read what waits for people on %s: %w", ref, err)
	}
	out := map[string]slipway.WaitingRun{}
	for len(rows) > 0 { // the newest run wins
		id := rows[0].RunID
		n := slices.IndexFunc(rows, func(st *stepRow) bool { return st.RunID != id })
		if n < 0 {
			n = len(rows)
		}
		w := &waiting{runRow: runRow{steps: rows[:n]}, of: map[string][]*stepRow{}, keys: map[string]*stepRow{}}
		for _, st := range w.steps {
			w.of[st.Spec.Service], w.keys[st.Spec.Key] = append(w.of[st.Spec.Service], st), st
		}
		rows = rows[n:]
		if w.Run, err = getRun(ctx, q, id); err != nil {
			return nil, err
		}
		said, err := plan(ctx, q, id)
		if err != nil {
			return nil, err
		}
		w.because = said.Because
		if err := w.since(ctx, q); err != nil {
			return nil, err
		}
		for service, found := range w.services() {
			found.Gates = said.Gates
			out[service] = found
		}
	}
	return out, nil
}

// since finds which services the run is not to deliver any more: later runs have them, or the branch is done with them
// since, or their version is in quarantine. It also finds at which commit they were left to the run.
func (w *waiting) since(ctx context.Context, q querier) error {
	w.taken, w.at = map[string]int64{}, map[string]string{}
	names, err := json.Marshal(w.open())
	if err != nil {
		return fmt.Errorf("encode names of services: %w", err)
	}
	_, err = list(ctx, q, func(r scanner) (by int64, err error) {
		var service, at string
		err = r.Scan(&service, &by, &at)
		w.taken[service], w.at[service] = max(w.taken[service], by), cmp.Or(at, w.at[service])
		return by, err
	}, `SELECT service, CASE WHEN run_id >= $4 THEN run_id ELSE 0 END, CASE WHEN left_to = $4 THEN left_at ELSE '' END FROM built
			WHERE project = $1 AND codebase = $2 AND ref = $3 AND service IN (SELECT value FROM json_each($5))
		UNION ALL SELECT s.service, s.run_id, '' FROM steps s JOIN runs r ON r.id = s.run_id
			WHERE s.project = $1 AND s.service IN (SELECT value FROM json_each($5)) AND s.run_id > $4 AND r.event IN ('merge', 'rollback')`,
		w.Project, w.Codebase, w.Ref, w.ID, string(names))
	if err != nil {
		return fmt.Errorf("look for what came after run #%d: %w", w.ID, err)
	}
	bad, err := list(ctx, q, func(r scanner) (v [2]string, err error) { return v, r.Scan(&v[0], &v[1]) },
		`SELECT service, semver FROM quarantines WHERE project = $1 AND service IN (SELECT value FROM json_each($2)) AND lifted_at = 0`, w.Project, string(names))
	if err != nil {
		return fmt.Errorf("read what is in quarantine: %w", err)
	}
	for _, st := range w.steps {
		if d := st.Spec.Deploy; d != nil && slices.Contains(bad, [2]string{st.Spec.Service, semver(d.Version)}) {
			w.taken[st.Spec.Service] = w.ID
		}
	}
	return nil
}

// open are the services of which something is left to do.
func (w *waiting) open() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.of)), func(service string) bool { return service == "" })
}

// before are the steps of other services that come before those of one, as far as they have not ended well.
func (w *waiting) before(service string) (out []*stepRow) {
	seen := map[string]bool{}
	for todo := slices.Clone(w.of[service]); len(todo) > 0; todo = todo[1:] {
		for _, key := range todo[0].Spec.Needs {
			need := w.keys[key]
			if need == nil || seen[key] {
				continue
			}
			seen[key] = true
			todo = append(todo, need)
			if need.Spec.Service != service {
				out = append(out, need)
			}
		}
	}
	return out
}

// services are those that the run waits for people with; of those that wait for nothing else, more is said.
func (w *waiting) services() map[string]slipway.WaitingRun {
	out := map[string]slipway.WaitingRun{}
	for _, st := range w.steps {
		if _, known := out[st.Spec.Service]; !known && st.State == slipway.StepWaiting {
			out[st.Spec.Service] = slipway.WaitingRun{RunID: w.ID, Environment: st.Spec.Environment, For: st.Spec.Service}
		}
	}
	with := map[string][]string{}
	for _, service := range w.open() {
		with[service] = w.with(service)
	}
	for _, service := range w.idle(with) {
		found, known := out[service]
		for _, st := range w.before(service) {
			if !known && st.State == slipway.StepWaiting {
				found = slipway.WaitingRun{RunID: w.ID, Environment: st.Spec.Environment, For: st.Spec.Service}
			}
		}
		found.Commit, found.With = cmp.Or(w.at[service], w.Commit), with[service]
		out[service] = found
	}
	return out
}

// with are the other services that have a part in what is left to do with one: those of steps that come before its own,
// and those that its change made run, without which the branch is not done with it.
func (w *waiting) with(service string) (out []string) {
	for _, st := range w.before(service) {
		out = append(out, st.Spec.Service)
	}
	for made, because := range w.because {
		if slices.Contains(because, service) {
			out = append(out, made)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s string) bool { return s == service || s == "" })
}

// idle are the services of which no step failed and none can be done by machines, which no later run took up, and of
// which that holds for all that have a part in it.
func (w *waiting) idle(with map[string][]string) []string {
	idle := map[string]bool{}
	for service := range with {
		idle[service] = w.taken[service] == 0
	}
	for _, st := range w.steps {
		idle[st.Spec.Service] = idle[st.Spec.Service] && (st.State == slipway.StepWaiting || st.State == slipway.StepBlocked)
	}
	for again := true; again; {
		again = false
		for service, others := range with {
			if idle[service] && slices.ContainsFunc(others, func(o string) bool { _, open := with[o]; return open && !idle[o] }) {
				idle[service], again = false, true
			}
		}
	}
	maps.DeleteFunc(idle, func(service string, is bool) bool { return !is || service == "" })
	return slices.Sorted(maps.Keys(idle))
}

// ways reads the steps of the services that wait for nothing but people, as they were planned.
func ways(ctx context.Context, q querier, in map[string]slipway.WaitingRun) error {
	runs := map[int64]bool{}
	for _, w := range in {
		runs[w.RunID] = runs[w.RunID] || w.Commit != ""
	}
	for id, wanted := range runs {
		if !wanted {
			continue
		}
		rows, err := list(ctx, q, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 AND (environment <> '' OR kind = 'scan') ORDER BY id`, id)
		if err != nil {
			return fmt.Errorf("read what run #%d has planned: %w", id, err)
		}
		for _, st := range rows {
			if w := in[st.Spec.Service]; w.RunID == id && w.Commit != "" {
				w.Steps = append(w.Steps, st.Spec)
				in[st.Spec.Service] = w
			}
		}
	}
	return nil
}

// left keeps that a plan leaves services to runs that wait for people with them.
func (t *tx) left(r *runRow, p slipway.Plan) error {
	for _, d := range p.Decisions {
		if d.LeftTo == 0 {
			continue
		}
		if _, err := t.exec(`UPDATE built SET left_to = $1, left_at = $2 WHERE project = $3 AND codebase = $4 AND ref = $5 AND service = $6`,
			d.LeftTo, r.Commit, r.Project, r.Codebase, r.Ref, d.Service); err != nil {
			return fmt.Errorf("keep that %s is left to run #%d: %w", d.Service, d.LeftTo, err)
		}
	}
	return nil
}

// stale says why a plan that leaves services to other runs is to be made again; "" when it is not: these still wait.
func (t *tx) stale(r *runRow, p slipway.Plan) (string, error) {
	if !slices.ContainsFunc(p.Decisions, func(d slipway.Decision) bool { return d.LeftTo != 0 }) {
		return "", nil
	}
	now, err := waits(t.ctx, t, r.Project, r.Codebase, r.Ref, r.ID)
	if err != nil {
		return "", err
	}
	for _, d := range p.Decisions {
		if w := now[d.Service]; d.LeftTo != 0 && (w.RunID != d.LeftTo || w.Commit == "") {
			return fmt.Sprintf("planned again: %s was left to run #%d, which does not just wait for people with it any more", d.Service, d.LeftTo), nil
		}
	}
	return "", nil
}
