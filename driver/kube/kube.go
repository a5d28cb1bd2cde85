// Package kube is the Kubernetes API behind the words of Slipway: it makes sure of a namespace and
// its pull secret, watches the objects of a manifest and their pods, and reads logs and events.
//
// It decides nothing: whether what it sees is healthy is said by stage/verify. Helm releases are the
// business of driver/helm.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/klog/v2"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/kubeconn"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/verify"
)

// Client talks to registered clusters. It is safe for concurrent use.
type Client struct {
	conns kubeconn.Conns[*conn]
	// open is how an operation gets at a cluster; tests put stand-ins here.
	open func(ctx context.Context, cluster string) (*conn, error)
	now  func() time.Time
}

var (
	_ deploy.Cluster = (*Client)(nil)
	_ verify.Cluster = (*Client)(nil)
)

// conn is what operations on one cluster share.
type conn struct {
	api     kubernetes.Interface
	objects dynamic.Interface
	mapper  meta.ResettableRESTMapper
}

var quiet sync.Once

// New returns a client. It opens no connection before the first operation.
func New(clusters kubeconn.Clusters) *Client {
	quiet.Do(func() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }) // the SDK logs to stderr otherwise
	c := &Client{conns: kubeconn.Conns[*conn]{Clusters: clusters, Make: newConn}, now: time.Now}
	c.open = c.conns.To
	return c
}

func newConn(kubeconfig []byte) (*conn, error) {
	_, config, err := kubeconn.Read(kubeconfig)
	if err != nil {
		return nil, err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &conn{
		api: api, objects: objects,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(api.Discovery())),
	}, nil
}

// Check reports whether the cluster answers and accepts Slipway's credentials, and its version.
func (c *Client) Check(ctx context.Context, cluster string) (version string, err error) {
	cn, err := c.open(ctx, cluster)
	if err != nil {
		return "", err
	}
	v, err := cn.api.Discovery().ServerVersionWithContext(ctx)
	if err != nil {
		return "", translate(ctx, cluster, err)
	}
	return v.GitVersion, nil
}

// translate puts an error of Kubernetes into one of Slipway's with a code.
func translate(ctx context.Context, cluster string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *slipway.Error
	if errors.As(err, &known) {
		return err
	}
	coded := func(code slipway.Code, text string) error {
		return &slipway.Error{Code: code, Message: text, Err: err}
	}
	switch {
	case apierrors.IsUnauthorized(err):
		return coded(slipway.Unauthorized, fmt.Sprintf("cluster %s does not accept Slipway's credentials; register it again: slipway cluster add %s", cluster, cluster))
	case kubeconn.Trouble(err), apierrors.IsInternalError(err), apierrors.IsConflict(err):
		return coded(slipway.Unavailable, fmt.Sprintf("cluster %s does not answer as it should: %v", cluster, err))
	case apierrors.IsForbidden(err):
		return coded(slipway.Forbidden, fmt.Sprintf("cluster %s does not allow it: %v", cluster, err))
	case apierrors.IsNotFound(err):
		return coded(slipway.NotFound, err.Error())
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return coded(slipway.Invalid, err.Error())
	}
	return err
}
