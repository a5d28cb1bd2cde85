package slipwaytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// CosignVersion is the cosign with which tests verify what Slipway signs: the newest that the Go module proxy
// gives and the Go of this module builds.
const CosignVersion = "v3.1.3"

const cosignModule = "github.com/sigstore/cosign/v3"

// InstallCosign builds cosign from the Go module proxy into the cache folder unless it is there, and returns
// the program. It takes four minutes the first time on two cores.
func InstallCosign(ctx context.Context, say Progress) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(cache, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	program := filepath.Join(tools, "cosign-"+CosignVersion)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	m := module{path: cosignModule + "@" + CosignVersion, env: []string{"CGO_ENABLED=0"}}
	source, err := m.download(ctx, tools)
	if err != nil {
		return "", err
	}
	say("building cosign %s from source, once: about four minutes", CosignVersion)
	return program, m.build(ctx, source, program, "-ldflags", "-s -w", "./cmd/cosign")
}

// module is one of Go with a program that tests need. It is built by itself, so that none of it becomes a dependency
// of Slipway.
type module struct {
	path string   // with @ and the version
	env  []string // of the build
}

func (m module) environment() []string {
	return slices.Concat(os.Environ(), []string{"GOWORK=off", "GOFLAGS="}, m.env)
}

// download returns the folder of its source; dir is any outside of a module.
func (m module) download(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.path)
	cmd.Dir, cmd.Env = dir, m.environment()
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &got); err == nil {
		err = jsonErr
	}
	if err != nil || got.Error != "" {
		return "", fmt.Errorf("download %s: %w", m.path, errors.Join(err, errors.New(got.Error)))
	}
	return got.Dir, nil
}

// build makes the program all at once, with what else `go build` takes. Of several that build it at once, here or in other
// processes, one does; the others wait for it.
func (m module) build(ctx context.Context, source, program string, args ...string) error {
	lock, err := os.OpenFile(program+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := Await(ctx, time.Second, func() (bool, error) {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return fmt.Errorf("lock %s.lock: %w", program, err)
	}
	if _, err := os.Stat(program); err == nil {
		return nil
	}
	tmp := fmt.Sprintf("%s.%d.tmp", program, os.Getpid())
	defer func() { _ = os.Remove(tmp) }()
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-trimpath", "-o", tmp}, args...)...)
	cmd.Dir, cmd.Env = source, m.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", m.path, err, tail(out, 20))
	}
	return os.Rename(tmp, program)
}
