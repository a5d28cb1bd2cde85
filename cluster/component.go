package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// component is one process of a cluster.
type component struct {
	name string
	// program is the key in Cluster.Binaries.
	program string
	args    []string
	env     []string
	// health returns nil when the component does its work.
	health func(context.Context) error
}

// components lists the processes in the order in which they are started; each
// needs only those before it.
func (c *Cluster) components() []component {
	return []component{
		c.etcd(), c.containerd(), c.apiServer(), c.controllerManager(), c.scheduler(),
		c.kubelet(), c.kubeProxy(), c.coreDNS(),
	}
}

func (c *Cluster) etcd() component {
	client := fmt.Sprintf("https://127.0.0.1:%d", c.Ports.Etcd)
	peer := fmt.Sprintf("https://127.0.0.1:%d", c.Ports.EtcdPeer)
	health := fmt.Sprintf("http://127.0.0.1:%d", c.Ports.EtcdHealth)
	return component{name: "etcd", program: "etcd", health: answers(health + "/health"), args: []string{
		"--name=" + c.Name,
		"--data-dir=" + c.path("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=" + c.Name + "=" + peer,
		"--listen-metrics-urls=" + health,
		"--client-cert-auth",
		"--trusted-ca-file=" + c.pki("etcd-ca.crt"),
		"--cert-file=" + c.pki("etcd.crt"),
		"--key-file=" + c.pki("etcd.key"),
		"--peer-client-cert-auth",
		"--peer-trusted-ca-file=" + c.pki("etcd-ca.crt"),
		"--peer-cert-file=" + c.pki("etcd.crt"),
		"--peer-key-file=" + c.pki("etcd.key"),
		"--snapshot-count=10000",
		"--auto-compaction-retention=10m",
		"--log-level=warn",
		"--logger=zap",
	}}
}

func (c *Cluster) containerd() component {
	health := func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.containerdSocket())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return component{name: "containerd", program: "containerd", health: health, args: []string{
		"--config=" + c.config("containerd.toml"), "--log-level=warn",
	}}
}

func (c *Cluster) apiServer() component {
	health := func(ctx context.Context) error {
		api, err := c.api()
		if err != nil {
			return err
		}
		return api.get(ctx, "/readyz", nil)
	}
	return component{name: "kube-apiserver", program: "kubernetes", health: health, args: []string{
		"--advertise-address=" + c.Network.Node.String(),
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--bind-address=" + c.Network.Node.String(),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--enable-admission-plugins=NodeRestriction",
		"--etcd-cafile=" + c.pki("etcd-ca.crt"),
		"--etcd-certfile=" + c.pki("apiserver-etcd.crt"),
		"--etcd-keyfile=" + c.pki("apiserver-etcd.key"),
		fmt.Sprintf("--etcd-servers=https://127.0.0.1:%d", c.Ports.Etcd),
		"--kubelet-certificate-authority=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + c.pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--profiling=false",
		fmt.Sprintf("--secure-port=%d", c.Ports.API),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("service-account.key"),
		"--service-account-signing-key-file=" + c.pki("service-account.key"),
		"--service-cluster-ip-range=" + c.Network.Services.String(),
		"--shutdown-delay-duration=0s",
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
	}}
}

func (c *Cluster) controllerManager() component {
	port := c.Ports.ControllerManager
	return component{name: "kube-controller-manager", program: "kubernetes", health: answers(fmt.Sprintf("https://127.0.0.1:%d/healthz", port)), args: []string{
		"--allocate-node-cidrs=false",
		"--authentication-kubeconfig=" + c.config("kube-controller-manager.kubeconfig"),
		"--authentication-skip-lookup",
		"--authorization-kubeconfig=" + c.config("kube-controller-manager.kubeconfig"),
		"--bind-address=127.0.0.1",
		"--client-ca-file=" + c.pki("ca.crt"),
		// One node without cloud, certificate requests, metrics or devices.
		"--controllers=*,-bootstrap-signer-controller,-certificatesigningrequest-approving-controller," +
			"-certificatesigningrequest-cleaner-controller,-certificatesigningrequest-signing-controller," +
			"-cloud-node-lifecycle-controller,-horizontal-pod-autoscaler-controller,-node-ipam-controller," +
			"-node-route-controller,-service-lb-controller,-token-cleaner-controller",
		"--flex-volume-plugin-dir=" + c.path("kubelet", "volume-plugins"),
		"--kube-api-burst=200",
		"--kube-api-qps=100",
		"--kubeconfig=" + c.config("kube-controller-manager.kubeconfig"),
		"--leader-elect=false",
		"--profiling=false",
		"--root-ca-file=" + c.pki("ca.crt"),
		fmt.Sprintf("--secure-port=%d", port),
		"--service-account-private-key-file=" + c.pki("service-account.key"),
		"--use-service-account-credentials", // else its own user may do next to nothing
		"--tls-cert-file=" + c.pki("kubelet.crt"),
		"--tls-private-key-file=" + c.pki("kubelet.key"),
	}}
}

func (c *Cluster) scheduler() component {
	port := c.Ports.Scheduler
	return component{name: "kube-scheduler", program: "kubernetes", health: answers(fmt.Sprintf("https://127.0.0.1:%d/healthz", port)), args: []string{
		"--authentication-kubeconfig=" + c.config("kube-scheduler.kubeconfig"),
		"--authentication-skip-lookup",
		"--authorization-kubeconfig=" + c.config("kube-scheduler.kubeconfig"),
		"--bind-address=127.0.0.1",
		"--client-ca-file=" + c.pki("ca.crt"),
		"--kube-api-burst=200",
		"--kube-api-qps=100",
		"--kubeconfig=" + c.config("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--profiling=false",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.pki("kubelet.crt"),
		"--tls-private-key-file=" + c.pki("kubelet.key"),
	}}
}

func (c *Cluster) kubelet() component {
	return component{name: "kubelet", program: "kubernetes", health: answers(fmt.Sprintf("http://127.0.0.1:%d/healthz", c.Ports.Kubelet)), args: []string{
		"--cert-dir=" + c.path("kubelet", "pki"),
		"--config=" + c.config("kubelet.json"),
		"--hostname-override=" + c.Name,
		"--kubeconfig=" + c.config("kubelet.kubeconfig"),
		"--node-ip=" + c.Network.Node.String(),
		"--root-dir=" + c.path("kubelet"),
	}}
}

func (c *Cluster) kubeProxy() component {
	return component{name: "kube-proxy", program: "kubernetes", health: answers(fmt.Sprintf("http://127.0.0.1:%d/healthz", c.Ports.ProxyHealth)), args: []string{
		"--config=" + c.config("kube-proxy.json"),
	}}
}

func (c *Cluster) coreDNS() component {
	return component{name: "coredns", program: "coredns", health: answers(fmt.Sprintf("http://127.0.0.1:%d/ready", c.Ports.DNSReady)), args: []string{
		"-conf", c.config("Corefile"),
	}}
}

// answers checks that a GET returns 200. The servers it asks are on this
// machine's loopback device, under certificates nobody else checks.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		client := http.Client{
			Timeout:   patience,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 200))
			return fmt.Errorf("%s: %s: %s", url, response.Status, text)
		}
		return nil
	}
}

// pool reads the cluster's certificate authority.
func (c *Cluster) pool() (*x509.CertPool, error) {
	data, err := os.ReadFile(c.pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New(c.pki("ca.crt") + " holds no certificate")
	}
	return pool, nil
}
