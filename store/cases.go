package store

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Bounds of the history of tests by name.
const (
	maxNamed   = 20 // tests of one name
	maxReports = 5  // reports that a name is looked for in
)

// CaseHistory returns how the tests that a filter selects ended in the reports of a service that are kept, and
// why they are flaky. A test that is named with its suite or class is known by that; only a name is looked for in the
// newest reports. NotFound when no report has it.
func (s *Store) CaseHistory(ctx context.Context, f slipway.CaseFilter) ([]slipway.CaseHistory, error) {
	rows, err := s.testRows(ctx, f.Project, f.Service, f.Ref, keptMain+keptOthers)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, noTests(f.Project, f.Service, f.Ref)
	}
	found, keys, err := s.cases(ctx, rows, f)
	if err != nil {
		return nil, err
	}
	past := slipway.TestHistory{}
	var runs []int64
	names, have := map[string][]uint64{}, 0
	for _, row := range rows {
		states, err := readStates(ctx, s.reader, names, row)
		if err != nil {
			return nil, err
		}
		n, err := s.addResults(ctx, row, states, found, keys)
		if err != nil {
			return nil, err
		}
		have += n
		if row.ReusedFrom == 0 && len(past.Past) < historySize {
			past.Past = append(past.Past, slipway.PastTests{Tests: states, Inputs: row.inputs, Line: row.main || row.Ref == rows[0].Ref})
			runs = append(runs, row.RunID)
		}
	}
	if have == 0 {
		return nil, noCase(f)
	}
	for i := range found {
		found[i].Why = past.Flaky(keys[i], runs)
		found[i].Flaky = found[i].Why != ""
		found[i].Trace()
	}
	return found, nil
}

func noCase(f slipway.CaseFilter) error {
	if where := cmp.Or(f.Class, f.Suite); where != "" {
		return slipway.Errorf(slipway.NotFound, "no report of %s that is kept has a test %q of %q", f.Service, f.Name, where)
	}
	return slipway.Errorf(slipway.NotFound, "no test named %q is in the newest reports of %s", f.Name, f.Service)
}

// cases are the tests that a filter selects, with their keys.
func (s *Store) cases(ctx context.Context, rows []testTotals, f slipway.CaseFilter) ([]slipway.CaseHistory, []uint64, error) {
	if f.Suite+f.Class != "" {
		key := slipway.TestKey(f.Suite, slipway.TestCase{Class: f.Class, Name: f.Name})
		return []slipway.CaseHistory{{Suite: f.Suite, Class: f.Class, Case: f.Name, Results: []slipway.CaseResult{}}}, []uint64{key}, nil
	}
	looked := map[int64]bool{}
	for _, row := range rows {
		if len(looked) == maxReports {
			break
		}
		if looked[row.stepID] {
			continue
		}
		looked[row.stepID] = true
		report, err := s.Report(ctx, row.stepID)
		if err != nil {
			return nil, nil, err
		}
		if found, keys := named(report, f.Name); len(found) > 0 {
			return found, keys, nil
		}
	}
	return nil, nil, noCase(f)
}

// named are the tests of a report that a person may mean.
func named(r slipway.TestReport, name string) (found []slipway.CaseHistory, keys []uint64) {
	seen := map[uint64]bool{}
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			where, ok := strings.CutSuffix(name, c.Name)
			if !ok || (where != "" && (strings.TrimSuffix(where, where[len(where)-1:]) != cmp.Or(c.Class, suite.Name) || !strings.ContainsAny(where[len(where)-1:], "./ "))) {
				continue
			}
			key := slipway.TestKey(suite.Name, c)
			if seen[key] || len(found) == maxNamed {
				continue
			}
			seen[key] = true
			keys = append(keys, key)
			found = append(found, slipway.CaseHistory{Suite: suite.Name, Class: c.Class, Case: c.Name, Results: []slipway.CaseResult{}})
		}
	}
	return found, keys
}

// addResults adds how tests ended in a report, and returns how many of them it has.
func (s *Store) addResults(ctx context.Context, row testTotals, states slipway.TestStates, found []slipway.CaseHistory, keys []uint64) (n int, err error) {
	var packed []byte
	for i, key := range keys {
		state, ok := states.Of(key)
		if !ok {
			continue
		}
		if n++; n == 1 {
			if packed, _, err = one(ctx, s.reader, scanBlob, `SELECT took FROM test_totals WHERE id = $1`, row.id); err != nil {
				return n, err
			}
		}
		r := slipway.CaseResult{RunID: row.RunID, Ref: row.Ref, Commit: row.Commit, State: state, Reran: states.Reran(key), ReusedFrom: row.ReusedFrom, CreatedAt: row.CreatedAt}
		if len(packed) > 0 {
			at, _ := slices.BinarySearch(states.Keys, key)
			took, err := unpackTook(packed, at)
			if err != nil {
				return n, fmt.Errorf("read how long the tests of run #%d took: %w", row.RunID, err)
			}
			r.Duration = &took
		}
		found[i].Results = append(found[i].Results, r)
	}
	return n, nil
}

// tookBlock is how many durations are compressed together: one is read without the others.
const tookBlock = 1024

// packTook keeps durations in milliseconds, as varints: blocks of tookBlock, each compressed and after its length.
func packTook(took []time.Duration) ([]byte, error) {
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	var out, text []byte
	for block := range slices.Chunk(took, tookBlock) {
		text = text[:0]
		for _, d := range block {
			text = binary.AppendUvarint(text, uint64(max(0, d.Round(time.Millisecond).Milliseconds())))
		}
		packed.Reset()
		z.Reset(&packed)
		_, err := z.Write(text)
		if err := errors.Join(err, z.Close()); err != nil {
			return nil, err
		}
		out = binary.AppendUvarint(out, uint64(packed.Len()))
		out = append(out, packed.Bytes()...)
	}
	return out, nil
}

// unpackTook is the duration at a place.
func unpackTook(packed []byte, at int) (time.Duration, error) {
	for ; ; at -= tookBlock {
		n, size := binary.Uvarint(packed)
		if size <= 0 || n > uint64(len(packed)-size) {
			return 0, io.ErrUnexpectedEOF
		}
		packed = packed[size:]
		if at < tookBlock {
			packed = packed[:n]
			break
		}
		packed = packed[n:]
	}
	text := bufio.NewReaderSize(flate.NewReader(bytes.NewReader(packed)), tookBlock)
	for {
		ms, err := binary.ReadUvarint(text)
		if err != nil || at == 0 {
			return time.Duration(ms) * time.Millisecond, err
		}
		at--
	}
}
