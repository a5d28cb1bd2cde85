package store

import (
	"context"
	"slices"
	"sort"

	"github.com/slipway-cd/slipway"
)

// Runs returns runs, newest first.
func (s *Store) Runs(ctx context.Context, f slipway.RunFilter) ([]slipway.Run, error) {
	q := newQuery(`SELECT ` + runColumns + ` FROM runs`)
	q.where(`id > ?`, 0)
	if f.Project != "" {
		q.where(`project = ?`, f.Project)
	}
	if f.Codebase != "" {
		project, name := slipway.SplitCodebase(f.Codebase)
		q.where(`project = ?`, project)
		q.where(`codebase = ?`, name)
	}
	if f.Ref != "" {
		q.where(`ref = ?`, f.Ref)
	}
	if f.Commit != "" {
		q.where(`commit_hash >= ?`, f.Commit)
		q.where(`commit_hash < ?`, f.Commit+"g")
	}
	if f.State != "" {
		q.where(`state = ?`, f.State)
	}
	switch {
	case f.Service != "" && f.Project != "": // those of the service alone, instead of looking at each run
		q.where(`id IN (SELECT run_id FROM steps WHERE project = ? AND service = ? UNION ALL SELECT id FROM runs WHERE project = ? AND service = ? AND service <> '')`,
			f.Project, f.Service, f.Project, f.Service)
	case f.Service != "":
		q.where(`(service = ? OR EXISTS (SELECT 1 FROM steps s WHERE s.project = runs.project AND s.service = ? AND s.run_id = runs.id))`, f.Service, f.Service)
	}
	if f.Before != 0 {
		q.where(`id < ?`, f.Before)
	}
	q.end(`ORDER BY id DESC`, limit(f.Limit, 50, 200))
	return list(ctx, s.reader, scanRun, q.text(), q.args...)
}

// Run returns a run with all that belongs to it; its newest 500 events.
func (s *Store) Run(ctx context.Context, id int64) (slipway.RunDetail, error) {
	d, err := inputs(ctx, s.reader, id)
	if err != nil {
		return d, err
	}
	if d.Plan, err = plan(ctx, s.reader, id); err != nil {
		return d, err
	}
	d.Plan.Gates = nil // GatesOf has them; pages do not
	if d.Steps, err = s.Steps(ctx, id); err != nil {
		return d, err
	}
	d.Events, err = s.Events(ctx, 0, slipway.EventFilter{RunID: id, Newest: true, Limit: 500})
	return d, err
}

// Steps returns the steps of a run in the order of its plan.
func (s *Store) Steps(ctx context.Context, runID int64) ([]slipway.Step, error) {
	return stepsOf(ctx, s.reader, runID)
}

func stepsOf(ctx context.Context, q querier, runID int64) ([]slipway.Step, error) {
	rows, err := list(ctx, q, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 ORDER BY id`, runID)
	out := make([]slipway.Step, len(rows))
	for i, row := range rows {
		out[i] = row.Step
	}
	return out, err
}

// Step returns a step.
func (s *Store) Step(ctx context.Context, id int64) (slipway.Step, error) {
	row, ok, err := one(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE id = $1`, id)
	if err != nil {
		return slipway.Step{}, err
	}
	if !ok {
		return slipway.Step{}, slipway.Errorf(slipway.NotFound, "step %d does not exist", id)
	}
	return row.Step, nil
}

// Board returns what of a project runs where. services and environments say what is shown, in which
// order; what was deployed or built besides them is appended.
func (s *Store) Board(ctx context.Context, project string, services, environments []string) (slipway.Board, error) {
	b := slipway.Board{Project: project, Environments: slices.Clone(environments), Rows: []slipway.BoardRow{}}
	current, err := deployments(ctx, s.reader, `id IN (SELECT max(id) FROM deployments WHERE project = $1
		AND state IN ('deployed', 'verified', 'unhealthy') GROUP BY environment, service) ORDER BY id`, project)
	if err != nil {
		return b, err
	}
	pending, err := deployments(ctx, s.reader, `project = $1 AND state = 'deploying' AND EXISTS (SELECT 1 FROM steps s
		WHERE s.run_id = deployments.run_id AND s.key = deployments.step AND s.state IN ('ready', 'running', 'retrying')) ORDER BY id`, project)
	if err != nil {
		return b, err
	}
	waiting, err := approvals(ctx, s.reader, `project = $1 AND state = 'waiting' ORDER BY id`, project)
	if err != nil {
		return b, err
	}
	last, err := s.lastRuns(ctx, project)
	if err != nil {
		return b, err
	}
	services = boardNames(&b, services, current, pending, waiting, last)
	for _, name := range services {
		row := slipway.BoardRow{Service: name, Cells: make([]slipway.BoardCell, len(b.Environments)), LastRun: last[name]}
		for i, env := range b.Environments {
			row.Cells[i].Environment = env
		}
		b.Rows = append(b.Rows, row)
	}
	fillBoard(&b, current, pending, waiting)
	return b, nil
}

// boardNames adds to the board's environments, and to services, those that only the data knows.
func boardNames(b *slipway.Board, services []string, current, pending []slipway.Deployment, waiting []slipway.Approval, last map[string]*slipway.Run) []string {
	services = slices.Clone(services)
	var moreServices, moreEnvs []string
	knownServices, knownEnvs := places(services), places(b.Environments)
	add := func(known map[string]int, more *[]string, name string) {
		if _, ok := known[name]; name != "" && !ok {
			known[name] = -1
			*more = append(*more, name)
		}
	}
	for _, d := range slices.Concat(current, pending) {
		add(knownServices, &moreServices, d.Target.Service)
		add(knownEnvs, &moreEnvs, d.Target.Environment)
	}
	for _, a := range waiting {
		add(knownServices, &moreServices, a.Service)
		add(knownEnvs, &moreEnvs, a.Environment)
	}
	for name := range last {
		add(knownServices, &moreServices, name)
	}
	sort.Strings(moreServices)
	b.Environments = append(b.Environments, moreEnvs...)
	return append(services, moreServices...)
}

// places says where each name of a list stands.
func places(names []string) map[string]int {
	at := make(map[string]int, len(names))
	for i, name := range names {
		at[name] = i
	}
	return at
}

func fillBoard(b *slipway.Board, current, pending []slipway.Deployment, waiting []slipway.Approval) {
	rows, columns := map[string]int{}, places(b.Environments)
	for i := range b.Rows {
		rows[b.Rows[i].Service] = i
	}
	cell := func(service, env string) *slipway.BoardCell {
		i, known := rows[service]
		j, there := columns[env]
		if !known || !there {
			return &slipway.BoardCell{}
		}
		return &b.Rows[i].Cells[j]
	}
	for i := range current {
		cell(current[i].Target.Service, current[i].Target.Environment).Current = &current[i]
	}
	for i := range pending {
		cell(pending[i].Target.Service, pending[i].Target.Environment).Pending = &pending[i]
	}
	for i := range waiting {
		cell(waiting[i].Service, waiting[i].Environment).Approval = &waiting[i]
	}
}

// lastRuns returns the newest run of each service of a project.
func (s *Store) lastRuns(ctx context.Context, project string) (map[string]*slipway.Run, error) {
	type pair struct {
		service string
		run     int64
	}
	pairs, err := list(ctx, s.reader, func(r scanner) (p pair, err error) { return p, r.Scan(&p.service, &p.run) },
		// from one service to the next through the index, instead of reading every step
		`WITH RECURSIVE names (service) AS (
			SELECT min(service) FROM steps WHERE project = $1 AND service > ''
			UNION ALL SELECT (SELECT min(service) FROM steps WHERE project = $1 AND service > names.service) FROM names WHERE names.service IS NOT NULL
		) SELECT service, (SELECT max(run_id) FROM steps s WHERE s.project = $1 AND s.service = names.service) FROM names WHERE service IS NOT NULL`, project)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(pairs))
	for i, p := range pairs {
		ids[i] = p.run
	}
	runs, err := list(ctx, s.reader, scanRun, `SELECT `+runColumns+` FROM runs WHERE id IN (SELECT value FROM json_each($1))`, string(data(ids)))
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]*slipway.Run, len(runs))
	for i := range runs {
		byID[runs[i].ID] = &runs[i]
	}
	out := make(map[string]*slipway.Run, len(pairs))
	for _, p := range pairs {
		out[p.service] = byID[p.run]
	}
	return out, nil
}

// Metrics counts rows by state: "runs", "steps" (those that are not over), "approvals", "deployments",
// "pulls", and "events". It takes no longer when there are more of them.
func (s *Store) Metrics(ctx context.Context) (map[string]map[string]int64, error) {
	type count struct {
		table, state string
		n            int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (c count, err error) { return c, r.Scan(&c.table, &c.state, &c.n) },
		`SELECT name, state, n FROM totals WHERE n <> 0
		UNION ALL SELECT 'steps', state, count(*) FROM steps WHERE state IN ('ready', 'running', 'retrying', 'waiting') GROUP BY state
		UNION ALL SELECT 'events', 'written', coalesce(max(id), 0) FROM events`)
	out := map[string]map[string]int64{}
	for _, c := range rows {
		if out[c.table] == nil {
			out[c.table] = map[string]int64{}
		}
		out[c.table][c.state] = c.n
	}
	return out, err
}

// PutJournal keeps a value of a step under a key; it is durable when PutJournal returns.
func (s *Store) PutJournal(ctx context.Context, stepID int64, key string, value []byte) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO journal (step_id, key, value) VALUES ($1, $2, $3)
			ON CONFLICT (step_id, key) DO UPDATE SET value = excluded.value`, stepID, key, string(value))
		return err
	})
}

// Journal returns the value of a step under a key, and whether there is one.
func (s *Store) Journal(ctx context.Context, stepID int64, key string) ([]byte, bool, error) {
	v, ok, err := one(ctx, s.reader, scanString, `SELECT value FROM journal WHERE step_id = $1 AND key = $2`, stepID, key)
	return []byte(v), ok, err
}
