package kubeconn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/kubeconn"
)

type clusters map[string]string

func (c clusters) Kubeconfig(_ context.Context, name string) ([]byte, error) {
	switch text, ok := c[name]; {
	case !ok:
		return nil, slipway.Errorf(slipway.NotFound, "no cluster %s", name)
	case text == "":
		return nil, errors.New("the store does not answer")
	default:
		return []byte(text), nil
	}
}

const config = `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "http://127.0.0.1:%d"}}], contexts: [{name: c, context: {cluster: c}}]}`

func TestConns(t *testing.T) {
	t.Parallel()
	have := clusters{"a": fmt.Sprintf(config, 1), "b": fmt.Sprintf(config, 2), "broken": "not: [a kubeconfig", "silent": ""}
	made := 0
	conns := kubeconn.Conns[*string]{Clusters: have, Make: func(kubeconfig []byte) (*string, error) {
		_, c, err := kubeconn.Read(kubeconfig)
		if err != nil {
			return nil, err
		}
		made++ // one at a time
		return &c.Host, nil
	}}
	to := func(name string) *string {
		t.Helper()
		c, err := conns.To(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := to("a"), to("b")
	if *a != "http://127.0.0.1:1" || *b != "http://127.0.0.1:2" {
		t.Errorf("%s, %s", *a, *b)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if c, err := conns.To(t.Context(), "a"); err != nil || c != a {
				t.Errorf("made again: %v", err)
			}
		})
	}
	all.Wait()
	have["a"] = fmt.Sprintf(config, 3)
	if now := to("a"); now == a || *now != "http://127.0.0.1:3" || to("b") != b || made != 3 {
		t.Errorf("after the kubeconfig changed: %s, %d were made", *now, made)
	}
	for name, want := range map[string]slipway.Code{"moon": slipway.Invalid, "broken": slipway.Invalid, "silent": slipway.Internal} {
		if c, err := conns.To(t.Context(), name); c != nil || slipway.ErrorCode(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	loader, c, err := kubeconn.Read(fmt.Appendf(nil, config, 1))
	if err != nil || loader == nil || c.QPS != 200 || c.Burst != 400 || c.UserAgent != "slipway" || c.WarningHandler == nil {
		t.Errorf("%+v, %v", c, err)
	}
	if _, _, err := kubeconn.Read([]byte(`{apiVersion: v1, kind: Config}`)); err == nil {
		t.Error("a kubeconfig without a cluster is read")
	}
}
