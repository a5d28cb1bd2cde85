package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	defaultCluster       = "default"
	defaultTimeout       = 5 * time.Minute
	defaultHistoryMax    = 10
	defaultBuildTimeout  = 30 * time.Minute
	defaultDeployTimeout = 15 * time.Minute
	defaultRetries       = 65 // about an hour, with the engine's pauses
	maxNamespace         = 63
)

// policy reads what the default branch decides: everything but the services (D14).
func policy(f File, opts Options, problems *Problems) slipway.Config {
	c := slipway.Config{Gates: gatesOf(f.root.get("gates"), scope{environments: environmentNames(f)}, slipway.Gates{}, problems)}
	c.Environments = environmentsOf(f, opts, c.Gates, problems)
	c.Candidates, c.Production = registriesOf(f, opts, problems)
	c.PullRequests.Approvals = f.root.get("pullRequests").get("approvals").integer(0)
	l := f.root.get("limits")
	c.Limits = slipway.Limits{
		BuildTimeout:  slipway.Duration(l.get("buildTimeout").duration(defaultBuildTimeout, problems)),
		DeployTimeout: slipway.Duration(l.get("deployTimeout").duration(defaultDeployTimeout, problems)),
		Retries:       l.get("retries").integer(defaultRetries),
	}
	checkWaivers(f, c, problems)
	c.Retention = retentionOf(f.root.get("retention"), problems)
	return c
}

func environmentsOf(f File, opts Options, project slipway.Gates, problems *Problems) []slipway.Environment {
	list := f.root.get("environments")
	if !list.present() {
		return standardEnvironments(f, opts, project, problems)
	}
	var out []slipway.Environment
	place := map[string]value{}
	for _, v := range list.items {
		e := environmentOf(v, opts.Project, problems)
		e.Gates = gatesOf(f.root.get("gates"), scope{v.get("gates"), e.Name, e.Production, environmentNames(f)}, project, problems)
		if e.Name == "" {
			continue // missing or malformed: said already
		}
		if first, twice := place[e.Name]; twice {
			problems.add(v.get("name").problem("give it another name", "there are two environments %s, the first in line %d", e.Name, first.node.Line))
			continue
		}
		place[e.Name] = v
		out = append(out, e)
	}
	checkClusters(out, place, opts, problems)
	checkNamespaces(out, place, problems)
	return out
}

// environmentNames are those that the file names, else those of a file that names none.
func environmentNames(f File) (names []string) {
	list := f.root.get("environments")
	if !list.present() {
		return standardNames()
	}
	for _, v := range list.items {
		if name := v.get("name").text(""); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func standardNames() []string { return []string{"development", "qa", "production"} }

func environmentOf(v value, project string, problems *Problems) slipway.Environment {
	name, production := v.get("name").text(""), v.get("production").boolean(false)
	required := 0
	if production {
		required = 1
	}
	return slipway.Environment{
		Name:       name,
		Trigger:    slipway.Trigger(v.get("trigger").text(string(slipway.OnRelease))),
		Cluster:    v.get("cluster").text(defaultCluster),
		Namespace:  v.get("namespace").text(project + "-" + name),
		Values:     v.get("values").texts(),
		Production: production,
		Approvals: slipway.Approvals{
			Required:     v.get("approvals").get("required").integer(required),
			NotRequester: v.get("approvals").get("notRequester").boolean(false),
		},
		Timeout:    slipway.Duration(v.get("timeout").duration(defaultTimeout, problems)),
		HistoryMax: v.get("historyMax").integer(defaultHistoryMax),
	}
}

func standardEnvironments(f File, opts Options, project slipway.Gates, problems *Problems) []slipway.Environment {
	standard := func(name string, trigger slipway.Trigger, production bool) slipway.Environment {
		e := environmentOf(value{}, opts.Project, problems)
		e.Name, e.Trigger, e.Production, e.Namespace = name, trigger, production, opts.Project+"-"+name
		e.Gates = gatesOf(f.root.get("gates"), scope{name: name, production: production}, project, problems)
		return e
	}
	names := standardNames()
	out := []slipway.Environment{
		standard(names[0], slipway.OnDefaultBranch, false),
		standard(names[1], slipway.OnRelease, false),
		standard(names[2], slipway.OnRelease, true),
	}
	out[2].Approvals.Required = 1
	return out
}

func checkClusters(envs []slipway.Environment, place map[string]value, opts Options, problems *Problems) {
	if len(opts.Clusters) == 0 {
		return
	}
	for _, e := range envs {
		if slices.Contains(opts.Clusters, e.Cluster) {
			continue
		}
		v := place[e.Name]
		if given := v.get("cluster"); given.present() {
			v = given
		}
		problems.add(v.problem(didYouMean(e.Cluster, opts.Clusters), "no cluster is registered under the name %s", e.Cluster))
	}
}

// checkNamespaces refuses namespaces that are too long, and two environments in one: their releases,
// which are named after the services, would be the same.
func checkNamespaces(envs []slipway.Environment, place map[string]value, problems *Problems) {
	type room struct{ cluster, namespace string }
	first := map[room]string{}
	for _, e := range envs {
		v := place[e.Name]
		if given := v.get("namespace"); given.present() {
			v = given
		}
		if len(e.Namespace) > maxNamespace {
			problems.add(v.problem("set namespace", "the namespace %s has %d characters, and %d are allowed", e.Namespace, len(e.Namespace), maxNamespace))
		}
		r := room{e.Cluster, e.Namespace}
		if other, twice := first[r]; twice {
			problems.add(v.problem("give one another namespace or cluster", "the environments %s and %s are both namespace %s of cluster %s, where their releases would fight", other, e.Name, e.Namespace, e.Cluster))
			continue
		}
		first[r] = e.Name
	}
}

func registriesOf(f File, opts Options, problems *Problems) (candidates, production slipway.Registry) {
	r := f.root.get("registry")
	candidates = registryOf(r.get("candidates"), opts.Candidates, problems)
	standard := opts.Production
	if r.get("candidates").get("host").present() && !r.get("production").get("host").present() {
		standard.Host, standard.Address = candidates.Host, candidates.Address // one outside registry for both
	}
	production = registryOf(r.get("production"), standard, problems)
	if candidates.Host == production.Host && candidates.Prefix == production.Prefix && r.present() {
		problems.add(r.problem("give production another prefix, such as prod", "candidates and production are the same place: nothing but a promotion may write to production"))
	}
	return candidates, production
}

// registryOf is what the file says over what the server offers. Another host is not reached at the
// server's address.
func registryOf(v value, standard slipway.Registry, problems *Problems) slipway.Registry {
	r := standard
	if h := v.get("host"); h.present() {
		r.Host, r.Address = h.text(""), ""
	}
	r.Prefix = v.get("prefix").text(r.Prefix)
	a := v.get("address")
	if !a.present() {
		return r
	}
	r.Address = strings.TrimSuffix(a.text(""), "/")
	u, err := url.Parse(r.Address)
	switch {
	case err != nil || u.Host == "":
		problems.add(a.problem("expected https://host[:port]", "%s is no URL", r.Address))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		problems.add(a.problem(fmt.Sprintf("expected https://%s", u.Host), "http is for loopback addresses only: passwords would cross the network in plain sight"))
	}
	return r
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
