// Package manifest finds what is remarkable about rendered Kubernetes objects: the policies that are
// built in, among them the Pod Security Standards. It is pure: objects and settings come in, problems go
// out, in the same order for the same input. Objects may be of any shape, a field of the wrong type counts
// as absent: that it is wrong is the schema's business.
//
// It does not say what becomes of a problem: levels and waivers are applied by package gate. It does not
// check objects against a schema either; the policies "schema", "removed-api" and "deprecated-api" are
// listed here, and what is found for them comes from whoever knows the API (see API).
package manifest

import (
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Names of the policies.
const (
	Schema        = "schema"
	RemovedAPI    = "removed-api"
	DeprecatedAPI = "deprecated-api"
	LatestTag     = "latest-tag"
	DigestPinned  = "digest-pinned"
	Registry      = "registry"
	NonRoot       = "non-root"
	Escalation    = "privilege-escalation"
	Resources     = "resources"
	Probes        = "probes"
	Labels        = "standard-labels"
	PlainSecret   = "plain-secret"
	PodSecurity   = "pod-security"
)

// Levels of the Pod Security Standards.
const (
	Privileged = "privileged" // nothing is asked
	Baseline   = "baseline"
	Restricted = "restricted"
)

// Policy is one that is built in.
type Policy struct {
	Name string
	// Doc says what is asked and why, in sentences for people.
	Doc string
	// Level holds where the configuration says nothing; ProductionLevel is that of production
	// environments.
	Level, ProductionLevel slipway.Level
}

// Policies lists the policies in the order in which they are documented.
func Policies() []Policy {
	const fail, warn, off = slipway.LevelFail, slipway.LevelWarn, slipway.LevelOff
	return []Policy{
		{Schema, "Objects are what the API of the cluster takes: no unknown or misspelt field, no wrong type, nothing required is missing. The cluster's own API and its custom resources are asked when it answers, else the schema that ships with Slipway.", fail, fail},
		{RemovedAPI, "No object is of an API version that the cluster no longer serves. The message names the version to use.", fail, fail},
		{DeprecatedAPI, "No object is of an API version that a coming Kubernetes version removes.", warn, warn},
		{LatestTag, "Images have a tag, and not latest: otherwise nobody knows what runs, and a restart may change it. The service's own image is pinned by Slipway and always fits.", fail, fail},
		{DigestPinned, "Images are named by digest, so that what was tested is what runs. Slipway does so with the service's own image at each deployment; the images of others need it in the chart.", off, fail},
		{Registry, "Images, also those of volumes, come from the registries that `gates.manifests.registries` allows, or the project's own. Without a list any registry will do. An image without a host is Docker Hub's: docker.io.", fail, fail},
		{NonRoot, "Containers do not run as root: `runAsNonRoot` is true, or `runAsUser` is a number other than 0, for the container or its pod. Windows containers do not run as ContainerAdministrator.", warn, fail},
		{Escalation, "Containers cannot gain more rights than they begin with: `allowPrivilegeEscalation` is false and `privileged` is not set. Windows containers have neither.", warn, fail},
		{Resources, "Containers ask for processor and memory, and have a limit of memory; a limit counts as a request. A limit of processor time is not asked for: it slows what there is room for. Hooks are left out.", warn, warn},
		{Probes, "Containers of workloads that keep running have a readiness and a liveness probe: else a deployment counts as done before it works, and nothing restarts what hangs. Jobs, hooks and init containers need none.", warn, warn},
		{Labels, "Objects and pods have the labels app.kubernetes.io/name and app.kubernetes.io/instance, by which people and tools find what belongs together. Hooks and CRDs are left out.", warn, warn},
		{PlainSecret, "No password, token or key stands in plain text in a ConfigMap, an environment variable, an argument, an annotation, or in a Secret that is made of the chart's own values: all who read the repository have it. It is recognised by the name of its key, or by its form. A Secret whose value the template invents each time is left out. Refer to a Secret that something else makes.", warn, fail},
		{PodSecurity, "Pods keep the Pod Security Standard that `gates.manifests.podSecurity` sets: baseline unless configured; privileged asks nothing.", fail, fail},
	}
}

// LevelOf is the level of a policy in an environment, waivers apart.
func LevelOf(policy string, g slipway.ManifestGate, production bool) slipway.Level {
	if l, ok := g.Policies[policy]; ok {
		return l
	}
	for _, p := range Policies() {
		if p.Name == policy && production {
			return p.ProductionLevel
		} else if p.Name == policy {
			return p.Level
		}
	}
	return slipway.LevelFail
}

// Object is a rendered object.
type Object struct {
	Fields map[string]any // as decoded from JSON
	Hook   string         // events of a hook of Helm; empty: an ordinary object
	CRD    bool           // from the chart's crds folder
	// Generated: its template renders differently each time, so that its values are not the chart's.
	Generated bool
}

// Settings are what the policies hold objects to. The zero value asks for what holds everywhere.
type Settings struct {
	// Image is the service's own, which is pinned when it is deployed.
	Image slipway.Repository
	// Registries from which images may come, as host or host/prefix; empty: any. That of Image is always
	// allowed.
	Registries []string
	// PodSecurity is the level to keep; empty: Baseline. Any other word asks for Restricted.
	PodSecurity string
}

// Check finds what the policies do not like about objects, in their order. It finds for every policy:
// which of them count, and how much, is asked of LevelOf. Place and Values of the problems are empty.
func Check(objects []Object, s Settings) []slipway.ManifestProblem {
	var out []slipway.ManifestProblem
	for _, o := range objects {
		f := &finder{object: o, name: Name(o.Fields), settings: s}
		f.labels()
		f.plainSecrets()
		if p := podOf(o.Fields); p != nil {
			f.pod = p
			f.images()
			f.nonRoot()
			f.escalation()
			f.resources()
			f.probes()
			f.podSecurity()
		}
		out = append(out, f.problems...)
	}
	return out
}

// Name is how an object is called: Deployment/web.
func Name(fields map[string]any) string {
	meta := object(fields["metadata"])
	name := text(meta["name"])
	if name == "" {
		name = text(meta["generateName"])
	}
	return strings.Trim(text(fields["kind"])+"/"+name, "/")
}

// finder collects the problems of one object.
type finder struct {
	object   Object
	name     string
	settings Settings
	pod      *pod // nil: it runs none
	problems []slipway.ManifestProblem
}

func (f *finder) add(policy string, at []string, message string) {
	f.problems = append(f.problems, slipway.ManifestProblem{
		Policy: policy, Object: f.name, Path: Path(f.object.Fields, at), Message: message,
	})
}

// below is a path with more keys; the first is not changed.
func below(at []string, keys ...string) []string { return append(slices.Clone(at), keys...) }
