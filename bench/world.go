package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	project      = "bench"
	clusterName  = "bench"
	registryHost = "bench.slipway.internal"
)

// world is what is measured on. What measurements need is started when the first of them asks for it.
type world struct {
	o     options
	dir   string
	bin   slipwaytest.Binaries
	began time.Time
	notes []note

	kube *cluster
	site *site
}

// cluster is a Kubernetes.
type cluster struct {
	kubeconfig []byte
	folder     string // of a slipway-cluster; "" for any other
	name       string
	own        bool // started here
}

func openWorld(ctx context.Context, o options) (*world, error) {
	w := &world{o: o, dir: o.dir, began: time.Now()}
	for _, name := range []string{"SLIPWAY_CONFIG", "SLIPWAY_SERVER", "SLIPWAY_TOKEN", "SLIPWAY_PROJECT", "BUILDKIT_HOST"} {
		os.Unsetenv(name) //nolint:errcheck // only an empty name is refused
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(w.dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another bench uses %s", w.dir)
	}
	if err := slipwaytest.InstallPackages(ctx, w.say); err != nil {
		return nil, err
	}
	if w.bin, err = slipwaytest.Build(ctx, w.say); err != nil {
		return nil, err
	}
	return w, w.clean(ctx)
}

// say tells people who wait what happens, and when.
func (w *world) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench %6.1fs  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// note adds an explanation to the report.
func (w *world) note(title, format string, args ...any) {
	w.notes = append(w.notes, note{title, fmt.Sprintf(format, args...)})
}

// close takes everything away again.
func (w *world) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var problems []error
	if w.kube != nil {
		problems = append(problems, w.leaveCluster(ctx))
	}
	if w.site != nil {
		problems = append(problems, w.site.server.Stop())
	}
	return errors.Join(append(problems, w.clean(ctx))...)
}

// clean removes what is in the folder, also what a killed run left.
func (w *world) clean(ctx context.Context) error {
	var problems []error
	folders, err := filepath.Glob(filepath.Join(w.dir, "*", "lock"))
	problems = append(problems, err)
	for _, lock := range folders {
		_, err := command(ctx, "", w.bin.Slipway, "cleanup", "--data", filepath.Dir(lock))
		problems = append(problems, err)
	}
	own := filepath.Join(w.dir, "cluster")
	if _, err := os.Stat(own); err == nil {
		_, err := command(ctx, "", w.bin.Cluster, "--name", clusterName, "--dir", own, "down")
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return os.RemoveAll(w.dir)
}

// cluster is $KUBECONFIG's, else that of a slipway-cluster which runs, else one of its own.
func (w *world) cluster(ctx context.Context) (*cluster, error) {
	if w.kube != nil {
		return w.kube, nil
	}
	file := os.Getenv("KUBECONFIG")
	found := cluster{}
	if file == "" {
		for _, folder := range w.clusters() {
			name := clusterOf(folder)
			if _, err := command(ctx, "", w.bin.Cluster, "--name", name, "--dir", folder, "status"); err == nil {
				file = filepath.Join(folder, "kubeconfig")
				break
			}
		}
	}
	if file == "" {
		folder := filepath.Join(w.dir, "cluster")
		w.say("starting a cluster (the first on a machine builds Kubernetes, which takes 15 minutes)")
		if _, err := command(ctx, "", w.bin.Cluster, "--name", clusterName, "--dir", folder, "up"); err != nil {
			return nil, err
		}
		file, found.own = filepath.Join(folder, "kubeconfig"), true
	}
	if name := clusterOf(filepath.Dir(file)); name != "" {
		found.folder, found.name = filepath.Dir(file), name
	}
	w.say("the cluster is that of %s", file)
	var err error
	if found.kubeconfig, err = flat(file); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	w.kube = &found
	return w.kube, nil
}

// clusters are folders in which a slipway-cluster of this machine may be.
func (w *world) clusters() []string {
	var out []string
	for _, pattern := range []string{os.Getenv("SLIPWAY_CLUSTER_DIR"), filepath.Join(filepath.Dir(filepath.Dir(w.bin.Cluster)), ".demo", "cluster"), "/var/lib/slipway-cluster/*"} {
		if found, err := filepath.Glob(pattern); err == nil {
			out = append(out, found...)
		}
	}
	return out
}

// clusterOf is the name of the slipway-cluster in a folder, "" when there is none.
func clusterOf(folder string) string {
	b, err := os.ReadFile(filepath.Join(folder, "cluster.json"))
	var saved struct{ Name string }
	if err != nil || json.Unmarshal(b, &saved) != nil {
		return ""
	}
	return saved.Name
}

// flat is the current context of a kubeconfig, with the files that it refers to in it.
func flat(file string) ([]byte, error) {
	config, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, err
	}
	if err := clientcmdapi.MinifyConfig(config); err != nil {
		return nil, err
	}
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		return nil, err
	}
	return clientcmd.Write(*config)
}

// registry has a slipway-cluster pull the images of the host from a server; other clusters do without:
// no pod has to run for what is measured.
func (k *cluster) registry(ctx context.Context, bin slipwaytest.Binaries, args ...string) error {
	if k.folder == "" {
		return nil
	}
	_, err := command(ctx, "", bin.Cluster, append([]string{"--name", k.name, "--dir", k.folder, "registry"}, args...)...)
	return err
}

// leaveCluster removes the namespaces that were made, or the cluster.
func (w *world) leaveCluster(ctx context.Context) error {
	if w.kube.own || w.kube.folder != "" && clusterOf(w.kube.folder) == "" {
		return nil // it goes with everything in the folder, or was taken down meanwhile
	}
	return errors.Join(w.removeNamespaces(ctx), w.kube.registry(ctx, w.bin, "--remove", registryHost))
}

// site is a server with a project, in which the admin works.
type site struct {
	server *slipwaytest.Server
	admin  *client.Client
	token  string
	repo   string // the admin's clone of the sample repository
	after  int64  // the newest event seen
}

// server starts the server that most measurements share, with the sample repository in it.
func (w *world) server(ctx context.Context) (_ *site, err error) {
	if w.site != nil {
		return w.site, nil
	}
	w.say("starting a server, with base images in its mirror")
	address, err := slipwaytest.FreeAddress()
	if err != nil {
		return nil, err
	}
	server, err := slipwaytest.StartServer(ctx, w.bin.Slipway, filepath.Join(w.dir, "data"), slipwaytest.ServerOptions{Address: address, Args: []string{
		"--registry-host", registryHost, "--registry-mirror", "docker.io=mirror/docker.io", "--registry-mirror", "gcr.io=mirror/gcr.io"}})
	if err != nil {
		return nil, err
	}
	w.site = &site{server: server, repo: filepath.Join(w.dir, "repo")}
	defer func() {
		if err != nil { // the next measurement must not find half of it
			err = errors.Join(err, server.Stop(), w.clean(context.WithoutCancel(ctx)))
			w.site = nil
		}
	}()
	if w.site.admin, w.site.token, err = signIn(ctx, server); err != nil {
		return nil, err
	}
	if _, err := w.site.admin.CreateProject(ctx, slipway.Project{Name: project}); err != nil {
		return nil, err
	}
	if err := slipwaytest.PushBases(ctx, server.URL(), "admin", w.site.token, w.say); err != nil {
		return nil, err
	}
	if err := w.site.clone(ctx); err != nil {
		return nil, err
	}
	w.say("the first push: everything is built, tested and published once")
	return w.site, w.site.build(ctx)
}

// build pushes the default branch for the first time. There is no cluster yet: its run ends where it would
// deploy.
func (s *site) build(ctx context.Context) error {
	run, err := s.push(ctx, "main")
	if err != nil {
		return err
	}
	d, err := s.ended(ctx, run.ID)
	if stepOf(d, slipway.KindPublish).State == slipway.StepSucceeded {
		return nil
	}
	return errors.Join(err, errors.New("the first push published nothing"))
}

// connect registers the cluster, and has it pull from the server.
func (w *world) connect(ctx context.Context) error {
	k, err := w.cluster(ctx)
	if err != nil {
		return err
	}
	if _, err := w.site.admin.AddCluster(ctx, "default", "", k.kubeconfig); err != nil {
		return err
	}
	return k.registry(ctx, w.bin, registryHost+"="+w.site.server.URL())
}

func signIn(ctx context.Context, server *slipwaytest.Server) (*client.Client, string, error) {
	_, code, ok := strings.Cut(server.Link, "/signin/")
	if !ok {
		return nil, "", fmt.Errorf("the first start printed no sign-in link:\n%s", server.LogTail(20))
	}
	anyone, err := client.New(server.URL(), "")
	if err != nil {
		return nil, "", err
	}
	_, token, err := anyone.Login(ctx, code, "bench")
	if err != nil {
		return nil, "", fmt.Errorf("sign in: %w", err)
	}
	admin, err := client.New(server.URL(), token)
	return admin, token, err
}

// clone makes a repository of one of the samples; the others would only be built besides.
func (s *site) clone(ctx context.Context) error {
	root, err := slipwaytest.Root()
	if err != nil {
		return err
	}
	if err := os.CopyFS(s.repo, os.DirFS(filepath.Join(root, "examples", "shop"))); err != nil {
		return err
	}
	for _, other := range []string{"src/web", "src/orders"} {
		if err := os.RemoveAll(filepath.Join(s.repo, other)); err != nil {
			return err
		}
	}
	remote := strings.Replace(s.server.URL(), "http://", "http://admin:"+s.token+"@", 1) + "/git/" + project + ".git"
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"}, {"config", "user.name", "Bench"}, {"config", "user.email", "bench@example.com"},
		{"config", "gc.auto", "0"}, {"remote", "add", "origin", remote}, {"add", "."}, {"commit", "--quiet", "-m", "The sample repository"},
	} {
		if _, err := git(ctx, s.repo, args...); err != nil {
			return err
		}
	}
	return nil
}

// commit commits a line added to a file, or an empty commit for no file.
func (s *site) commit(ctx context.Context, file, line string) error {
	if file != "" {
		f, err := os.OpenFile(filepath.Join(s.repo, file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(f, line)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	_, err := git(ctx, s.repo, "commit", "--quiet", "--all", "--allow-empty", "-m", line)
	return err
}

// push pushes and returns the run that it made.
func (s *site) push(ctx context.Context, refspec string) (slipway.Run, error) {
	if _, err := git(ctx, s.repo, "push", "--quiet", "origin", refspec); err != nil {
		return slipway.Run{}, err
	}
	runs, err := s.admin.Runs(ctx, slipway.RunFilter{Project: project, Limit: 1})
	if err != nil || len(runs) == 0 {
		return slipway.Run{}, errors.Join(err, errors.New("the push made no run"))
	}
	return runs[0], nil
}

var errSeen = errors.New("seen")

// ended waits for the end of a run, by its events, and wants it to have succeeded.
func (s *site) ended(ctx context.Context, run int64) (slipway.RunDetail, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	err := s.admin.Events(ctx, project, s.after, func(e slipway.Event) error {
		s.after = e.ID
		state, ok := strings.CutPrefix(e.Kind, "run.")
		if e.RunID == run && ok && slipway.RunState(state).Final() {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		return slipway.RunDetail{}, fmt.Errorf("wait for run #%d: %w", run, err)
	}
	d, err := s.admin.Run(ctx, run)
	if err == nil && d.Run.State != slipway.RunSucceeded {
		err = fmt.Errorf("run #%d is %s: %s\n%s", run, d.Run.State, d.Run.Reason, s.lastWords(ctx, d))
	}
	return d, err
}

// lastWords are the last lines of the steps that did not succeed.
func (s *site) lastWords(ctx context.Context, d slipway.RunDetail) string {
	var lines []string
	for _, st := range d.Steps {
		if st.State != slipway.StepFailed && st.State != slipway.StepErrored {
			continue
		}
		err := s.admin.Log(ctx, d.Run.ID, st.Spec.Key, false, func(l slipway.LogLine) error {
			lines = append(lines, "  "+st.Spec.Key+": "+l.Text)
			return nil
		})
		if err != nil {
			lines = append(lines, "  "+st.Spec.Key+": "+err.Error())
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	return command(ctx, dir, "git", args...)
}

// command runs a program and returns what it printed.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
