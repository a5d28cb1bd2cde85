package kubeconn_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/slipway-cd/slipway/driver/kubeconn"
)

func TestTrouble(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	ending := &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonForbidden, Code: 403,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}}}}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no connection":    {&url.Error{Op: "Get", URL: "https://k", Err: errors.New("x")}, true},
		"cut":              {fmt.Errorf("read: %w", &net.OpError{Op: "read", Err: errors.New("reset")}), true},
		"half an answer":   {io.ErrUnexpectedEOF, true},
		"namespace ends":   {ending, true},
		"too many":         {apierrors.NewTooManyRequests("slow down", 1), true},
		"webhook down":     {apierrors.NewInternalError(errors.New("failed calling webhook")), true},
		"wrong type":       {&apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "failed to create typed patch object"}}, false},
		"not there":        {apierrors.NewNotFound(pods, "web"), false},
		"conflict":         {apierrors.NewConflict(pods, "web", errors.New("changed")), false},
		"may not":          {apierrors.NewForbidden(pods, "web", errors.New("no")), false},
		"something else":   {errors.New("x"), false},
		"nothing is wrong": {nil, false},
	} {
		if got := kubeconn.Trouble(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
