package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	hookRate     = 200 // per second
	hookSeconds  = 20
	hookBudget   = 50 // ms, of the 99th percentile
	hookBranches = 50
	hookDrain    = 3 * time.Minute // for everything to be worked off afterwards
)

// measureWebhooks has a forge move branches and tell of each move, 200 times a second, to a server that
// works them off meanwhile. Each answer is timed; in the end each branch must have been built where the
// forge has it.
func measureWebhooks(ctx context.Context, w *world) (_ []row, err error) {
	server, err := slipwaytest.StartServer(ctx, w.bin.Slipway, filepath.Join(w.dir, "webhooks"), slipwaytest.ServerOptions{Args: []string{"--buildkit", "unix://" + filepath.Join(w.dir, "none.sock")}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	admin, _, err := signIn(ctx, server)
	if err != nil {
		return nil, err
	}
	n := w.o.times(hookRate * hookSeconds)
	f, err := newHookForge(ctx, filepath.Join(w.dir, "forge"), n)
	if err != nil {
		return nil, err
	}
	defer f.close()
	made, err := admin.CreateConnected(ctx, slipway.Project{Name: project, GitURL: f.url + "/acme/" + project + ".git"}, slipway.ConnectRequest{Forge: slipway.Gitea, Token: "of-the-bench"})
	if err != nil || made.Paste != "" {
		return nil, errors.Join(err, errors.New(made.Problem))
	}
	times, plain, refused, err := f.storm(ctx, server.URL(), made.Project.HookURL, n)
	if err != nil {
		return nil, err
	}
	ended := time.Now()
	lost, runs, err := f.lost(ctx, admin)
	if err != nil {
		return nil, err
	}
	drained := time.Since(ended)
	p99 := times.percentile(0.99)
	w.note("How webhooks are measured", `A stand-in of a forge (Gitea's API from memory, a bare repository behind git http-backend) moves %d branches in turn,
%d times a second, %d times in all, and sends a signed webhook for each move, each on its own as it comes due, however
long earlier ones take. Forge, git and server share the machine. An answer counts when its status is 202: the delivery
is durable then. Meanwhile the server fetches, plans a run for each move that it finds (the repository has no service),
and sets statuses. Beside every tenth webhook goes a request for /healthz, which shows what the machine alone
costs. None is lost if all are answered with 202 and, in the end, nothing waits and each branch has a run of
the commit that the forge has it at. Moves between two fetches are one push: %d webhooks became %d runs, each planned
once.`, hookBranches, hookRate, n, n, runs)
	return []row{
		{what: fmt.Sprintf("Webhooks: answer at %d per second, 99th percentile", hookRate), figure: fmt.Sprintf("p50 %s ms, p95 %s ms, worst %s ms, n=%d", number(times.p50()), number(times.percentile(0.95)), number(times.percentile(1)), len(times.values)),
			reference: fmt.Sprintf("p99 %s ms for /healthz meanwhile", number(plain.percentile(0.99))), result: number(p99) + " ms", budget: fmt.Sprintf("≤ %d ms", hookBudget), verdict: judge(p99, hookBudget)},
		{what: "… refused, or lost in the end", figure: fmt.Sprintf("%d refused, %d lost", refused, lost), result: fmt.Sprint(refused + lost), budget: "0", verdict: judge(float64(refused+lost), 0)},
		{what: "… until all is worked off, after the last one", figure: fmt.Sprintf("%.1f s for %d runs", drained.Seconds(), runs)},
	}, nil
}

// storm moves a branch and tells of it, at the rate, and returns how long each answer took, in ms, beside
// those of requests that need nothing but the processor.
func (f *hookForge) storm(ctx context.Context, server, address string, n int) (times, plain sample, refused int, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	times.unit, plain.unit = "ms", "ms"
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	tick := time.NewTicker(time.Second / hookRate)
	defer tick.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			return times, plain, refused, context.Cause(ctx)
		case <-tick.C:
		}
		body, err := f.move(i)
		if err != nil {
			return times, plain, refused, err
		}
		if i%10 == 0 {
			all.Go(func() {
				began := time.Now()
				if resp, err := client.Get(server + "/healthz"); err == nil {
					resp.Body.Close()
				}
				took := time.Since(began)
				mu.Lock()
				defer mu.Unlock()
				plain.values = append(plain.values, float64(took.Microseconds())/1000)
			})
		}
		all.Go(func() {
			began := time.Now()
			ok := f.send(ctx, client, address, fmt.Sprint("delivery-", i), body)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			times.values = append(times.values, float64(took.Microseconds())/1000)
			if !ok {
				refused++
			}
		})
	}
	all.Wait()
	return times, plain, refused, nil
}

func (f *hookForge) send(ctx context.Context, client *http.Client, address, id string, body []byte) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(string(body)))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Gitea-Event", "push")
	r.Header.Set("X-Gitea-Delivery", id)
	r.Header.Set("X-Gitea-Signature", f.sign(body))
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // the status says it
	return resp.StatusCode == http.StatusAccepted
}

// lost waits until the server has worked everything off, and counts the branches without a run of their
// last commit, and the runs.
func (f *hookForge) lost(ctx context.Context, admin *client.Client) (lost, runs int, err error) {
	ctx, cancel := context.WithTimeout(ctx, hookDrain)
	defer cancel()
	for {
		lost = 0
		for branch, commit := range f.heads {
			found, err := admin.Runs(ctx, slipway.RunFilter{Project: project, Ref: "refs/heads/" + branch, Commit: commit, Limit: 1})
			if err != nil {
				return lost, runs, err
			}
			if len(found) == 0 || !found[0].State.Final() {
				lost++
			}
		}
		d, err := admin.Project(ctx, project)
		if err != nil {
			return lost, runs, err
		}
		newest, err := admin.Runs(ctx, slipway.RunFilter{Project: project, Limit: 1})
		if err != nil || len(newest) == 0 {
			return lost, runs, err
		}
		runs = int(newest[0].ID)
		if lost == 0 && d.Health.Waiting == 0 {
			return 0, runs, nil
		}
		select {
		case <-ctx.Done():
			return lost + d.Health.Waiting, runs, nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
