package kube

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/slipway-cd/slipway"
)

const (
	readTimeout = 30 * time.Second
	maxLogBytes = 64 << 10
	maxEvents   = 5
)

// Logs returns the last lines of a container's log; none when it is gone.
func (c *Client) Logs(ctx context.Context, t slipway.Target, pod, container string, previous bool, lines int) ([]string, error) {
	cn, err := c.open(ctx, t.Cluster)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	tail, limit := int64(lines), int64(maxLogBytes)
	body, err := cn.api.CoreV1().Pods(t.Namespace).GetLogs(pod, &corev1.PodLogOptions{
		Container: container, Previous: previous, TailLines: &tail, LimitBytes: &limit,
	}).Stream(ctx)
	if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) { // not started yet, or gone
		return nil, nil
	}
	if err != nil {
		return nil, translate(ctx, t.Cluster, err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxLogBytes))
	if err != nil {
		return nil, translate(ctx, t.Cluster, err)
	}
	if len(text) == 0 || noLog(string(text)) {
		return nil, nil
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		out = append(out, strings.TrimRight(line, "\r\n"))
	}
	return out, nil
}

// noLog reports whether a log is the kubelet's word that the log is gone, as that of an instance is once the
// next but one has ended: it comes as if the container had written it, with status 200, in one line without an end.
func noLog(text string) bool {
	return !strings.Contains(text, "\n") && (strings.HasPrefix(text, "failed to try resolving symlinks in path ") ||
		strings.HasPrefix(text, "failed to open log file ") || strings.HasPrefix(text, "unable to retrieve container logs for "))
}

// Events returns the newest warnings about an object, oldest first.
func (c *Client) Events(ctx context.Context, t slipway.Target, kind, name string) ([]string, error) {
	cn, err := c.open(ctx, t.Cluster)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	list, err := cn.api.CoreV1().Events(t.Namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.Set{
		"involvedObject.kind": kind, "involvedObject.name": name, "type": corev1.EventTypeWarning,
	}.String()})
	if err != nil {
		return nil, translate(ctx, t.Cluster, err)
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return last(a).Compare(last(b)) })
	if n := len(list.Items); n > maxEvents {
		list.Items = list.Items[n-maxEvents:]
	}
	var out []string
	for _, e := range list.Items {
		line := fmt.Sprintf("%s: %s", e.Reason, e.Message)
		if n := cmp.Or(e.Count, 1); n > 1 {
			line += fmt.Sprintf(" (%d times)", n)
		}
		out = append(out, line)
	}
	return out, nil
}

func last(e corev1.Event) time.Time {
	if e.Series != nil {
		return e.Series.LastObservedTime.Time
	}
	if !e.LastTimestamp.IsZero() {
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}
