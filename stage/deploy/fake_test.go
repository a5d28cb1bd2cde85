package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// fakeHelm is a release in memory that behaves as Helm does, and as told.
type fakeHelm struct {
	mu       sync.Mutex
	history  []Revision // newest first
	looks    int        // at it
	values   string
	applied  []Request
	apply    func(h *fakeHelm, req Request) error // instead of the default
	storage  []string
	events   *[]string
	uninstal int
	err      error // of History
}

func (h *fakeHelm) say(format string, args ...any) {
	if h.events != nil {
		*h.events = append(*h.events, fmt.Sprintf(format, args...))
	}
}

func (h *fakeHelm) History(context.Context, slipway.Target) ([]Revision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
	return slices.Clone(h.history), h.err
}

func (h *fakeHelm) Inspect(Request) (Inspection, error) {
	return Inspection{ChartName: "delivery", ChartVersion: "1.0.2", ValuesDigest: h.values}, nil
}

func (h *fakeHelm) next() int {
	if len(h.history) == 0 {
		return 1
	}
	return h.history[0].Number + 1
}

func (h *fakeHelm) begin(status Status, m Marks) *Revision {
	h.history = append([]Revision{{Number: h.next(), Status: status, Marks: m, Updated: noon}}, h.history...)
	return &h.history[0]
}

func (h *fakeHelm) finish() {
	for i := range h.history {
		if i > 0 && h.history[i].Status == StatusDeployed {
			h.history[i].Status = StatusSuperseded
		}
	}
	h.history[0].Status = StatusDeployed
}

func (h *fakeHelm) Apply(_ context.Context, req Request) (Revision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.applied = append(h.applied, req)
	h.say("apply")
	if h.apply != nil {
		return Revision{}, h.apply(h, req)
	}
	h.begin(StatusPendingUpgrade, req.Marks)
	h.finish()
	return h.history[0], nil
}

func (h *fakeHelm) Abandon(_ context.Context, _ slipway.Target, n int, why string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say("abandon %d: %s", n, why)
	for i := range h.history {
		if h.history[i].Number == n && h.history[i].Status.Moving() {
			h.history[i].Status, h.history[i].Description = StatusFailed, why
		}
	}
	return nil
}

func (h *fakeHelm) Supersede(context.Context, slipway.Target) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say("supersede")
	h.finish()
	return nil
}

func (h *fakeHelm) Rollback(_ context.Context, req RollbackRequest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say("rollback to %d", req.Revision)
	h.begin(StatusPendingRollback, req.Marks)
	h.finish()
	return nil
}

func (h *fakeHelm) Storage(context.Context, slipway.Target) ([]string, error) { return h.storage, nil }

func (h *fakeHelm) Uninstall(context.Context, slipway.Target, func(slipway.LogLine)) error {
	h.uninstal++
	h.history = nil
	return nil
}

type fakeCharts struct{ err error }

func (c fakeCharts) PullChart(context.Context, slipway.Repository, string) ([]byte, error) {
	return []byte("chart"), c.err
}

type fakeCluster struct {
	mu       sync.Mutex
	pull     PullSecret // of the last preparation
	prepared bool
	err      error
}

func (c *fakeCluster) Prepared(context.Context, slipway.Target, PullSecret) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.prepared
}

func (c *fakeCluster) Prepare(_ context.Context, _ slipway.Target, pull PullSecret) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pull = pull
	return c.err
}

type fakeRobots struct{}

func (fakeRobots) PullToken(_ context.Context, _, project, env string) (string, string, error) {
	return "robot-" + project + "-" + env, "token", nil
}

type fakeDeployments struct {
	saved  []slipway.Deployment
	events *[]string
}

func (d *fakeDeployments) Save(_ context.Context, dep slipway.Deployment) (slipway.Deployment, error) {
	if d.events != nil {
		*d.events = append(*d.events, fmt.Sprintf("save %s revision %d", dep.State, dep.Revision))
	}
	dep.ID = 99
	d.saved = append(d.saved, dep)
	return dep, nil
}

type journal struct {
	mu     sync.Mutex
	values map[string][]byte
	events *[]string
}

func (j *journal) Put(_ context.Context, key string, v any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if j.events != nil {
		*j.events = append(*j.events, "journal")
	}
	j.values[key] = b
	return nil
}

func (j *journal) Get(_ context.Context, key string, v any) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b, ok := j.values[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

type memoryLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *memoryLog) Line(line slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(line.Group+" "+line.Text))
}

func (l *memoryLog) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

const (
	imageDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	chartDigest = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	valDigest   = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// bench is a runner with stand-ins around it.
type bench struct {
	helm        *fakeHelm
	cluster     *fakeCluster
	deployments *fakeDeployments
	journal     *journal
	log         *memoryLog
	runner      *Runner
	env         stage.Env
	step        slipway.PlanStep
	events      []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{}
	b.helm = &fakeHelm{values: valDigest, events: &b.events}
	b.cluster, b.deployments = &fakeCluster{}, &fakeDeployments{events: &b.events}
	b.journal, b.log = &journal{values: map[string][]byte{}, events: &b.events}, &memoryLog{}
	b.runner = &Runner{Helm: b.helm, Charts: fakeCharts{}, Cluster: b.cluster, Robots: fakeRobots{}, Deployments: b.deployments}
	registry := slipway.Registry{Host: "registry.slipway.local", Prefix: "prod"}
	b.step = slipway.PlanStep{Key: "deploy/delivery@production", Kind: slipway.KindDeploy, Deploy: &slipway.DeploySpec{
		Target: slipway.Target{Project: "drone", Environment: "production", Service: "delivery", Cluster: "local",
			Namespace: "drone-production", Release: "delivery", HistoryMax: 10},
		Version: "v1.0.2", Commit: "c0ffee", Tag: "v1.0.2", Reason: "v1.0.2: fix the fleet",
		Image: slipway.Repository{Registry: registry, Name: "prod/drone/delivery"},
		Chart: slipway.Repository{Registry: registry, Name: "prod/drone/charts/delivery"},
	}}
	b.env = stage.Env{
		Run: slipway.Run{ID: 42, Project: "drone"}, Attempt: 1, Log: b.log, Journal: b.journal,
		Now: func() time.Time { return noon },
		Artifacts: []slipway.Artifact{
			{Kind: slipway.ArtifactImage, Service: "delivery", Repository: "candidates.slipway.local/drone/delivery", Digest: imageDigest},
			{Kind: slipway.ArtifactChart, Service: "delivery", Repository: "candidates.slipway.local/drone/charts/delivery", Digest: chartDigest},
		},
	}
	return b
}

// intent is what the bench's step intends.
func (b *bench) marks() Marks {
	s := b.step.Deploy
	return NewRequest(Desired{Run: 42, Step: b.step.Key, Target: s.Target, Version: s.Version, Commit: s.Commit, Image: s.Image, Tag: s.Tag,
		ImageDigest: imageDigest, Chart: s.Chart, ChartDigest: chartDigest, Reason: s.Reason}, nil).
		inspected(Inspection{ValuesDigest: valDigest}).Marks
}
