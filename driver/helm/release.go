package helm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// Labels of the secrets in which Helm keeps revisions.
const (
	labelIntent   = "slipway.dev/intent"
	labelRevision = "slipway.dev/revision" // the revision that the marks were made for: Helm hands labels on to later ones
	labelRun      = "slipway.dev/run"
	labelVersion  = "slipway.dev/version"
	labelCommit   = "slipway.dev/commit"
	labelImage    = "slipway.dev/image"
	labelChart    = "slipway.dev/chart"
	labelValues   = "slipway.dev/values"
)

// marker is a storage driver that puts marks on the revisions that are made through it. It remembers
// what it read until it writes: one operation of Helm reads the same history several times, and to
// fetch and unpack ten revisions takes as long as to apply a small chart. Should somebody else make a
// revision meanwhile, the next write is refused by the cluster as it is without this.
type marker struct {
	driver.Driver
	marks   deploy.Marks
	settled bool // shows moving revisions as failed, and stores nothing: for previews

	mu     sync.Mutex
	read   map[string][]release.Releaser // by the labels that were asked for
	failed bool                          // a write did
}

// Create stores a new revision with the marks.
func (m *marker) Create(key string, r release.Releaser) error {
	if m.settled {
		return errors.New("a preview stores nothing")
	}
	if rel, ok := r.(*relv1.Release); ok {
		labels := maps.Clone(rel.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, map[string]string{
			labelIntent: m.marks.Intent, labelRevision: strconv.Itoa(rel.Version), labelRun: m.marks.Run,
			labelVersion: m.marks.Version, labelCommit: m.marks.Commit,
			labelImage: m.marks.Image, labelChart: m.marks.Chart, labelValues: m.marks.Values,
		})
		rel.Labels = labels
	}
	return m.wrote(m.Driver.Create(key, r))
}

// Update stores a revision again.
func (m *marker) Update(key string, r release.Releaser) error {
	return m.wrote(m.Driver.Update(key, r))
}

// Delete removes a revision.
func (m *marker) Delete(key string) (release.Releaser, error) {
	rel, err := m.Driver.Delete(key)
	return rel, m.wrote(err)
}

func (m *marker) wrote(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read, m.failed = nil, m.failed || err != nil
	return err
}

// lost reports whether a write failed: Helm goes on when it cannot mark the revision before as superseded.
func (m *marker) lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Query returns what the driver has, in copies: Helm changes revisions before it stores them.
func (m *marker) Query(labels map[string]string) ([]release.Releaser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list, err := m.query(labels)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(list)
	for i, r := range out {
		rel, ok := r.(*relv1.Release)
		if !ok || rel.Info == nil {
			continue
		}
		copied, info := *rel, *rel.Info
		if m.settled && moving(rel) {
			info.Status = common.StatusFailed
		}
		copied.Info = &info
		out[i] = &copied
	}
	return out, nil
}

// query returns what was read by these labels, or all that was of a release of that status.
func (m *marker) query(labels map[string]string) ([]release.Releaser, error) {
	key := fmt.Sprint(labels)
	if list, ok := m.read[key]; ok {
		return list, nil
	}
	if history, ok := m.read[fmt.Sprint(ofRelease(labels["name"]))]; ok && len(labels) == 3 && labels["status"] != "" {
		list := slices.DeleteFunc(slices.Clone(history), func(r release.Releaser) bool {
			rel, ok := r.(*relv1.Release)
			return ok && rel.Info != nil && rel.Info.Status.String() != labels["status"]
		})
		if len(list) == 0 {
			return nil, driver.ErrReleaseNotFound
		}
		return list, nil
	}
	list, err := m.Driver.Query(labels)
	if err != nil {
		return nil, err
	}
	if m.read == nil {
		m.read = map[string][]release.Releaser{}
	}
	m.read[key] = list
	return list, nil
}

// ofRelease are the labels by which Helm finds the history of a release.
func ofRelease(name string) map[string]string {
	return map[string]string{"name": name, "owner": "helm"}
}

// recall takes a history that was just read for one that this operation read.
func (m *marker) recall(t slipway.Target, seen []deploy.Revision) {
	list := make([]release.Releaser, 0, len(seen))
	for _, r := range seen {
		rel, ok := r.Stored.(*relv1.Release)
		if !ok || rel.Name != t.Release || rel.Namespace != t.Namespace {
			return
		}
		list = append(list, rel)
	}
	if len(list) > 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.read = map[string][]release.Releaser{fmt.Sprint(ofRelease(t.Release)): list}
	}
}

func moving(rel *relv1.Release) bool {
	return rel.Info.Status.IsPending() || rel.Info.Status == common.StatusUninstalling
}

func marksOf(rel *relv1.Release) deploy.Marks {
	l := rel.Labels
	if l[labelRevision] != strconv.Itoa(rel.Version) {
		return deploy.Marks{}
	}
	return deploy.Marks{
		Intent: l[labelIntent], Run: l[labelRun], Version: l[labelVersion], Commit: l[labelCommit],
		Image: l[labelImage], Chart: l[labelChart], Values: l[labelValues],
	}
}

func revision(rel *relv1.Release) deploy.Revision {
	r := deploy.Revision{
		Number: rel.Version, Status: deploy.Status(rel.Info.Status), Description: rel.Info.Description,
		Updated: rel.Info.LastDeployed, Marks: marksOf(rel),
	}
	if rel.Info.Status == common.StatusUninstalling && rel.Info.Deleted.After(r.Updated) {
		r.Updated = rel.Info.Deleted
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart = rel.Chart.Metadata.Name + "-" + rel.Chart.Metadata.Version
	}
	return r
}

// releases returns the stored revisions, newest first; none when there is no release.
func (op *operation) releases(t slipway.Target) ([]*relv1.Release, error) {
	list, err := op.cfg.Releases.History(t.Release)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(op.ctx, t, err, slipway.Internal)
	}
	out := make([]*relv1.Release, 0, len(list))
	for _, r := range list {
		rel, ok := r.(*relv1.Release)
		if !ok || rel.Info == nil {
			return nil, fmt.Errorf("release %s is of an unknown form (%T)", t.Release, r)
		}
		out = append(out, rel)
	}
	slices.SortFunc(out, func(a, b *relv1.Release) int { return b.Version - a.Version })
	return out, nil
}

// History returns the revisions of the target's release, newest first. Meanwhile it sees to it that what the cluster can
// do is known, which whoever asks for the history is likely to need next.
func (c *Client) History(ctx context.Context, t slipway.Target) ([]deploy.Revision, error) {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	defer op.close()
	var known sync.WaitGroup
	known.Go(func() { _ = c.know(op, t) }) // who needs it asks again, and is told
	list, err := op.releases(t)
	known.Wait()
	if err != nil {
		return nil, err
	}
	out := make([]deploy.Revision, len(list))
	for i, rel := range list {
		out[i] = revision(rel)
		out[i].Stored = rel
	}
	return out, nil
}

// Abandon marks a revision that is pending or uninstalling as failed.
func (c *Client) Abandon(ctx context.Context, t slipway.Target, number int, why string) error {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return err
	}
	defer op.close()
	list, err := op.releases(t)
	if err != nil {
		return err
	}
	for _, rel := range list {
		if rel.Version != number || !moving(rel) {
			continue
		}
		rel.SetStatus(common.StatusFailed, "slipway: "+bounded(why, 200))
		if err := op.cfg.Releases.Update(rel); err != nil {
			return classify(ctx, t, err, slipway.Internal)
		}
	}
	return nil
}

// Supersede marks every deployed revision but the newest one as superseded.
func (c *Client) Supersede(ctx context.Context, t slipway.Target) error {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return err
	}
	defer op.close()
	list, err := op.releases(t)
	if err != nil {
		return err
	}
	newest := true
	for _, rel := range list {
		if rel.Info.Status != common.StatusDeployed {
			continue
		}
		if newest {
			newest = false
			continue
		}
		rel.Info.Status = common.StatusSuperseded
		if err := op.cfg.Releases.Update(rel); err != nil {
			return classify(ctx, t, err, slipway.Internal)
		}
	}
	return nil
}

func bounded(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "..."
	}
	return s
}

func lasted(from, to time.Time) time.Duration { return to.Sub(from).Round(time.Millisecond) }
