package helm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/kubeconn"
)

// Discovery is shared by operations for a while: fresh enough that a CRD which was just installed is
// seen by the next deployment, and not asked for by every one of them.
const discoveryTTL = 30 * time.Second

const storageTimeout = 30 * time.Second // of one request to Helm's storage

// conn is what operations on one cluster share.
type conn struct {
	loader clientcmd.ClientConfig
	config *rest.Config
	store  kubernetes.Interface
	disco  discovery.CachedDiscoveryInterface
	mapper *restmapper.DeferredDiscoveryRESTMapper

	mu   sync.Mutex
	caps *common.Capabilities
	at   time.Time
}

func newConn(kubeconfig []byte) (*conn, error) {
	loader, config, err := kubeconn.Read(kubeconfig)
	if err != nil {
		return nil, err
	}
	bounded := rest.CopyConfig(config)
	bounded.Timeout = storageTimeout
	store, err := kubernetes.NewForConfig(bounded)
	if err != nil {
		return nil, err
	}
	disco := memory.NewMemCacheClient(store.Discovery())
	return &conn{
		loader: loader, config: config, store: store, disco: disco,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(disco),
	}, nil
}

// capabilities returns what the cluster can do, as charts see it, at most discoveryTTL old.
func (c *conn) capabilities(now time.Time) (*common.Capabilities, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caps != nil && now.Sub(c.at) < discoveryTTL {
		return c.caps.Copy(), nil
	}
	c.caps = nil
	c.disco.Invalidate()
	c.mapper.Reset()
	v, err := c.disco.ServerVersion()
	if err != nil {
		return nil, err
	}
	apis, err := action.GetVersionSet(c.disco)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, err
	}
	c.caps, c.at = &common.Capabilities{
		APIVersions: apis,
		KubeVersion: common.KubeVersion{Version: v.GitVersion, Major: v.Major, Minor: v.Minor},
		HelmVersion: common.DefaultCapabilities.HelmVersion,
	}, now
	return c.caps.Copy(), nil
}

// dial opens an operation on the target's release.
func (c *Client) dial(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) (*operation, error) {
	cn, err := c.conns.To(ctx, t.Cluster)
	if err != nil {
		return nil, err
	}
	opCtx, cancel := context.WithCancelCause(ctx)
	g := &getter{conn: cn, config: withContext(opCtx, cn.config)}
	if log != nil {
		g.config.WarningHandler = warnings(log)
	}
	kc := kube.New(g)
	kc.Namespace = t.Namespace
	kc.SetLogger(slog.DiscardHandler)
	d := driver.NewSecrets(cn.store.CoreV1().Secrets(t.Namespace))
	d.SetLogger(slog.DiscardHandler)
	op := newOperation(ctx, d, kc)
	op.cfg.RESTClientGetter = g
	op.pods = cn.store
	op.close = func() { cancel(context.Canceled) }
	return op, nil
}

// know fills in the cluster's capabilities, which rendering needs.
func (c *Client) know(op *operation, t slipway.Target) error {
	g, ok := op.cfg.RESTClientGetter.(*getter)
	if !ok {
		return nil
	}
	caps, err := g.conn.capabilities(c.now())
	if err != nil {
		return classify(op.ctx, t, fmt.Errorf("ask cluster %s what it can do: %w", t.Cluster, err), slipway.Internal)
	}
	op.cfg.Capabilities = caps
	return nil
}

// getter hands shared discovery and a configuration of one operation to the SDK.
type getter struct {
	conn   *conn
	config *rest.Config
}

func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.config), nil }

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.conn.disco, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.conn.mapper, nil }

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.conn.loader }

type warnings func(slipway.LogLine)

func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" {
		w(slipway.LogLine{Text: "Kubernetes warns: " + text})
	}
}

// withContext is a copy of the configuration whose requests end with ctx: the SDK gives its requests
// no context. Connections are still shared.
func withContext(ctx context.Context, config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &bound{ctx: ctx, base: rt} })
	return out
}

type bound struct {
	ctx  context.Context
	base http.RoundTripper
}

func (b *bound) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })
	end := func() { stop(); cancel(nil) }
	res, err := b.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		end()
		return nil, err
	}
	res.Body = &boundBody{ReadCloser: res.Body, end: end}
	return res, nil
}

type boundBody struct {
	io.ReadCloser
	end func()
}

func (b *boundBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// lineWriter writes whole lines to a log.
type lineWriter struct {
	group string
	log   func(slipway.LogLine)
	rest  []byte
}

const maxLogLine = 64 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok && len(w.rest) < maxLogLine {
			return len(p), nil
		}
		if !ok {
			line, rest = w.rest, nil
		}
		w.line(line)
		w.rest = rest
	}
}

// Flush writes what is left without a newline.
func (w *lineWriter) Flush() {
	if len(w.rest) > 0 {
		w.line(w.rest)
		w.rest = nil
	}
}

func (w *lineWriter) line(b []byte) {
	w.log(slipway.LogLine{Group: w.group, Stream: "stdout", Text: string(bytes.TrimSuffix(b, []byte("\r")))})
}
