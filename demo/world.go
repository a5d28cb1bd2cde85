package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	clusterName  = "demo"
	registryHost = "registry.slipway.internal"
	project      = "shop"
)

// world is what the story is played on.
type world struct {
	dir        string
	bin        slipwaytest.Binaries
	url        string
	kubeconfig string
	admin      *client.Client
	tokens     map[string]string // by user
}

// env is the environment in which a user runs commands.
func (w *world) env(user string) []string {
	return []string{"SLIPWAY_CONFIG=" + filepath.Join(w.dir, "config-"+user+".json"), "SLIPWAY_PROJECT=" + project,
		"PATH=" + filepath.Dir(w.bin.Slipway) + ":" + os.Getenv("PATH")}
}

func prepare(ctx context.Context, say *narrator, dir string) (*world, error) {
	w := &world{dir: dir, tokens: map[string]string{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	say.step("preparing this machine")
	if err := slipwaytest.InstallPackages(ctx, say.detail); err != nil {
		return nil, err
	}
	var err error
	if w.bin, err = slipwaytest.Build(ctx, say.detail); err != nil {
		return nil, err
	}
	address, err := w.address()
	if err != nil {
		return nil, err
	}
	w.url = "http://" + address
	say.step("starting a Kubernetes cluster")
	if err := w.cluster(ctx, say); err != nil {
		return nil, err
	}
	say.step("starting slipway serve")
	if err := w.server(ctx, say, address); err != nil {
		return nil, err
	}
	say.step("base images for the mirror: nothing is pulled from outside")
	err = slipwaytest.PushBases(ctx, w.url, "admin", w.tokens["admin"], say.detail)
	return w, err
}

// address is where the server listened before, else the default port, else a free one.
func (w *world) address() (string, error) {
	file := filepath.Join(w.dir, "address")
	if b, err := os.ReadFile(file); err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	address := "127.0.0.1:8080"
	if !slipwaytest.Free(address) {
		var err error
		if address, err = slipwaytest.FreeAddress(); err != nil {
			return "", err
		}
	}
	return address, os.WriteFile(file, []byte(address), 0o600)
}

func (w *world) cluster(ctx context.Context, say *narrator) error {
	if k := os.Getenv("KUBECONFIG"); k != "" {
		say.detail("KUBECONFIG is set: using that cluster (it must reach the registry at %s; see docs/howto/own-cluster.md)", w.url)
		w.kubeconfig = k
		return nil
	}
	dir := filepath.Join(w.dir, "cluster")
	if err := say.command(ctx, nil, w.bin.Cluster, "up", "--name", clusterName, "--dir", dir, "--registry", registryHost+"="+w.url); err != nil {
		return err
	}
	out, err := quiet(ctx, "", nil, w.bin.Cluster, "kubeconfig", "--name", clusterName, "--dir", dir)
	w.kubeconfig = strings.TrimSpace(out)
	return err
}

func (w *world) server(ctx context.Context, say *narrator, address string) error {
	data := filepath.Join(w.dir, "data")
	link := ""
	if slipwaytest.Answers(ctx, w.url+"/readyz") {
		say.detail("it runs already at %s", w.url)
	} else {
		database, err := w.advisories(ctx)
		if err != nil {
			return err
		}
		args := []string{"--registry-mirror", "docker.io=mirror/docker.io", "--registry-mirror", "gcr.io=mirror/gcr.io", "--registry-host", registryHost, "--scan-database", database}
		s, err := slipwaytest.StartServer(ctx, w.bin.Slipway, data, slipwaytest.ServerOptions{Address: address, Args: args, Detach: true})
		if err != nil {
			return err
		}
		link = s.Link
		if err := os.WriteFile(filepath.Join(w.dir, "pid"), []byte(strconv.Itoa(s.PID())), 0o600); err != nil {
			return err
		}
	}
	if link != "" {
		if err := say.command(ctx, w.env("admin"), w.bin.Slipway, "login", link); err != nil {
			return err
		}
	}
	return w.signIn("admin")
}

// advisory is what the demo's vulnerability database knows: no feed is asked, so that it needs no network.
const advisory = `{"id": "DEMO-2026-0001", "package": "stdlib", "ecosystem": "go-module", "severity": "medium",
  "affected": "< 99.0.0", "fixed": "99.0.0", "title": "made up for the demo, so that the scan finds something in every Go program"}`

// advisories makes a vulnerability database.
func (w *world) advisories(ctx context.Context) (string, error) {
	database := filepath.Join(w.dir, "vulnerabilities.tar.zst")
	err := slipwaytest.VulnerabilityDatabase(ctx, w.bin.Scanner, database, time.Now(), advisory)
	return database, err
}

// signIn reads the token that `slipway login` saved.
func (w *world) signIn(user string) error {
	b, err := os.ReadFile(filepath.Join(w.dir, "config-"+user+".json"))
	if err != nil {
		return fmt.Errorf("read the sign-in of %s: %w", user, err)
	}
	var saved struct{ Token string }
	if err := json.Unmarshal(b, &saved); err != nil {
		return err
	}
	w.tokens[user] = saved.Token
	if user == "admin" {
		w.admin, err = client.New(w.url, saved.Token)
	}
	return err
}

// stopServer asks the demo's server to end and waits until it has.
func stopServer(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || strings.TrimSpace(string(name)) != "slipway" {
		return nil // it ended, and its number may be another program's by now
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return slipwaytest.Await(ctx, 50*time.Millisecond, func() (bool, error) {
		return syscall.Kill(pid, 0) != nil, nil
	})
}
