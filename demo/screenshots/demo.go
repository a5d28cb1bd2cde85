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
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// The demo's project and the service that its story releases.
const (
	project = "shop"
	service = "delivery"
)

const (
	linkTimeout    = 10 * time.Second
	releaseTimeout = 10 * time.Minute
)

// demo is a demo that is up.
type demo struct {
	dir   string
	admin *client.Client
}

func openDemo() (demo, error) {
	d := demo{dir: os.Getenv("SLIPWAY_DEMO")}
	if d.dir == "" {
		root, err := slipwaytest.Root()
		if err != nil {
			return d, err
		}
		d.dir = filepath.Join(root, ".demo")
	}
	address, err := os.ReadFile(filepath.Join(d.dir, "address"))
	if err != nil {
		return d, err
	}
	saved, err := os.ReadFile(filepath.Join(d.dir, "config-admin.json"))
	if err != nil {
		return d, err
	}
	var config struct{ Token string }
	if err := json.Unmarshal(saved, &config); err != nil {
		return d, err
	}
	if config.Token == "" {
		return d, errors.New("nobody is signed in as admin")
	}
	d.admin, err = client.New("http://"+strings.TrimSpace(string(address)), config.Token)
	return d, err
}

// link makes a one-time sign-in link of the demo's admin.
func (d demo) link(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	return d.admin.CreateLink(ctx, "admin")
}

// release pushes the next version of the demo's service and waits until it waits for a person, unless
// a run does already.
func (d demo) release(ctx context.Context) error {
	waiting, err := d.admin.Runs(ctx, slipway.RunFilter{Project: project, State: slipway.RunWaiting, Limit: 1})
	if err != nil || len(waiting) > 0 {
		return err
	}
	version, err := d.next(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("releasing %s %s, so that there is something to approve\n", service, version)
	push := exec.CommandContext(ctx, "git", "-C", filepath.Join(d.dir, project), "push", "--quiet", "origin", "HEAD:refs/heads/release/"+service+"/"+version)
	if out, err := push.CombinedOutput(); err != nil {
		return fmt.Errorf("push the release: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	return slipwaytest.Await(ctx, time.Second, func() (bool, error) {
		runs, err := d.admin.Runs(ctx, slipway.RunFilter{Project: project, Ref: "refs/heads/release/" + service + "/" + version, Limit: 1})
		switch {
		case err != nil, len(runs) == 0:
			return false, err
		case runs[0].State.Final():
			return false, fmt.Errorf("run #%d is %s: %s", runs[0].ID, runs[0].State, runs[0].Reason)
		}
		return runs[0].State == slipway.RunWaiting, nil
	})
}

// next is the minor version after the newest release.
func (d demo) next(ctx context.Context) (string, error) {
	releases, err := d.admin.Releases(ctx, slipway.ReleaseFilter{Project: project, Service: service, Limit: slipway.MostReleases})
	if err != nil {
		return "", err
	}
	newest := slipway.Version{}
	for _, r := range releases {
		if v, err := slipway.ParseVersion(r.Version); err == nil && v.Compare(newest) > 0 {
			newest = v
		}
	}
	return fmt.Sprintf("v%d.%d.0", max(1, newest.Major), newest.Minor+1), nil
}
