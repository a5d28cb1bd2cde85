package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

func scanCluster(r scanner) (c slipway.Cluster, err error) {
	return c, r.Scan(&c.Name, &c.Context, &c.Server, stamp{&c.Created})
}

// SaveCluster registers a cluster, or replaces the one of that name. The kubeconfig is kept sealed.
func (s *Store) SaveCluster(ctx context.Context, c slipway.Cluster, kubeconfig []byte, actor string) error {
	if err := slipway.CheckName("cluster", c.Name); err != nil {
		return err
	}
	sealed, err := s.seal(kubeconfig, "cluster "+c.Name)
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO clusters (name, context, server, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (name) DO UPDATE SET context = excluded.context, server = excluded.server, sealed = excluded.sealed`,
			c.Name, c.Context, c.Server, sealed, ms(t.now))
		if err != nil {
			return fmt.Errorf("save cluster %s: %w", c.Name, err)
		}
		return t.audit(slipway.Event{Kind: "cluster.saved", Actor: actor, Message: fmt.Sprintf("cluster %s is %s", c.Name, c.Server)})
	})
}

// Clusters returns the registered clusters by name.
func (s *Store) Clusters(ctx context.Context) ([]slipway.Cluster, error) {
	return list(ctx, s.reader, scanCluster, `SELECT name, context, server, created_at FROM clusters ORDER BY name`)
}

// Kubeconfig returns the credentials of a cluster.
func (s *Store) Kubeconfig(ctx context.Context, cluster string) ([]byte, error) {
	sealed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) },
		`SELECT sealed FROM clusters WHERE name = $1`, cluster)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noCluster(cluster)
	}
	return s.unseal(sealed, "cluster "+cluster)
}

// DeleteCluster forgets a cluster and its credentials. What runs there stays.
func (s *Store) DeleteCluster(ctx context.Context, name, actor string) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM clusters WHERE name = $1`, name)
		if err != nil {
			return fmt.Errorf("delete cluster %s: %w", name, err)
		}
		if n == 0 {
			return noCluster(name)
		}
		return t.audit(slipway.Event{Kind: "cluster.deleted", Actor: actor, Message: "cluster " + name + " forgotten"})
	})
}

func noCluster(name string) error {
	return slipway.Errorf(slipway.NotFound, "cluster %q is not registered; `slipway cluster add %s --kubeconfig FILE --context NAME` registers it", name, name)
}
