package kube

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// Prepare makes sure of the target's namespace, the pull secret in it, and the secret's place in the
// namespace's default service account. What is already right is not written again; a namespace that
// exists keeps its labels.
func (c *Client) Prepare(ctx context.Context, t slipway.Target, pull deploy.PullSecret) error {
	cn, err := c.open(ctx, t.Cluster)
	if err != nil {
		return err
	}
	if cn.prepared(ctx, t, pull) {
		return nil
	}
	if err := together(func() error { return cn.namespace(ctx, t, pull.Name) }); err != nil {
		return translate(ctx, t.Cluster, fmt.Errorf("namespace %s: %w", t.Namespace, err))
	}
	if pull.User == "" {
		return nil
	}
	if err := together(func() error { return cn.pullSecret(ctx, t, pull) }); err != nil {
		return translate(ctx, t.Cluster, fmt.Errorf("image pull secret %s in %s: %w", pull.Name, t.Namespace, err))
	}
	if err := together(func() error { return cn.serviceAccount(ctx, t, pull.Name) }); err != nil {
		return translate(ctx, t.Cluster, fmt.Errorf("service account default in %s: %w", t.Namespace, err))
	}
	return nil
}

// Prepared reports whether Prepare would find nothing to do, with one look at each thing.
func (c *Client) Prepared(ctx context.Context, t slipway.Target, pull deploy.PullSecret) bool {
	cn, err := c.open(ctx, t.Cluster)
	return err == nil && cn.prepared(ctx, t, pull)
}

// prepared looks at everything at once, and reports whether all of it is as it should be, as it is at nearly every deployment.
func (cn *conn) prepared(ctx context.Context, t slipway.Target, pull deploy.PullSecret) bool {
	config, err := dockerConfig(pull)
	if err != nil || pull.User == "" || reserved(t.Namespace) {
		return false
	}
	var ns *corev1.Namespace
	var secret *corev1.Secret
	var account *corev1.ServiceAccount
	errs := make([]error, 3)
	var wg sync.WaitGroup
	wg.Go(func() { ns, errs[0] = cn.api.CoreV1().Namespaces().Get(ctx, t.Namespace, metav1.GetOptions{}) })
	wg.Go(func() {
		secret, errs[1] = cn.api.CoreV1().Secrets(t.Namespace).Get(ctx, pull.Name, metav1.GetOptions{})
	})
	wg.Go(func() {
		account, errs[2] = cn.api.CoreV1().ServiceAccounts(t.Namespace).Get(ctx, "default", metav1.GetOptions{})
	})
	wg.Wait()
	return errors.Join(errs...) == nil && usable(ns, t) == nil && holdsConfig(secret, config) && refers(account, pull.Name)
}

// together looks again when another deployment to the same namespace, or the cluster itself, wrote at the
// same moment.
func together(write func() error) error {
	err := write()
	for try := 1; try < 5 && (apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err)); try++ {
		err = write()
	}
	return err
}

func labels(t slipway.Target) map[string]string {
	return map[string]string{
		"app.kubernetes.io/managed-by": "slipway",
		"slipway.dev/project":          t.Project,
		"slipway.dev/environment":      t.Environment,
	}
}

// namespace makes sure of the namespace. One that exists and was made for another project or
// environment is refused: releases of two would overwrite each other. One that people made is theirs to
// give, by the labels slipway.dev/project and slipway.dev/environment. One that may not be looked at is the
// target's when the pull secret in it says so. One that somebody makes at the same moment is AlreadyExists: look
// again.
func (cn *conn) namespace(ctx context.Context, t slipway.Target, secret string) error {
	if reserved(t.Namespace) {
		return slipway.Errorf(slipway.Invalid, "namespace %s is the cluster's own: choose another for environment %s in slipway.yaml", t.Namespace, t.Environment)
	}
	ns, err := cn.api.CoreV1().Namespaces().Get(ctx, t.Namespace, metav1.GetOptions{})
	switch {
	case err == nil:
		return usable(ns, t)
	case apierrors.IsForbidden(err): // who may not look may still be allowed to work in it
		return cn.ownedInside(ctx, t, secret, err)
	case !apierrors.IsNotFound(err):
		return err
	}
	_, err = cn.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: t.Namespace, Labels: labels(t)},
	}, metav1.CreateOptions{FieldManager: "slipway"})
	return err // AlreadyExists: whose it is says the next look
}

// reserved reports whether a namespace is the cluster's own.
func reserved(namespace string) bool {
	return namespace == "default" || strings.HasPrefix(namespace, "kube-")
}

// usable reports whether a namespace is there to stay, and the target's.
func usable(ns *corev1.Namespace, t slipway.Target) error {
	if ns.Status.Phase == corev1.NamespaceTerminating {
		return slipway.Errorf(slipway.Unavailable, "namespace %s of cluster %s is being deleted", t.Namespace, t.Cluster)
	}
	return owned(ns.Labels, t)
}

// ownedInside asks the pull secret that Slipway keeps in a namespace whose the namespace is. One without such a secret
// may be anybody's: it is Forbidden, with the right that is needed.
func (cn *conn) ownedInside(ctx context.Context, t slipway.Target, secret string, cause error) error {
	have, err := cn.api.CoreV1().Secrets(t.Namespace).Get(ctx, secret, metav1.GetOptions{})
	switch {
	case err == nil && have.Labels["slipway.dev/project"] != "":
		return owned(have.Labels, t)
	case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		return err
	}
	return slipway.Errorf(slipway.Forbidden, "Slipway may not look at namespace %s of cluster %s, and so cannot tell whether it belongs to environment %s of %s: let it get that namespace (`kubectl create role slipway-namespace --namespace %s --verb get --resource namespaces`, and a rolebinding of it with Slipway's account): %w",
		t.Namespace, t.Cluster, t.Environment, t.Project, t.Namespace, cause)
}

// owned reports whether labels name the target's project and environment.
func owned(labels map[string]string, t slipway.Target) error {
	project, environment := labels["slipway.dev/project"], labels["slipway.dev/environment"]
	if project == t.Project && environment == t.Environment {
		return nil
	}
	if project == "" {
		return slipway.Errorf(slipway.Conflict, "namespace %s of cluster %s is not Slipway's: give it to the environment with `kubectl label namespace %s slipway.dev/project=%s slipway.dev/environment=%s`, or choose another in slipway.yaml",
			t.Namespace, t.Cluster, t.Namespace, t.Project, t.Environment)
	}
	return slipway.Errorf(slipway.Conflict, "namespace %s of cluster %s belongs to project %s, environment %s: choose another for environment %s of %s in slipway.yaml",
		t.Namespace, t.Cluster, project, environment, t.Environment, t.Project)
}

func (cn *conn) pullSecret(ctx context.Context, t slipway.Target, pull deploy.PullSecret) error {
	config, err := dockerConfig(pull)
	if err != nil {
		return err
	}
	secrets := cn.api.CoreV1().Secrets(t.Namespace)
	have, err := secrets.Get(ctx, pull.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = secrets.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: pull.Name, Labels: labels(t)},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: config},
		}, metav1.CreateOptions{FieldManager: "slipway"})
		return err
	case err != nil:
		return err
	case have.Type != corev1.SecretTypeDockerConfigJson:
		return slipway.Errorf(slipway.Conflict, "secret %s in %s is of type %s, not %s: Slipway keeps its pull secret under that name; rename yours",
			pull.Name, t.Namespace, have.Type, corev1.SecretTypeDockerConfigJson)
	case holdsConfig(have, config):
		return nil
	}
	have = have.DeepCopy()
	if have.Labels == nil {
		have.Labels = map[string]string{}
	}
	maps.Copy(have.Labels, labels(t))
	have.Data = map[string][]byte{corev1.DockerConfigJsonKey: config}
	_, err = secrets.Update(ctx, have, metav1.UpdateOptions{FieldManager: "slipway"})
	return err
}

func holdsConfig(s *corev1.Secret, config []byte) bool {
	return s.Type == corev1.SecretTypeDockerConfigJson && bytes.Equal(s.Data[corev1.DockerConfigJsonKey], config)
}

func dockerConfig(pull deploy.PullSecret) ([]byte, error) {
	type entry struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
	}
	auth := base64.StdEncoding.EncodeToString([]byte(pull.User + ":" + pull.Secret))
	return json.Marshal(map[string]any{"auths": map[string]entry{
		pull.Registry: {Username: pull.User, Password: pull.Secret, Auth: auth},
	}})
}

// serviceAccount attaches the pull secret to the default service account. In a new namespace the
// account may not be there yet: it is made then, so that the first pods find it.
func (cn *conn) serviceAccount(ctx context.Context, t slipway.Target, secret string) error {
	accounts := cn.api.CoreV1().ServiceAccounts(t.Namespace)
	have, err := accounts.Get(ctx, "default", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = accounts.Create(ctx, &corev1.ServiceAccount{
			ObjectMeta:       metav1.ObjectMeta{Name: "default"},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: secret}},
		}, metav1.CreateOptions{FieldManager: "slipway"})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		have, err = accounts.Get(ctx, "default", metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	if refers(have, secret) {
		return nil
	}
	have = have.DeepCopy()
	have.ImagePullSecrets = append(have.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
	_, err = accounts.Update(ctx, have, metav1.UpdateOptions{FieldManager: "slipway"})
	return err
}

func refers(account *corev1.ServiceAccount, secret string) bool {
	return slices.ContainsFunc(account.ImagePullSecrets, func(ref corev1.LocalObjectReference) bool { return ref.Name == secret })
}
