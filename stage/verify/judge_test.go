package verify

import (
	"strings"
	"testing"
	"time"
)

const (
	image  = "registry.slipway.local/drone/delivery"
	digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func pinned() string { return image + ":v1@" + digest }

func at(seconds int, o Observed) Observed {
	o.Time = noon.Add(time.Duration(seconds) * time.Second)
	return o
}

func withContainer(c Container) Observed {
	if c.Image == "" {
		c.Image = pinned()
	}
	c.Name = "app"
	return Observed{
		Objects: []Object{{Kind: "Service", Name: "delivery", Phase: Ready}, {Kind: "Deployment", Name: "delivery", Phase: InProgress, Message: "Available: 0/1"}},
		Pods:    []Pod{{Name: "delivery-1", Owner: "Deployment/delivery", Containers: []Container{c}}},
	}
}

func allReady() Observed {
	o := withContainer(Container{Ready: true, ImageID: image + "@" + digest})
	o.Objects[1].Phase, o.Pods[0].Ready = Ready, true
	return o
}

func TestJudge(t *testing.T) {
	t.Parallel()
	pull := Container{Waiting: "ImagePullBackOff", Message: `Back-off pulling image: not found`}
	objectIs := func(p Phase, message, refused string) Observed {
		o := withContainer(Container{})
		o.Objects[1].Phase, o.Objects[1].Message, o.Objects[1].Refused = p, message, refused
		return o
	}
	mutated := allReady()
	mutated.Pods[0].Containers[0].Image = image + ":v1"
	otherID := allReady()
	otherID.Pods[0].Containers[0].ImageID = image + "@sha256:bbbb"
	nodeID := allReady()
	nodeID.Pods[0].Containers[0].ImageID = "sha256:cccc"
	foreign := allReady()
	foreign.Pods[0].Containers = append(foreign.Pods[0].Containers, Container{Name: "proxy", Image: "docker.io/envoy:1", ImageID: "docker.io/envoy@sha256:dddd", Ready: true})
	for _, c := range []struct {
		name    string
		sees    []Observed
		done    bool
		failure string
	}{
		{"all ready", []Observed{at(0, allReady())}, true, ""},
		{"nothing in the manifest", []Observed{at(0, Observed{})}, true, ""},
		{"in progress", []Observed{at(0, withContainer(Container{Waiting: "ContainerCreating"})), at(300, withContainer(Container{Waiting: "ContainerCreating"}))}, false, ""},
		{"image not pulled yet", []Observed{at(0, withContainer(pull)), at(29, withContainer(pull))}, false, ""},
		{"image not pulled for long", []Observed{at(0, withContainer(pull)), at(30, withContainer(pull))}, true, "container app of pod delivery-1 has no image: Back-off pulling image: not found"},
		{"pulled in between", []Observed{at(0, withContainer(pull)), at(20, withContainer(Container{})), at(35, withContainer(pull))}, false, ""},
		{"errors of one pull take turns", []Observed{at(0, withContainer(Container{Waiting: "ErrImagePull"})), at(31, withContainer(pull))}, true, "has no image"},
		{"no such image name", []Observed{at(0, withContainer(Container{Waiting: "InvalidImageName", Message: "bad"}))}, true, "InvalidImageName: bad"},
		{"missing secret", []Observed{at(0, withContainer(Container{Waiting: "CreateContainerConfigError", Message: `secret "x" not found`})),
			at(20, withContainer(Container{Waiting: "CreateContainerConfigError", Message: `secret "x" not found`}))}, true, `does not start: secret "x" not found`},
		{"crashed twice", []Observed{at(0, withContainer(Container{Restarts: 2, Ended: "Error, exit status 1", Waiting: "CrashLoopBackOff"}))}, false, ""},
		{"crashed three times", []Observed{at(0, withContainer(Container{Restarts: 3, Ended: "Error, exit status 1", Waiting: "CrashLoopBackOff"}))}, true, "keeps ending (Error, exit status 1, 3 restarts)"},
		{"crashed before and is ready now", []Observed{at(0, func() Observed {
			o := allReady()
			o.Pods[0].Containers[0].Restarts, o.Pods[0].Containers[0].Ended = 5, "Error"
			return o
		}())}, true, ""},
		{"deadline of the rollout", []Observed{at(0, objectIs(Broken, "Progress deadline exceeded", "")), at(3, objectIs(Broken, "Progress deadline exceeded", ""))}, true, "Deployment/delivery failed: Progress deadline exceeded"},
		{"failure of the rollout before", []Observed{at(0, objectIs(Broken, "Progress deadline exceeded", "")), at(2, withContainer(Container{}))}, false, ""},
		{"quota", []Observed{at(0, objectIs(InProgress, "Replicas: 0/1", "exceeded quota")), at(20, objectIs(InProgress, "Replicas: 0/1", "exceeded quota"))}, true, "Deployment/delivery may not make its pods: exceeded quota"},
		{"image without the digest", []Observed{at(0, mutated)}, true, "not the intended digest " + digest},
		{"node runs another digest", []Observed{at(0, otherID)}, true, "runs " + image + "@sha256:bbbb, not the intended"},
		{"node's own image id", []Observed{at(0, nodeID)}, true, ""},
		{"other images are not compared", []Observed{at(0, foreign)}, true, ""},
		{"missing object", []Observed{at(0, objectIs(Missing, "is not there", ""))}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j := NewJudge(Rules{}, image, digest)
			var v Verdict
			for i, o := range c.sees {
				v = j.Look(o)
				if v.Done && i < len(c.sees)-1 {
					t.Fatalf("done after observation %d: %q", i, v.Failure)
				}
			}
			if v.Done != c.done || (v.Failure == "") != (c.failure == "") || !strings.Contains(v.Failure, c.failure) {
				t.Errorf("done %v, %q; want %v, %q", v.Done, v.Failure, c.done, c.failure)
			}
		})
	}
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	unschedulable := withContainer(Container{})
	unschedulable.Pods[0].Unschedulable = "0/1 nodes are available: 1 Insufficient cpu"
	for _, c := range []struct {
		o    Observed
		want string
	}{
		{withContainer(Container{}), "Deployment/delivery was not ready in 1m0s: Available: 0/1; container app of pod delivery-1 runs but is not ready"},
		{withContainer(Container{Waiting: "ContainerCreating"}), "container app of pod delivery-1 waits: ContainerCreating"},
		{withContainer(Container{Ended: "OOMKilled, exit status 137"}), "ended (OOMKilled, exit status 137)"},
		{unschedulable, "pod delivery-1 has no node: 0/1 nodes are available: 1 Insufficient cpu"},
		{Observed{}, "nothing was seen"},
		{Observed{Objects: []Object{{Kind: "PersistentVolumeClaim", Name: "data", Phase: InProgress, Message: "PVC is not Bound. phase: Pending"}}}, "PersistentVolumeClaim/data was not ready in 1m0s: PVC is not Bound"},
	} {
		if v := NewJudge(Rules{}, image, digest).Overdue(c.o, time.Minute); !v.Done || !strings.Contains(v.Failure, c.want) {
			t.Errorf("got %q, want %q", v.Failure, c.want)
		}
	}
}
