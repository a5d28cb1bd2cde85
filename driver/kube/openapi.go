package kube

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/rest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/chart"
)

var _ chart.Clusters = (*Client)(nil)

// maxOpenAPI bounds the document of a cluster in bytes, when it is unpacked: Kubernetes' own is 4 MB, each
// custom resource adds some ten KB.
const maxOpenAPI = 64 << 20

// OpenAPI implements chart.Clusters. The tag is that of the API server, or a hash of the document from one
// that gives none.
func (c *Client) OpenAPI(ctx context.Context, cluster, tag string) (chart.OpenAPI, error) {
	cn, err := c.open(ctx, cluster)
	if err != nil {
		return chart.OpenAPI{}, err
	}
	doc, err := cn.openAPI(ctx, tag)
	if err != nil {
		return chart.OpenAPI{}, translate(ctx, cluster, fmt.Errorf("OpenAPI document: %w", err))
	}
	return doc, nil
}

func (cn *conn) openAPI(ctx context.Context, tag string) (chart.OpenAPI, error) {
	client, ok := cn.api.Discovery().RESTClient().(*rest.RESTClient)
	if !ok || client == nil || client.Client == nil {
		return chart.OpenAPI{}, errors.New("this connection has no HTTP client")
	}
	// The SDK's own request reads bodies without bound, and takes "not modified" for an error.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Get().AbsPath("/openapi/v2").URL().String(), nil)
	if err != nil {
		return chart.OpenAPI{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	res, err := client.Client.Do(req)
	if err != nil {
		return chart.OpenAPI{}, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && tag != "":
		return chart.OpenAPI{Tag: tag}, nil
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return chart.OpenAPI{}, slipway.Errorf(slipway.Forbidden, "the cluster does not show its API (%s): a role with get on the path /openapi/v2 is missing", res.Status)
	case res.StatusCode != http.StatusOK:
		return chart.OpenAPI{}, slipway.Errorf(slipway.Unavailable, "/openapi/v2 answers %s", res.Status)
	}
	data, err := readBounded(res)
	if err != nil {
		return chart.OpenAPI{}, err
	}
	doc := chart.OpenAPI{Tag: res.Header.Get("ETag"), Data: data}
	if doc.Tag != "" {
		return doc, nil
	}
	sum := sha256.Sum256(data)
	if doc.Tag = hex.EncodeToString(sum[:]); doc.Tag == tag {
		doc.Data = nil
	}
	return doc, nil
}

func readBounded(res *http.Response) ([]byte, error) {
	var body io.Reader = res.Body
	if res.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		body = z
	}
	data, err := io.ReadAll(io.LimitReader(body, maxOpenAPI+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxOpenAPI {
		return nil, slipway.Errorf(slipway.Invalid, "the document is larger than %d MiB", maxOpenAPI>>20)
	}
	return data, nil
}
