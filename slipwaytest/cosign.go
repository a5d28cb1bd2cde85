package slipwaytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// CosignVersion is the cosign with which tests verify what Slipway signs: the newest that the Go module proxy
// gives and the Go of this module builds.
const CosignVersion = "v3.1.3"

const cosignModule = "github.com/sigstore/cosign/v3"

// InstallCosign builds cosign from the Go module proxy into the cache folder unless it is there, and returns
// the program. It is built as the module that it is, so that none of it becomes a dependency of Slipway. It
// takes four minutes the first time on two cores.
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
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", cosignModule+"@"+CosignVersion)
	cmd.Dir, cmd.Env = tools, env
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &got); err == nil {
		err = jsonErr
	}
	if err != nil || got.Error != "" {
		return "", fmt.Errorf("download cosign %s: %w", CosignVersion, errors.Join(err, errors.New(got.Error)))
	}
	say("building cosign %s from source, once: about four minutes", CosignVersion)
	tmp := fmt.Sprintf("%s.%d.tmp", program, os.Getpid())
	defer func() { _ = os.Remove(tmp) }()
	cmd = exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", tmp, "./cmd/cosign")
	cmd.Dir, cmd.Env = got.Dir, env
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cosign: %w\n%s", err, tail(out, 20))
	}
	return program, os.Rename(tmp, program)
}
