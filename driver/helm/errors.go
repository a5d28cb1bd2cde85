package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/kubeconn"
)

const maxMessage = 2000 // characters of an error of Helm or Kubernetes that are shown

// translate puts an error of Helm or Kubernetes into one of Slipway's with a code. What is neither
// trouble of the connection nor one of the server's own states is the chart's: Invalid.
func translate(ctx context.Context, t slipway.Target, err error) error {
	return classify(ctx, t, err, slipway.Invalid)
}

// classify is translate with another code for what is not known. Internal leaves such an error as it
// is: right where no chart is at work.
func classify(ctx context.Context, t slipway.Target, err error, otherwise slipway.Code) error {
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
	text := bounded(err.Error(), maxMessage)
	code := otherwise
	switch {
	case apierrors.IsUnauthorized(err):
		return &slipway.Error{Code: slipway.Unauthorized, Err: err, Message: fmt.Sprintf(
			"cluster %s does not accept Slipway's credentials; register it again: slipway cluster add %s", t.Cluster, t.Cluster)}
	case kubeconn.Trouble(err):
		code, text = slipway.Unavailable, fmt.Sprintf("cluster %s does not answer: %s", t.Cluster, text)
	case errors.Is(err, driver.ErrReleaseExists):
		code, text = slipway.Unavailable, fmt.Sprintf("another Helm client is at work on release %s in %s", t.Release, t.Namespace)
	case len(fieldConflicts(err)) > 0:
		code, text = slipway.Conflict, fmt.Sprintf("another owner holds fields that the chart sets: %s; leave those fields out of the chart, or take them away from that owner: %s",
			strings.Join(fieldConflicts(err), "; "), text)
	case apierrors.IsForbidden(err):
		code = slipway.Forbidden
	}
	if code == slipway.Internal {
		return err
	}
	return &slipway.Error{Code: code, Message: text, Err: err}
}

// fieldConflicts names the fields that server-side apply could not have, with their managers.
func fieldConflicts(err error) []string {
	var out []string
	eachStatus(err, func(s metav1.Status) {
		if s.Reason != metav1.StatusReasonConflict || s.Details == nil {
			return
		}
		for _, c := range s.Details.Causes {
			if c.Type == metav1.CauseTypeFieldManagerConflict {
				out = append(out, fmt.Sprintf("%s (%s)", c.Field, c.Message))
			}
		}
	})
	return out
}

// eachStatus calls f with every API status in the tree of err.
func eachStatus(err error, f func(metav1.Status)) {
	switch e := err.(type) {
	case nil:
	case apierrors.APIStatus:
		f(e.Status())
	case interface{ Unwrap() error }:
		eachStatus(e.Unwrap(), f)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			eachStatus(one, f)
		}
	}
}
