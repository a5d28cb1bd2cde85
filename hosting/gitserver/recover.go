package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Recover cleans up after a server that was killed: it ends what is left of its pushes, and removes
// their pipes, the locks on refs and the received objects that no push owns any more. Call it at
// start, before anything else uses the repositories; then compare recorded pushes with the refs.
func (s *Server) Recover(ctx context.Context) error {
	entries, err := os.ReadDir(s.pushes)
	if err != nil {
		return fmt.Errorf("recover pushes: %w", err)
	}
	repositories := map[string]bool{}
	for _, e := range entries {
		dir := filepath.Join(s.pushes, e.Name())
		if err := bury(ctx, dir); err != nil {
			return fmt.Errorf("recover push %s: %w", e.Name(), err)
		}
		if name, err := os.ReadFile(filepath.Join(dir, "repository")); err == nil {
			repositories[string(name)] = true
		}
	}
	for dir := range repositories {
		if err := removeLeftovers(dir); err != nil {
			return fmt.Errorf("recover %s: %w", dir, err)
		}
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(s.pushes, e.Name())); err != nil {
			return fmt.Errorf("recover pushes: %w", err)
		}
	}
	return nil
}

// bury waits until no process of a push is left: first its hooks are refused, then what does not end
// is terminated, then killed.
func bury(ctx context.Context, dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		refuseHooks(dir)
		switch n {
		case 20:
			signalGroup(dir, syscall.SIGTERM)
		case 100:
			signalGroup(dir, syscall.SIGKILL)
		case 200:
			return errors.New("processes of a push by an earlier server do not end")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// refuseHooks lets hooks that wait for a dead server's pipes see their end.
func refuseHooks(dir string) {
	pipes, _ := filepath.Glob(filepath.Join(dir, "*.*"))
	for _, name := range pipes {
		if f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0); err == nil {
			_ = f.Close()
		}
	}
}

// signalGroup signals the processes of a push. The lock is held, so at least one of them lives and
// the number of the group is still theirs.
func signalGroup(dir string, sig syscall.Signal) {
	data, err := os.ReadFile(filepath.Join(dir, "group"))
	if err != nil {
		return
	}
	if group, err := strconv.Atoi(string(data)); err == nil && group > 1 {
		_ = syscall.Kill(-group, sig)
	}
}

// removeLeftovers removes locks on refs and received objects, none of which has an owner.
func removeLeftovers(dir string) error {
	var errs []error
	for _, name := range []string{"HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	walk := filepath.WalkDir(filepath.Join(dir, "refs"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(name, ".lock") {
			err = os.Remove(name)
		}
		return err
	})
	if !errors.Is(walk, fs.ErrNotExist) {
		errs = append(errs, walk)
	}
	received, err := filepath.Glob(filepath.Join(dir, "objects", "tmp_objdir-incoming-*"))
	errs = append(errs, err)
	for _, name := range received {
		errs = append(errs, os.RemoveAll(name))
	}
	return errors.Join(errs...)
}
