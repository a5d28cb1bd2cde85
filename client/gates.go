package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-cd/slipway"
)

// Gates returns what gates said: of a run, or with RunID 0 of the newest run of a service that has any.
func (c *Client) Gates(ctx context.Context, f slipway.GateFilter) ([]slipway.GateResult, error) {
	q := url.Values{}
	if f.Environment != "" {
		q.Set("environment", f.Environment)
	}
	if f.RunID == 0 {
		return get[[]slipway.GateResult](ctx, c, "/api/v1/projects/"+url.PathEscape(f.Project)+"/services/"+url.PathEscape(f.Service)+"/gates", q)
	}
	if f.Service != "" {
		q.Set("service", f.Service)
	}
	return get[[]slipway.GateResult](ctx, c, "/api/v1/runs/"+strconv.FormatInt(f.RunID, 10)+"/gates", q)
}

// Manifests returns what the chart of a service rendered in a run, one report for each environment.
func (c *Client) Manifests(ctx context.Context, run int64, service string) ([]slipway.ManifestReport, error) {
	return get[[]slipway.ManifestReport](ctx, c, "/api/v1/runs/"+strconv.FormatInt(run, 10)+"/manifests", url.Values{"service": {service}})
}

// Scan returns what the scan of a service found in a run.
func (c *Client) Scan(ctx context.Context, run int64, service string) (slipway.Scan, error) {
	return get[slipway.Scan](ctx, c, "/api/v1/runs/"+strconv.FormatInt(run, 10)+"/scan", url.Values{"service": {service}})
}

// DeployedScans returns what runs of a project, each with the newest scan of its image.
func (c *Client) DeployedScans(ctx context.Context, project string) ([]slipway.DeployedScan, error) {
	return get[[]slipway.DeployedScan](ctx, c, "/api/v1/projects/"+url.PathEscape(project)+"/scans", nil)
}

// Waivers lists waivers of a project: all that hold, then the newest of those that do not hold any more.
func (c *Client) Waivers(ctx context.Context, f slipway.WaiverFilter) ([]slipway.Waiver, error) {
	q := url.Values{}
	if f.Holding {
		q.Set("holding", "true")
	}
	if f.Before > 0 {
		q.Set("before", strconv.FormatInt(f.Before, 10))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return get[[]slipway.Waiver](ctx, c, "/api/v1/projects/"+url.PathEscape(f.Project)+"/waivers", q)
}

// GiveWaiver lets something through a gate until a day; the author is who the client's token is of.
func (c *Client) GiveWaiver(ctx context.Context, w slipway.Waiver) (slipway.Waiver, error) {
	return post[slipway.Waiver](ctx, c, "/api/v1/projects/"+url.PathEscape(w.Project)+"/waivers", w)
}

// WithdrawWaiver takes a waiver back.
func (c *Client) WithdrawWaiver(ctx context.Context, id int64) (slipway.Waiver, error) {
	return do[slipway.Waiver](ctx, c, http.MethodDelete, "/api/v1/waivers/"+strconv.FormatInt(id, 10), nil, nil)
}
