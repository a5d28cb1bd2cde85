package store

import (
	"strings"
	"testing"
)

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
		args := make([]any, strings.Count(query, "$"))
		plan, err := list(w.ctx, w.reader, func(r scanner) (detail string, err error) {
			var id, parent, unused int
			return detail, r.Scan(&id, &parent, &unused, &detail)
		}, "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		if how := strings.Join(plan, "; "); strings.Contains(how, "SCAN") || !strings.Contains(how, index) {
			t.Errorf("%s\nis answered by %s, not by the index %s", query, how, index)
		}
	}
}
