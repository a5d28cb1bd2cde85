package helm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/approve"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/verify"
)

// Deployed returns the deployed revision of the target's release.
func (c *Client) Deployed(ctx context.Context, t slipway.Target) (verify.Release, error) {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return verify.Release{}, err
	}
	defer op.close()
	list, err := op.releases(t)
	if err != nil {
		return verify.Release{}, err
	}
	rel := deployed(list)
	if rel == nil {
		return verify.Release{}, slipway.Errorf(slipway.NotFound, "Helm release %s in %s has no deployed revision", t.Release, t.Namespace)
	}
	out := verify.Release{Revision: rel.Version, Manifest: rel.Manifest}
	for _, h := range rel.Hooks {
		if isTest(h) {
			out.Tests = append(out.Tests, h.Name)
		}
	}
	return out, nil
}

func deployed(list []*relv1.Release) *relv1.Release {
	for _, rel := range list {
		if rel.Info.Status == common.StatusDeployed {
			return rel
		}
	}
	return nil
}

func isTest(h *relv1.Hook) bool { return slices.Contains(h.Events, relv1.HookTest) }

// Test runs the test hooks of the newest revision: helm test --logs.
func (c *Client) Test(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) (verify.TestRun, error) {
	op, err := c.connect(ctx, t, log)
	if err != nil {
		return verify.TestRun{}, err
	}
	defer op.close()
	if err := c.know(op, t); err != nil {
		return verify.TestRun{}, err
	}
	op.hookOutput(log)
	rt := action.NewReleaseTesting(op.cfg)
	rt.Namespace, rt.Timeout = t.Namespace, timeout(t)
	rt.WaitOptions = []kube.WaitOption{kube.WithWaitContext(op.ctx)}
	res, cleanup, runErr := rt.Run(t.Release)
	rel, err := v1(res)
	if err != nil {
		return verify.TestRun{}, translate(ctx, t, errors.Join(runErr, err))
	}
	out := verify.TestRun{}
	for _, h := range rel.Hooks {
		if !isTest(h) {
			continue
		}
		op.podLogs(context.WithoutCancel(ctx), t, h, log)
		switch h.LastRun.Phase {
		case relv1.HookPhaseSucceeded:
			out.Passed = append(out.Passed, h.Name)
			log(slipway.LogLine{Group: h.Kind + "/" + h.Name, State: "done", Text: "passed in " + lasted(h.LastRun.StartedAt, h.LastRun.CompletedAt).String()})
		case relv1.HookPhaseFailed:
			out.Failed, out.Reason = h.Name, "no reason given"
			if runErr != nil {
				out.Reason = bounded(runErr.Error(), maxMessage)
			}
			log(slipway.LogLine{Group: h.Kind + "/" + h.Name, State: "failed", Text: out.Reason})
		}
	}
	cleanupErr := cleanup()
	if runErr != nil {
		err := translate(ctx, t, runErr)
		if out.Failed != "" && ctx.Err() == nil && slipway.ErrorCode(err) == slipway.Invalid {
			return out, nil
		}
		return verify.TestRun{}, err
	}
	return out, translate(ctx, t, cleanupErr)
}

// podLogs writes the logs of a hook's pods to the log. A pod that is gone has none.
func (op *operation) podLogs(ctx context.Context, t slipway.Target, h *relv1.Hook, log func(slipway.LogLine)) {
	if op.pods == nil {
		return
	}
	opts := metav1.ListOptions{FieldSelector: "metadata.name=" + h.Name}
	if h.Kind == "Job" {
		opts = metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + h.Name}
	}
	pods, err := op.pods.CoreV1().Pods(t.Namespace).List(ctx, opts)
	if err != nil {
		log(slipway.LogLine{Group: h.Kind + "/" + h.Name, Text: "its pods could not be listed: " + err.Error()})
		return
	}
	for _, pod := range pods.Items {
		for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			w := &lineWriter{group: h.Kind + "/" + h.Name, log: log}
			if err := op.containerLog(ctx, pod, container.Name, w); err != nil {
				log(slipway.LogLine{Group: w.group, Text: fmt.Sprintf("the log of container %s could not be read: %v", container.Name, err)})
			}
			w.Flush()
		}
	}
}

const maxPodLog = 1 << 20 // bytes of one container's log that are kept

func (op *operation) containerLog(ctx context.Context, pod corev1.Pod, container string, w io.Writer) error {
	limit := int64(maxPodLog)
	body, err := op.pods.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, LimitBytes: &limit}).Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}

// Preview renders what deploying would apply, with the code of the deployment itself and without
// storing or applying anything.
func (c *Client) Preview(ctx context.Context, p approve.Request) (approve.Preview, error) {
	spec := p.Spec
	t := spec.Target
	req := deploy.NewRequest(deploy.Desired{
		Run: p.Run, Target: t, Version: spec.Version, Commit: spec.Commit, Image: spec.Image, Tag: spec.Tag,
		ImageDigest: p.Image.Digest, Chart: spec.Chart, ChartDigest: p.ChartDigest, Reason: spec.Reason,
		Aliases: []string{p.Image.Repository},
	}, p.Package)
	in, err := c.Inspect(req)
	if err != nil {
		return approve.Preview{}, err
	}
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return approve.Preview{}, err
	}
	defer op.close()
	op.store.settled = true
	if err := c.know(op, t); err != nil {
		return approve.Preview{}, err
	}
	list, err := op.releases(t)
	if err != nil {
		return approve.Preview{}, err
	}
	out := approve.Preview{ValuesDigest: in.ValuesDigest}
	if rel := deployed(list); rel != nil {
		out.Base, out.Old = rel.Version, everything(rel)
		if !marksOf(rel).OfServer() {
			out.Notes = append(out.Notes, fmt.Sprintf("revision %d was made outside Slipway (%s)", rel.Version, rel.Info.Description))
		}
	}
	ch, vals, err := load(req)
	if err != nil {
		return approve.Preview{}, err
	}
	if err := c.try(op, req, ch, vals, list); err != nil {
		return approve.Preview{}, err
	}
	pins := &pinner{req: req}
	first, err := op.render(req, pins, list)
	if err != nil {
		return approve.Preview{}, translate(ctx, t, err)
	}
	again, err := op.render(req, pins, list)
	if err != nil {
		return approve.Preview{}, translate(ctx, t, err)
	}
	out.New, out.Unstable = first, first != again
	if pins.pinned == 0 {
		out.Notes = append(out.Notes, "no container of the chart runs the service's image "+req.Pin.Repository)
	}
	return out, nil
}

// render is a dry run against the server: the same values, capabilities, lookups and post-renderer.
func (op *operation) render(req deploy.Request, pins *pinner, list []*relv1.Release) (string, error) {
	ch, vals, err := load(req)
	if err != nil {
		return "", err
	}
	var res release.Releaser
	if len(list) == 0 || list[0].Info.Status == common.StatusUninstalled {
		in := action.NewInstall(op.cfg)
		in.ReleaseName, in.Namespace, in.DryRunStrategy = req.Target.Release, req.Target.Namespace, action.DryRunServer
		in.PostRenderer, in.DisableOpenAPIValidation, in.Replace = pins, true, true
		in.WaitStrategy, in.WaitOptions = op.hookWait()
		res, err = in.RunWithContext(context.WithoutCancel(op.ctx), ch, vals)
	} else {
		up := action.NewUpgrade(op.cfg)
		up.Namespace, up.DryRunStrategy, up.ResetValues = req.Target.Namespace, action.DryRunServer, true
		up.PostRenderer, up.DisableOpenAPIValidation = pins, true
		up.WaitStrategy, up.WaitOptions = op.hookWait()
		res, err = up.RunWithContext(context.WithoutCancel(op.ctx), req.Target.Release, ch, vals)
	}
	if err != nil {
		return "", err
	}
	rel, err := v1(res)
	if err != nil {
		return "", err
	}
	return everything(rel), nil
}

// everything is the manifest of a revision and of its hooks.
func everything(rel *relv1.Release) string {
	var b strings.Builder
	b.WriteString(rel.Manifest)
	for _, h := range rel.Hooks {
		b.WriteString("\n---\n" + h.Manifest)
	}
	return b.String()
}
