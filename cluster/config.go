package cluster

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// pauseImage is imported, never pulled.
const pauseImage = "slipway.internal/pause:1"

func (c *Cluster) config(file string) string { return c.path("config", file) }

func (c *Cluster) containerdSocket() string { return c.path("run", "containerd.sock") }

// networkName is what network plugins call the pods' network.
func (c *Cluster) networkName() string { return "slipway-" + c.Name }

func (c *Cluster) server() string {
	return fmt.Sprintf("https://%s:%d", c.Network.Node, c.Ports.API)
}

// writeConfigs writes the configuration of every component.
func (c *Cluster) writeConfigs() error {
	resolvers, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the name servers: %w", err)
	}
	kubelet, err := c.kubeletConfig()
	if err != nil {
		return err
	}
	proxy, err := c.proxyConfig()
	if err != nil {
		return err
	}
	network, err := c.networkConfig()
	if err != nil {
		return err
	}
	files := map[string]string{
		c.config("containerd.toml"):         c.containerdConfig(),
		c.config("kubelet.json"):            kubelet,
		c.config("kube-proxy.json"):         proxy,
		c.config("cni/10-slipway.conflist"): network,
		c.config("Corefile"):                c.corefile(string(resolvers)),
	}
	for path, text := range files {
		if err := writeFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for host, target := range c.Registries {
		if err := c.writeRegistry(host, target); err != nil {
			return err
		}
	}
	for _, user := range []string{"kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"} {
		if err := c.writeKubeconfig(c.config(user+".kubeconfig"), user); err != nil {
			return err
		}
	}
	return c.writeKubeconfig(c.Kubeconfig(), "admin")
}

// writeKubeconfig writes a kubeconfig that needs no other file and that only
// its owner may read.
func (c *Cluster) writeKubeconfig(path, user string) error {
	var encoded []string
	for _, file := range []string{"ca.crt", user + ".crt", user + ".key"} {
		data, err := os.ReadFile(c.pki(file))
		if err != nil {
			return fmt.Errorf("write kubeconfig of %s: %w", user, err)
		}
		encoded = append(encoded, base64.StdEncoding.EncodeToString(data))
	}
	name := "slipway-" + c.Name
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s-%[4]s
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[1]s-%[4]s
current-context: %[1]s
`, name, c.server(), encoded[0], user, encoded[1], encoded[2])
	return writeFile(path, []byte(text), 0o600)
}

// containerdConfig keeps everything containerd writes below the cluster's
// folder. restrict_oom_score_adj is for machines whose root may not lower
// oom_score_adj, which runc else fails to start a sandbox on.
func (c *Cluster) containerdConfig() string {
	return fmt.Sprintf(`version = 2
root = %[1]q
state = %[2]q
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.native",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]

[grpc]
  address = %[3]q

[debug]
  address = %[4]q

[plugins."io.containerd.internal.v1.opt"]
  path = %[5]q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[6]q
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  tolerate_missing_hugetlb_controller = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = %[7]q

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = %[8]q

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"
  snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = %[9]q
`, c.path("containerd"), c.path("run", "containerd"), c.containerdSocket(),
		c.path("run", "containerd-debug.sock"), c.path("containerd", "opt"), pauseImage,
		c.config("cni"), c.path("registries"), c.path("run", "runc"))
}

// kubeletConfig is JSON, which the kubelet reads as well as YAML. The eviction
// thresholds are low and images are never removed, because the disk is the
// user's own and mostly full of other things.
func (c *Cluster) kubeletConfig() (string, error) {
	return render(map[string]any{
		"apiVersion":                      "kubelet.config.k8s.io/v1beta1",
		"kind":                            "KubeletConfiguration",
		"address":                         c.Network.Node.String(),
		"authentication":                  map[string]any{"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": true}, "x509": map[string]any{"clientCAFile": c.pki("ca.crt")}},
		"authorization":                   map[string]any{"mode": "Webhook"},
		"cgroupDriver":                    "cgroupfs",
		"cgroupRoot":                      "/" + c.groupName(),
		"clusterDNS":                      []string{c.Network.DNS.String()},
		"clusterDomain":                   "cluster.local",
		"containerRuntimeEndpoint":        "unix://" + c.containerdSocket(),
		"evictionHard":                    map[string]string{"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%", "imagefs.inodesFree": "1%"},
		"failCgroupV1":                    false,
		"failSwapOn":                      false,
		"healthzBindAddress":              "127.0.0.1",
		"healthzPort":                     c.Ports.Kubelet,
		"imageGCHighThresholdPercent":     100,
		"imageGCLowThresholdPercent":      99,
		"makeIPTablesUtilChains":          false,
		"maxPods":                         250,
		"nodeStatusUpdateFrequency":       "10s",
		"oomScoreAdj":                     0,
		"podLogsDir":                      c.path("logs", "pods"),
		"readOnlyPort":                    0,
		"registerNode":                    true,
		"registryPullQPS":                 0,
		"resolvConf":                      "",
		"rotateCertificates":              false,
		"serializeImagePulls":             false,
		"shutdownGracePeriod":             "0s",
		"tlsCertFile":                     c.pki("kubelet.crt"),
		"tlsPrivateKeyFile":               c.pki("kubelet.key"),
		"volumePluginDir":                 c.path("kubelet", "volume-plugins"),
		"enableServer":                    true,
		"enableDebuggingHandlers":         true,
		"localStorageCapacityIsolation":   true,
		"serverTLSBootstrap":              false,
		"shutdownGracePeriodCriticalPods": "0s",
		"streamingConnectionIdleTimeout":  "4h",
		"volumeStatsAggPeriod":            "1m",
		"runtimeRequestTimeout":           "2m",
		"configMapAndSecretChangeDetectionStrategy": "Watch",
	})
}

// proxyConfig makes Services reachable from pods and from this machine, and
// their node ports at the node's address only. No connection tracking setting
// of the machine is touched.
func (c *Cluster) proxyConfig() (string, error) {
	return render(map[string]any{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"bindAddress":        c.Network.Node.String(),
		"clientConnection":   map[string]any{"kubeconfig": c.config("kube-proxy.kubeconfig")},
		"clusterCIDR":        c.Network.Pods.String(),
		"conntrack":          map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
		"healthzBindAddress": fmt.Sprintf("127.0.0.1:%d", c.Ports.ProxyHealth),
		"metricsBindAddress": fmt.Sprintf("127.0.0.1:%d", c.Ports.ProxyMetrics),
		"hostnameOverride":   c.Name,
		"iptables":           map[string]any{"localhostNodePorts": false, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
		"mode":               "iptables",
		"nodePortAddresses":  []string{c.Network.Node.String() + "/32"},
		"oomScoreAdj":        0,
	})
}

// networkConfig joins the pods by a bridge. Ports of the host (hostPort) are
// those of the node's address only.
func (c *Cluster) networkConfig() (string, error) {
	return render(map[string]any{
		"cniVersion": "1.0.0",
		"name":       c.networkName(),
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": c.Network.Bridge,
				"isGateway": true, "ipMasq": false, "hairpinMode": true,
				"ipam": map[string]any{
					"type":    "host-local",
					"dataDir": c.path("run", "addresses"),
					"ranges":  []any{[]any{map[string]any{"subnet": c.Network.Pods.String()}}},
					"routes":  []any{map[string]any{"dst": "0.0.0.0/0"}},
				},
			},
			map[string]any{
				"type": "portmap", "capabilities": map[string]any{"portMappings": true},
				"snat": true, "conditionsV4": []string{"-d", c.Network.Node.String()},
			},
		},
	})
}

// corefile serves cluster.local and forwards the rest to the machine's name
// servers, if it has any.
func (c *Cluster) corefile(resolvConf string) string {
	forward := ""
	if servers := nameServers(resolvConf); len(servers) > 0 {
		var words []string
		for _, server := range servers[:min(len(servers), 3)] {
			words = append(words, server.String())
		}
		forward = "    forward . " + strings.Join(words, " ") + "\n"
	}
	return fmt.Sprintf(`.:53 {
    bind %s
    errors
    health 127.0.0.1:%d
    ready 127.0.0.1:%d
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        ttl 5
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
%s}
`, c.Network.DNS, c.Ports.DNSHealth, c.Ports.DNSReady, c.config("coredns.kubeconfig"), forward)
}

func render(value any) (string, error) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return "", err
	}
	return string(data) + "\n", nil
}
