package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const pushBudget = 150 // ms

// measurePush pushes the same commits of one line to a project and to a bare repository behind git
// http-backend, in turns.
func measurePush(ctx context.Context, w *world) ([]row, error) {
	s, err := w.server(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := git(ctx, s.repo, "checkout", "--quiet", "-B", "feature/push", "main"); err != nil {
		return nil, err
	}
	stop, err := servePlain(ctx, s.repo, filepath.Join(w.dir, "plain"))
	if err != nil {
		return nil, err
	}
	defer stop()
	var p pushes
	for i := range w.o.times(30) + 2 {
		if err := s.commit(ctx, "NOTES.md", fmt.Sprintf("line %d", i)); err != nil {
			return nil, err
		}
		if i < 2 { // the first make the branches and fill the caches
			if err := new(pushes).pair(ctx, s, i); err != nil {
				return nil, err
			}
			continue
		}
		if err := p.pair(ctx, s, i); err != nil {
			return nil, err
		}
	}
	started := millis(p.started).minus(millis(p.plain))
	excess := limitRow("Push: to the first step started, beyond the same push to `git http-backend`", started, sample{}, pushBudget)
	excess.figure = fmt.Sprintf("%s from begin of push to step started", millis(p.started))
	excess.reference = fmt.Sprintf("%s for the plain push", millis(p.plain))
	excess.result = "+" + started.String()
	rows := []row{
		excess,
		limitRow("… of it, from push accepted (its run made) to step started", millis(p.queued), sample{}, 0),
		ratioRow("… until `git push` is back, with what runs told to the person", millis(p.slipway), millis(p.plain), 0),
	}
	w.note("How a push is measured", `One commit of one line on a feature branch of the sample repository is pushed to Slipway, with a person's token in
the remote's URL, and to a bare repository behind git's own http-backend (Go's net/http/cgi, no users). What is
compared: the time from the begin of the client's git push until the first step of the run that it made has
started (the step's own startedAt; the machine has one clock), minus the wall time of the plain push of the same
commit. The difference thus holds everything that Slipway adds: authentication, the hook, the record of the push
before the ref moves, the run with its first step in one transaction, and the queue. The step often starts before
git push is back; what the push prints (which services run, and why) is worked out meanwhile, and is in the third
row. No service runs in these runs, so that builds do not disturb the next push.`)
	return rows, nil
}

// pushes are the times of pushes of the same commits.
type pushes struct {
	slipway []time.Duration // git push to Slipway
	plain   []time.Duration // git push to http-backend
	started []time.Duration // begin of the push to Slipway until the first step started
	queued  []time.Duration // run made until the first step started
}

// pair pushes to both, in the one order or the other, and waits until the run has ended.
func (p *pushes) pair(ctx context.Context, s *site, i int) error {
	if i%2 == 0 {
		return errors.Join(p.toPlain(ctx, s), p.toSlipway(ctx, s))
	}
	return errors.Join(p.toSlipway(ctx, s), p.toPlain(ctx, s))
}

func (p *pushes) toPlain(ctx context.Context, s *site) error {
	began := time.Now()
	_, err := git(ctx, s.repo, "push", "--quiet", "plain", "HEAD")
	p.plain = append(p.plain, time.Since(began))
	return err
}

func (p *pushes) toSlipway(ctx context.Context, s *site) error {
	began := time.Now()
	if _, err := git(ctx, s.repo, "push", "--quiet", "origin", "HEAD"); err != nil {
		return err
	}
	p.slipway = append(p.slipway, time.Since(began))
	runs, err := s.admin.Runs(ctx, slipway.RunFilter{Project: project, Limit: 1})
	if err != nil || len(runs) == 0 {
		return errors.Join(err, errors.New("the push made no run"))
	}
	d, err := s.ended(ctx, runs[0].ID)
	if err != nil {
		return err
	}
	first := d.Steps[0].StartedAt
	p.started = append(p.started, first.Sub(began))
	p.queued = append(p.queued, first.Sub(d.Run.CreatedAt))
	return nil
}

// servePlain serves a bare repository with git http-backend, adds it to the clone as remote plain, and
// pushes main to it.
func servePlain(ctx context.Context, clone, dir string) (stop func(), err error) {
	bare := filepath.Join(dir, project+".git")
	if _, err := git(ctx, "", "init", "--quiet", "--bare", bare); err != nil {
		return nil, err
	}
	if _, err := git(ctx, bare, "config", "http.receivepack", "true"); err != nil {
		return nil, err
	}
	path, err := git(ctx, "", "--exec-path")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(path), "git-http-backend"), Root: "/git",
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}}
	go server.Serve(listener) //nolint:errcheck // it ends with Close
	stop = func() { server.Close() }
	for _, args := range [][]string{
		{"remote", "add", "plain", "http://" + listener.Addr().String() + "/git/" + project + ".git"},
		{"push", "--quiet", "plain", "main"},
	} {
		if _, err := git(ctx, clone, args...); err != nil {
			stop()
			return nil, err
		}
	}
	return stop, nil
}
