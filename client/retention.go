package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/slipway-cd/slipway"
)

// Retention removes old candidates of a project, or with dry says what would be removed.
func (c *Client) Retention(ctx context.Context, project string, dry bool) (slipway.RetentionReport, error) {
	path := "/api/v1/projects/" + url.PathEscape(project) + "/retention"
	if dry {
		return get[slipway.RetentionReport](ctx, c, path, nil)
	}
	return do[slipway.RetentionReport](ctx, c, http.MethodPost, path, nil, nil)
}
