// Command kubernetes is every Kubernetes component of a one-node cluster in
// one static binary: kube-apiserver, kube-controller-manager, kube-scheduler,
// kubelet, kube-proxy and kubectl.
//
// The component is chosen by the name the binary was started under (a link
// called kubelet is a kubelet) or else by its first argument. It adds nothing
// to the components and changes no default of theirs.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	name := filepath.Base(os.Args[0])
	run, ok := components()[name]
	if !ok && len(os.Args) > 1 {
		name = os.Args[1]
		run, ok = components()[name]
		os.Args = os.Args[1:]
	}
	if !ok {
		fmt.Fprintf(os.Stderr, "usage: kubernetes COMPONENT [flags]\ncomponents: %s\n", strings.Join(names(), ", "))
		os.Exit(2)
	}
	os.Exit(run())
}

// components lists what this binary can be; each function runs until its
// component ends and returns the exit status.
func components() map[string]func() int {
	return map[string]func() int{
		"kube-apiserver":          server(apiserver.NewAPIServerCommand),
		"kube-controller-manager": server(controllermanager.NewControllerManagerCommand),
		"kube-scheduler":          server(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kube-proxy":              server(proxy.NewProxyCommand),
		"kubelet": server(func() *cobra.Command {
			return kubelet.NewKubeletCommand(context.Background())
		}),
		"kubectl": kubectl,
	}
}

func names() []string {
	var all []string
	for name := range components() {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func server(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// kubectl reads its verbosity before its command exists, because building the
// command already looks for plugins and reads .kuberc.
func kubectl() int {
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
	return 0
}
