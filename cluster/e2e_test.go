package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-cd/slipway/cluster"
)

// TestEndToEnd runs a whole life of a cluster on this machine with the real
// command. It needs root and Debian's packages, and no other cluster.
func TestEndToEnd(t *testing.T) {
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("set SLIPWAY_E2E=1 to start a real cluster")
	}
	e := newE2E(t)
	e.run("down") //nolint:errcheck // it clears away what a killed run left; up says what is wrong
	before := lookAround(t)
	e.up("--registry", "registry.slipway.internal="+e.registry.url,
		"--registry", "docker.io="+e.registry.url+"/v2/open/docker.io")
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("SLIPWAY_E2E_KEEP") == "1" {
			t.Logf("kept: %s down --dir %s", e.program, e.dir)
			return
		}
		e.run("down")
	})

	t.Run("up again starts nothing and maps registries", func(t *testing.T) { e.testUpAgain(t) })
	t.Run("another cluster is refused", func(t *testing.T) { e.testOther(t) })
	t.Run("nothing listens beyond this machine", func(t *testing.T) { e.testListeners(t) })
	e.deploy(t)
	t.Run("exec, logs and port-forward", func(t *testing.T) { e.testStreams(t) })
	t.Run("pods reach services by name", func(t *testing.T) { e.testNames(t) })
	t.Run("pods reach the API server", func(t *testing.T) { e.testInCluster(t) })
	t.Run("node and host ports are this machine's only", func(t *testing.T) { e.testPorts(t) })
	t.Run("images need the pull secret", func(t *testing.T) { e.testSecret(t) })
	t.Run("docker.io is mapped to a path", func(t *testing.T) { e.testDockerHub(t) })
	t.Run("up repairs a cluster that was killed", func(t *testing.T) { e.testKilled(t) })
	start := time.Now()
	e.kubectl(t, "delete", "namespace", "shop-qa", "--timeout=3m")
	t.Logf("the namespace was deleted in %s", time.Since(start).Round(time.Millisecond))

	t.Run("down leaves nothing behind", func(t *testing.T) {
		if out, err := e.run("down"); err != nil {
			t.Fatalf("down: %v\n%s", err, out)
		}
		if out, err := e.run("status"); exitStatus(err) != 3 {
			t.Errorf("status after down: %v, want exit status 3\n%s", err, out)
		}
		compare(t, before, lookAround(t))
		if out, err := e.run("down"); err != nil {
			t.Errorf("second down: %v\n%s", err, out)
		}
	})
}

// e2e is a built slipway-cluster, the folder of a cluster and a registry.
type e2e struct {
	t        *testing.T
	program  string
	dir      string
	registry *testRegistry
}

func newE2E(t *testing.T) *e2e {
	t.Helper()
	// The folder's path has to be short, for the sockets below it.
	dir, err := os.MkdirTemp("/tmp", "slw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("SLIPWAY_E2E_KEEP") != "1" {
			os.RemoveAll(dir)
		}
	})
	program := filepath.Join(dir, "slipway-cluster")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/slipway-cluster").CombinedOutput(); err != nil {
		t.Fatalf("build slipway-cluster: %v\n%s", err, out)
	}
	return &e2e{t: t, program: program, dir: filepath.Join(dir, "cluster"), registry: startRegistry(t)}
}

// run calls slipway-cluster and returns both its outputs.
func (e *e2e) run(args ...string) (string, error) {
	return e.runInput("", args...)
}

func (e *e2e) runInput(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.program, append([]string{"--name", "e2e", "--dir", e.dir}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (e *e2e) up(args ...string) {
	e.t.Helper()
	start := time.Now()
	out, err := e.run(append([]string{"up"}, args...)...)
	if err != nil {
		e.t.Fatalf("up: %v\n%s", err, out)
	}
	e.t.Logf("up took %s\n%s", time.Since(start).Round(time.Millisecond), out)
}

// kubectl fails the test if kubectl fails.
func (e *e2e) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.run(append([]string{"kubectl"}, args...)...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (e *e2e) apply(t *testing.T, manifest string) {
	t.Helper()
	if out, err := e.runInput(manifest, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

func (e *e2e) status(t *testing.T) cluster.Status {
	t.Helper()
	out, err := e.run("status", "--output", "json")
	if err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	var s cluster.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// processes are the numbers of the components' processes.
func (e *e2e) processes(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, one := range e.status(t).Components {
		found[one.Name] = one.PID
	}
	return found
}

func (e *e2e) testUpAgain(t *testing.T) {
	before, start := e.processes(t), time.Now()
	if out, err := e.run("up", "--registry", "example.test=http://127.0.0.1:1"); err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	t.Logf("up of a running cluster took %s", time.Since(start).Round(time.Millisecond))
	if after := e.processes(t); !maps.Equal(before, after) {
		t.Errorf("up of a running cluster started it again: %v before, %v after", before, after)
	}
	s := e.status(t)
	if s.Registries["example.test"] != "http://127.0.0.1:1" || s.Registries["registry.slipway.internal"] != e.registry.url {
		t.Errorf("registries are %v", s.Registries)
	}
	if out, err := e.run("registry", "--remove", "example.test"); err != nil {
		t.Fatalf("registry --remove: %v\n%s", err, out)
	}
	if s := e.status(t); s.Registries["example.test"] != "" {
		t.Errorf("registries are still %v", s.Registries)
	}
	path, err := e.run("kubeconfig")
	if err != nil || strings.TrimSpace(path) != filepath.Join(e.dir, "kubeconfig") {
		t.Errorf("kubeconfig is %q, %v", path, err)
	}
	if info, err := os.Stat(strings.TrimSpace(path)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info.Mode(), err)
	}
}

func (e *e2e) testOther(t *testing.T) {
	dir := filepath.Join(filepath.Dir(e.dir), "o") // a path that is short wherever temporary files are
	out, err := exec.Command(e.program, "up", "--name", "other", "--dir", dir).CombinedOutput()
	if exitStatus(err) != 1 || !strings.Contains(string(out), "slipway-cluster down --dir "+e.dir) {
		t.Errorf("up of another cluster: %v, %s", err, out)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
	// Without a name, nobody's cluster but the default one is touched.
	for _, command := range []string{"up", "down"} {
		out, err := exec.Command(e.program, command).CombinedOutput()
		if exitStatus(err) != 1 || !strings.Contains(string(out), "add: --dir "+e.dir) {
			t.Errorf("%s without a name: %v, %s", command, err, out)
		}
	}
	if s := e.status(t); s.State != cluster.Running {
		t.Errorf("the cluster is %s", s.State)
	}
}

func (e *e2e) testListeners(t *testing.T) {
	s := e.status(t)
	out, err := exec.Command("ss", "-ltunpH").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, one := range s.Components {
		for _, line := range strings.Split(string(out), "\n") {
			if !strings.Contains(line, fmt.Sprintf("pid=%d,", one.PID)) {
				continue
			}
			seen++
			address := strings.Fields(line)[4]
			if !strings.HasPrefix(address, "127.") && !strings.HasPrefix(address, "10.254.254.") {
				t.Errorf("%s listens on %s", one.Name, address)
			}
		}
	}
	if seen < len(s.Components) {
		t.Errorf("found only %d listeners:\n%s", seen, out)
	}
}

// shop is a web server of two pods from a private image.
const shop = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop-qa}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      imagePullSecrets: [{name: pull}]
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: registry.slipway.internal/private/tiny:1
        command: [/bin/sh, -c, "echo serving; mkdir /tmp/www; hostname >/tmp/www/index.html; exec httpd -f -v -p 8080 -h /tmp/www"]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        securityContext: {runAsUser: 1000, runAsNonRoot: true}
---
apiVersion: v1
kind: Service
metadata: {name: delivery, namespace: shop-qa}
spec:
  selector: {app: web}
  type: NodePort
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
`

func (e *e2e) deploy(t *testing.T) {
	t.Helper()
	e.kubectl(t, "create", "namespace", "shop-qa")
	e.kubectl(t, "-n", "shop-qa", "create", "secret", "docker-registry", "pull",
		"--docker-server=registry.slipway.internal", "--docker-username="+registryUser, "--docker-password="+registryPassword)
	e.apply(t, shop)
	start := time.Now()
	e.kubectl(t, "-n", "shop-qa", "rollout", "status", "deployment/web", "--timeout=3m")
	t.Logf("two pods were ready after %s", time.Since(start).Round(time.Millisecond))
}

func (e *e2e) testStreams(t *testing.T) {
	if out := e.kubectl(t, "-n", "shop-qa", "exec", "deployment/web", "--", "id", "-u"); strings.TrimSpace(out) != "1000" {
		t.Errorf("exec says %q", out)
	}
	if out, err := e.runInput("hello", "kubectl", "-n", "shop-qa", "exec", "-i", "deployment/web", "--", "cat"); out != "hello" {
		t.Errorf("exec -i says %q, %v", out, err)
	}
	if _, err := e.run("kubectl", "-n", "shop-qa", "exec", "deployment/web", "--", "sh", "-c", "exit 7"); exitStatus(err) != 7 {
		t.Errorf("exit status of exec: %v", err)
	}
	if out := e.kubectl(t, "-n", "shop-qa", "logs", "-l", "app=web"); !strings.Contains(out, "serving") {
		t.Errorf("logs say %q", out)
	}
	cmd := exec.Command(e.program, "--dir", e.dir, "kubectl", "-n", "shop-qa", "port-forward", "service/delivery", ":80")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	scanner := bufio.NewScanner(stdout)
	scanner.Scan()
	match := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(scanner.Text())
	if body, err := get("http://"+match, time.Minute); err != nil || !strings.HasPrefix(body, "web-") {
		t.Errorf("port-forward at %q gives %q, %v", match, body, err)
	}
}

func (e *e2e) testNames(t *testing.T) {
	for _, name := range []string{"delivery", "delivery.shop-qa.svc.cluster.local"} {
		out := e.kubectl(t, "-n", "shop-qa", "exec", "deployment/web", "--", "get", "http://"+name+"/")
		if !strings.HasPrefix(out, "web-") {
			t.Errorf("http://%s gives %q", name, out)
		}
	}
	// Each pod reaches itself and the other one through the service.
	seen := map[string]bool{}
	for range 40 {
		out := e.kubectl(t, "-n", "shop-qa", "exec", "deployment/web", "--", "get", "http://delivery/")
		seen[out] = true
		if len(seen) == 2 {
			return
		}
	}
	t.Errorf("the service leads to %v only", seen)
}

func (e *e2e) testInCluster(t *testing.T) {
	out := e.kubectl(t, "-n", "shop-qa", "exec", "deployment/web", "--", "sh", "-c",
		"nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && ls /var/run/secrets/kubernetes.io/serviceaccount")
	if !strings.Contains(out, "token") {
		t.Errorf("the pod has no token: %q", out)
	}
}

func (e *e2e) testPorts(t *testing.T) {
	e.apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: hostport, namespace: shop-qa}
spec:
  imagePullSecrets: [{name: pull}]
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: registry.slipway.internal/private/tiny:1
    command: [/bin/httpd, -f, -p, "8080", -h, /bin]
    ports: [{containerPort: 8080, hostPort: 30081}]
    readinessProbe: {httpGet: {path: /busybox, port: 8080}, periodSeconds: 1}
`)
	e.kubectl(t, "-n", "shop-qa", "wait", "pod/hostport", "--for=condition=Ready", "--timeout=3m")
	for _, port := range []string{"30080/", "30081/busybox"} {
		if _, err := get("http://10.254.254.1:"+port, time.Minute); err != nil {
			t.Errorf("from this machine: %v", err)
		}
		if _, err := get("http://"+outerAddress(t)+":"+port, 3*time.Second); err == nil {
			t.Errorf("port %s answers at the machine's outer address", port)
		}
	}
}

func (e *e2e) testSecret(t *testing.T) {
	e.apply(t, strings.ReplaceAll(strings.ReplaceAll(onePod, "NAME", "nosecret"), "IMAGE", "registry.slipway.internal/private/other:1"))
	e.kubectl(t, "-n", "shop-qa", "wait", "pod/nosecret", "--timeout=3m",
		"--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull")
	// Events are told apart from the status, and may come later.
	why := e.kubectl(t, "-n", "shop-qa", "get", "pod/nosecret", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.message}")
	if !strings.Contains(why, "401") && !strings.Contains(why, "authorization failed") {
		t.Errorf("the failed pull is told as\n%s", why)
	}
}

const onePod = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: shop-qa}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "IMAGE", command: [/bin/sleep, "3600"]}]
`

func (e *e2e) testDockerHub(t *testing.T) {
	e.apply(t, strings.ReplaceAll(strings.ReplaceAll(onePod, "NAME", "hub"), "IMAGE", "tiny:1"))
	e.kubectl(t, "-n", "shop-qa", "wait", "pod/hub", "--for=condition=Ready", "--timeout=3m")
}

func (e *e2e) testKilled(t *testing.T) {
	for _, one := range e.status(t).Components {
		if err := syscall.Kill(one.PID, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", one.Name, err)
		}
	}
	if out, err := exec.Command("timeout", "60", "sh", "-c",
		"while ps -eo args --no-headers | grep -q '^"+e.dir+"/bin/'; do sleep 0.1; done").CombinedOutput(); err != nil {
		t.Fatalf("wait for the killed processes: %v\n%s", err, out)
	}
	// Somebody's shell stands in a mounted folder of a container.
	roots, _ := filepath.Glob(e.dir + "/run/containerd/io.containerd.runtime.v2.task/k8s.io/*/rootfs")
	if len(roots) == 0 {
		t.Fatal("no container's file system is mounted")
	}
	busy := exec.Command("sleep", "600")
	busy.Dir = roots[0]
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer busy.Wait()
	defer busy.Process.Kill()
	if out, err := e.run("status"); exitStatus(err) != 3 {
		t.Errorf("status of a killed cluster: %v\n%s", err, out)
	}
	e.up()
	start := time.Now()
	e.kubectl(t, "-n", "shop-qa", "wait", "pod", "-l", "app=web", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=3m")
	e.kubectl(t, "-n", "shop-qa", "rollout", "status", "deployment/web", "--timeout=3m")
	t.Logf("the pods were back after another %s", time.Since(start).Round(time.Millisecond))
	e.testNames(t)
}

func get(url string, limit time.Duration) (string, error) {
	client := http.Client{Timeout: limit}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// outerAddress is an address of this machine that others can reach.
func outerAddress(t *testing.T) string {
	t.Helper()
	conn, err := net.Dial("udp4", "192.0.2.200:9")
	if err != nil {
		t.Skipf("this machine has no outer address: %v", err)
	}
	defer conn.Close()
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	return host
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

// lookAround lists what a cluster could leave on a machine, by kind, without
// what belongs to BuildKit and its bridge, to compilers, and to the temporary
// folders of other tests: all of those may come and go meanwhile.
func lookAround(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for kind, script := range map[string]string{
		"mounts":    `awk '{print $5}' /proc/self/mountinfo | grep -v buildkit | grep -v slipbk | grep -v /Test | sort`,
		"addresses": `ip -o -4 address show | awk '{print $2, $4}' | grep -v slipbk | sort`,
		"links":     `ip -o link show | grep -v slipbk | awk '{print $2}' | sort`,
		"routes":    `ip -4 route show table all | grep -v slipbk | sort`,
		// iptables-nft keeps its built-in chains once it made them.
		"firewall":   `(iptables-save; ip6tables-save) 2>/dev/null | grep -E '^(-A|:)' | grep -vE '^:(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) ACCEPT' | grep -vi slipbk | grep -v 10.99. | sed 's/ \[.*//'; true`,
		"processes":  `ps -eo args --no-headers | grep -E 'etcd|containerd|kube|coredns|/pause|httpd' | grep -vE 'grep|defunct|buildkit|go |slipway-cluster |\.test|/Test|/pkg/tool/|/compile|/link|/vet'; true`,
		"listeners":  `ss -ltunH | awk '{print $1, $5}' | grep -E '10\.254\.|:2[12][0-9]{3}$' | sort; true`,
		"namespaces": `ls /run/netns 2>/dev/null; true`,
		"groups":     `find /sys/fs/cgroup -type d -name 'slipway-*' -o -type d -name 'kubepods*' | sort`,
		"folders": `ls -d /var/lib/cni/*/slipway-e2e* /var/lib/kubelet /var/lib/containerd /run/containerd /opt/cni /opt/containerd ` +
			`/etc/cni /var/log/pods /var/log/containers /usr/libexec/kubernetes /run/slipway-cluster* ` +
			`/var/lib/slipway-cluster /etc/kubernetes $HOME/.kube 2>/dev/null; true`,
		"sysctls": `cd /proc/sys; head -qn1 vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops ` +
			`kernel/keys/root_maxkeys kernel/keys/root_maxbytes net/ipv4/conf/all/route_localnet; ls -d /sys/class/net/*/bridge >/dev/null 2>&1 || cat net/ipv4/ip_forward`,
	} {
		var stderr bytes.Buffer
		cmd := exec.Command("sh", "-c", script)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("list %s: %v\n%s", kind, err, &stderr)
		}
		found[kind] = string(out)
	}
	return found
}

// compare fails the test for everything that is different. An empty folder of somebody else's may go, and
// so may what a cluster that was killed had left.
func compare(t *testing.T, before, after map[string]string) {
	t.Helper()
	for kind := range before {
		if kind == "folders" || kind == "groups" {
			for _, path := range strings.Fields(after[kind]) {
				if !strings.Contains(before[kind], path+"\n") || strings.Contains(path, "/slipway-e2e") {
					t.Errorf("%s is left behind", path)
				}
			}
			continue
		}
		if before[kind] != after[kind] {
			t.Errorf("%s before:\n%s\nand after:\n%s", kind, before[kind], after[kind])
		}
	}
}
