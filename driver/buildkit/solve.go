package buildkit

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/tonistiigi/fsutil"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// job is what a build and a test have in common: a Dockerfile to solve.
type job struct {
	project, service string
	dir, dockerfile  string
	target           string
	args             map[string]string
	epoch            int64
	pins             map[string]string
	trust            slipway.Trust
	secrets          map[string]string
	noCache          bool
	contexts         map[string]string // name -> folder
}

// scope names what cache mounts belong to: builds of another project or another trust have others.
func (j job) scope() string {
	trust := j.trust
	if trust == "" {
		trust = slipway.TrustBranch
	}
	return j.project + "/" + string(trust)
}

// OfFork is added to a project's name where credentials are asked for a build of untrusted code: it is
// no part of a valid name.
const OfFork = "+fork"

// holder is whose credentials the build gets.
func (j job) holder() string {
	if j.trust == slipway.TrustFork {
		return j.project + OfFork
	}
	return j.project
}

// frontend are the attributes of the Dockerfile frontend. The built-in one is used whatever a
// "# syntax=" line says: the one in the line would be fetched from a registry and run.
func (j job) frontend() map[string]string {
	attrs := map[string]string{
		"cmdline":                           "builtin",
		"filename":                          path.Base(j.dockerfile),
		"build-arg:SOURCE_DATE_EPOCH":       strconv.FormatInt(j.epoch, 10),
		"build-arg:BUILDKIT_CACHE_MOUNT_NS": j.scope(),
	}
	if j.target != "" {
		attrs["target"] = j.target
	}
	if j.noCache {
		attrs["no-cache"] = ""
	}
	for name := range j.contexts {
		attrs["context:"+name] = "local:" + mountOf(name)
	}
	for k, v := range j.args {
		if !reservedArg(k) {
			attrs["build-arg:"+k] = v
		}
	}
	return attrs
}

// mountOf is the mount of a named context.
func mountOf(name string) string { return "from-" + name }

// reservedArg are build arguments that change how the frontend works rather than what is built.
func reservedArg(name string) bool {
	switch name {
	case "SOURCE_DATE_EPOCH", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_SYNTAX",
		"BUILDKIT_SANDBOX_HOSTNAME": // by its host name a container is joined to the services of tests
		return true
	}
	return false
}

// solveOpt is the request for the daemon.
func (e *Engine) solveOpt(ln *link, j job, log stage.Log) (client.SolveOpt, *policy, error) {
	tree, err := buildContext(j.dir)
	if err != nil {
		return client.SolveOpt{}, nil, err
	}
	sub, file := path.Split(filepath.ToSlash(j.dockerfile))
	dockerfile, err := buildContext(filepath.Join(j.dir, filepath.FromSlash(sub)), file, file+".dockerignore", ".dockerignore")
	if err != nil {
		return client.SolveOpt{}, nil, err
	}
	mounts := map[string]fsutil.FS{"context": tree, "dockerfile": dockerfile}
	for name, dir := range j.contexts {
		if mounts[mountOf(name)], err = buildContext(dir); err != nil {
			return client.SolveOpt{}, nil, err
		}
	}
	secrets := map[string][]byte{}
	for name, value := range j.secrets {
		secrets[name] = []byte(value)
	}
	pol, err := e.policy(ln, j, log)
	if err != nil {
		return client.SolveOpt{}, nil, slipway.Errorf(slipway.Invalid, "%w", err)
	}
	return client.SolveOpt{
		Ref:                  identity.NewID(),
		Frontend:             "dockerfile.v0",
		FrontendAttrs:        j.frontend(),
		LocalMounts:          mounts,
		SharedKey:            j.scope() + "/" + j.service + ":" + j.dockerfile,
		Session:              []session.Attachable{pol.creds, secretsprovider.FromMap(secrets)},
		SourcePolicyProvider: policysession.NewPolicyProvider(pol.check),
	}, pol, nil
}

func (e *Engine) policy(ln *link, j job, log stage.Log) (*policy, error) {
	pins, err := normalisePins(j.pins)
	if err != nil {
		return nil, err
	}
	nets, err := prefixes(e.opts.Deny)
	if err != nil {
		return nil, err
	}
	return &policy{
		pins: pins, mirrors: e.opts.Mirrors, creds: &credentials{project: j.holder(), get: e.opts.Credentials},
		confined: !ln.fenced && !e.opts.AllowShared && j.trust != slipway.TrustReviewed,
		denied:   deniedAddress(nets), lookup: lookupHost, log: log,
		env: e.opts.Getenv, mirror: map[string]string{}, project: j.project, finds: &e.finds,
	}, nil
}

func prefixes(cidrs []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			return nil, fmt.Errorf("network %q: %w", c, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// watch runs solve with a channel whose statuses become lines of the log, and returns when both have
// ended.
func (e *Engine) watch(log stage.Log, solve func(ch chan *client.SolveStatus) error) (*progress, error) {
	ch := make(chan *client.SolveStatus)
	prog := newProgress(log, e.opts.Mirrors)
	done := make(chan struct{})
	go func() {
		defer close(done)
		prog.read(ch)
	}()
	err := solve(ch)
	<-done
	return prog, err
}

func withAttrs(base, more map[string]string, prefix string) map[string]string {
	out := maps.Clone(base)
	for k, v := range more {
		out[prefix+k] = v
	}
	return out
}

func asError[T error](err error, target *T) bool { return errors.As(err, target) }
