package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/slipway-cd/slipway/cluster/tool"
)

// FindSource returns the folder of this module, which holds the sources of the
// tools: $SLIPWAY_CLUSTER_SOURCE, or where this program was compiled, or a
// folder cluster in or above the working folder or the program's own.
func FindSource() (string, error) {
	var candidates []string
	if dir := os.Getenv("SLIPWAY_CLUSTER_SOURCE"); dir != "" {
		candidates = append(candidates, dir)
	} else {
		if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
			candidates = append(candidates, filepath.Dir(file))
		}
		var starts []string
		if dir, err := os.Getwd(); err == nil {
			starts = append(starts, dir)
		}
		if file, err := os.Executable(); err == nil {
			starts = append(starts, filepath.Dir(file))
		}
		for _, dir := range starts {
			for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
				candidates = append(candidates, dir, filepath.Join(dir, "cluster"))
			}
		}
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, "kubernetes", "main.go")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the sources of the cluster's tools are nowhere near; set SLIPWAY_CLUSTER_SOURCE to Slipway's folder cluster")
}

// Tools lists what is built from the sources in dir.
func Tools(dir string) []tool.Tool {
	return []tool.Tool{
		{
			Name: "kubernetes", Dir: filepath.Join(dir, "kubernetes"), Module: "k8s.io/kubernetes",
			LinkerFlags: "-X k8s.io/component-base/version.gitVersion=VERSION -X k8s.io/client-go/pkg/version.gitVersion=VERSION",
		},
		{Name: "coredns", Dir: filepath.Join(dir, "coredns"), Module: "github.com/coredns/coredns"},
		{Name: "pause", Dir: filepath.Join(dir, "pause")},
	}
}
