package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// pod is the pod that an object is or makes.
type pod struct {
	at         []string // keys of spec
	metadata   map[string]any
	metadataAt []string
	spec       map[string]any
	security   map[string]any // spec.securityContext
	windows    bool
	lasting    bool // it is meant to keep running
	containers []container
}

// container is one of a pod, of any of its lists.
type container struct {
	at        []string
	list      string // containers, initContainers, ephemeralContainers
	name      string // for people: its name, or its place in the list
	fields    map[string]any
	security  map[string]any
	securedAt []string // keys of its securityContext
}

// podOf finds the pod of an object, nil when it has none. Kinds that are not Kubernetes' own count when
// they have a pod where Kubernetes' own workloads have it.
func podOf(fields map[string]any) *pod {
	kind := text(fields["kind"])
	var holder []string
	switch kind {
	case "Pod":
	case "CronJob":
		holder = []string{"spec", "jobTemplate", "spec", "template"}
	case "PodTemplate":
		holder = []string{"template"}
	default:
		holder = []string{"spec", "template"}
	}
	h := walk(fields, holder)
	spec := object(h["spec"])
	if spec == nil || !slices.Contains([]string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "PodTemplate"}, kind) && list(spec["containers"]) == nil {
		return nil
	}
	p := &pod{
		at: below(holder, "spec"), metadata: object(h["metadata"]), metadataAt: below(holder, "metadata"),
		spec: spec, security: object(spec["securityContext"]),
		windows: strings.EqualFold(text(object(spec["os"])["name"]), "windows"),
	}
	switch kind {
	case "Job", "CronJob", "PodTemplate":
	case "Pod":
		policy := text(spec["restartPolicy"])
		p.lasting = policy == "" || policy == "Always"
	default:
		p.lasting = true
	}
	for _, name := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for i, item := range list(spec[name]) {
			c := object(item)
			if c == nil {
				continue
			}
			at := below(p.at, name, strconv.Itoa(i))
			p.containers = append(p.containers, container{
				at: at, list: name, name: called(c, name, i), fields: c,
				security: object(c["securityContext"]), securedAt: below(at, "securityContext"),
			})
		}
	}
	return p
}

func called(c map[string]any, list string, i int) string {
	if name := text(c["name"]); name != "" {
		return name
	}
	return fmt.Sprintf("%s[%d]", list, i)
}

func walk(fields map[string]any, keys []string) map[string]any {
	for _, k := range keys {
		fields = object(fields[k])
	}
	return fields
}

// effective is a field of the container's securityContext, else of the pod's, with its keys.
func (p *pod) effective(c container, key string) (any, []string) {
	if v, ok := c.security[key]; ok && v != nil {
		return v, below(c.securedAt, key)
	}
	if v, ok := p.security[key]; ok && v != nil {
		return v, below(p.at, "securityContext", key)
	}
	return nil, below(c.securedAt, key)
}
