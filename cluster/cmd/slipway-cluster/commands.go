package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway/cluster"
	"github.com/slipway-cd/slipway/cluster/tool"
)

func upCommand(f *flags) *cobra.Command {
	var registries []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the cluster and wait until it is ready",
		Long: "up starts the cluster and returns when it is ready. If it runs already, only the registries are updated.\n" +
			"If a part of it died, it starts again with its data. Progress goes to standard error, and the line that\n" +
			"sets KUBECONFIG to standard output.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&registries, "registry", nil, "pull images of HOST from a URL: HOST=URL (may be repeated)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.named()
		if err != nil {
			return err
		}
		for _, mapping := range registries {
			host, target, err := cluster.ParseRegistry(mapping)
			if err != nil {
				return usageError{err}
			}
			c.Registries[host] = target
		}
		machine, err := newMachine(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		start := time.Now()
		if err := c.Up(cmd.Context(), machine); err != nil {
			return fmt.Errorf("start cluster %s: %w", c.Name, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "cluster %s is ready (%.1fs)\n", c.Name, time.Since(start).Seconds())
		fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%s\n", c.Kubeconfig())
		return nil
	}
	return cmd
}

func newMachine(progress io.Writer) (cluster.Machine, error) {
	source, err := cluster.FindSource()
	if err != nil {
		return cluster.Machine{}, err
	}
	dir, err := tool.DefaultDir()
	if err != nil {
		return cluster.Machine{}, err
	}
	return cluster.Machine{Source: source, Progress: progress, Tools: tool.Cache{Dir: dir, Progress: progress}}, nil
}

func downCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and remove all of it",
		Long:  "down stops the cluster and removes everything it made, its data included. Built binaries stay cached.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.named()
			if err != nil {
				return err
			}
			start := time.Now()
			if err := c.Down(cmd.Context()); err != nil {
				return fmt.Errorf("remove cluster %s: %w", c.Name, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "cluster %s is gone (%.1fs)\n", c.Name, time.Since(start).Seconds())
			return nil
		},
	}
}

func statusCommand(f *flags) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster's processes",
		Long:  "status shows the cluster's processes. It exits with 0 if all work, 3 if none runs and 4 otherwise.",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "table" && output != "json" {
			return usageError{fmt.Errorf("output %q: use table or json", output)}
		}
		c, err := f.load()
		if err != nil {
			return err
		}
		status := c.Status(cmd.Context())
		if output == "json" {
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			err = encoder.Encode(status)
		} else {
			err = printStatus(cmd.OutOrStdout(), status)
		}
		if err != nil {
			return err
		}
		switch status.State {
		case cluster.Stopped:
			return exitCode(exitStopped)
		case cluster.Degraded:
			return exitCode(exitDegraded)
		}
		return nil
	}
	return cmd
}

func printStatus(w io.Writer, s cluster.Status) error {
	fmt.Fprintf(w, "cluster %s in %s: %s\n", s.Name, s.Dir, s.State)
	if s.State == cluster.Stopped {
		return nil
	}
	fmt.Fprintf(w, "API server %s, kubeconfig %s\n", s.Server, s.Kubeconfig)
	var hosts []string
	for host := range s.Registries {
		hosts = append(hosts, host)
	}
	sort.Strings(hosts)
	for _, host := range hosts {
		fmt.Fprintf(w, "images of %s come from %s\n", host, s.Registries[host])
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nCOMPONENT\tPID\tHEALTHY\tMEMORY\tPROBLEM")
	var total int64
	for _, one := range s.Components {
		pid, healthy := "-", "no"
		if one.PID != 0 {
			pid = fmt.Sprint(one.PID)
		}
		if one.Healthy {
			healthy = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d MB\t%s\n", one.Name, pid, healthy, one.Memory>>20, one.Problem)
		total += one.Memory
	}
	fmt.Fprintf(t, "pods (%d processes)\t\t\t%d MB\t\n", s.PodProcesses, s.PodMemory>>20)
	fmt.Fprintf(t, "total\t\t\t%d MB\t\n", (total+s.PodMemory)>>20)
	return t.Flush()
}

func kubeconfigCommand(f *flags) *cobra.Command {
	var content bool
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&content, "content", false, "print the file itself")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := f.existing()
		if err != nil {
			return err
		}
		if !content {
			fmt.Fprintln(cmd.OutOrStdout(), c.Kubeconfig())
			return nil
		}
		data, err := os.ReadFile(c.Kubeconfig())
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(data)
		return err
	}
	return cmd
}

func registryCommand(f *flags) *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "registry HOST=URL...",
		Short: "Pull images of HOST from a URL, from the next pull on",
		Example: "  slipway-cluster registry registry.slipway.internal=http://127.0.0.1:8080\n" +
			"  slipway-cluster registry docker.io=http://127.0.0.1:5000/v2/mirror/docker.io\n" +
			"  slipway-cluster registry --remove docker.io",
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the mappings of these hosts")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := f.existing()
		if err != nil {
			return err
		}
		for _, arg := range args {
			if remove {
				if err := c.UnmapRegistry(arg); err != nil {
					return err
				}
				continue
			}
			host, target, err := cluster.ParseRegistry(arg)
			if err != nil {
				return usageError{err}
			}
			if err := c.MapRegistry(host, target); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func kubectlCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [ARGUMENTS]",
		Short:              "Run kubectl as the cluster's administrator",
		Long:               "kubectl passes all arguments to kubectl. Flags of slipway-cluster itself stand before the word kubectl.",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := f.existing()
			if err != nil {
				return err
			}
			env := append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "KUBECACHEDIR="+c.KubectlCache())
			if err := syscall.Exec(c.KubectlPath(), append([]string{c.KubectlPath()}, args...), env); err != nil {
				return fmt.Errorf("run kubectl (is the cluster up?): %w", err)
			}
			return nil
		},
	}
}

func toolsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tools",
		Short: "Build the cluster's binaries if they are missing, and print their paths",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			machine, err := newMachine(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			for _, t := range cluster.Tools(machine.Source) {
				path, err := machine.Tools.Get(cmd.Context(), t)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			return nil
		},
	}
}
