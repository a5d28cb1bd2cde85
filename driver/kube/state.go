package kube

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/slipway-cd/slipway/stage/verify"
)

type runtimeObject = runtime.Object

// object is the state of an object, by the rules of kstatus, which Helm's own waiting uses too.
func object(it item, u *unstructured.Unstructured) verify.Object {
	out := verify.Object{Kind: it.kind, Name: it.name, Phase: verify.InProgress}
	if paused, _, _ := unstructured.NestedBool(u.Object, "spec", "paused"); paused && it.kind == "Deployment" {
		out.Phase, out.Message = verify.Ready, "is paused"
		return out
	}
	res, err := status.Compute(u)
	if err != nil {
		out.Message = err.Error()
		return out
	}
	out.Message = res.Message
	switch res.Status {
	case status.CurrentStatus:
		out.Phase = verify.Ready
	case status.FailedStatus:
		out.Phase = verify.Broken
		if _, message := condition(u, "Failed"); message != "" {
			out.Message += ": " + message
		}
	case status.NotFoundStatus:
		out.Phase = verify.Missing
	case status.TerminatingStatus:
		out.Message = "is being deleted"
	}
	if state, message := condition(u, "ReplicaFailure"); state == "True" {
		out.Refused = message
	}
	return out
}

func condition(u *unstructured.Unstructured, kind string) (state, message string) {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == kind {
			state, _ = m["status"].(string)
			message, _ = m["message"].(string)
			return state, message
		}
	}
	return "", ""
}

// pod is a pod that belongs to the current generation of one of the objects.
func (w *watch) pod(u *unstructured.Unstructured, objects map[string]*unstructured.Unstructured) (verify.Pod, bool) {
	owner, ok := w.owner(u, objects)
	if !ok || u.GetDeletionTimestamp() != nil {
		return verify.Pod{}, false
	}
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &pod); err != nil {
		return verify.Pod{}, false
	}
	return podState(pod, owner), true
}

const revisionAnnotation = "deployment.kubernetes.io/revision"

// owner returns Kind/name of the object whose current generation the pod is of.
func (w *watch) owner(pod *unstructured.Unstructured, objects map[string]*unstructured.Unstructured) (string, bool) {
	ns := pod.GetNamespace()
	if objects["Pod/"+ns+"/"+pod.GetName()] != nil {
		return "Pod/" + pod.GetName(), true
	}
	for _, ref := range pod.GetOwnerReferences() {
		obj := objects[ref.Kind+"/"+ns+"/"+ref.Name]
		switch {
		case ref.Kind == "ReplicaSet" && obj == nil:
			if inf := w.stores[storeKey{rsGVR, ns}]; inf != nil {
				return deploymentOf(inf.GetStore(), ns, ref.Name, objects)
			}
		case obj == nil:
		case ref.Kind == "StatefulSet":
			update, _, _ := unstructured.NestedString(obj.Object, "status", "updateRevision")
			return "StatefulSet/" + ref.Name, update == "" || pod.GetLabels()["controller-revision-hash"] == update
		case ref.Kind == "DaemonSet":
			generation := obj.GetAnnotations()["deprecated.daemonset.template.generation"]
			return "DaemonSet/" + ref.Name, generation == "" || pod.GetLabels()["pod-template-generation"] == generation
		default:
			return ref.Kind + "/" + ref.Name, true
		}
	}
	return "", false
}

type getter interface {
	GetByKey(key string) (any, bool, error)
}

// deploymentOf returns the deployment of a replica set, if that is its current one.
func deploymentOf(sets getter, ns, name string, objects map[string]*unstructured.Unstructured) (string, bool) {
	o, ok, err := sets.GetByKey(ns + "/" + name)
	if err != nil || !ok {
		return "", false
	}
	rs, ok := o.(*unstructured.Unstructured)
	if !ok {
		return "", false
	}
	for _, ref := range rs.GetOwnerReferences() {
		if d := objects["Deployment/"+ns+"/"+ref.Name]; ref.Kind == "Deployment" && d != nil {
			return "Deployment/" + ref.Name, rs.GetAnnotations()[revisionAnnotation] == d.GetAnnotations()[revisionAnnotation]
		}
	}
	return "", false
}

func podState(pod corev1.Pod, owner string) verify.Pod {
	out := verify.Pod{Name: pod.Name, Owner: owner, Finished: pod.Status.Phase == corev1.PodSucceeded}
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type == corev1.PodReady:
			out.Ready = c.Status == corev1.ConditionTrue
		case c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable:
			out.Unschedulable = c.Message
		}
	}
	for _, s := range []struct {
		specs    []corev1.Container
		statuses []corev1.ContainerStatus
	}{
		{pod.Spec.InitContainers, pod.Status.InitContainerStatuses},
		{pod.Spec.Containers, pod.Status.ContainerStatuses},
	} {
		for _, spec := range s.specs {
			c := verify.Container{Name: spec.Name, Image: spec.Image}
			if i := slices.IndexFunc(s.statuses, func(cs corev1.ContainerStatus) bool { return cs.Name == spec.Name }); i >= 0 {
				containerState(&c, s.statuses[i])
			}
			out.Containers = append(out.Containers, c)
		}
	}
	return out
}

func containerState(c *verify.Container, s corev1.ContainerStatus) {
	c.ImageID, c.Ready, c.Restarts = s.ImageID, s.Ready, int(s.RestartCount)
	if w := s.State.Waiting; w != nil {
		c.Waiting, c.Message = w.Reason, w.Message
	}
	for _, t := range []*corev1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
		if t == nil || t.ExitCode == 0 && s.State.Running == nil && s.State.Waiting == nil {
			continue
		}
		c.Ended = fmt.Sprintf("%s, exit status %d", t.Reason, t.ExitCode)
		if t.Message != "" && c.Message == "" {
			c.Message = strings.TrimSpace(t.Message)
		}
	}
}
