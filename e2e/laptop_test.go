package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// laptop is a developer's machine: a clone, a registry that the cluster knows, and a BuildKit of its own.
type laptop struct {
	*repo
	cache string
	args  []string // of slipway run
}

const (
	laptopHost  = "laptop.e2e.slipway.internal"
	laptopCache = place + "/laptop"
)

// cleanLaptop takes away the laptop's BuildKit and what it has cached.
func cleanLaptop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err := buildkit.Remove(ctx, buildkit.Options{Dir: filepath.Join(laptopCache, "slipway", "run", "buildkit")}, true)
	if err != nil {
		return err
	}
	return os.RemoveAll(laptopCache)
}

func newLaptop(t *testing.T) *laptop {
	t.Helper()
	store := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(store.Close)
	if err := slipwaytest.Bases(t.Context(), slipwaytest.BaseOptions{Address: store.URL, Only: []string{slipwaytest.Busybox}}); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t.Context(), "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "registry", laptopHost+"="+store.URL); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.LoadFromFile(world.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	tools, err := slipwaytest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(laptopCache, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cleanLaptop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	l := &laptop{repo: &repo{t: t, dir: t.TempDir()}, cache: laptopCache, args: []string{
		"run", "--project", "laptop", "--output", "json", "--yes", "--tools", filepath.Join(tools, "tools"), mirrorArg, "docker.io=" + store.URL + "/mirror/docker.io",
		"--kubeconfig", world.Kubeconfig, "--context", config.CurrentContext, "--registry", laptopHost + "/team=" + store.URL,
	}}
	l.git("init", "--quiet", "--initial-branch", "main")
	l.git("config", "user.name", "Ada")
	l.git("config", "user.email", "ada@example.com")
	return l
}

// laptopRun is what slipway run says as JSON.
type laptopRun struct {
	State slipway.RunState `json:"state"`
	Steps []struct {
		Key         string               `json:"key"`
		State       slipway.StepState    `json:"state"`
		Reason      string               `json:"reason"`
		Deployments []slipway.Deployment `json:"deployments"`
	} `json:"steps"`
}

// run runs slipway run, wants its exit status, and returns what it said.
func (l *laptop) run(status int, args ...string) (said laptopRun, told string) {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), world.Binaries.Slipway, append(append([]string{}, l.args...), args...)...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+l.cache)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		l.t.Fatalf("slipway %s: %v, want exit status %d\n%s%s", strings.Join(cmd.Args[1:], " "), err, status, stdout.String(), stderr.String())
	}
	if stdout.Len() > 0 {
		if err := json.Unmarshal([]byte(stdout.String()), &said); err != nil {
			l.t.Fatalf("%v in %s", err, stdout.String())
		}
	}
	return said, stderr.String()
}

// TestLaptopDeploys deploys what is not even committed with slipway run, without a server: an ordinary Helm
// release, by digest. A version that does not pass its tests in the cluster gives way to the one before.
func TestLaptopDeploys(t *testing.T) {
	t.Parallel()
	const namespace = "laptop-development"
	l := newLaptop(t)
	l.commit("The first commit", tick().with(tree{
		"slipway.yaml": "version: 1\nenvironments:\n  - {name: development, trigger: default-branch, timeout: 5m}\n  - {name: production, production: true}\n",
	}))
	if _, told := l.run(2, "--deploy", "production"); !strings.Contains(told, "is production, so nothing is deployed there from a laptop") {
		t.Errorf("production is refused with %s", told)
	}
	l.write(tree{"tick/www/index.html": "from the laptop\n"})
	good, told := l.run(0, "--deploy", "development")
	last := good.Steps[len(good.Steps)-1]
	if last.Key != "verify/tick@development" || len(last.Deployments) != 1 || last.Deployments[0].State != slipway.Verified {
		t.Fatalf("the last step is %+v\n%s", last, told)
	}
	first := last.Deployments[0]
	kube(t).runs(t, namespace, "app=tick", first.ImageDigest)
	kube(t).says(t, namespace, "tick", "/", nil, "from the laptop")
	was := wantSettled(t, namespace, "tick")
	if !strings.HasPrefix(was.Info.Description, "slipway run: laptop-") || !strings.HasPrefix(first.Image, laptopHost+"/team/") {
		t.Errorf("helm history says %q of %s", was.Info.Description, first.Image)
	}

	l.write(tree{"tick/www/index.html": "broken\n", "tick/chart/values.yaml": tickValues(map[string]string{"failing": "true"})})
	bad, told := l.run(1, "--deploy", "development")
	states := map[string]slipway.StepState{}
	for _, s := range bad.Steps {
		states[s.Key] = s.State
	}
	if bad.State != slipway.RunFailed || states["verify/tick@development"] != slipway.StepFailed ||
		states["rollback/tick@development"] != slipway.StepSucceeded || states["verify-rollback/tick@development"] != slipway.StepSucceeded {
		t.Fatalf("a bad version ends %s: %v\n%s", bad.State, states, told)
	}
	if rel := wantSettled(t, namespace, "tick"); rel.Version != 3 || rel.Manifest != was.Manifest {
		t.Errorf("after the way back: revision %d (%s)", rel.Version, rel.Info.Description)
	}
	kube(t).runs(t, namespace, "app=tick", first.ImageDigest)
	if !strings.Contains(told, "replaces revision 1: slipway run: laptop-") {
		t.Errorf("it did not say what it replaces:\n%s", told)
	}
}
