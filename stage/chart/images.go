package chart

import (
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// image is a container's image with its place.
type image struct {
	ref    string
	object Object
	where  string // name of the container
}

// containers finds the images of an object that runs pods, and pods that may run as root (S90).
func containers(o Object) ([]image, []Problem) {
	spec := podSpec(o.Fields)
	if spec == nil {
		return nil, nil
	}
	var images []image
	var problems []Problem
	podNonRoot := nonRoot(spec)
	for _, list := range []string{"initContainers", "containers"} {
		items, _ := spec[list].([]any)
		for _, item := range items {
			c, ok := item.(map[string]any)
			if !ok {
				continue
			}
			name := text(c, "name")
			images = append(images, image{ref: text(c, "image"), object: o, where: name})
			if own, set := runAsNonRoot(c); (set && !own) || (!set && !podNonRoot) {
				problems = append(problems, problem(Warning, o, "container %s may run as root: set securityContext.runAsNonRoot to true", name))
			}
		}
	}
	return images, problems
}

func nonRoot(spec map[string]any) bool {
	v, _ := runAsNonRoot(spec)
	return v
}

func runAsNonRoot(holder map[string]any) (value, set bool) {
	sc, _ := holder["securityContext"].(map[string]any)
	value, set = sc["runAsNonRoot"].(bool)
	return value, set
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

// judgeImages looks for images that are not pinned, and for the service's own (D17, S82, G22).
func judgeImages(images []image, spec *slipway.ChartSpec) []Problem {
	var problems []Problem
	own := false
	for _, i := range images {
		repository, tag, digest := splitImage(i.ref)
		ours := isService(repository, spec.Image)
		own = own || ours
		switch {
		case i.ref == "": // the schema says it
		case digest != "":
		case tag == "" || tag == "latest":
			problems = append(problems, problem(Warning, i.object, "container %s has image %q, which is whatever was pushed last: name a version or a digest", i.where, i.ref))
		case ours && tag != spec.Version:
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

// isService reports whether a repository in a manifest is the service's: with or without the host,
// or with a host of its own.
func isService(repository string, image slipway.Repository) bool {
	return repository == image.Ref() || repository == image.Name || strings.HasSuffix(repository, "/"+image.Name)
}

func splitImage(ref string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:i], repository[i+1:]
	}
	return repository, tag, digest
}
