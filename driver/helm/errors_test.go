package helm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

func TestTranslate(t *testing.T) {
	t.Parallel()
	deployments := schema.GroupResource{Group: "apps", Resource: "deployments"}
	conflict := &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonConflict, Code: 409, Details: &metav1.StatusDetails{
		Name: "delivery", Kind: "Deployment", Causes: []metav1.StatusCause{
			{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "kubectl-edit" using apps/v1`, Field: ".spec.replicas"}},
	}}}
	for name, c := range map[string]struct {
		err  error
		code slipway.Code
		text string
	}{
		"connection refused": {fmt.Errorf("x: %w", &url.Error{Op: "Get", URL: "https://k", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}), slipway.Unavailable, "cluster local does not answer"},
		"too many requests":  {apierrors.NewTooManyRequests("slow down", 1), slipway.Unavailable, "slow down"},
		"webhook down":       {apierrors.NewInternalError(errors.New("failed calling webhook")), slipway.Unavailable, "webhook"},
		"name taken":         {fmt.Errorf("create: %w", driver.ErrReleaseExists), slipway.Unavailable, "another Helm client is at work"},
		"unauthorized":       {apierrors.NewUnauthorized("no"), slipway.Unauthorized, "slipway cluster add local"},
		"quota":              {apierrors.NewForbidden(deployments, "delivery", errors.New("exceeded quota: pods=1")), slipway.Forbidden, "exceeded quota"},
		"field conflict": {errors.Join(errors.New("other"), fmt.Errorf("conflict occurred: %w", conflict)), slipway.Conflict,
			`.spec.replicas (conflict with "kubectl-edit" using apps/v1)`},
		"wrong type":    {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "failed to create typed patch object"}}, slipway.Invalid, "typed patch"},
		"immutable":     {apierrors.NewInvalid(schema.GroupKind{Kind: "Deployment"}, "delivery", nil), slipway.Invalid, "is invalid"},
		"template":      {errors.New("execution error at (x.yaml:1): boom"), slipway.Invalid, "boom"},
		"own deadline":  {fmt.Errorf("hook: %w", context.DeadlineExceeded), slipway.Invalid, "deadline"},
		"coded already": {fmt.Errorf("x: %w", slipway.Errorf(slipway.NotFound, "gone")), slipway.NotFound, "gone"},
	} {
		got := translate(t.Context(), slipway.Target{Cluster: "local"}, c.err)
		if slipway.ErrorCode(got) != c.code || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%s: code %s, %q", name, slipway.ErrorCode(got), got)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrSuperseded)
	if got := translate(ctx, slipway.Target{}, errors.New("x")); !errors.Is(got, slipway.ErrSuperseded) {
		t.Errorf("cancelled: %v", got)
	}
	plain := errors.New("illegal base64 data")
	if got := classify(t.Context(), slipway.Target{}, plain, slipway.Internal); got != plain {
		t.Errorf("unknown trouble where no chart is at work: %v", got)
	}
	if translate(ctx, slipway.Target{}, nil) != nil {
		t.Error("no error became one")
	}
}

// TestRequestsEndWithTheOperation: the SDK gives its requests no context, the transport does.
func TestRequestsEndWithTheOperation(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	client, err := rest.HTTPClientFor(withContext(ctx, &rest.Config{Host: srv.URL}))
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-arrived; cancel(slipway.ErrCancelled) }()
	res, err := client.Get(srv.URL)
	if err == nil {
		res.Body.Close()
		t.Fatal("the request went on")
	}
}

func TestUnknownCluster(t *testing.T) {
	t.Parallel()
	c := New(clusters{}, nil)
	_, err := c.History(t.Context(), slipway.Target{Cluster: "moon", Release: "x", Namespace: "y"})
	if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "slipway cluster add moon") {
		t.Errorf("got %v", err)
	}
	c = New(clusters{"moon": "not: [a kubeconfig"}, nil)
	if _, err = c.History(t.Context(), slipway.Target{Cluster: "moon"}); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "not usable") {
		t.Errorf("got %v", err)
	}
}

func TestClusterIsDown(t *testing.T) {
	t.Parallel()
	c := New(clusters{"local": `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "http://` + slipwaytest.Refusing(t) + `"}}], contexts: [{name: c, context: {cluster: c}}]}`}, nil)
	if _, err := c.History(t.Context(), qa()); slipway.ErrorCode(err) != slipway.Unavailable || !slipway.Temporary(err) {
		t.Errorf("got %v", err)
	}
}

type clusters map[string]string

func (c clusters) Kubeconfig(_ context.Context, name string) ([]byte, error) {
	k, ok := c[name]
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "no cluster %s", name)
	}
	return []byte(k), nil
}
