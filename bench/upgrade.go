package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	helmkube "helm.sh/helm/v4/pkg/kube"
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
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	upgradeBudget = 1.1
	rawNamespace  = project + "-raw"
	sampleDir     = "src/shipping/delivery"
	pullSecret    = "slipway-registry"
)

// measureUpgrade merges changes of the sample's chart, and makes the same upgrade of a second release
// with the Helm SDK alone, in turns.
func measureUpgrade(ctx context.Context, w *world) ([]row, error) {
	s, err := w.server(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := git(ctx, s.repo, "checkout", "--quiet", "main"); err != nil {
		return nil, err
	}
	sdk, err := newSDK(w.kube.kubeconfig)
	if err != nil {
		return nil, err
	}
	var steps, direct []time.Duration
	for i := range w.o.times(12) + 1 {
		d, err := s.deploy(ctx, i)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := sdk.prepare(ctx, project+"-development"); err != nil {
				return nil, fmt.Errorf("prepare namespace %s: %w", rawNamespace, err)
			}
		}
		took, err := sdk.upgrade(ctx, filepath.Join(s.repo, sampleDir, "chart"), d)
		if err != nil {
			return nil, fmt.Errorf("upgrade with the SDK: %w", err)
		}
		if err := sdk.settled(ctx, d); err != nil && w.kube.folder != "" {
			return nil, err
		}
		if i == 0 { // one install, and the first discovery
			continue
		}
		step := stepOf(d, slipway.KindDeploy)
		steps = append(steps, step.FinishedAt.Sub(step.StartedAt))
		direct = append(direct, took)
	}
	w.note("How an upgrade is measured", `A commit changes the values of the sample's chart; its run builds (cached), tests, publishes and deploys it to
development. Slipway's figure is the whole deploy step as the run records it: chart pulled from the registry by digest, values merged,
history read, intent written to the journal, namespace and pull secret made sure of, deployment recorded, upgrade, history read
again. What it is compared with is action.Upgrade of the Helm SDK on a second release in another namespace of the
same cluster: the same chart from disk, values, image, options and number of kept revisions, hooks waited for and
workloads not; its connections and discovery are kept between upgrades, as Slipway's are. Both roll the pods; each begins when the
other's are ready.`)
	return []row{ratioRow("`helm upgrade` of the sample chart: deploy step against the Helm SDK", millis(steps), millis(direct), upgradeBudget)}, nil
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
	loader clientcmd.ClientConfig
	config *rest.Config
	api    kubernetes.Interface
	disco  discovery.CachedDiscoveryInterface
	mapper meta.RESTMapper
}

func newSDK(kubeconfig []byte) (*sdk, error) {
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
	return s, nil
}

func (s *sdk) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(s.config), nil }

func (s *sdk) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) { return s.disco, nil }

func (s *sdk) ToRESTMapper() (meta.RESTMapper, error) { return s.mapper, nil }

func (s *sdk) ToRawKubeConfigLoader() clientcmd.ClientConfig { return s.loader }

// prepare makes the namespace, with the pull secret of another.
func (s *sdk) prepare(ctx context.Context, from string) error {
	_, err := s.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rawNamespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	secret, err := s.api.CoreV1().Secrets(from).Get(ctx, pullSecret, metav1.GetOptions{})
	if err != nil {
		return err
	}
	_, err = s.api.CoreV1().Secrets(rawNamespace).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: pullSecret}, Type: secret.Type, Data: secret.Data}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: pullSecret}}}
	_, err = s.api.CoreV1().ServiceAccounts(rawNamespace).Create(ctx, account, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = s.api.CoreV1().ServiceAccounts(rawNamespace).Update(ctx, account, metav1.UpdateOptions{})
	}
	return err
}

// upgrade does with the SDK what a deployment did, and returns how long that took.
func (s *sdk) upgrade(ctx context.Context, dir string, d slipway.RunDetail) (time.Duration, error) {
	dep := d.Deployments[0]
	began := time.Now()
	ch, err := loader.LoadDir(dir)
	if err != nil {
		return 0, err
	}
	ch.Metadata.Version, ch.Metadata.AppVersion = dep.ChartVersion, dep.ChartVersion
	vals := map[string]any{"reason": d.Run.Title, "image": map[string]any{
		"registry": registryHost, "repository": project + "/delivery", "tag": dep.Tag, "digest": dep.ImageDigest}}
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(s, rawNamespace, "secret"); err != nil {
		return 0, err
	}
	if dep.Revision == 0 {
		return 0, errors.New("it has no revision")
	}
	if _, err := cfg.Releases.Last(dep.Target.Release); err != nil {
		in := action.NewInstall(cfg)
		in.ReleaseName, in.Namespace, in.WaitStrategy = dep.Target.Release, rawNamespace, helmkube.HookOnlyStrategy
		in.Timeout, in.DisableOpenAPIValidation = time.Minute, true
		_, err := in.RunWithContext(ctx, ch, vals)
		return time.Since(began), err
	}
	up := action.NewUpgrade(cfg)
	up.Install, up.Namespace, up.ResetValues, up.WaitStrategy = true, rawNamespace, true, helmkube.HookOnlyStrategy
	up.MaxHistory, up.Timeout, up.DisableOpenAPIValidation = dep.Target.HistoryMax, time.Minute, true
	_, err = up.RunWithContext(ctx, dep.Target.Release, ch, vals)
	return time.Since(began), err
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
	s, err := newSDK(w.kube.kubeconfig)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range []string{project + "-development", rawNamespace} {
		err := s.api.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			problems = append(problems, fmt.Errorf("remove namespace %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}
