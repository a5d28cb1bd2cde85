package store

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// small are tables that do not grow with what is delivered, by the name that queries give them.
var small = []string{"accounts", "clusters", "codebases", "connections", "credentials", "deploy_keys", "keys", "links", "locks", "members", "projects", "robots", "sessions", "totals", "u", "users"}

// scans are the queries that may read a whole table, by a part of their text, and why.
var scans = map[string]string{
	"SELECT hash FROM events ORDER BY id DESC LIMIT 1":                                                         "the first row is the last one read",
	"FROM approvals WHERE id > 0 ORDER BY id DESC":                                                             "every row that is read is wanted",
	"key, hash FROM events ORDER BY id":                                                                        "the chain is verified by reading it; an admin asks",
	"SELECT id FROM runs WHERE created_at >= $1 UNION":                                                         "once an hour at most",
	"DELETE FROM test_names WHERE NOT EXISTS":                                                                  "once an hour at most",
	"SELECT project FROM deployments WHERE target LIKE $1 ORDER":                                               "only the first deployment of a project to a namespace asks",
	"WHERE state IN ('deployed', 'verified', 'unhealthy') GROUP BY project, environment, service) ORDER BY id": "the index has what runs, one row of each target",
}

// planOf is how SQLite answers a query.
func planOf(ctx context.Context, q querier, query string) (string, error) {
	args := make([]any, strings.Count(query, "$"))
	plan, err := list(ctx, q, func(r scanner) (detail string, err error) {
		var id, parent, unused int
		return detail, r.Scan(&id, &parent, &unused, &detail)
	}, "EXPLAIN QUERY PLAN "+query, args...)
	return strings.Join(plan, "; "), err
}

// TestStepsAreFoundByIndex asks SQLite how it answers what is asked at the end of each step and run, and for each page of
// releases: a table of all steps or deployments that there ever were is not read for it.
func TestStepsAreFoundByIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for query, index := range map[string]string{
		stepsBehind:      "steps_behind",
		waitingForLock:   "steps_lock",
		nextForLock:      "steps_lock",
		newestOfReleases: "deployments_image",
	} {
		how, err := planOf(w.ctx, w.reader, query)
		if err != nil {
			t.Fatal(err)
		}
		if readWhole(how) != "" || !strings.Contains(how, index) {
			t.Errorf("%s\nis answered by %s, not by the index %s", query, how, index)
		}
	}
}

// TestScansAreSeen proves that the check of all queries finds one that reads a table from end to end.
func TestScansAreSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for query, want := range map[string]bool{
		`SELECT id FROM runs WHERE title = $1`:                           true,
		`SELECT state, count(*) FROM runs GROUP BY state`:                true,
		`SELECT id FROM runs WHERE ref = $1 ORDER BY id DESC`:            true,
		`SELECT id FROM runs WHERE project = $1 AND ref = $2`:            false,
		`SELECT name FROM projects`:                                      false,
		`SELECT max(id) FROM events`:                                     false,
		`SELECT a FROM (SELECT id AS a FROM runs WHERE id = $1) LIMIT 1`: false,
	} {
		how, err := planOf(w.ctx, w.reader, query)
		if err != nil {
			t.Fatal(err)
		}
		if got := readWhole(how); (got != "") != want {
			t.Errorf("%s: %q is scanned by %s", query, got, how)
		}
	}
}

var scanExpr = regexp.MustCompile(`SCAN ([a-z_]+)`)

// readWhole is a table that a plan reads from end to end and that is not small, "" for none.
func readWhole(how string) string {
	for _, m := range scanExpr.FindAllStringSubmatch(how, -1) {
		if !slices.Contains(small, m[1]) && !strings.Contains(how, "CO-ROUTINE "+m[1]) && m[1] != "json_each" {
			return m[1]
		}
	}
	return ""
}

// recorded runs the tests and then asks SQLite how it answers each of the queries that they made the store ask.
type recorded struct{ *testing.M }

// Run implements goleak.TestingM.
func (r recorded) Run() int {
	code := r.M.Run()
	if err := asked.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

func (q *queries) check() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "slipway-plans-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := Open(ctx, filepath.Join(dir, "slipway.db"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var found []string
	for _, query := range slices.Sorted(maps.Keys(q.seen)) {
		text := strings.Join(strings.Fields(query), " ")
		// What refers to a row is looked for where one goes, which is not when one comes.
		if _, err := s.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA foreign_keys = %d`, bit(!strings.HasPrefix(text, "INSERT")))); err != nil {
			return err
		}
		how, err := planOf(ctx, s.writer, query)
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		if table := readWhole(how); table != "" && !allowed(text) {
			found = append(found, fmt.Sprintf("reads all %s: %s\n\t%s", table, text, how))
		}
	}
	if found != nil {
		return fmt.Errorf("queries that take longer with each delivery; they need an index, or a line in scans that says why not:\n%s", strings.Join(found, "\n"))
	}
	return nil
}

func allowed(text string) bool {
	for part := range scans {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
