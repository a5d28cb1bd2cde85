// Command tools builds what tests need and what is slow to build: buildkitd and, when asked with the
// arguments gitea and cosign, those. It is quick when that is there already.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/slipwaytest"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cache, err := slipwaytest.Cache()
	if err != nil {
		return err
	}
	path, err := buildkit.Install(ctx, buildkit.Options{Dir: os.TempDir(), Tools: filepath.Join(cache, "tools"), Progress: func(line string) { fmt.Println(line) }})
	if err != nil {
		return err
	}
	fmt.Println(path)
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	for _, tool := range os.Args[1:] {
		switch tool {
		case "gitea":
			path, _, err = slipwaytest.InstallGitea(ctx, say)
		case "cosign":
			path, err = slipwaytest.InstallCosign(ctx, say)
		default:
			err = fmt.Errorf("there is no tool %q: expected gitea or cosign", tool)
		}
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
