package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/cli"
	helmkube "helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// cluster is the cluster as an outsider sees it: through client-go and the Helm SDK, not Slipway.
type cluster struct {
	*kubernetes.Clientset
	config *rest.Config
}

var theCluster = sync.OnceValues(func() (cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", world.Kubeconfig)
	if err != nil {
		return cluster{}, err
	}
	config.QPS, config.Burst = 100, 200
	k, err := kubernetes.NewForConfig(config)
	return cluster{k, config}, err
})

func kube(t *testing.T) cluster {
	t.Helper()
	k, err := theCluster()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pods are the pods of a service that are not being deleted.
func (k cluster) pods(t *testing.T, namespace, selector string) []corev1.Pod {
	t.Helper()
	list, err := k.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// runs wants pods of a service, and each to run the image of that digest, as the node says.
func (k cluster) runs(t *testing.T, namespace, selector, digest string) {
	t.Helper()
	pods := k.pods(t, namespace, selector)
	if len(pods) == 0 {
		t.Errorf("no pod of %s in %s", selector, namespace)
	}
	for _, p := range pods {
		for _, c := range p.Status.ContainerStatuses {
			if !strings.HasSuffix(c.ImageID, "@"+digest) || !c.Ready {
				t.Errorf("pod %s in %s runs %s (ready: %v), not %s", p.Name, namespace, c.ImageID, c.Ready, digest)
			}
		}
	}
}

// says wants a service of the cluster to answer a GET with that in the text. The cluster leads to new pods, and no
// longer to old ones, a moment after they are ready.
func (k cluster) says(t *testing.T, namespace, service, path string, params map[string]string, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []byte
	var err error
	late := slipwaytest.Await(ctx, 200*time.Millisecond, func() (bool, error) {
		got, err = k.CoreV1().Services(namespace).ProxyGet("http", service, "http", path, params).DoRaw(ctx)
		return err == nil && strings.Contains(string(got), want), nil
	})
	if late != nil {
		t.Errorf("%s in %s, asked for %s, says %q (%v), not %q", service, namespace, path, got, err, want)
	}
}

// helm is the stock Helm SDK, set up as the helm client does.
func helm(t *testing.T, namespace string) *action.Configuration {
	t.Helper()
	asHelm()
	settings := cli.New()
	settings.KubeConfig = world.Kubeconfig
	settings.SetNamespace(namespace)
	config := action.NewConfiguration()
	config.SetLogger(slog.DiscardHandler)
	if err := config.Init(settings.RESTClientGetter(), namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	return config
}

// asHelm makes the SDK write as the helm client does, which is called helm.
var asHelm = sync.OnceFunc(func() { helmkube.ManagedFieldsManager = "helm" })

// history is every stored revision of a release, oldest first; none when there is no release.
func history(t *testing.T, namespace, name string) []*relv1.Release {
	t.Helper()
	list, err := action.NewHistory(helm(t, namespace)).Run(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []*relv1.Release
	for _, r := range list {
		rel, ok := r.(*relv1.Release)
		if !ok {
			t.Fatalf("release %s is a %T", name, r)
		}
		out = append(out, rel)
	}
	slices.SortFunc(out, func(a, b *relv1.Release) int { return a.Version - b.Version })
	return out
}

// wantSettled wants exactly one revision of a release deployed, the newest that did not fail, and none
// pending. It returns it.
func wantSettled(t *testing.T, namespace, name string) *relv1.Release {
	t.Helper()
	var deployed *relv1.Release
	var all []string
	n := 0
	for _, rel := range history(t, namespace, name) {
		all = append(all, fmt.Sprintf("%d %s (%s)", rel.Version, rel.Info.Status, rel.Info.Description))
		if rel.Info.Status.IsPending() || rel.Info.Status == common.StatusUninstalling {
			t.Errorf("release %s in %s: revision %d is left %s", name, namespace, rel.Version, rel.Info.Status)
		}
		if rel.Info.Status == common.StatusDeployed {
			deployed = rel
			n++
		}
	}
	if n != 1 {
		t.Fatalf("release %s in %s has %d deployed revisions: %v", name, namespace, n, all)
	}
	return deployed
}

// made counts the revisions after one that Helm completed.
func made(t *testing.T, namespace, name string, after int) (completed, failed int) {
	t.Helper()
	for _, rel := range history(t, namespace, name) {
		switch {
		case rel.Version <= after:
		case rel.Info.Status == common.StatusFailed:
			failed++
		default:
			completed++
		}
	}
	return completed, failed
}

// latest is the number of a release's newest revision, 0 when there is none.
func latest(t *testing.T, namespace, name string) int {
	t.Helper()
	all := history(t, namespace, name)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Version
}

// onReleaseStatus calls then when a revision in a namespace gets that status. A watch that breaks off goes on
// where it was.
func (k cluster) onReleaseStatus(ctx context.Context, namespace, status string, then func()) error {
	secrets := k.CoreV1().Secrets(namespace)
	only := metav1.ListOptions{LabelSelector: "owner=helm,status=" + status}
	list, err := secrets.List(ctx, only)
	if err != nil {
		return err
	}
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = only.LabelSelector
			return secrets.Watch(ctx, o)
		},
	})
	if err != nil {
		return err
	}
	go func() {
		defer watcher.Stop()
		for e := range watcher.ResultChan() {
			if e.Type == watch.Added || e.Type == watch.Modified {
				then()
				return
			}
		}
	}()
	return nil
}

// kubelets are the kubelets' ports.
func kubelets(t *testing.T) []int32 {
	t.Helper()
	list, err := kube(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []int32
	for _, n := range list.Items {
		out = append(out, n.Status.DaemonEndpoints.KubeletEndpoint.Port)
	}
	return out
}
