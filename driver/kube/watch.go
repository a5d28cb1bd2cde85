package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/verify"
)

const (
	tick      = time.Second      // how often an unchanged state is shown again, for rules that count time
	syncLimit = 30 * time.Second // for the first answers of the cluster
	recent    = 15 * time.Second // an error of the watch this old at the end says that the cluster is away
)

var (
	podGVR = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	rsGVR  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
)

// item is an object of the manifest.
type item struct {
	kind, name, namespace string
	gvr                   schema.GroupVersionResource
	namespaced            bool
}

// Watch calls seen with the state of the manifest's objects and their pods, at once, after every
// change and once a second.
func (c *Client) Watch(ctx context.Context, t slipway.Target, manifest string, seen func(verify.Observed) bool) error {
	cn, err := c.open(ctx, t.Cluster)
	if err != nil {
		return err
	}
	items, err := cn.items(t, manifest)
	if err != nil {
		return translate(ctx, t.Cluster, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{now: c.now, conn: cn, target: t, items: items, changed: make(chan struct{}, 1), stores: map[storeKey]cache.SharedIndexInformer{}, still: map[item]bool{}}
	defer w.wg.Wait()
	defer cancel()
	if err := w.start(ctx); err != nil {
		return w.ended(ctx, err)
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		o := w.observe(ctx)
		o.Time = c.now()
		if ctx.Err() == nil && seen(o) {
			return nil
		}
		select {
		case <-ctx.Done():
			return w.ended(ctx, nil)
		case <-w.changed:
		case <-ticker.C:
		}
	}
}

// items reads the objects of a manifest.
func (cn *conn) items(t slipway.Target, manifest string) ([]item, error) {
	var out []item
	dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := dec.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, slipway.Errorf(slipway.Invalid, "the manifest of release %s does not parse: %w", t.Release, err)
		}
		if u.GetKind() == "" {
			continue
		}
		if u.IsList() {
			err = u.EachListItem(func(o runtimeObject) error {
				it, err := cn.item(t, o.(*unstructured.Unstructured))
				out = append(out, it)
				return err
			})
		} else {
			var it item
			it, err = cn.item(t, u)
			out = append(out, it)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (cn *conn) item(t slipway.Target, u *unstructured.Unstructured) (item, error) {
	gvk := u.GroupVersionKind()
	m, err := cn.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) { // a kind that was installed since the cluster was asked
		cn.mapper.Reset()
		m, err = cn.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return item{}, fmt.Errorf("%s %s: %w", gvk.Kind, u.GetName(), err)
	}
	it := item{kind: gvk.Kind, name: u.GetName(), gvr: m.Resource, namespaced: m.Scope.Name() == meta.RESTScopeNameNamespace}
	if it.namespaced {
		if it.namespace = u.GetNamespace(); it.namespace == "" {
			it.namespace = t.Namespace
		}
	}
	return it, nil
}

// static kinds are ready as soon as they are there.
func (it item) static() bool {
	switch it.gvr.GroupResource().String() {
	case "configmaps", "secrets", "serviceaccounts", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
		"cronjobs.batch", "networkpolicies.networking.k8s.io", "horizontalpodautoscalers.autoscaling", "limitranges", "resourcequotas":
		return true
	}
	return !it.namespaced
}

type storeKey struct {
	gvr       schema.GroupVersionResource
	namespace string
}

// watch holds caches of what a manifest's objects depend on.
type watch struct {
	conn    *conn
	target  slipway.Target
	items   []item
	changed chan struct{}
	stores  map[storeKey]cache.SharedIndexInformer
	still   map[item]bool // static objects that were found
	wg      sync.WaitGroup
	now     func() time.Time

	mu    sync.Mutex
	err   error // newest trouble of a watch
	errAt time.Time
}

func (w *watch) start(ctx context.Context) error {
	counts := map[storeKey]int{}
	needRS := map[string]bool{}
	for _, it := range w.items {
		if !it.static() {
			counts[storeKey{it.gvr, it.namespace}]++
		}
		if it.kind == "Deployment" {
			needRS[it.namespace] = true
		}
	}
	for _, it := range w.items {
		if it.static() {
			continue
		}
		selector := ""
		if k := (storeKey{it.gvr, it.namespace}); counts[k] == 1 && it.gvr != podGVR {
			selector = fields.OneTermEqualSelector("metadata.name", it.name).String()
		}
		if err := w.informer(ctx, it.gvr, it.namespace, selector); err != nil {
			return err
		}
		if err := w.informer(ctx, podGVR, it.namespace, ""); err != nil {
			return err
		}
	}
	for ns := range needRS {
		if err := w.informer(ctx, rsGVR, ns, ""); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	for k, inf := range w.stores {
		if !cache.WaitForCacheSync(limited.Done(), inf.HasSynced) {
			w.mu.Lock()
			err := w.err
			w.mu.Unlock()
			return cmpErr(err, slipway.Errorf(slipway.Unavailable, "cluster %s does not list its %s", w.target.Cluster, k.gvr.Resource))
		}
	}
	return nil
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (w *watch) informer(ctx context.Context, gvr schema.GroupVersionResource, namespace, selector string) error {
	k := storeKey{gvr, namespace}
	if w.stores[k] != nil {
		return nil
	}
	inf := dynamicinformer.NewFilteredDynamicInformer(w.conn.objects, gvr, namespace, 0, cache.Indexers{},
		func(o *metav1.ListOptions) { o.FieldSelector = selector }).Informer()
	w.stores[k] = inf
	notify := func() {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(_, _ any) { notify() }, DeleteFunc: func(any) { notify() },
	}); err != nil {
		return err
	}
	if err := inf.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { w.trouble(err) }); err != nil {
		return err
	}
	if err := inf.SetTransform(func(o any) (any, error) {
		if u, ok := o.(*unstructured.Unstructured); ok {
			u.SetManagedFields(nil)
		}
		return o, nil
	}); err != nil {
		return err
	}
	w.wg.Go(func() { inf.Run(ctx.Done()) })
	return nil
}

// trouble remembers an error; a watch that just has to begin again is none.
func (w *watch) trouble(err error) {
	if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err, w.errAt = err, w.now()
}

// ended is the error with which a watch ends: that the cluster was away at the end, or why ctx ended.
func (w *watch) ended(ctx context.Context, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.err != nil && w.now().Sub(w.errAt) < recent {
		err = w.err
	}
	if err == nil {
		return context.Cause(ctx)
	}
	return translate(context.WithoutCancel(ctx), w.target.Cluster, err)
}

// get returns an object from the caches; static objects are asked for until they are found.
func (w *watch) get(ctx context.Context, it item) (*unstructured.Unstructured, bool) {
	if it.static() {
		if !w.still[it] {
			_, err := w.conn.objects.Resource(it.gvr).Namespace(it.namespace).Get(ctx, it.name, metav1.GetOptions{})
			if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
				w.trouble(err)
			}
			w.still[it] = err == nil
		}
		return nil, w.still[it]
	}
	key := it.name
	if it.namespace != "" {
		key = it.namespace + "/" + it.name
	}
	o, ok, err := w.stores[storeKey{it.gvr, it.namespace}].GetStore().GetByKey(key)
	if err != nil || !ok {
		return nil, false
	}
	u, ok := o.(*unstructured.Unstructured)
	return u, ok
}

func (w *watch) observe(ctx context.Context) verify.Observed {
	var out verify.Observed
	current := map[string]*unstructured.Unstructured{} // Kind/namespace/name
	for _, it := range w.items {
		u, ok := w.get(ctx, it)
		switch {
		case !ok:
			out.Objects = append(out.Objects, verify.Object{Kind: it.kind, Name: it.name, Phase: verify.Missing, Message: "is not there"})
		case u == nil:
			out.Objects = append(out.Objects, verify.Object{Kind: it.kind, Name: it.name, Phase: verify.Ready})
		default:
			out.Objects = append(out.Objects, object(it, u))
			current[it.kind+"/"+it.namespace+"/"+it.name] = u
		}
	}
	for k, inf := range w.stores {
		if k.gvr != podGVR {
			continue
		}
		for _, o := range inf.GetStore().List() {
			if u, ok := o.(*unstructured.Unstructured); ok {
				if p, ok := w.pod(u, current); ok {
					out.Pods = append(out.Pods, p)
				}
			}
		}
	}
	slices.SortFunc(out.Pods, func(a, b verify.Pod) int { return strings.Compare(a.Name, b.Name) })
	return out
}
