// Command tools builds what tests need and what is slow to build: buildkitd and, when asked with the
// argument gitea, Gitea. It is quick when that is there already.
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
	if len(os.Args) > 1 && os.Args[1] == "gitea" {
		gitea, _, err := slipwaytest.InstallGitea(ctx, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
		if err != nil {
			return err
		}
		fmt.Println(gitea)
	}
	return nil
}
