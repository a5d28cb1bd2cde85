package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// maxUnfinished bounds how many earlier runs of a ref are asked what they began of services of which nothing is known
// by name. The next run that is planned takes these along, so that they are in one of the newest.
const maxUnfinished = 100

// Built says with which commits the services of a codebase's ref were done, and which of them runs before a
// run (0: all) began with and are not done with, all at one moment.
func (s *Store) Built(ctx context.Context, project, codebase, ref string, before int64) (slipway.Built, error) {
	now, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return slipway.Built{}, dbError(err)
	}
	defer now.Rollback() //nolint:errcheck // it only reads
	return built(ctx, now, project, codebase, ref, before)
}

func built(ctx context.Context, q querier, project, codebase, ref string, before int64) (slipway.Built, error) {
	out := slipway.Built{}
	var err error
	if out.Rest, err = rest(ctx, q, project, codebase, ref); err != nil {
		return out, err
	}
	out.Services = map[string]slipway.Done{}
	_, err = list(ctx, q, func(r scanner) (v slipway.Done, err error) {
		var service string
		err = r.Scan(&service, &v.Commit, &v.RunID)
		out.Services[service] = v
		return v, err
	}, `SELECT service, commit_hash, run_id FROM built WHERE project = $1 AND codebase = $2 AND ref = $3`, project, codebase, ref)
	if err != nil {
		return out, fmt.Errorf("read what was done on %s: %w", ref, err)
	}
	if out.Unfinished, err = unfinished(ctx, q, project, codebase, ref, before, out.Rest.RunID); err != nil {
		return out, err
	}
	if out.Waiting, err = waits(ctx, q, project, codebase, ref, before); err != nil {
		return out, err
	}
	if err := ways(ctx, q, out.Waiting); err != nil {
		return out, err
	}
	out.Turn, err = turn(ctx, q, project, codebase, ref)
	return out, err
}

// stepBegun is a step with which a run has begun, or is to, what it may leave behind.
const stepBegun = `(s.state IN ('blocked', 'ready', 'running', 'retrying', 'waiting') OR s.kind IN ('deploy', 'rollback') AND s.attempt > 0)`

// unfinished are the newest runs of the default branch before a run (0: all) that began with services after the branch
// was done with them. One of which nothing is known by name was in the run called rest.
func unfinished(ctx context.Context, q querier, project, codebase, ref string, before, rest int64) (map[string]int64, error) {
	out := map[string]int64{}
	_, err := list(ctx, q, func(r scanner) (id int64, err error) {
		var service string
		err = r.Scan(&service, &id)
		out[service] = id
		return id, err
	}, `SELECT b.service, coalesce((SELECT s.run_id FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.project = b.project AND s.service = b.service AND s.run_id > b.run_id
			AND r.codebase = $2 AND r.ref = $3 AND ($4 = 0 OR r.id < $4) AND r.event = 'merge' AND r.state <> 'succeeded' AND `+stepBegun+` ORDER BY s.run_id DESC LIMIT 1), 0) AS id
		FROM built b WHERE b.project = $1 AND b.codebase = $2 AND b.ref = $3 AND id <> 0
		UNION ALL SELECT s.service, max(s.run_id) FROM steps s
		WHERE s.run_id IN (SELECT id FROM (SELECT id, state FROM runs WHERE project = $1 AND codebase = $2 AND ref = $3 AND ($4 = 0 OR id < $4) AND event = 'merge'
			ORDER BY id DESC LIMIT $6) WHERE state <> 'succeeded')
		AND s.run_id > $5 AND s.service <> '' AND `+stepBegun+`
		AND NOT EXISTS (SELECT 1 FROM built b WHERE b.project = $1 AND b.codebase = $2 AND b.ref = $3 AND b.service = s.service)
		GROUP BY s.service`, project, codebase, ref, before, rest, maxUnfinished)
	if err != nil {
		return nil, fmt.Errorf("read what was begun on %s: %w", ref, err)
	}
	return out, nil
}

// rest is the newest run of a ref that succeeded as a whole.
func rest(ctx context.Context, q querier, project, codebase, ref string) (slipway.Done, error) {
	d, _, err := one(ctx, q, func(r scanner) (v slipway.Done, err error) { return v, r.Scan(&v.Commit, &v.RunID) }, `SELECT commit_hash, id FROM runs
		WHERE project = $1 AND codebase = $2 AND ref = $3 AND state = 'succeeded' AND event IN ('push', 'pull-request', 'merge', 'release') ORDER BY id DESC LIMIT 1`, project, codebase, ref)
	if err != nil {
		return d, fmt.Errorf("read the last run of %s that succeeded: %w", ref, err)
	}
	return d, nil
}

// builds reports whether services are done with by a run, so that the next push of its ref is compared with it.
func builds(r *runRow) bool {
	return r.Event == slipway.BranchPush || r.Event == slipway.DefaultPush
}

// decided keeps what a plan says of services that its run leaves alone: those that are as they were where they
// were done are done with its commit, and those that are gone with none. The others, which run or are left out by
// their trigger or left to an earlier run, stay done with what they were, however well the run ends without them.
func (t *tx) decided(r *runRow, p slipway.Plan) error {
	if !builds(r) || len(p.Decisions) == 0 {
		return nil
	}
	if err := t.takeTurn(r); err != nil {
		return err
	}
	var same, gone, other []string
	for _, d := range p.Decisions {
		switch {
		case d.Service == "":
		case d.Removed:
			gone = append(gone, d.Service)
		case d.Unchanged:
			same = append(same, d.Service)
		default:
			other = append(other, d.Service)
		}
	}
	before, err := rest(t.ctx, t, r.Project, r.Codebase, r.Ref)
	if err != nil {
		return err
	}
	if err := t.doneAt(r, other, before, `NOTHING`); err != nil {
		return err
	}
	if err := t.doneAt(r, same, slipway.Done{Commit: r.Commit, RunID: r.ID}, newest); err != nil {
		return err
	}
	if err := t.left(r, p); err != nil {
		return err
	}
	return t.doneAt(r, gone, slipway.Done{RunID: r.ID}, newest)
}

// newest is what is done where something is known of a service: what the later run says holds.
const newest = `UPDATE SET commit_hash = excluded.commit_hash, run_id = excluded.run_id WHERE excluded.run_id >= built.run_id`

// doneAt keeps that the branch of a run is done with services at a commit.
func (t *tx) doneAt(r *runRow, services []string, at slipway.Done, known string) error {
	if len(services) == 0 {
		return nil
	}
	names, err := json.Marshal(services)
	if err != nil {
		return fmt.Errorf("encode names of services: %w", err)
	}
	if _, err := t.exec(`INSERT INTO built (project, codebase, ref, service, commit_hash, run_id) SELECT $1, $2, $3, value, $4, $5 FROM json_each($6) WHERE true
		ON CONFLICT DO `+known, r.Project, r.Codebase, r.Ref, at.Commit, at.RunID, string(names)); err != nil {
		return fmt.Errorf("keep what run #%d is done with: %w", r.ID, err)
	}
	return nil
}

// done keeps the services that the run is done with now that steps of some have ended; what a later run said holds. One whose change made
// others run is done when these are.
func (t *tx) done(r *runRow) error {
	ended := r.ended
	r.ended = nil
	if !builds(r) {
		return nil
	}
	ended = slices.DeleteFunc(ended, func(service string) bool { return !r.good(service) })
	if len(ended) == 0 {
		return nil
	}
	p, err := plan(t.ctx, t, r.ID)
	if err != nil {
		return err
	}
	made := map[string][]string{} // service -> those that its change made run
	for service, because := range p.Because {
		for _, by := range because {
			made[by] = append(made[by], service)
		}
		if slices.Contains(ended, service) {
			ended = append(ended, because...)
		}
	}
	slices.Sort(ended)
	for _, service := range slices.Compact(ended) {
		if !r.good(service) || slices.ContainsFunc(made[service], func(s string) bool { return !r.good(s) }) {
			continue
		}
		if err := t.doneAt(r, []string{service}, slipway.Done{Commit: r.Commit, RunID: r.ID}, newest); err != nil {
			return err
		}
	}
	return nil
}

// good reports whether all steps of a service have ended well. One without steps has nothing to end.
func (r *runRow) good(service string) bool {
	return !slices.ContainsFunc(r.steps, func(st *stepRow) bool { return st.Spec.Service == service && !(st.State.Final() && st.fulfilled) })
}
