package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// maxUnfinished bounds how many earlier runs of a ref are asked what they began. The next run that is planned takes
// it along, so that it is in one of the newest.
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
	_, _, err := one(ctx, q, func(r scanner) (bool, error) { return true, r.Scan(&out.Rest.Commit, &out.Rest.RunID) }, `SELECT commit_hash, id FROM runs
		WHERE project = $1 AND codebase = $2 AND ref = $3 AND state = 'succeeded' AND event IN ('push', 'pull-request', 'merge', 'release') ORDER BY id DESC LIMIT 1`, project, codebase, ref)
	if err != nil {
		return out, fmt.Errorf("read the last run of %s that succeeded: %w", ref, err)
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
	out.Unfinished = map[string]int64{}
	_, err = list(ctx, q, func(r scanner) (id int64, err error) {
		var service string
		err = r.Scan(&service, &id)
		out.Unfinished[service] = id
		return id, err
	}, `SELECT s.service, max(s.run_id) FROM steps s
		LEFT JOIN built b ON b.project = $1 AND b.codebase = $2 AND b.ref = $3 AND b.service = s.service
		WHERE s.run_id IN (SELECT id FROM (SELECT id, state FROM runs WHERE project = $1 AND codebase = $2 AND ref = $3 AND ($4 = 0 OR id < $4) AND event = 'merge'
			ORDER BY id DESC LIMIT $6) WHERE state <> 'succeeded')
		AND s.run_id > coalesce(b.run_id, $5) AND s.service <> ''
		AND (s.state IN ('blocked', 'ready', 'running', 'retrying', 'waiting') OR s.kind IN ('deploy', 'rollback') AND s.attempt > 0)
		GROUP BY s.service`, project, codebase, ref, before, out.Rest.RunID, maxUnfinished)
	if err != nil {
		return out, fmt.Errorf("read what was begun on %s: %w", ref, err)
	}
	out.Turn, err = turn(ctx, q, project, codebase, ref)
	return out, err
}

// builds reports whether services are done with by a run, so that the next push of its ref is compared with it.
func builds(r *runRow) bool {
	return r.Event == slipway.BranchPush || r.Event == slipway.DefaultPush
}

// decided keeps what a plan says of services that its run leaves alone: those that are as they were where they
// were done are done with its commit, and those that are gone with none.
func (t *tx) decided(r *runRow, p slipway.Plan) error {
	var same, gone []string
	for _, d := range p.Decisions {
		switch {
		case d.Removed:
			gone = append(gone, d.Service)
		case d.Unchanged:
			same = append(same, d.Service)
		}
	}
	if !builds(r) || len(p.Decisions) == 0 {
		return nil
	}
	if err := t.takeTurn(r); err != nil {
		return err
	}
	for commit, services := range map[string][]string{r.Commit: same, "": gone} {
		if len(services) == 0 {
			continue
		}
		names, err := json.Marshal(services)
		if err != nil {
			return fmt.Errorf("encode names of services: %w", err)
		}
		if _, err := t.exec(`INSERT INTO built (project, codebase, ref, service, commit_hash, run_id) SELECT $1, $2, $3, value, $4, $5 FROM json_each($6) WHERE true
			ON CONFLICT DO UPDATE SET commit_hash = excluded.commit_hash, run_id = excluded.run_id WHERE excluded.run_id >= built.run_id`,
			r.Project, r.Codebase, r.Ref, commit, r.ID, string(names)); err != nil {
			return fmt.Errorf("keep what run #%d leaves as it is: %w", r.ID, err)
		}
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
		if _, err := t.exec(`INSERT INTO built (project, codebase, ref, service, commit_hash, run_id) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT DO UPDATE SET commit_hash = excluded.commit_hash, run_id = excluded.run_id WHERE excluded.run_id >= built.run_id`,
			r.Project, r.Codebase, r.Ref, service, r.Commit, r.ID); err != nil {
			return fmt.Errorf("keep that run #%d is done with %s: %w", r.ID, service, err)
		}
	}
	return nil
}

// good reports whether all steps of a service have ended well. One without steps has nothing to end.
func (r *runRow) good(service string) bool {
	return !slices.ContainsFunc(r.steps, func(st *stepRow) bool { return st.Spec.Service == service && !(st.State.Final() && st.fulfilled) })
}
