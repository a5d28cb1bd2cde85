package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// api is the little of a Kubernetes client that starting a cluster needs.
type api struct {
	server string
	client *http.Client
}

// api returns a client that acts as the administrator.
func (c *Cluster) api() (*api, error) {
	pool, err := c.pool()
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.pki("admin.crt"), c.pki("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	config := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
	return &api{server: c.server(), client: &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
	}}, nil
}

// get reads a path into out, unless that is nil.
func (a *api) get(ctx context.Context, path string, out any) error {
	return a.do(ctx, http.MethodGet, path, "", nil, out)
}

// create posts an object.
func (a *api) create(ctx context.Context, path string, object, out any) error {
	return a.do(ctx, http.MethodPost, path, "application/json", object, out)
}

// apply makes an object be as described, whether it exists or not.
func (a *api) apply(ctx context.Context, path string, object any) error {
	path += "?fieldManager=slipway-cluster&force=true"
	return a.do(ctx, http.MethodPatch, path, "application/apply-patch+yaml", object, nil)
}

func (a *api) do(ctx context.Context, method, path, kind string, object, out any) error {
	var body io.Reader
	if object != nil {
		data, err := json.Marshal(object)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, body)
	if err != nil {
		return err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, response.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
