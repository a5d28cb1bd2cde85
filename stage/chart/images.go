package chart

import (
	"fmt"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
)

// image is a container's image with its place.
type image struct {
	ref    string
	object Object
	where  string // name of the container
}

// containers finds the images of an object that runs pods.
func containers(o Object) []image {
	spec := podSpec(o.Fields)
	var images []image
	for _, list := range []string{"initContainers", "containers"} {
		items, _ := spec[list].([]any)
		for _, item := range items {
			if c, ok := item.(map[string]any); ok {
				images = append(images, image{ref: text(c, "image"), object: o, where: text(c, "name")})
			}
		}
	}
	return images
}

// podSpec is the pod specification of a workload, or nil.
func podSpec(fields map[string]any) map[string]any {
	path := map[string][]string{
		"Pod": {"spec"}, "Deployment": {"spec", "template", "spec"}, "StatefulSet": {"spec", "template", "spec"},
		"DaemonSet": {"spec", "template", "spec"}, "ReplicaSet": {"spec", "template", "spec"}, "Job": {"spec", "template", "spec"},
		"CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
	}[text(fields, "kind")]
	if path == nil {
		return nil
	}
	var v any = fields
	for _, k := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	spec, _ := v.(map[string]any)
	return spec
}

// judgeImages looks for the service's own image (D17, S82): what other images must be like is said by
// policies.
func judgeImages(images []image, spec *slipway.ChartSpec) []Problem {
	var problems []Problem
	own := false
	for _, i := range images {
		repository, tag, digest := manifest.SplitImage(i.ref)
		if !manifest.IsOwn(repository, spec.Image) {
			continue
		}
		own = true
		if digest == "" && tag != spec.Version {
			problems = append(problems, problem(Warning, i.object, "container %s has the service's image with tag %q of its own: use .Values.image.tag", i.where, tag))
		}
	}
	if !own && spec.Image.Name != "" {
		if len(images) == 0 {
			return append(problems, Problem{Severity: Note, Message: "nothing that the chart renders runs a container"})
		}
		problems = append(problems, Problem{Severity: Warning, Message: fmt.Sprintf(
			"no container has the service's image %s: use .Values.image.registry, .repository, .tag and .digest", spec.Image.Ref())})
	}
	return problems
}
