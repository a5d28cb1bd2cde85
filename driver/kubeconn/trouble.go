package kubeconn

import (
	"errors"
	"io"
	"net"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trouble reports whether an error says that a cluster does not answer or is busy, so that trying again may help.
//
// apierrors.IsInternalError is not asked: it is also true of the status 500 without a reason with which the server
// answers objects that do not fit its types.
func Trouble(err error) bool {
	var u *url.Error
	var op *net.OpError
	return errors.As(err, &u) || errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF) ||
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.ReasonForError(err) == metav1.StatusReasonInternalError
}
