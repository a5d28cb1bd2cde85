package kube

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/slipway-cd/slipway"
)

// An account that may not look at namespaces works in those alone in which Slipway's own pull secret says whose they
// are: otherwise two projects could share one.
func TestPrepareWithoutTheRightToLook(t *testing.T) {
	t.Parallel()
	forbidden := func(resource string) (string, ktesting.ReactionFunc) {
		return resource, func(ktesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "drone-qa", errors.New("no"))
		}
	}
	secret := func(labels map[string]string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: pull.Name, Namespace: "drone-qa", Labels: labels}, Type: corev1.SecretTypeDockerConfigJson}
	}
	for name, c := range map[string]struct {
		have   *corev1.Secret
		blind  bool // may not read secrets either
		code   slipway.Code
		reason string
	}{
		"ours":                   {have: secret(labels(target))},
		"another project's":      {have: secret(map[string]string{"slipway.dev/project": "other", "slipway.dev/environment": "qa"}), code: slipway.Conflict, reason: "belongs to project other"},
		"another environment's":  {have: secret(map[string]string{"slipway.dev/project": "drone", "slipway.dev/environment": "live"}), code: slipway.Conflict, reason: "environment live"},
		"a secret of a person":   {have: secret(nil), code: slipway.Forbidden, reason: "--verb get --resource namespaces"},
		"none":                   {code: slipway.Forbidden, reason: "kubectl create role slipway-namespace --namespace drone-qa"},
		"ours, but not readable": {have: secret(labels(target)), blind: true, code: slipway.Forbidden, reason: "may not look at namespace drone-qa"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var objects []runtime.Object
			if c.have != nil {
				objects = append(objects, c.have)
			}
			api := fake.NewClientset(objects...)
			resource, refuse := forbidden("namespaces")
			api.PrependReactor("*", resource, refuse)
			if c.blind {
				resource, refuse := forbidden("secrets")
				api.PrependReactor("get", resource, refuse)
			}
			err := client(&conn{api: api}).Prepare(t.Context(), target, pull)
			if slipway.ErrorCode(err) != c.code || (err != nil && !strings.Contains(err.Error(), c.reason)) {
				t.Fatalf("%v (%s), want %s: %s", err, slipway.ErrorCode(err), c.code, c.reason)
			}
			wrote := false
			for _, a := range api.Actions() {
				wrote = wrote || a.GetVerb() != "get"
			}
			if wrote != (c.code == "") {
				t.Errorf("written: %t, by %v", wrote, api.Actions())
			}
		})
	}
}
