package manifest

import (
	"fmt"
	"slices"
	"strings"
)

// nonRoot looks for containers that may run as root (S90).
func (f *finder) nonRoot() {
	for _, c := range f.pod.containers {
		if f.pod.windows {
			f.windowsUser(c)
			continue
		}
		user, userAt := f.pod.effective(c, "runAsUser")
		id, numeric := number(user)
		flag, flagAt := f.pod.effective(c, "runAsNonRoot")
		switch {
		case numeric && id == 0:
			f.add(NonRoot, userAt, fmt.Sprintf("container %s runs as root: runAsUser is 0", c.name))
		case numeric || isTrue(flag):
		case isFalse(flag):
			f.add(NonRoot, flagAt, fmt.Sprintf("container %s may run as root: runAsNonRoot is false", c.name))
		default:
			f.add(NonRoot, flagAt, fmt.Sprintf("container %s may run as root: set securityContext.runAsNonRoot to true, for it or for the pod", c.name))
		}
	}
}

func (f *finder) windowsUser(c container) {
	user := text(object(c.security["windowsOptions"])["runAsUserName"])
	at := below(c.securedAt, "windowsOptions", "runAsUserName")
	if user == "" {
		if user = text(object(f.pod.security["windowsOptions"])["runAsUserName"]); user != "" {
			at = below(f.pod.at, "securityContext", "windowsOptions", "runAsUserName")
		}
	}
	flag, _ := f.pod.effective(c, "runAsNonRoot")
	_, short, found := strings.Cut(user, `\`)
	if !found {
		short = user
	}
	switch {
	case strings.EqualFold(short, "ContainerAdministrator"), strings.EqualFold(short, "Administrator"), strings.EqualFold(short, "SYSTEM"):
		f.add(NonRoot, at, fmt.Sprintf("container %s runs as %s", c.name, user))
	case user == "" && !isTrue(flag):
		f.add(NonRoot, at, fmt.Sprintf("container %s may run as ContainerAdministrator: set securityContext.windowsOptions.runAsUserName or runAsNonRoot", c.name))
	}
}

func (f *finder) escalation() {
	if f.pod.windows {
		return
	}
	for _, c := range f.pod.containers {
		switch v := c.security["allowPrivilegeEscalation"]; {
		case isTrue(c.security["privileged"]):
			f.add(Escalation, below(c.securedAt, "privileged"), fmt.Sprintf("container %s is privileged: it has all rights on the node", c.name))
		case isTrue(v):
			f.add(Escalation, below(c.securedAt, "allowPrivilegeEscalation"), fmt.Sprintf("container %s may gain more rights: allowPrivilegeEscalation is true", c.name))
		case !isFalse(v):
			f.add(Escalation, below(c.securedAt, "allowPrivilegeEscalation"), fmt.Sprintf("container %s may gain more rights: set securityContext.allowPrivilegeEscalation to false", c.name))
		}
	}
}

func (f *finder) resources() {
	if f.object.Hook != "" {
		return
	}
	pod := object(f.pod.spec["resources"])
	for _, c := range f.pod.containers {
		if c.list == "ephemeralContainers" { // the API does not let them have any
			continue
		}
		own := object(c.fields["resources"])
		has := func(kind, what string) bool {
			return object(own[kind])[what] != nil || object(pod[kind])[what] != nil
		}
		var missing []string
		for _, what := range []string{"cpu", "memory"} {
			if !has("requests", what) && !has("limits", what) {
				missing = append(missing, "requests."+what)
			}
		}
		if !has("limits", "memory") {
			missing = append(missing, "limits.memory")
		}
		if len(missing) > 0 {
			at := below(c.at, "resources")
			if kind, what, _ := strings.Cut(missing[0], "."); own != nil {
				at = below(at, kind, what)
			}
			f.add(Resources, at, fmt.Sprintf("container %s has no resources.%s", c.name, strings.Join(missing, ", ")))
		}
	}
}

func (f *finder) probes() {
	if f.object.Hook != "" || !f.pod.lasting {
		return
	}
	for _, c := range f.pod.containers {
		if c.list != "containers" {
			continue
		}
		var missing []string
		for _, p := range []string{"readinessProbe", "livenessProbe"} {
			if len(object(c.fields[p])) == 0 {
				missing = append(missing, p)
			}
		}
		if len(missing) > 0 {
			f.add(Probes, below(c.at, missing[0]), fmt.Sprintf("container %s has no %s", c.name, strings.Join(missing, " and no ")))
		}
	}
}

// labels asks for the standard labels (S100).
func (f *finder) labels() {
	if f.object.Hook != "" || f.object.CRD || text(f.object.Fields["kind"]) == "" {
		return
	}
	f.label(object(f.object.Fields["metadata"]), []string{"metadata"}, "")
	p := podOf(f.object.Fields)
	if p == nil || slices.Equal(p.metadataAt, []string{"metadata"}) {
		return
	}
	f.label(p.metadata, p.metadataAt, "its pods: ")
}

func (f *finder) label(metadata map[string]any, at []string, whose string) {
	var missing []string
	for _, l := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance"} {
		if text(object(metadata["labels"])[l]) == "" {
			missing = append(missing, l)
		}
	}
	if len(missing) > 0 {
		f.add(Labels, below(at, "labels"), whose+"no label "+strings.Join(missing, " and none "))
	}
}
