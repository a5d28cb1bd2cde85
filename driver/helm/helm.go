// Package helm is the Helm 4 SDK behind the words of Slipway: it looks at releases, installs,
// upgrades, rolls back, tests and previews them, and translates Helm's and Kubernetes' errors. Its
// releases are ordinary ones: field manager helm, stored as secrets, apply mode auto.
//
// It decides nothing. What to do next with a release, which values and pins apply and what a failure
// means is said by stage/deploy, stage/verify and stage/approve, whose requests it carries out.
package helm

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/kubeconn"
	"github.com/slipway-cd/slipway/stage/approve"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/verify"
)

// Client talks to Helm releases. It is safe for concurrent use; two operations that change one
// release must not overlap, which the lock of the target sees to.
type Client struct {
	rehearse Rehearse
	conns    kubeconn.Conns[*conn]
	now      func() time.Time
	// connect is how an operation gets at a cluster; tests put Helm's stand-ins here.
	connect func(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) (*operation, error)
}

var (
	_ deploy.Helm      = (*Client)(nil)
	_ deploy.Restorer  = (*Client)(nil)
	_ verify.Helm      = (*Client)(nil)
	_ approve.Renderer = (*Client)(nil)
)

// Rehearse renders a chart package where it can be interrupted. Its error says that the chart takes too
// long or too much for the SDK, which cannot be interrupted, to render it.
type Rehearse func(ctx context.Context, tgz []byte, r chart.Render) error

var quiet sync.Once

// New returns a client, which renders nothing that was not rehearsed; nil trusts all charts. It opens no connection before the
// first operation.
func New(clusters kubeconn.Clusters, rehearse Rehearse) *Client {
	quiet.Do(func() {
		// The SDK takes both from package variables: the field manager would be the binary's name,
		// and klog would write to stderr.
		kube.ManagedFieldsManager = "helm"
		klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	})
	if rehearse == nil {
		rehearse = func(context.Context, []byte, chart.Render) error { return nil }
	}
	c := &Client{rehearse: rehearse, conns: kubeconn.Conns[*conn]{Clusters: clusters, Make: newConn}, now: time.Now}
	c.connect = c.dial
	return c
}

// operation is one use of a release: its own Helm configuration over shared connections.
type operation struct {
	ctx   context.Context
	cfg   *action.Configuration
	store *marker
	pods  kubernetes.Interface // nil under tests
	close func()
}

// newOperation puts Helm's parts together. Requests of the kube client end with ctx; the storage's do
// not, so that what happened can still be recorded.
func newOperation(ctx context.Context, d driver.Driver, kc kube.Interface) *operation {
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	m := &marker{Driver: d}
	cfg.Releases = storage.Init(m)
	cfg.Releases.SetLogger(slog.DiscardHandler)
	cfg.KubeClient = kc
	cfg.CustomTemplateFuncs = chart.Funcs()
	cfg.HookOutputFunc = func(_, _, _ string) io.Writer { return io.Discard }
	return &operation{ctx: ctx, cfg: cfg, store: m, close: func() {}}
}

const (
	defaultTimeout    = 5 * time.Minute
	defaultHistoryMax = 10 // as the stock client's
)

func timeout(t slipway.Target) time.Duration {
	if t.Timeout > 0 {
		return time.Duration(t.Timeout)
	}
	return defaultTimeout
}

func historyMax(t slipway.Target) int {
	if t.HistoryMax > 0 {
		return t.HistoryMax
	}
	return defaultHistoryMax
}

func discard(slipway.LogLine) {}
