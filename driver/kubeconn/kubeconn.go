// Package kubeconn is what helm and kube share: connections with registered clusters, each kept until its
// kubeconfig changes, and which errors are trouble of the cluster.
//
// It sends no request: what a connection is, and what is asked over it, is its users' business.
package kubeconn

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
)

// Clusters gives access to the clusters that were registered by name (D19).
type Clusters interface {
	// Kubeconfig returns the kubeconfig whose current context is the cluster.
	Kubeconfig(ctx context.Context, name string) ([]byte, error)
}

// Conns are connections with clusters by name. Clusters and Make are required. It is safe for concurrent use and must
// not be copied.
type Conns[T any] struct {
	Clusters Clusters
	// Make makes a connection of a kubeconfig, without a request.
	Make func(kubeconfig []byte) (T, error)

	mu   sync.Mutex
	made map[string]kept[T]
}

type kept[T any] struct {
	sum  [32]byte // of the kubeconfig
	conn T
}

// To returns the connection with a cluster; a new one when its kubeconfig changed. A cluster that is not registered, and
// a kubeconfig that cannot be used, are Invalid.
func (c *Conns[T]) To(ctx context.Context, name string) (T, error) {
	var none T
	kubeconfig, err := c.Clusters.Kubeconfig(ctx, name)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return none, slipway.Errorf(slipway.Invalid, "cluster %q is not registered: slipway cluster add %s", name, name)
	}
	if err != nil {
		return none, fmt.Errorf("read how to reach cluster %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := sha256.Sum256(kubeconfig)
	if have, ok := c.made[name]; ok && have.sum == sum {
		return have.conn, nil
	}
	conn, err := c.Make(kubeconfig)
	if err != nil {
		return none, slipway.Errorf(slipway.Invalid, "the kubeconfig of cluster %q is not usable, register it again with slipway cluster add %s: %w", name, name, err)
	}
	if c.made == nil {
		c.made = map[string]kept[T]{}
	}
	c.made[name] = kept[T]{sum, conn}
	return conn, nil
}

// Read reads a kubeconfig: the configuration that comes with the SDK's loader of it asks as often as a server needs to,
// and logs no warnings.
func Read(kubeconfig []byte) (clientcmd.ClientConfig, *rest.Config, error) {
	loader, err := clientcmd.NewClientConfigFromBytes(kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, nil, err
	}
	config.QPS, config.Burst = 200, 400 // the cluster has its own fairness; the client's default of 5 only waits
	config.WarningHandler = rest.NoWarnings{}
	config.UserAgent = "slipway"
	return loader, config, nil
}
