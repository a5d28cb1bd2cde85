package store

import (
	"bytes"
	"cmp"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/slipway-cd/slipway"
)

// How many reports of a service are kept in short, and how many of them say whether a test is flaky.
const (
	keptMain    = 100 // of the default branch
	keptOthers  = 200
	historySize = 50
)

// testTotals is a row of test_totals: a report in short, with a byte for each test. A row per test would make
// 50,000 of them in the transaction that ends a step, and keeping failures alone would not tell a test that
// passed from one that was not there. The names, which seldom change, are kept once for all reports that have
// the same.
type testTotals struct {
	slipway.TestTotals
	id     int64
	stepID int64
	main   bool
	inputs string
	names  string
	states []byte
}

const testColumns = `id, step_id, run_id, ref, commit_hash, main, inputs, reused_from, passed, failed, skipped, new_failures, flaky, duration, covered, coverable, names, states, created_at`

func scanTests(r scanner) (v testTotals, err error) {
	var c slipway.Coverage
	err = r.Scan(&v.id, &v.stepID, &v.RunID, &v.Ref, &v.Commit, &v.main, &v.inputs, &v.ReusedFrom, &v.Passed, &v.Failed, &v.Skipped, &v.New, &v.Flaky,
		&v.Duration, &c.Covered, &c.Total, &v.names, &v.states, stamp{&v.CreatedAt})
	if c.Total > 0 {
		v.Coverage = &c
	}
	return v, err
}

// preparedReport is a report as it will be stored. It is made outside of the transaction that ends the step:
// a report may have 50,000 tests, and others wait to write.
type preparedReport struct {
	text   []byte // JSON, compressed when it is large
	names  string
	keys   []byte
	states []byte
	took   []byte
	inputs string
}

// prepareReport marks the tests of a result by what is known of earlier ones, and encodes its report.
func (s *Store) prepareReport(ctx context.Context, q querier, run slipway.Run, st slipway.Step, res slipway.Result) (*preparedReport, error) {
	if res.Report == nil {
		return nil, nil
	}
	inputs := cmp.Or(res.Inputs, "commit:"+run.Commit)
	h, err := testHistory(ctx, q, run, st.ID, st.Spec.Service, inputs)
	if err != nil {
		return nil, fmt.Errorf("read the earlier reports of %s: %w", st.Spec.Service, err)
	}
	h.Reused = res.ReusedFrom != 0
	slipway.Annotate(res.Report, h)
	p := &preparedReport{inputs: inputs}
	if p.text, err = packText(data(res.Report)); err != nil {
		return nil, fmt.Errorf("compress report: %w", err)
	}
	states := slipway.StatesOf(*res.Report)
	p.keys = packKeys(states.Keys)
	sum := sha256.Sum256(p.keys)
	p.names = hex.EncodeToString(sum[:])
	if p.states, err = deflate(states.States); err != nil {
		return nil, err
	}
	p.took, err = packTook(states.Took)
	return p, err
}

// AnnotateTests marks in the report of a result which failures are new and which tests are flaky, and puts
// them to the front, for gates that judge it before the step has ended; FinishStep does it again.
func (s *Store) AnnotateTests(ctx context.Context, stepID int64, res slipway.Result) error {
	_, err := s.prepareStep(ctx, stepID, res)
	return err
}

// prepareStep is prepareReport before a transaction; nil when there is no report.
func (s *Store) prepareStep(ctx context.Context, stepID int64, res slipway.Result) (*preparedReport, error) {
	if res.Report == nil {
		return nil, nil
	}
	st, err := s.Step(ctx, stepID)
	if err != nil {
		return nil, err
	}
	run, err := getRun(ctx, s.reader, st.RunID)
	if err != nil {
		return nil, err
	}
	return s.prepareReport(ctx, s.reader, run, st, res)
}

// saveReport records the report of a step and, for its service, the report in short.
func (t *tx) saveReport(r *runRow, st *stepRow, res slipway.Result) error {
	if res.Report == nil {
		return nil
	}
	p := st.report
	if p == nil {
		var err error
		if p, err = t.s.prepareReport(t.ctx, t, r.Run, st.Step, res); err != nil {
			return err
		}
	}
	if _, err := t.exec(`INSERT INTO reports (step_id, report) VALUES ($1, $2) ON CONFLICT (step_id) DO UPDATE SET report = excluded.report`, st.ID, p.text); err != nil {
		return fmt.Errorf("record report: %w", err)
	}
	if _, err := t.exec(`INSERT INTO test_names (digest, names) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING`, p.names, p.keys); err != nil {
		return fmt.Errorf("record the names of tests: %w", err)
	}
	isMain, err := t.onMain(r.Run)
	if err != nil {
		return err
	}
	rep, cov := res.Report, slipway.Coverage{}
	if rep.Coverage != nil {
		cov = *rep.Coverage
	}
	_, err = t.exec(`INSERT INTO test_totals (project, service, run_id, step_id, attempt, ref, commit_hash, main, fork, inputs, reused_from,
		passed, failed, skipped, new_failures, flaky, duration, covered, coverable, names, states, took, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
		ON CONFLICT (step_id, attempt) DO NOTHING`,
		r.Project, st.Spec.Service, r.ID, st.ID, st.Attempt, r.Ref, r.Commit, bit(isMain), bit(r.Fork), p.inputs, res.ReusedFrom,
		rep.Passed, rep.Failed, rep.Skipped, rep.New, rep.Flaky, int64(rep.Duration), cov.Covered, cov.Total, p.names, p.states, p.took, ms(t.now))
	if err != nil {
		return fmt.Errorf("record tests: %w", err)
	}
	return t.pruneTests(r.Project, st.Spec.Service, isMain)
}

func (t *tx) onMain(r slipway.Run) (bool, error) {
	branch, err := defaultBranch(t.ctx, t, r.Project)
	return r.Event == slipway.DefaultPush || r.Ref == "refs/heads/"+branch, err
}

func defaultBranch(ctx context.Context, q querier, project string) (string, error) {
	branch, _, err := one(ctx, q, scanString, `SELECT default_branch FROM projects WHERE name = $1`, project)
	return branch, err
}

// pruneTests forgets the oldest reports of a service in short, and names that none has any more.
func (t *tx) pruneTests(project, service string, isMain bool) error {
	keep := keptOthers
	if isMain {
		keep = keptMain
	}
	n, err := t.exec(`DELETE FROM test_totals WHERE project = $1 AND service = $2 AND main = $3 AND id <= (
		SELECT id FROM test_totals WHERE project = $1 AND service = $2 AND main = $3 ORDER BY id DESC LIMIT 1 OFFSET $4)`,
		project, service, bit(isMain), keep)
	if err != nil {
		return fmt.Errorf("forget old tests: %w", err)
	}
	if n == 0 {
		return nil
	}
	if _, err := t.exec(`DELETE FROM test_names WHERE NOT EXISTS (SELECT 1 FROM test_totals WHERE names = digest)`); err != nil {
		return fmt.Errorf("forget names of tests: %w", err)
	}
	return nil
}

// testHistory is what is known of the tests of a service for a report of a run. Reports that were reused
// say nothing new of a test, and those of forks count for their own pull request only.
func testHistory(ctx context.Context, q querier, run slipway.Run, stepID int64, service, inputs string) (slipway.TestHistory, error) {
	h := slipway.TestHistory{Inputs: inputs}
	rows, err := list(ctx, q, scanTests, `SELECT `+testColumns+` FROM test_totals
		WHERE project = $1 AND service = $2 AND reused_from = 0 AND (fork = 0 OR ref = $3) ORDER BY id DESC LIMIT $4`,
		run.Project, service, run.Ref, historySize)
	if err != nil {
		return h, err
	}
	before, ok, err := testsBefore(ctx, q, run, stepID, service, 0, "")
	if err != nil {
		return h, err
	}
	if ok && !slices.ContainsFunc(rows, func(v testTotals) bool { return v.id == before.id }) {
		before.inputs = "" // a reused report says nothing of its own
		rows = append(rows, before)
	}
	names := map[string][]uint64{}
	for _, row := range rows {
		states, err := readStates(ctx, q, names, row)
		if err != nil {
			return h, err
		}
		h.Past = append(h.Past, slipway.PastTests{Tests: states, Inputs: row.inputs,
			Line: row.ReusedFrom == 0 && (row.main || row.Ref == run.Ref), Before: ok && row.id == before.id})
	}
	return h, nil
}

// testsBefore is the report that one of a run is compared with: of the branch that the run's commit goes to,
// or on the default branch and release branches the one before; false when there is none. Reports with an id
// of below, unless that is 0, and of the step itself are left out; cond may ask for more.
func testsBefore(ctx context.Context, q querier, run slipway.Run, stepID int64, service string, below int64, cond string) (testTotals, bool, error) {
	branch, err := defaultBranch(ctx, q, run.Project)
	if err != nil {
		return testTotals{}, false, err
	}
	var refs []string
	switch main := "refs/heads/" + branch; run.Event {
	case slipway.PullUpdate:
		refs = []string{"refs/heads/" + run.Base, main, run.Ref}
	case slipway.BranchPush:
		refs = []string{main, run.Ref}
	default:
		refs = []string{run.Ref, main}
	}
	for _, ref := range refs {
		row, ok, err := one(ctx, q, scanTests, `SELECT `+testColumns+` FROM test_totals
			WHERE project = $1 AND service = $2 AND ref = $3 AND step_id <> $4 AND ($5 = 0 OR id < $5)
			AND (fork = 0 OR ref = $6) AND passed + failed + skipped > 0 `+cond+` ORDER BY id DESC LIMIT 1`,
			run.Project, service, ref, stepID, below, run.Ref)
		if err != nil || ok {
			return row, ok, err
		}
	}
	return testTotals{}, false, nil
}

// BaseCoverage is the last coverage, without its files, of the branch that a run's commit goes to; on the
// default branch and release branches that of the report before. It is nil when there is none.
func (s *Store) BaseCoverage(ctx context.Context, run slipway.Run, service string) (*slipway.Coverage, error) {
	row, ok, err := testsBefore(ctx, s.reader, run, 0, service, 0, fmt.Sprintf(`AND coverable > 0 AND run_id <> %d`, run.ID))
	if err != nil || !ok {
		return nil, err
	}
	return row.Coverage, nil
}

func readStates(ctx context.Context, q querier, names map[string][]uint64, row testTotals) (slipway.TestStates, error) {
	keys, known := names[row.names]
	if !known {
		packed, ok, err := one(ctx, q, scanText, `SELECT names FROM test_names WHERE digest = $1`, row.names)
		if err != nil {
			return slipway.TestStates{}, err
		}
		if !ok {
			return slipway.TestStates{}, fmt.Errorf("the names of the tests of run #%d are missing", row.RunID)
		}
		keys = unpackKeys(packed)
		names[row.names] = keys
	}
	states, err := inflate(row.states, len(keys))
	if err != nil {
		return slipway.TestStates{}, fmt.Errorf("read the tests of run #%d: %w", row.RunID, err)
	}
	return slipway.TestStates{Keys: keys, States: states}, nil
}

// largeText is the size from which compressing a report is worth it.
const largeText = 32 << 10

// packText compresses a JSON text that is large. The two forms differ in their first byte.
func packText(text []byte) ([]byte, error) {
	if len(text) < largeText {
		return text, nil
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(text)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

func unpackText(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func packKeys(keys []uint64) []byte {
	out := make([]byte, 0, 8*len(keys))
	last := uint64(0)
	for _, k := range keys {
		out = binary.AppendUvarint(out, k-last)
		last = k
	}
	return out
}

func unpackKeys(packed []byte) []uint64 {
	var out []uint64
	last := uint64(0)
	for len(packed) > 0 {
		d, n := binary.Uvarint(packed)
		if n <= 0 {
			return out
		}
		last += d
		out, packed = append(out, last), packed[n:]
	}
	return out
}

func deflate(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

func inflate(b []byte, n int) ([]byte, error) {
	out := make([]byte, n)
	_, err := io.ReadFull(flate.NewReader(bytes.NewReader(b)), out)
	return out, err
}
