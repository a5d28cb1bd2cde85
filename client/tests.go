package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-cd/slipway"
)

func serviceTests(name, service string) string {
	return project(name) + "/services/" + url.PathEscape(service) + "/tests"
}

// RunTests returns the reports of a run's test steps, with what each is compared with.
func (c *Client) RunTests(ctx context.Context, id int64) (slipway.RunTests, error) {
	return get[slipway.RunTests](ctx, c, run(id)+"/tests", nil)
}

// ServiceTests returns the newest report of a service, of one ref or with "" of any, and the numbers of at
// most limit (0: the server's choice) before it.
func (c *Client) ServiceTests(ctx context.Context, name, service, ref string, limit int) (slipway.ServiceTests, error) {
	q := url.Values{}
	if ref != "" {
		q.Set("ref", ref)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return get[slipway.ServiceTests](ctx, c, serviceTests(name, service), q)
}

// CaseHistory returns how the tests that a filter selects ended over the runs of a service.
func (c *Client) CaseHistory(ctx context.Context, f slipway.CaseFilter) ([]slipway.CaseHistory, error) {
	q := url.Values{"case": {f.Name}}
	for k, v := range map[string]string{"ref": f.Ref, "suite": f.Suite, "class": f.Class} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return get[[]slipway.CaseHistory](ctx, c, serviceTests(f.Project, f.Service)+"/history", q)
}

// Attachment opens a file that the tests of a run left. Whoever called closes it.
func (c *Client) Attachment(ctx context.Context, id int64, digest string) (io.ReadCloser, error) {
	resp, err := c.request(ctx, http.MethodGet, run(id)+"/attachments/"+url.PathEscape(digest), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
