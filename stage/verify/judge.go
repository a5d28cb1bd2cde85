package verify

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Rules say when waiting longer is pointless. Zero fields mean the defaults.
type Rules struct {
	PullGrace time.Duration // an image that is not pulled for so long; 0: 30 seconds, which is about three tries
	Grace     time.Duration // a pod refused or misconfigured for so long; 0: 20 seconds
	Restarts  int           // restarts of a container that keeps ending; 0: 3
}

// brokenFor outlasts what an object says of the rollout before this one.
const brokenFor = 3 * time.Second

// Verdict is what a Judge says of one observation.
type Verdict struct {
	Done    bool   // no need to look further
	Failure string // why it is not healthy, a sentence for people; "" with Done: it is
	// Object, Pod and Container are what the failure is about, as far as known.
	Object    Object
	Pod       Pod
	Container Container
}

// Judge looks at a sequence of observations. It remembers since when something has been wrong, and
// nothing else; it knows no clock but that of the observations.
type Judge struct {
	rules  Rules
	image  string // repository with host
	digest string
	since  map[string]time.Time
}

// NewJudge returns a judge for a deployment of an image.
func NewJudge(rules Rules, image, digest string) *Judge {
	rules.PullGrace = cmpDuration(rules.PullGrace, 30*time.Second)
	rules.Grace = cmpDuration(rules.Grace, 20*time.Second)
	if rules.Restarts == 0 {
		rules.Restarts = 3
	}
	return &Judge{rules: rules, image: image, digest: digest, since: map[string]time.Time{}}
}

// Look judges one observation.
func (j *Judge) Look(o Observed) Verdict {
	before := j.since
	j.since = map[string]time.Time{}
	long := func(what string, atLeast time.Duration) bool {
		since, ok := before[what]
		if !ok {
			since = o.Time
		}
		j.since[what] = since
		return o.Time.Sub(since) >= atLeast
	}
	for _, p := range o.Pods {
		for _, c := range p.Containers {
			if v := j.container(p, c, long); v.Failure != "" {
				return v
			}
		}
	}
	ready := len(o.Objects)
	for _, obj := range o.Objects {
		switch {
		case obj.Phase == Broken && long("broken "+obj.Kind+"/"+obj.Name, brokenFor):
			return blame(o, Verdict{Object: obj, Failure: fmt.Sprintf("%s/%s failed: %s", obj.Kind, obj.Name, obj.Message)})
		case obj.Refused != "" && long("refused "+obj.Kind+"/"+obj.Name, j.rules.Grace):
			return Verdict{Done: true, Object: obj, Failure: fmt.Sprintf("%s/%s may not make its pods: %s", obj.Kind, obj.Name, obj.Refused)}
		case obj.Phase != Ready:
			ready--
		}
	}
	return Verdict{Done: ready == len(o.Objects)}
}

func (j *Judge) container(p Pod, c Container, long func(string, time.Duration) bool) Verdict {
	at := p.Name + "/" + c.Name
	fail := func(format string, args ...any) Verdict {
		return Verdict{Done: true, Pod: p, Container: c, Failure: fmt.Sprintf("container %s of pod %s ", c.Name, p.Name) + fmt.Sprintf(format, args...)}
	}
	if c.ours(j.image) && !c.is(j.digest) {
		return fail("runs %s, not the intended digest %s", c.running(), j.digest)
	}
	switch c.Waiting {
	case "InvalidImageName", "ErrImageNeverPull":
		return fail("has no image: %s: %s", c.Waiting, c.Message)
	case "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError":
		// A registry that does not answer comes back, and then the node tries again: that is waited
		// for until the target's own timeout.
		if long("pull "+at, j.rules.PullGrace) && refused(c.Message) {
			return fail("has no image: %s", c.Message)
		}
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		if long("create "+at, j.rules.Grace) {
			return fail("does not start: %s", c.Message)
		}
	}
	if c.Restarts >= j.rules.Restarts && !c.Ready && c.Ended != "" {
		return fail("keeps ending (%s, %d restarts)", c.Ended, c.Restarts)
	}
	return Verdict{}
}

// refused reports whether a registry answered, and will not give the image. The node passes on what the
// container runtime said; there is no code for it.
func refused(message string) bool {
	for _, word := range []string{"not found", "manifest unknown", "401", "403", "unauthorized", "denied", "forbidden", "insufficient_scope", "no match for platform", "invalid reference"} {
		if strings.Contains(strings.ToLower(message), word) {
			return true
		}
	}
	return false
}

// ours reports whether a container's image is the service's, whatever its digest.
func (c Container) ours(image string) bool {
	rest, ok := strings.CutPrefix(c.Image, image)
	return ok && (rest == "" || rest[0] == ':' || rest[0] == '@')
}

// is reports whether a container is given, and as far as the node says, runs a digest.
func (c Container) is(digest string) bool {
	if !strings.HasSuffix(c.Image, "@"+digest) {
		return false
	}
	_, id, ok := strings.Cut(c.ImageID, "@") // without @ it is the node's own id of the image
	return !ok || id == digest
}

func (c Container) running() string {
	if c.ImageID != "" {
		return c.ImageID
	}
	return c.Image
}

// Overdue says why not all was ready in time.
func (j *Judge) Overdue(o Observed, timeout time.Duration) Verdict {
	if len(o.Objects) == 0 {
		return Verdict{Done: true, Failure: fmt.Sprintf("nothing was seen of the release in %s: the cluster does not answer", timeout)}
	}
	for _, obj := range o.Objects {
		if obj.Phase != Ready {
			return blame(o, Verdict{Object: obj, Failure: fmt.Sprintf("%s/%s was not ready in %s: %s", obj.Kind, obj.Name, timeout, obj.Message)})
		}
	}
	return Verdict{Done: true, Failure: fmt.Sprintf("not ready in %s", timeout)}
}

// blame adds the pod and the container of the verdict's object that are not ready, with what is known
// of them.
func blame(o Observed, v Verdict) Verdict {
	v.Done = true
	for _, p := range o.Pods {
		if p.Owner != v.Object.Kind+"/"+v.Object.Name || p.Ready || p.Finished {
			continue
		}
		v.Pod = p
		if p.Unschedulable != "" {
			v.Failure += fmt.Sprintf("; pod %s has no node: %s", p.Name, p.Unschedulable)
			return v
		}
		for _, c := range p.Containers {
			if c.Ready {
				continue
			}
			v.Container = c
			switch {
			case c.Waiting != "":
				v.Failure += fmt.Sprintf("; container %s of pod %s waits: %s", c.Name, p.Name, strings.TrimSuffix(c.Waiting+": "+c.Message, ": "))
			case c.Ended != "":
				v.Failure += fmt.Sprintf("; container %s of pod %s ended (%s)", c.Name, p.Name, c.Ended)
			default:
				v.Failure += fmt.Sprintf("; container %s of pod %s runs but is not ready", c.Name, p.Name)
			}
			return v
		}
		return v
	}
	return v
}

// progress writes each change of an object or a pod to the log once.
type progress struct {
	log  stage.Log
	seen map[string]string
}

func (p *progress) show(o Observed) {
	for _, obj := range o.Objects {
		state := "started"
		if obj.Phase == Ready {
			state = "done"
		}
		text := obj.Message
		if obj.Refused != "" {
			text = obj.Refused
		}
		if text == "" {
			text = string(obj.Phase)
		}
		p.line(obj.Kind+"/"+obj.Name, state, text)
	}
	for _, pod := range o.Pods {
		if text := pod.trouble(); text != "" {
			p.line("Pod/"+pod.Name, "", text)
		}
	}
}

// fail closes the groups of what is not ready.
func (p *progress) fail(o Observed, v Verdict) {
	for _, obj := range o.Objects {
		if obj.Phase != Ready {
			p.line(obj.Kind+"/"+obj.Name, "failed", obj.Message)
		}
	}
	if v.Pod.Name != "" {
		p.line("Pod/"+v.Pod.Name, "failed", v.Failure)
	}
}

func (p *progress) line(group, state, text string) {
	if key := state + " " + text; p.seen[group] != key {
		p.seen[group] = key
		p.log.Line(slipway.LogLine{Group: group, State: state, Text: text})
	}
}

// trouble is what is wrong with a pod, "" when nothing is known to be.
func (p Pod) trouble() string {
	if p.Unschedulable != "" {
		return "no node: " + p.Unschedulable
	}
	for _, c := range p.Containers {
		if c.Ready {
			continue
		}
		switch c.Waiting {
		case "", "ContainerCreating", "PodInitializing":
		default:
			return fmt.Sprintf("container %s waits: %s", c.Name, strings.TrimSuffix(c.Waiting+": "+c.Message, ": "))
		}
		if c.Ended != "" && c.Restarts > 0 {
			return fmt.Sprintf("container %s ended (%s), %d restarts", c.Name, c.Ended, c.Restarts)
		}
	}
	return ""
}
