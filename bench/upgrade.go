package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/registry"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helm"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/deploy"
)

const (
	upgradeBudget   = 1.1
	rawNamespace    = project + "-raw"    // the SDK's
	driverNamespace = project + "-driver" // Slipway's driver's
	sampleDir       = "src/shipping/delivery"
)

// measureUpgrade upgrades a release through Slipway's driver and a second one with the Helm SDK alone, in
// turns; and then has whole deploy steps run, against what the SDK needs for the same.
func measureUpgrade(ctx context.Context, w *world) ([]row, error) {
	s, err := w.server(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	sdk, err := newSDK(w.kube.kubeconfig, s)
	if err != nil {
		return nil, err
	}
	if _, err := git(ctx, s.repo, "checkout", "--quiet", "main"); err != nil {
		return nil, err
	}
	d, err := s.deploy(ctx, 0)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{rawNamespace, driverNamespace} {
		if err := sdk.prepare(ctx, name, project+"-development"); err != nil {
			return nil, fmt.Errorf("prepare namespace %s: %w", name, err)
		}
	}
	calls, err := measureCalls(ctx, w, sdk, d)
	if err != nil {
		return nil, err
	}
	steps, err := measureSteps(ctx, w, s, sdk)
	if err != nil {
		return nil, err
	}
	w.note("How an upgrade is measured", `First row: driver/helm's Apply, which does all that Slipway does around Helm's upgrade (values merged, chart rendered once in a process that can be interrupted, image pinned, marks put on
the revision, install or upgrade decided), against action.Upgrade of the Helm SDK on a second release in another namespace of the same
cluster: the same chart in memory, values, image, options (server-side apply, hooks waited for, %d revisions kept), connections and
discovery kept between upgrades. Each upgrade changes the reason, which is an annotation: no pod is replaced.

Second row: the whole deploy step of real runs, as they record it, whose commits change the chart: gates judged and signatures verified, and
beside that chart pulled by digest, history read, namespace, pull secret and service account looked at; then intent written to the journal, deployment
recorded, upgrade from the history that was read, result judged by what Helm stored. What it is
compared with is what the SDK needs for helm upgrade --install oci://…: the chart pulled by digest with Helm's registry client, the look
whether there is a release, the upgrade. Both replace the pods; each begins when the other's are ready. What the step does besides keeps a
crash from losing or doubling a deployment, and is independent of the chart's size.`, d.Deployments[0].Target.HistoryMax)
	return append(calls, steps...), nil
}

// measureCalls compares the driver's call with the SDK's.
func measureCalls(ctx context.Context, w *world, sdk *sdk, d slipway.RunDetail) ([]row, error) {
	dep := d.Deployments[0]
	pkg, err := sdk.pull(dep)
	if err != nil {
		return nil, fmt.Errorf("pull the chart: %w", err)
	}
	target := dep.Target
	target.Namespace, target.Environment = driverNamespace, "driver"
	charts := helmchart.New(helmchart.Options{Process: []string{w.bin.Slipway, "render-templates"}})
	defer charts.Close()
	apply := helm.New(oneCluster(w.kube.kubeconfig), charts.Rehearse)
	repository := slipway.Repository{Registry: slipway.Registry{Host: registryHost}, Name: project + "/delivery"}
	var through, direct []time.Duration
	for i := range w.o.times(20) + dep.Target.HistoryMax {
		reason := fmt.Sprintf("upgrade %d", i)
		slipways := func() error {
			began := time.Now()
			_, err := apply.Apply(ctx, deploy.NewRequest(deploy.Desired{Run: d.Run.ID, Step: "bench", Target: target, Version: dep.Version, Commit: dep.Commit,
				Image: repository, Tag: dep.Tag, ImageDigest: dep.ImageDigest, ChartDigest: dep.ChartDigest, Reason: reason}, pkg))
			through = append(through, time.Since(began))
			return err
		}
		raw := func() error {
			began := time.Now()
			err := sdk.upgrade(ctx, pkg, dep, reason)
			direct = append(direct, time.Since(began))
			return err
		}
		if i%2 == 0 {
			slipways, raw = raw, slipways
		}
		if err := errors.Join(slipways(), raw()); err != nil {
			return nil, err
		}
	}
	n := dep.Target.HistoryMax // until then the history is short, and the first is an install
	return []row{ratioRow("`helm upgrade` of the sample chart: driver/helm against the Helm SDK", millis(through[n:]), millis(direct[n:]), upgradeBudget)}, nil
}

// oneCluster is the kubeconfig of every cluster.
type oneCluster []byte

// Kubeconfig returns it.
func (c oneCluster) Kubeconfig(context.Context, string) ([]byte, error) { return c, nil }

// measureSteps compares deploy steps of runs with what the SDK needs for the same.
func measureSteps(ctx context.Context, w *world, s *site, sdk *sdk) ([]row, error) {
	var steps, direct []time.Duration
	for i := range w.o.times(10) {
		d, err := s.deploy(ctx, i+1)
		if err != nil {
			return nil, err
		}
		step := stepOf(d, slipway.KindDeploy)
		steps = append(steps, step.FinishedAt.Sub(step.StartedAt))
		began := time.Now()
		pkg, err := sdk.pull(d.Deployments[0])
		if err == nil {
			err = sdk.upgrade(ctx, pkg, d.Deployments[0], d.Run.Title)
		}
		direct = append(direct, time.Since(began))
		if err != nil {
			return nil, fmt.Errorf("upgrade with the SDK: %w", err)
		}
		if err := sdk.settled(ctx, d); err != nil && w.kube.folder != "" {
			return nil, err
		}
	}
	return []row{ratioRow("… the whole deploy step of a run, against pull and upgrade with the SDK", millis(steps), millis(direct), upgradeBudget)}, nil
}

// deploy merges a change of the chart's values and waits until it is verified in development.
func (s *site) deploy(ctx context.Context, i int) (slipway.RunDetail, error) {
	if err := s.commit(ctx, sampleDir+"/chart/values.yaml", fmt.Sprintf("bench: %d", i)); err != nil {
		return slipway.RunDetail{}, err
	}
	if i > 0 { // one such line at a time
		b, err := os.ReadFile(filepath.Join(s.repo, sampleDir, "chart", "values.yaml"))
		if err != nil {
			return slipway.RunDetail{}, err
		}
		b = bytes.Replace(b, fmt.Appendf(nil, "bench: %d\n", i-1), nil, 1)
		if err := os.WriteFile(filepath.Join(s.repo, sampleDir, "chart", "values.yaml"), b, 0o644); err != nil {
			return slipway.RunDetail{}, err
		}
		if _, err := git(ctx, s.repo, "commit", "--quiet", "--all", "--amend", "--no-edit"); err != nil {
			return slipway.RunDetail{}, err
		}
	}
	run, err := s.push(ctx, "main")
	if err != nil {
		return slipway.RunDetail{}, err
	}
	d, err := s.ended(ctx, run.ID)
	if len(d.Deployments) == 0 {
		err = errors.Join(err, fmt.Errorf("run #%d deployed nothing", run.ID))
	}
	return d, err
}

func stepOf(d slipway.RunDetail, kind slipway.StepKind) slipway.Step {
	for _, st := range d.Steps {
		if st.Spec.Kind == kind {
			return st
		}
	}
	return slipway.Step{}
}

// sdk is the Helm SDK as a program would use it that upgrades again and again. It is Helm's
// RESTClientGetter.
type sdk struct {
	loader   clientcmd.ClientConfig
	config   *rest.Config
	api      kubernetes.Interface
	disco    discovery.CachedDiscoveryInterface
	mapper   meta.RESTMapper
	registry *registry.Client
	address  string // of the registry
}

func newSDK(kubeconfig []byte, from *site) (*sdk, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: rawNamespace}}
	s := &sdk{loader: clientcmd.NewDefaultClientConfig(*config, overrides)}
	if s.config, err = s.loader.ClientConfig(); err != nil {
		return nil, err
	}
	s.config.QPS, s.config.Burst = 200, 400 // else it would wait for itself
	if s.api, err = kubernetes.NewForConfig(s.config); err != nil {
		return nil, err
	}
	s.disco = memory.NewMemCacheClient(s.api.Discovery())
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(s.disco)
	if from == nil {
		return s, nil
	}
	s.address = from.server.Address
	s.registry, err = registry.NewClient(registry.ClientOptPlainHTTP(), registry.ClientOptBasicAuth("admin", from.token), registry.ClientOptWriter(io.Discard))
	return s, err
}

func (s *sdk) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(s.config), nil }

func (s *sdk) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) { return s.disco, nil }

func (s *sdk) ToRESTMapper() (meta.RESTMapper, error) { return s.mapper, nil }

func (s *sdk) ToRawKubeConfigLoader() clientcmd.ClientConfig { return s.loader }

// prepare makes a namespace, with the pull secret of another.
func (s *sdk) prepare(ctx context.Context, name, from string) error {
	_, err := s.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	secret, err := s.api.CoreV1().Secrets(from).Get(ctx, deploy.PullSecretName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	copied := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret.Name}, Type: secret.Type, Data: secret.Data}
	if _, err = s.api.CoreV1().Secrets(name).Create(ctx, copied, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: secret.Name}}}
	_, err = s.api.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = s.api.CoreV1().ServiceAccounts(name).Update(ctx, account, metav1.UpdateOptions{})
	}
	return err
}

// pull fetches the chart package of a deployment with Helm's registry client.
func (s *sdk) pull(dep slipway.Deployment) ([]byte, error) {
	res, err := s.registry.Pull(strings.Replace(dep.Chart, registryHost, s.address, 1) + "@" + dep.ChartDigest)
	if err != nil {
		return nil, err
	}
	return res.Chart.Data, nil
}

// upgrade does with the SDK what a deployment did: helm upgrade --install.
func (s *sdk) upgrade(ctx context.Context, pkg []byte, dep slipway.Deployment, reason string) error {
	ch, err := loader.LoadArchive(bytes.NewReader(pkg))
	if err != nil {
		return err
	}
	vals := map[string]any{"reason": reason, "image": map[string]any{
		"registry": registryHost, "repository": project + "/delivery", "tag": dep.Tag, "digest": dep.ImageDigest}}
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(s, rawNamespace, "secret"); err != nil {
		return err
	}
	history := action.NewHistory(cfg)
	history.Max = 1
	if _, err := history.Run(dep.Target.Release); errors.Is(err, driver.ErrReleaseNotFound) {
		in := action.NewInstall(cfg)
		in.ReleaseName, in.Namespace, in.WaitStrategy = dep.Target.Release, rawNamespace, kube.HookOnlyStrategy
		in.Timeout, in.DisableOpenAPIValidation = time.Minute, true
		_, err := in.RunWithContext(ctx, ch, vals)
		return err
	} else if err != nil {
		return err
	}
	up := action.NewUpgrade(cfg)
	up.Install, up.Namespace, up.ResetValues, up.WaitStrategy = true, rawNamespace, true, kube.HookOnlyStrategy
	up.MaxHistory, up.Timeout, up.DisableOpenAPIValidation = dep.Target.HistoryMax, time.Minute, true
	_, err = up.RunWithContext(ctx, dep.Target.Release, ch, vals)
	return err
}

// settled waits until the pods are those of the new revision, and ready.
func (s *sdk) settled(ctx context.Context, d slipway.RunDetail) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := d.Deployments[0].Target.Release
	err := slipwaytest.Await(ctx, 100*time.Millisecond, func() (bool, error) {
		dep, err := s.api.AppsV1().Deployments(rawNamespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		st := dep.Status
		return st.ObservedGeneration == dep.Generation && st.UpdatedReplicas == *dep.Spec.Replicas && st.AvailableReplicas == st.Replicas && st.Replicas == *dep.Spec.Replicas, nil
	})
	if err != nil {
		return fmt.Errorf("wait for deployment %s in %s: %w", name, rawNamespace, err)
	}
	return nil
}

// removeNamespaces removes what was deployed.
func (w *world) removeNamespaces(ctx context.Context) error {
	s, err := newSDK(w.kube.kubeconfig, nil)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range []string{project + "-development", rawNamespace, driverNamespace} {
		err := s.api.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			problems = append(problems, fmt.Errorf("remove namespace %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}
