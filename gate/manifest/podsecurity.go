package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// podSecurity checks the Pod Security Standards as Kubernetes 1.35 has them: every control of the level,
// each with the field that breaks it.
func (f *finder) podSecurity() {
	level := f.settings.PodSecurity
	if level == Privileged {
		return
	}
	f.hostAccess()
	f.privileged()
	f.capabilities()
	f.hostPathVolumes()
	f.hostPorts()
	f.probeHosts()
	f.appArmor()
	f.seLinux()
	f.sysctls()
	restricted := level != "" && level != Baseline
	f.procMount(restricted)
	f.seccomp(restricted)
	if restricted {
		f.volumeTypes()
		f.restrictedEscalation()
		f.restrictedNonRoot()
		f.restrictedUser()
	}
}

func (f *finder) forbid(level string, at []string, format string, args ...any) {
	f.add(PodSecurity, at, level+": "+fmt.Sprintf(format, args...))
}

// userNamespace: hostUsers is false, so that root in the pod is nobody on the node.
func (p *pod) userNamespace() bool { return isFalse(p.spec["hostUsers"]) }

// holders are the securityContexts of pod and containers.
func (p *pod) holders() []holder {
	out := []holder{{"the pod", p.security, below(p.at, "securityContext")}}
	for _, c := range p.containers {
		out = append(out, holder{"container " + c.name, c.security, c.securedAt})
	}
	return out
}

type holder struct {
	name     string
	security map[string]any
	at       []string
}

func (f *finder) hostAccess() {
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if isTrue(f.pod.spec[field]) {
			f.forbid(Baseline, below(f.pod.at, field), "%s gives the pod the node's own", field)
		}
	}
	for _, h := range f.pod.holders() {
		if isTrue(object(h.security["windowsOptions"])["hostProcess"]) {
			f.forbid(Baseline, below(h.at, "windowsOptions", "hostProcess"), "%s is a process of the node: hostProcess must not be true", h.name)
		}
	}
}

func (f *finder) privileged() {
	for _, c := range f.pod.containers {
		if isTrue(c.security["privileged"]) {
			f.forbid(Baseline, below(c.securedAt, "privileged"), "container %s is privileged", c.name)
		}
	}
}

// capabilities: baseline bounds what is added; restricted wants ALL dropped.
func (f *finder) capabilities() {
	usual := []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
	level := Baseline
	restricted := f.settings.PodSecurity != "" && f.settings.PodSecurity != Baseline && !f.pod.windows
	if restricted {
		level, usual = Restricted, []string{"NET_BIND_SERVICE"}
	}
	for _, c := range f.pod.containers {
		capabilities := object(c.security["capabilities"])
		for i, a := range list(capabilities["add"]) {
			if !slices.Contains(usual, text(a)) {
				f.forbid(level, below(c.securedAt, "capabilities", "add", strconv.Itoa(i)), "container %s adds the capability %v: only %s may be added", c.name, a, strings.Join(usual, ", "))
			}
		}
		if restricted && !slices.Contains(list(capabilities["drop"]), any("ALL")) {
			f.forbid(level, below(c.securedAt, "capabilities", "drop"), "container %s must drop all capabilities: set securityContext.capabilities.drop to [ALL]", c.name)
		}
	}
}

func (f *finder) hostPathVolumes() {
	restricted := f.settings.PodSecurity != "" && f.settings.PodSecurity != Baseline
	for i, v := range list(f.pod.spec["volumes"]) {
		if volume := object(v); volume["hostPath"] != nil && !restricted { // restricted says it with the others
			f.forbid(Baseline, below(f.pod.at, "volumes", strconv.Itoa(i), "hostPath"), "volume %s is a folder of the node", text(volume["name"]))
		}
	}
}

func (f *finder) volumeTypes() {
	usual := []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
	for i, v := range list(f.pod.spec["volumes"]) {
		volume := object(v)
		for _, kind := range slices.Sorted(maps.Keys(volume)) {
			if kind != "name" && volume[kind] != nil && !slices.Contains(usual, kind) {
				f.forbid(Restricted, below(f.pod.at, "volumes", strconv.Itoa(i), kind), "volume %s is of type %s: only %s are allowed", text(volume["name"]), kind, strings.Join(usual, ", "))
			}
		}
	}
}

func (f *finder) hostPorts() {
	for _, c := range f.pod.containers {
		for i, p := range list(c.fields["ports"]) {
			if port := object(p)["hostPort"]; port != nil {
				if n, ok := number(port); !ok || n != 0 {
					f.forbid(Baseline, below(c.at, "ports", strconv.Itoa(i), "hostPort"), "container %s takes port %v of the node", c.name, port)
				}
			}
		}
	}
}

// probeHosts: a probe or a handler that names a host makes the node ask it.
func (f *finder) probeHosts() {
	for _, c := range f.pod.containers {
		for _, handler := range [][]string{{"livenessProbe"}, {"readinessProbe"}, {"startupProbe"}, {"lifecycle", "postStart"}, {"lifecycle", "preStop"}} {
			for _, how := range []string{"httpGet", "tcpSocket"} {
				at := append(slices.Clone(handler), how)
				if host := text(walk(c.fields, at)["host"]); host != "" {
					f.forbid(Baseline, below(below(c.at, at...), "host"), "container %s makes the node ask %s: leave host out", c.name, host)
				}
			}
		}
	}
}

func (f *finder) appArmor() {
	for _, h := range f.pod.holders() {
		profile := object(h.security["appArmorProfile"])
		if kind := text(profile["type"]); profile != nil && kind != "RuntimeDefault" && kind != "Localhost" {
			f.forbid(Baseline, below(h.at, "appArmorProfile", "type"), "%s sets the AppArmor profile %q: only RuntimeDefault and Localhost are allowed", h.name, kind)
		}
	}
	annotations := object(f.pod.metadata["annotations"])
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		profile := text(annotations[key])
		if strings.HasPrefix(key, "container.apparmor.security.beta.kubernetes.io/") && profile != "" && profile != "runtime/default" && !strings.HasPrefix(profile, "localhost/") {
			f.forbid(Baseline, below(f.pod.metadataAt, "annotations", key), "the AppArmor profile %q: only runtime/default and localhost/ are allowed", profile)
		}
	}
}

func (f *finder) seLinux() {
	for _, h := range f.pod.holders() {
		options := object(h.security["seLinuxOptions"])
		at := below(h.at, "seLinuxOptions")
		switch kind := text(options["type"]); kind {
		case "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t":
		default:
			f.forbid(Baseline, below(at, "type"), "%s sets the SELinux type %q", h.name, kind)
		}
		for _, field := range []string{"user", "role"} {
			if text(options[field]) != "" {
				f.forbid(Baseline, below(at, field), "%s sets a SELinux %s", h.name, field)
			}
		}
	}
}

func (f *finder) sysctls() {
	safe := []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
		"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
	for i, s := range list(f.pod.security["sysctls"]) {
		if name := text(object(s)["name"]); !slices.Contains(safe, name) {
			f.forbid(Baseline, below(f.pod.at, "securityContext", "sysctls", strconv.Itoa(i), "name"), "the sysctl %s is not among the safe ones", name)
		}
	}
}

func (f *finder) procMount(restricted bool) {
	level := Baseline
	if restricted {
		level = Restricted
	} else if f.pod.userNamespace() {
		return
	}
	for _, c := range f.pod.containers {
		if v := c.security["procMount"]; v != nil && text(v) != "Default" {
			f.forbid(level, below(c.securedAt, "procMount"), "container %s sets procMount to %v", c.name, v)
		}
	}
}

// seccomp: baseline forbids to switch it off, restricted wants it set.
func (f *finder) seccomp(restricted bool) {
	level := Baseline
	if restricted {
		level = Restricted
	}
	allowed := func(profile map[string]any) bool {
		kind := text(profile["type"])
		return kind == "RuntimeDefault" || kind == "Localhost"
	}
	podSet := false
	for i, h := range f.pod.holders() {
		profile := object(h.security["seccompProfile"])
		switch {
		case profile != nil && !allowed(profile):
			f.forbid(level, below(h.at, "seccompProfile", "type"), "%s sets the seccomp profile %q: only RuntimeDefault and Localhost are allowed", h.name, text(profile["type"]))
		case i == 0:
			podSet = profile != nil
		case profile == nil && !podSet && restricted && !f.pod.windows:
			f.forbid(level, below(h.at, "seccompProfile", "type"), "%s has no seccomp profile: set securityContext.seccompProfile.type to RuntimeDefault, for it or for the pod", h.name)
		}
	}
}

func (f *finder) restrictedEscalation() {
	if f.pod.windows {
		return
	}
	for _, c := range f.pod.containers {
		if !isFalse(c.security["allowPrivilegeEscalation"]) {
			f.forbid(Restricted, below(c.securedAt, "allowPrivilegeEscalation"), "container %s must set securityContext.allowPrivilegeEscalation to false", c.name)
		}
	}
}

func (f *finder) restrictedNonRoot() {
	if f.pod.userNamespace() {
		return
	}
	pod := f.pod.security["runAsNonRoot"]
	if isFalse(pod) {
		f.forbid(Restricted, below(f.pod.at, "securityContext", "runAsNonRoot"), "the pod must not set runAsNonRoot to false")
	}
	for _, c := range f.pod.containers {
		own := c.security["runAsNonRoot"]
		if isFalse(own) {
			f.forbid(Restricted, below(c.securedAt, "runAsNonRoot"), "container %s must not set runAsNonRoot to false", c.name)
		} else if own == nil && pod == nil {
			f.forbid(Restricted, below(c.securedAt, "runAsNonRoot"), "container %s must set securityContext.runAsNonRoot to true, or its pod", c.name)
		}
	}
}

func (f *finder) restrictedUser() {
	if f.pod.userNamespace() {
		return
	}
	for _, h := range f.pod.holders() {
		if user, ok := number(h.security["runAsUser"]); ok && user == 0 {
			f.forbid(Restricted, below(h.at, "runAsUser"), "%s must not set runAsUser to 0", h.name)
		}
	}
}
