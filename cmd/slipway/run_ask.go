package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/laptop"
)

// deployOptions say where a run on the laptop deploys; without an environment nowhere.
type deployOptions struct {
	environment, kubeconfig, context, registry string
	yes                                        bool
}

func (o *deployOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.environment, "deploy", "", "deploy what ran to this environment, once everything has succeeded; asks before it begins")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "with --deploy: kubeconfig file of the cluster")
	f.StringVar(&o.context, "context", "", "with --deploy: context in it; its current one is never taken")
	f.StringVar(&o.registry, "registry", "", "with --deploy: registry that the cluster pulls from, HOST[/PREFIX], and =URL where it is reached from here when that is elsewhere (default: the one in slipway.yaml)")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --deploy: do not ask")
}

// check finds wrong use. asks is whether somebody is there to be asked.
func (o deployOptions) check(event slipway.EventKind, asks bool) error {
	switch {
	case o.environment == "" && o != (deployOptions{}):
		return slipway.Errorf(slipway.Invalid, "--kubeconfig, --context, --registry and --yes go with --deploy ENVIRONMENT")
	case o.environment == "":
		return nil
	case o.kubeconfig == "" || o.context == "":
		return slipway.Errorf(slipway.Invalid, "--deploy %s: name the cluster with --kubeconfig FILE and --context NAME, both: nothing is deployed to whatever context is current", o.environment)
	case event != slipway.PullUpdate:
		return slipway.Errorf(slipway.Invalid, "--deploy %s goes without --event: what lies here is deployed under a version of its own", o.environment)
	case !o.yes && !asks:
		return slipway.Errorf(slipway.Invalid, "--deploy %s asks before it acts, and standard input is no terminal: say --yes", o.environment)
	}
	return nil
}

// goal is where that is.
func (o deployOptions) goal() laptop.Goal {
	return laptop.Goal{Environment: o.environment, Kubeconfig: o.kubeconfig, Context: o.context, Registry: o.registry}
}

// announce says what will be deployed where, and what is there now.
func (c *cli) announce(ctx context.Context, d *laptop.Deployer, p laptop.Plan) error {
	to := p.To
	c.out.line("\ndeploys to %s when everything has succeeded:", c.out.bold(to.Environment))
	rows := [][]string{
		{"  cluster", slipway.Printable(to.Context), slipway.Printable(to.Server)},
		{"  namespace", to.Namespace, ""},
		{"  registry", slipway.Printable(to.Registry), "gets the images as they are built"},
	}
	for _, s := range p.Steps {
		if s.Deploy == nil {
			continue
		}
		now, err := d.Observe(ctx, s.Deploy.Target)
		if err != nil {
			return laptop.Surroundings(fmt.Errorf("look at Helm release %s in %s: %w", s.Deploy.Target.Release, to.Namespace, err))
		}
		there := "there is nothing of it yet"
		if now.Number > 0 {
			there = fmt.Sprintf("replaces revision %d: %s", now.Number, slipway.Printable(slipway.Clip(now.Description, 100)))
		}
		rows = append(rows, []string{"  " + c.out.bold(s.Service), s.Deploy.Version, there})
	}
	c.out.table(nil, rows)
	c.out.line("  %s", c.out.dim("not asked: what gates say of scans and signatures, which a server has"))
	return nil
}

// confirm asks on the terminal. No answer is no.
func confirm(ctx context.Context, in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // the end of the input is no answer
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		fmt.Fprintln(out)
		return false, context.Cause(ctx)
	}
}

// isTerminal reports whether somebody may be asked there.
func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
