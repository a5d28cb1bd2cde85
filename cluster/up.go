package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Up makes the cluster run and returns when it is ready for use: its node
// accepts pods, namespaces can be made, service accounts get tokens and the
// name server answers. If it already is, only the registries are brought up to
// date. If a part of it died, or does not answer for half a minute, everything
// that is left is stopped and all of it starts again with its data, as after a
// reboot of the machine.
func (c *Cluster) Up(ctx context.Context, m Machine) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root: it makes network devices, mounts and control groups")
	}
	unlock, err := lockMachine(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.current() && c.stands(ctx, c.components()) == nil {
		for host, target := range c.Registries {
			if err := c.MapRegistry(host, target); err != nil {
				return err
			}
		}
		return c.writeRecord()
	}
	u := &startup{Cluster: c, machine: m, started: time.Now(), running: map[string]process{}}
	for _, step := range u.steps() {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		u.report(step.name)
	}
	return nil
}

// current tells whether the folder holds a cluster that was started.
func (c *Cluster) current() bool {
	_, err := os.Stat(c.path("cluster.json"))
	return err == nil && c.Ports.API != 0
}

// startup is one attempt to start a cluster.
type startup struct {
	*Cluster
	machine Machine
	started time.Time
	running map[string]process
}

type step struct {
	name string
	do   func(context.Context) error
}

// steps is what starting a cluster consists of, in order.
func (u *startup) steps() []step {
	return []step{
		{"find programs", u.findPrograms},
		{"clear away what an earlier cluster left", u.clearAway},
		{"write keys and configuration", u.configure},
		{"set up the network", u.network},
		{"start the store and the container runtime", u.startBase},
		{"start the API server", u.startAPIServer},
		{"start the node", u.startNode},
		{"wait until pods can run", u.waitReady},
	}
}

func (u *startup) report(name string) {
	fmt.Fprintf(u.machine.Progress, "%5.1fs  %s\n", time.Since(u.started).Seconds(), name)
}

// findPrograms finds what the machine has to provide and builds the rest.
func (u *startup) findPrograms(ctx context.Context) error {
	binaries := map[string]string{}
	packages := map[string]string{
		"etcd": "etcd-server", "containerd": "containerd", "ctr": "containerd", "runc": "runc",
		"containerd-shim-runc-v2": "containerd", "iptables": "iptables", "iptables-restore": "iptables",
		"conntrack": "conntrack", "ip": "iproute2", "/usr/lib/cni/bridge": "containernetworking-plugins",
	}
	var missing []string
	for program, debian := range packages {
		path, err := exec.LookPath(program)
		if err != nil {
			missing = append(missing, debian)
			continue
		}
		binaries[program] = path
	}
	if len(missing) > 0 {
		return fmt.Errorf("this machine lacks programs; install them with: apt-get install %s", strings.Join(unique(missing), " "))
	}
	for _, t := range Tools(u.machine.Source) {
		path, err := u.machine.Tools.Get(ctx, t)
		if err != nil {
			return err
		}
		binaries[t.Name] = path
	}
	u.Binaries = binaries
	return nil
}

// clearAway leaves no process, mount or rule of an earlier cluster. Data, keys
// and images of this one stay.
func (u *startup) clearAway(ctx context.Context) error {
	if err := u.claimMachine(ctx); err != nil {
		return err
	}
	if err := u.claimDir(); err != nil {
		return err
	}
	if err := u.clear(ctx); err != nil {
		return err
	}
	return u.claimDir()
}

func (u *startup) configure(ctx context.Context) error {
	used, err := usedNetworks(ctx)
	if err != nil {
		return err
	}
	// A network once chosen stays: it is in the data of the cluster.
	if !u.Network.Node.IsValid() {
		if u.Network, err = freeNetwork(u.Name, used); err != nil {
			return err
		}
	}
	for _, address := range []string{u.Network.Node.String(), u.Network.DNS.String()} {
		if _, err := command(ctx, "ip", "address", "replace", address+"/32", "dev", "lo"); err != nil {
			return err
		}
	}
	if err := freePorts(&u.Ports, u.Network.Node); err != nil {
		return err
	}
	u.rememberSysctls()
	if err := errors.Join(u.save(), u.writeRecord()); err != nil {
		return err
	}
	if err := u.writeCertificates(u.started); err != nil {
		return err
	}
	return u.writeConfigs()
}

func (u *startup) network(ctx context.Context) error {
	if err := u.makeGroups(); err != nil {
		return err
	}
	for _, name := range []string{forwarding, "net/bridge/bridge-nf-call-iptables"} {
		err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0o644)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("turn on %s: %w", name, err)
		}
	}
	return u.addFirewall(ctx)
}

// begin starts a component under a name of its own, by which it is found again.
func (u *startup) begin(one component) error {
	link := u.path("bin", one.name)
	_ = os.Remove(link)
	if err := os.Symlink(u.Binaries[one.program], link); err != nil {
		return fmt.Errorf("start %s: %w", one.name, err)
	}
	p, err := u.start(one.name, one.args, one.env)
	u.running[one.name] = p
	return err
}

// await returns when the component does its work.
func (u *startup) await(ctx context.Context, one component, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := u.untilAlive(ctx, one.name, u.running[one.name], one.health); err != nil {
		return fmt.Errorf("wait for %s: %w", one.name, err)
	}
	return nil
}

// startBase starts what needs no other component, and the API server next to
// it, which waits for the store itself.
func (u *startup) startBase(ctx context.Context) error {
	for _, one := range []component{u.etcd(), u.containerd(), u.apiServer()} {
		if err := u.begin(one); err != nil {
			return err
		}
	}
	if err := u.await(ctx, u.containerd(), 2*time.Minute); err != nil {
		return err
	}
	if err := u.importPause(ctx); err != nil {
		return err
	}
	return u.await(ctx, u.etcd(), 2*time.Minute)
}

func (u *startup) startAPIServer(ctx context.Context) error {
	return u.await(ctx, u.apiServer(), 2*time.Minute)
}

func (u *startup) startNode(ctx context.Context) error {
	for _, one := range []component{u.kubelet(), u.controllerManager(), u.scheduler(), u.kubeProxy()} {
		if err := u.begin(one); err != nil {
			return err
		}
	}
	link := u.KubectlPath()
	_ = os.Remove(link)
	if err := os.Symlink(u.Binaries["kubernetes"], link); err != nil {
		return err
	}
	if err := u.allowDNS(ctx); err != nil {
		return err
	}
	return u.begin(u.coreDNS())
}

// allowDNS lets the name server read what it serves.
func (u *startup) allowDNS(ctx context.Context) error {
	api, err := u.Cluster.api()
	if err != nil {
		return err
	}
	const group = "rbac.authorization.k8s.io"
	verbs := []string{"list", "watch"}
	err = api.apply(ctx, "/apis/"+group+"/v1/clusterroles/slipway:coredns", map[string]any{
		"apiVersion": group + "/v1", "kind": "ClusterRole",
		"metadata": map[string]any{"name": "slipway:coredns"},
		"rules": []any{
			map[string]any{"apiGroups": []string{""}, "resources": []string{"services", "pods", "namespaces"}, "verbs": verbs},
			map[string]any{"apiGroups": []string{"discovery.k8s.io"}, "resources": []string{"endpointslices"}, "verbs": verbs},
		},
	})
	if err != nil {
		return err
	}
	return api.apply(ctx, "/apis/"+group+"/v1/clusterrolebindings/slipway:coredns", map[string]any{
		"apiVersion": group + "/v1", "kind": "ClusterRoleBinding",
		"metadata": map[string]any{"name": "slipway:coredns"},
		"roleRef":  map[string]any{"apiGroup": group, "kind": "ClusterRole", "name": "slipway:coredns"},
		"subjects": []any{map[string]any{"apiGroup": group, "kind": "User", "name": "slipway:coredns"}},
	})
}

// waitReady waits for everything a user's first command may need.
func (u *startup) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	waits := []struct {
		what, component string
		done            func(context.Context) error
	}{
		{"node ready", "kubelet", u.nodeReady},
		{"namespaces and tokens", "kube-controller-manager", u.apiUsable},
		{"controllers ready", "kube-controller-manager", u.controllerManager().health},
		{"scheduler ready", "kube-scheduler", u.scheduler().health},
		{"service addresses ready", "kube-proxy", u.kubeProxy().health},
		{"cluster DNS answers", "coredns", u.dnsAnswers},
	}
	errs := make([]error, len(waits))
	var group sync.WaitGroup
	var reporting sync.Mutex
	for i, w := range waits {
		group.Go(func() {
			errs[i] = u.untilAlive(ctx, w.component, u.running[w.component], w.done)
			reporting.Lock()
			defer reporting.Unlock()
			if errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", w.what, errs[i])
				cancel()
				return
			}
			u.report("  " + w.what)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// nodeReady does not believe what the kubelet of an earlier start said.
func (u *startup) nodeReady(ctx context.Context) error {
	api, err := u.Cluster.api()
	if err != nil {
		return err
	}
	var node struct {
		Spec struct {
			Taints []struct{ Key string }
		}
		Status struct {
			Conditions []struct {
				Type, Status, Message string
				LastHeartbeatTime     time.Time
			}
		}
	}
	if err := api.get(ctx, "/api/v1/nodes/"+u.Name, &node); err != nil {
		return err
	}
	for _, taint := range node.Spec.Taints {
		return fmt.Errorf("the node is tainted with %s", taint.Key)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != "Ready" || condition.LastHeartbeatTime.Before(u.started.Truncate(time.Second)) {
			continue
		}
		if condition.Status != "True" {
			return errors.New(condition.Message)
		}
		return nil
	}
	return errors.New("the node has not told its state")
}

// apiUsable tries, without effect, what the first user will do.
func (c *Cluster) apiUsable(ctx context.Context) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	namespace := map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "slipway-probe-"},
	}
	if err := api.create(ctx, "/api/v1/namespaces?dryRun=All", namespace, nil); err != nil {
		return err
	}
	request := map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{"expirationSeconds": 600},
	}
	if err := api.create(ctx, "/api/v1/namespaces/default/serviceaccounts/default/token", request, nil); err != nil {
		return err
	}
	// Every pod mounts this; controllers without rights would not write it.
	return api.get(ctx, "/api/v1/namespaces/default/configmaps/kube-root-ca.crt", nil)
}

func (c *Cluster) dnsAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	want, err := firstAddress(c.Network)
	if err != nil {
		return err
	}
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(c.Network.DNS.String(), "53"))
	}}
	addresses, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	if err != nil {
		return err
	}
	if len(addresses) != 1 || addresses[0] != want {
		return fmt.Errorf("the name server knows the API server as %v, not %s", addresses, want)
	}
	return nil
}
