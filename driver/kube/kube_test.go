package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/verify"
)

var target = slipway.Target{Project: "drone", Environment: "qa", Service: "delivery", Cluster: "local", Namespace: "drone-qa", Release: "delivery"}

var pull = deploy.PullSecret{Name: "slipway-registry", Registry: "registry.slipway.local", User: "robot", Secret: "t0ken"}

func client(cn *conn) *Client {
	c := New(nil)
	c.open = func(context.Context, string) (*conn, error) { return cn, nil }
	return c
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	api := fake.NewClientset()
	c := client(&conn{api: api})
	ctx := t.Context()
	if err := c.Prepare(ctx, target, pull); err != nil {
		t.Fatal(err)
	}
	ns, err := api.CoreV1().Namespaces().Get(ctx, "drone-qa", metav1.GetOptions{})
	if err != nil || ns.Labels["slipway.dev/environment"] != "qa" {
		t.Errorf("namespace %+v, %v", ns, err)
	}
	secret, err := api.CoreV1().Secrets("drone-qa").Get(ctx, "slipway-registry", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if err := json.Unmarshal(secret.Data[".dockerconfigjson"], &config); err != nil || secret.Type != corev1.SecretTypeDockerConfigJson ||
		config.Auths["registry.slipway.local"].Username != "robot" || config.Auths["registry.slipway.local"].Auth != "cm9ib3Q6dDBrZW4=" {
		t.Errorf("secret of type %s: %+v, %v", secret.Type, config, err)
	}
	account, err := api.CoreV1().ServiceAccounts("drone-qa").Get(ctx, "default", metav1.GetOptions{})
	if err != nil || len(account.ImagePullSecrets) != 1 || account.ImagePullSecrets[0].Name != "slipway-registry" {
		t.Errorf("service account %+v, %v", account, err)
	}
	api.ClearActions()
	if err := c.Prepare(ctx, target, pull); err != nil {
		t.Fatal(err)
	}
	for _, a := range api.Actions() {
		if a.GetVerb() != "get" {
			t.Errorf("what was right was written again: %s %s", a.GetVerb(), a.GetResource().Resource)
		}
	}
	renewed := pull
	renewed.Secret = "another"
	if err := c.Prepare(ctx, target, renewed); err != nil {
		t.Fatal(err)
	}
	if secret, err = api.CoreV1().Secrets("drone-qa").Get(ctx, "slipway-registry", metav1.GetOptions{}); err != nil || !strings.Contains(string(secret.Data[".dockerconfigjson"]), "another") {
		t.Errorf("the renewed token is not in the secret: %v", err)
	}
}

func TestPrepareOnWhatIsThere(t *testing.T) {
	t.Parallel()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "drone-qa"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "mine"}}}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "drone-qa", Labels: map[string]string{"a": "b", "slipway.dev/project": target.Project, "slipway.dev/environment": target.Environment}}}
	api := fake.NewClientset(ns, account)
	if err := client(&conn{api: api}).Prepare(t.Context(), target, pull); err != nil {
		t.Fatal(err)
	}
	got, err := api.CoreV1().ServiceAccounts("drone-qa").Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil || len(got.ImagePullSecrets) != 2 {
		t.Errorf("%+v, %v", got.ImagePullSecrets, err)
	}

	leaving := ns.DeepCopy()
	leaving.Status.Phase = corev1.NamespaceTerminating
	if err := client(&conn{api: fake.NewClientset(leaving)}).Prepare(t.Context(), target, pull); slipway.ErrorCode(err) != slipway.Unavailable {
		t.Errorf("a namespace that is being deleted: %v", err)
	}
	for why, labels := range map[string]map[string]string{
		"is not Slipway's":         {"a": "b"},
		"belongs to project other": {"slipway.dev/project": "other", "slipway.dev/environment": "qa"},
	} {
		foreign := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "drone-qa", Labels: labels}}
		if err := client(&conn{api: fake.NewClientset(foreign)}).Prepare(t.Context(), target, pull); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), why) {
			t.Errorf("a namespace that %s: %v", why, err)
		}
	}
	opaque := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: pull.Name, Namespace: "drone-qa"}, Type: corev1.SecretTypeOpaque}
	if err := client(&conn{api: fake.NewClientset(ns, opaque)}).Prepare(t.Context(), target, pull); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), "rename yours") {
		t.Errorf("somebody else's secret: %v", err)
	}
	if err := client(&conn{api: fake.NewClientset(ns)}).Prepare(t.Context(), target, deploy.PullSecret{}); err != nil {
		t.Errorf("a registry that needs no login: %v", err)
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	secrets := schema.GroupResource{Resource: "secrets"}
	for name, c := range map[string]struct {
		err  error
		code slipway.Code
	}{
		"refused":      {&url.Error{Op: "Get", URL: "u", Err: errors.New("refused")}, slipway.Unavailable},
		"conflict":     {apierrors.NewConflict(secrets, "x", errors.New("modified")), slipway.Unavailable},
		"unauthorized": {apierrors.NewUnauthorized("x"), slipway.Unauthorized},
		"forbidden":    {apierrors.NewForbidden(secrets, "x", errors.New("no")), slipway.Forbidden},
		"not found":    {apierrors.NewNotFound(secrets, "x"), slipway.NotFound},
		"bad request":  {apierrors.NewBadRequest("x"), slipway.Invalid},
		"other":        {errors.New("x"), slipway.Internal},
	} {
		if got := translate(t.Context(), "local", c.err); slipway.ErrorCode(got) != c.code {
			t.Errorf("%s: %s", name, slipway.ErrorCode(got))
		}
	}
}

// objects reads YAML documents separated by ---.
func objects(t *testing.T, text string) []runtime.Object {
	t.Helper()
	var out []runtime.Object
	for doc := range strings.SplitSeq(text, "---\n") {
		u := &unstructured.Unstructured{}
		b, err := yaml.YAMLToJSON([]byte(doc))
		if err == nil {
			err = u.UnmarshalJSON(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, u)
	}
	return out
}

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: delivery}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: v1
kind: Service
metadata: {name: delivery}
`

const live = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: delivery, namespace: drone-qa, uid: d, generation: 2, annotations: {deployment.kubernetes.io/revision: "2"}}
spec: {replicas: 1, progressDeadlineSeconds: 600}
status: {observedGeneration: 2, replicas: 2, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Progressing, status: "True", reason: ReplicaSetUpdated}, {type: Available, status: "True"}, {type: ReplicaFailure, status: "True", message: exceeded quota}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: delivery-old, namespace: drone-qa, annotations: {deployment.kubernetes.io/revision: "1"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: delivery, uid: d}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: delivery-new, namespace: drone-qa, annotations: {deployment.kubernetes.io/revision: "2"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: delivery, uid: d}]}
---
apiVersion: v1
kind: Pod
metadata: {name: old-1, namespace: drone-qa, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: delivery-old, uid: rs-old}]}
spec: {containers: [{name: app, image: "x:1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: new-1, namespace: drone-qa, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: delivery-new, uid: rs-new}]}
spec: {initContainers: [{name: init, image: "i:1"}], containers: [{name: app, image: "x:2"}]}
status:
  conditions: [{type: Ready, status: "False"}]
  initContainerStatuses: [{name: init, ready: true, image: "i:1", imageID: "i@sha256:1", restartCount: 0, state: {terminated: {exitCode: 0, reason: Completed}}}]
  containerStatuses: [{name: app, ready: false, image: "x:2", imageID: "x@sha256:2", restartCount: 2, state: {waiting: {reason: CrashLoopBackOff, message: back-off}}, lastState: {terminated: {exitCode: 3, reason: Error}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: drone-qa}
spec: {containers: [{name: app, image: "x:9"}]}
---
apiVersion: v1
kind: Service
metadata: {name: delivery, namespace: drone-qa}
spec: {type: ClusterIP, clusterIP: 10.0.0.1}
`

func fakeConn(t *testing.T, text string) *conn {
	gvs := []schema.GroupVersion{{Version: "v1"}, {Group: "apps", Version: "v1"}}
	m := meta.NewDefaultRESTMapper(gvs)
	for _, k := range []schema.GroupVersionKind{{Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Service"}, {Version: "v1", Kind: "Pod"},
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "apps", Version: "v1", Kind: "ReplicaSet"}} {
		m.Add(k, meta.RESTScopeNamespace)
	}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		podGVR: "PodList", rsGVR: "ReplicaSetList",
		{Version: "v1", Resource: "services"}:                   "ServiceList",
		{Version: "v1", Resource: "configmaps"}:                 "ConfigMapList",
		{Group: "apps", Version: "v1", Resource: "deployments"}: "DeploymentList",
	}, objects(t, text)...)
	return &conn{objects: dyn, mapper: resettable{m}, api: fake.NewClientset()}
}

type resettable struct{ meta.RESTMapper }

func (resettable) Reset() {}

func TestWatch(t *testing.T) {
	t.Parallel()
	cn := fakeConn(t, live)
	seen := make(chan verify.Observed)
	done := make(chan error, 1)
	go func() {
		done <- client(cn).Watch(t.Context(), target, manifest, func(o verify.Observed) bool {
			seen <- o
			return o.Objects[1].Phase == verify.Ready
		})
	}()
	first := <-seen
	want := []verify.Object{
		{Kind: "Deployment", Name: "delivery", Phase: verify.InProgress, Message: "Pending termination: 1", Refused: "exceeded quota"},
		{Kind: "ConfigMap", Name: "settings", Phase: verify.Missing, Message: "is not there"},
		{Kind: "Service", Name: "delivery", Phase: verify.Ready, Message: "Service is ready"},
	}
	if !slices.Equal(first.Objects, want) || first.Time.IsZero() {
		t.Errorf("objects %+v\nwant %+v", first.Objects, want)
	}
	if len(first.Pods) != 1 || first.Pods[0].Name != "new-1" || first.Pods[0].Owner != "Deployment/delivery" {
		t.Fatalf("pods %+v: only those of the current replica set count", first.Pods)
	}
	wantContainers := []verify.Container{
		{Name: "init", Image: "i:1", ImageID: "i@sha256:1", Ready: true},
		{Name: "app", Image: "x:2", ImageID: "x@sha256:2", Waiting: "CrashLoopBackOff", Message: "back-off", Restarts: 2, Ended: "Error, exit status 3"},
	}
	if !slices.Equal(first.Pods[0].Containers, wantContainers) {
		t.Errorf("containers %+v\nwant %+v", first.Pods[0].Containers, wantContainers)
	}
	settings := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: drone-qa}\n")[0].(*unstructured.Unstructured)
	if _, err := cn.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("drone-qa").Create(t.Context(), settings, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-seen:
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(2 * time.Minute):
			t.Fatal("the new object is not seen")
		}
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	err := client(fakeConn(t, live)).Watch(ctx, target, manifest, func(verify.Observed) bool { cancel(slipway.ErrTimeout); return false })
	if !errors.Is(err, slipway.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestWatchOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	err := client(fakeConn(t, live)).Watch(t.Context(), target, "apiVersion: x.io/v1\nkind: Thing\nmetadata: {name: a}\n", func(verify.Observed) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "Thing a") {
		t.Errorf("got %v", err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	event := func(name, message string, minute int, count int32) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "drone-qa"}, Reason: "Failed", Message: message, Type: "Warning", Count: count,
			LastTimestamp: metav1.NewTime(time.Date(2026, 11, 21, 12, minute, 0, 0, time.UTC))}
	}
	api := fake.NewClientset(event("a", "third", 3, 1), event("b", "first", 1, 4), event("c", "second", 2, 1))
	got, err := client(&conn{api: api}).Events(t.Context(), target, "Pod", "x")
	want := []string{"Failed: first (4 times)", "Failed: second", "Failed: third"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// Two deployments of different owners make one namespace at the same moment: it belongs to who came first.
func TestANamespaceMadeMeanwhileIsItsMakers(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]slipway.Code{"drone": "", "other": slipway.Conflict} {
		api := fake.NewClientset()
		made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: target.Namespace, Labels: map[string]string{
			"slipway.dev/project": owner, "slipway.dev/environment": target.Environment,
		}}}
		api.PrependReactor("create", "namespaces", func(ktesting.Action) (bool, runtime.Object, error) {
			err := api.Tracker().Add(made)
			return err != nil, nil, err // the default one finds it there
		})
		if err := client(&conn{api: api}).Prepare(t.Context(), target, deploy.PullSecret{}); slipway.ErrorCode(err) != want {
			t.Errorf("made by %s: %v", owner, err)
		}
	}
}
