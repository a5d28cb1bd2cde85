package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"

	"github.com/slipway-cd/slipway"
	stagechart "github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// Apply makes a new revision: helm upgrade --install. It waits for hooks, not for workloads.
func (c *Client) Apply(ctx context.Context, req deploy.Request) (deploy.Revision, error) {
	t := req.Target
	if req.Log == nil {
		req.Log = discard
	}
	ch, vals, err := load(req)
	if err != nil {
		return deploy.Revision{}, err
	}
	op, err := c.connect(ctx, t, req.Log)
	if err != nil {
		return deploy.Revision{}, err
	}
	defer op.close()
	op.store.marks = req.Marks
	op.store.recall(t, req.Seen)
	if err := c.know(op, t); err != nil {
		return deploy.Revision{}, err
	}
	op.hookOutput(req.Log)
	list, err := op.releases(t)
	if err != nil {
		return deploy.Revision{}, err
	}
	if err := c.try(op, req, ch, vals, list); err != nil {
		return deploy.Revision{}, err
	}
	pins := &pinner{req: req}
	var made release.Releaser
	if len(list) == 0 || list[0].Info.Status == common.StatusUninstalled {
		made, err = op.install(req, ch, vals, pins, len(list) > 0)
	} else {
		made, err = op.upgrade(req, ch, vals, pins)
	}
	if err != nil {
		op.hookLogs(t, req.Log)
		return deploy.Revision{}, translate(ctx, t, err)
	}
	if pins.pinned == 0 {
		req.Log(slipway.LogLine{Text: fmt.Sprintf("no container of chart %s runs the service's image %s: nothing was pinned", ch.Name(), req.Pin.Repository)})
	}
	rel, err := v1(made)
	if err != nil || rel.Info == nil || op.store.lost() {
		return deploy.Revision{}, nil //nolint:nilerr // it is made; what it is like, the history tells
	}
	return revision(rel), nil
}

// try rehearses what Helm is going to render.
func (c *Client) try(op *operation, req deploy.Request, ch *chart.Chart, vals map[string]any, list []*relv1.Release) error {
	r := stagechart.Render{Release: req.Target.Release, Namespace: req.Target.Namespace, Values: vals}
	if len(list) > 0 && list[0].Info.Status != common.StatusUninstalled {
		r.Upgraded = list[0].Version
	}
	if caps := op.cfg.Capabilities; caps != nil {
		r.KubeVersion, r.APIVersions = caps.KubeVersion.Version, caps.APIVersions
	}
	if err := c.rehearse(op.ctx, req.Package, r); err != nil {
		return fmt.Errorf("render chart %s: %w", ch.Name(), err)
	}
	return nil
}

func (op *operation) install(req deploy.Request, ch *chart.Chart, vals map[string]any, pins *pinner, replace bool) (release.Releaser, error) {
	in := action.NewInstall(op.cfg)
	in.ReleaseName, in.Namespace, in.Replace = req.Target.Release, req.Target.Namespace, replace
	in.Description, in.PostRenderer = req.Description, pins
	in.Timeout = timeout(req.Target)
	in.WaitStrategy, in.WaitOptions = op.hookWait()
	in.DisableOpenAPIValidation = true // the server validates each object strictly as it is applied
	if len(ch.CRDObjects()) > 0 {
		op.cfg.Capabilities = nil // asked for again once the CRDs are there
	}
	return in.RunWithContext(context.WithoutCancel(op.ctx), ch, vals)
}

func (op *operation) upgrade(req deploy.Request, ch *chart.Chart, vals map[string]any, pins *pinner) (release.Releaser, error) {
	up := action.NewUpgrade(op.cfg)
	up.Install, up.Namespace, up.ResetValues = true, req.Target.Namespace, true
	up.Description, up.PostRenderer = req.Description, pins
	up.Timeout, up.MaxHistory = timeout(req.Target), historyMax(req.Target)
	up.WaitStrategy, up.WaitOptions = op.hookWait()
	up.DisableOpenAPIValidation = true
	return up.RunWithContext(context.WithoutCancel(op.ctx), req.Target.Release, ch, vals)
}

// hookWait waits for hooks only, until the operation's context ends. The SDK itself gets a context
// that does not end: it would go on in the background when it does.
func (op *operation) hookWait() (kube.WaitStrategy, []kube.WaitOption) {
	return kube.HookOnlyStrategy, []kube.WaitOption{kube.WithWaitContext(op.ctx)}
}

// Rollback makes a new revision of an earlier one: helm rollback.
func (c *Client) Rollback(ctx context.Context, req deploy.RollbackRequest) error {
	t := req.Target
	op, err := c.connect(ctx, t, req.Log)
	if err != nil {
		return err
	}
	defer op.close()
	op.store.marks = req.Marks
	if err := c.know(op, t); err != nil {
		return err
	}
	if req.Log != nil {
		op.hookOutput(req.Log)
	}
	rb := action.NewRollback(op.cfg)
	rb.Version, rb.Description = req.Revision, req.Description
	rb.Timeout, rb.MaxHistory = timeout(t), historyMax(t)
	rb.WaitStrategy, rb.WaitOptions = op.hookWait()
	return translate(ctx, t, rb.Run(t.Release))
}

// Uninstall removes the release and its history.
func (c *Client) Uninstall(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) error {
	op, err := c.connect(ctx, t, log)
	if err != nil {
		return err
	}
	defer op.close()
	if err := c.know(op, t); err != nil {
		return err
	}
	un := action.NewUninstall(op.cfg)
	un.IgnoreNotFound, un.Timeout = true, timeout(t)
	un.WaitStrategy, un.WaitOptions = kube.StatusWatcherStrategy, []kube.WaitOption{kube.WithWaitContext(op.ctx)}
	un.DeletionPropagation = "background"
	_, err = un.Run(t.Release)
	return translate(ctx, t, err)
}

// Storage names the objects of the newest revision that hold data.
func (c *Client) Storage(ctx context.Context, t slipway.Target) ([]string, error) {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	defer op.close()
	list, err := op.releases(t)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return storageOf(list[0].Manifest)
}

// hookOutput sends the output of hooks that ask for it to the log.
func (op *operation) hookOutput(log func(slipway.LogLine)) {
	op.cfg.HookOutputFunc = func(_, pod, _ string) io.Writer {
		return &lineWriter{group: "Pod/" + pod, log: log}
	}
}

// hookLogs shows the last lines of the hooks of the newest revision that failed.
func (op *operation) hookLogs(t slipway.Target, log func(slipway.LogLine)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(op.ctx), 10*time.Second)
	defer cancel()
	list, err := op.releases(t)
	if err != nil || len(list) == 0 || op.pods == nil {
		return
	}
	for _, h := range list[0].Hooks {
		if h.LastRun.Phase == relv1.HookPhaseFailed || h.LastRun.Phase == relv1.HookPhaseRunning {
			op.podLogs(ctx, t, h, log)
		}
	}
}

func v1(r release.Releaser) (*relv1.Release, error) {
	rel, ok := r.(*relv1.Release)
	if !ok || rel == nil {
		return nil, errors.New("helm returned no release")
	}
	return rel, nil
}
