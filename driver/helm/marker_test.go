package helm

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// counted is a driver that counts what it is asked.
type counted struct {
	driver.Driver
	queries int
}

func (c *counted) Query(labels map[string]string) ([]release.Releaser, error) {
	c.queries++
	return c.Driver.Query(labels)
}

// Within an operation a history is read once until something is written, and what Helm changes of a
// revision before it stores it is not seen by the next who reads.
func TestMarkerReadsOnce(t *testing.T) {
	t.Parallel()
	inner := &counted{Driver: driver.NewMemory()}
	m := &marker{Driver: inner}
	rel := &relv1.Release{Name: "delivery", Namespace: "default", Version: 1, Info: &relv1.Info{Status: common.StatusDeployed}}
	if err := m.Create("sh.helm.release.v1.delivery.v1", rel); err != nil {
		t.Fatal(err)
	}
	history := map[string]string{"name": "delivery", "owner": "helm"}
	read := func(queries int) *relv1.Release {
		t.Helper()
		list, err := m.Query(history)
		if err != nil || len(list) != 1 {
			t.Fatalf("%d revisions, %v", len(list), err)
		}
		if inner.queries != queries {
			t.Fatalf("the cluster was asked %d times, not %d", inner.queries, queries)
		}
		got, err := v1(list[0])
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := read(1)
	first.Info.Status = common.StatusSuperseded
	if got := read(1).Info.Status; got != common.StatusDeployed {
		t.Errorf("a revision that was not stored is %s", got)
	}
	if err := m.Update("sh.helm.release.v1.delivery.v1", first); err != nil {
		t.Fatal(err)
	}
	if got := read(2).Info.Status; got != common.StatusSuperseded {
		t.Errorf("the stored revision is %s", got)
	}
	deployed := map[string]string{"name": "delivery", "owner": "helm", "status": "deployed"}
	if list, err := m.Query(deployed); inner.queries != 2 || !errors.Is(err, driver.ErrReleaseNotFound) {
		t.Errorf("of the history that was read, none is deployed: %v, %v after %d questions", list, err, inner.queries)
	}
	if list, err := m.Query(map[string]string{"name": "delivery", "owner": "helm", "status": "superseded"}); inner.queries != 2 || len(list) != 1 {
		t.Errorf("of the history that was read, one is superseded: %v, %v after %d questions", list, err, inner.queries)
	}
	if _, err := m.Query(map[string]string{"name": "other", "owner": "helm", "status": "deployed"}); inner.queries != 3 {
		t.Errorf("another release was not asked for: %v", err)
	}
	if _, err := m.Delete("sh.helm.release.v1.delivery.v1"); err != nil {
		t.Fatal(err)
	}
	if list, err := m.Query(history); err == nil {
		t.Errorf("a revision that is gone is still there: %v", list)
	}
}

// What Apply returns is what the history has; when Helm could not write everything, only the history tells.
func TestApplyReturnsWhatIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld()
	c := w.client()
	apply := func(run int64, intent string) deploy.Revision {
		t.Helper()
		req := deploy.NewRequest(desired(run, digestA), pack(t, chartFiles()))
		req.Marks.Intent = intent
		made, err := c.Apply(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	for run, intent := range []string{"install", "upgrade"} {
		made := apply(int64(run), intent)
		history, err := c.History(t.Context(), qa())
		history[0].Stored = nil
		if err != nil || made.Marks.Intent != intent || made.Status != deploy.StatusDeployed || made != history[0] {
			t.Errorf("%+v, %v\nhistory %+v", made, err, history)
		}
	}
	w.fail = func(op, key string) error {
		if op == "update" && strings.HasSuffix(key, ".v2") {
			return errDead
		}
		return nil
	}
	if made := apply(3, "beside"); made != (deploy.Revision{}) {
		t.Errorf("although revision 2 could not be marked: %+v", made)
	}
	if history, err := c.History(t.Context(), qa()); err != nil || history[0].Status != deploy.StatusDeployed || history[1].Status != deploy.StatusDeployed {
		t.Errorf("%+v, %v", history, err)
	}
}

// An upgrade goes on from the history that was just seen, without asking for it again. Where another client was quicker,
// the cluster refuses its revision: nothing is applied, and trying again may help.
func TestApplyGoesOnFromWhatWasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld()
	c := w.client()
	request := func(run int64, intent string, seen []deploy.Revision) deploy.Request {
		req := deploy.NewRequest(desired(run, digestA), pack(t, chartFiles()))
		req.Marks.Intent, req.Seen = intent, seen
		return req
	}
	see := func() []deploy.Revision {
		t.Helper()
		seen, err := c.History(t.Context(), qa())
		if err != nil {
			t.Fatal(err)
		}
		w.ops = nil
		return seen
	}
	if _, err := c.Apply(t.Context(), request(1, "first", nil)); err != nil {
		t.Fatal(err)
	}
	made, err := c.Apply(t.Context(), request(2, "second", see()))
	if err != nil || made.Number != 2 || made.Marks.Intent != "second" {
		t.Fatalf("%+v, %v", made, err)
	}
	if at := slices.Index(w.ops, "create sh.helm.release.v1.delivery.v2"); at < 0 || slices.ContainsFunc(w.ops[:at], func(op string) bool { return strings.HasPrefix(op, "query") }) {
		t.Errorf("before its revision it asked again: %q", w.ops)
	}
	seen := see()
	if _, err := c.Apply(t.Context(), request(3, "by another", nil)); err != nil {
		t.Fatal(err)
	}
	w.ops = nil
	if made, err := c.Apply(t.Context(), request(4, "late", seen)); slipway.ErrorCode(err) != slipway.Unavailable || made.Number != 0 {
		t.Errorf("over a revision that it did not see: %+v, %v", made, err)
	}
	if slices.Contains(w.ops, "apply ") {
		t.Errorf("it applied objects: %q", w.ops)
	}
	if history := see(); len(history) != 3 || history[0].Marks.Intent != "by another" || history[0].Status != deploy.StatusDeployed {
		t.Errorf("%+v", history)
	}
}

// TestMarksAreNotInherited: Helm hands the labels of a revision on to the next one; a revision that
// another client made on top of ours is still not ours.
func TestMarksAreNotInherited(t *testing.T) {
	t.Parallel()
	w := newWorld()
	req := deploy.NewRequest(desired(1, digestA), pack(t, chartFiles()))
	req.Marks.Intent = "ours"
	if _, err := w.client().Apply(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	last, err := w.mem.Query(map[string]string{"name": "delivery", "owner": "helm"})
	if err != nil {
		t.Fatal(err)
	}
	byHand := copied(last[0]).(*relv1.Release)
	byHand.Version = 2
	if err := w.mem.Create("sh.helm.release.v1.delivery.v2", byHand); err != nil {
		t.Fatal(err)
	}
	history, err := w.client().History(t.Context(), qa())
	if err != nil || len(history) != 2 || history[0].Marks.Intent != "" || history[1].Marks.Intent != "ours" {
		t.Errorf("%+v, %v", history, err)
	}
}
