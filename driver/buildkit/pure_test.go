package buildkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	digest "github.com/opencontainers/go-digest"
	fstypes "github.com/tonistiigi/fsutil/types"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"

	"github.com/slipway-cd/slipway"
)

// lines is a log that keeps what it is told.
type lines struct{ all []slipway.LogLine }

func (l *lines) Line(line slipway.LogLine) { l.all = append(l.all, line) }
func (l *lines) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *lines) String() string {
	var b strings.Builder
	for _, x := range l.all {
		fmt.Fprintf(&b, "%s|%s|%s|%s\n", x.Group, x.State, x.Stream, x.Text)
	}
	return b.String()
}

func TestProgress(t *testing.T) {
	t.Parallel()
	at := func(s float64) *time.Time {
		v := time.Unix(1000, int64(s*1e9)).UTC()
		return &v
	}
	run, base, export := digest.FromString("run"), digest.FromString("base"), digest.FromString("export")
	log := &lines{}
	ch := make(chan *client.SolveStatus)
	prog := newProgress(log, []Mirror{{Registry: "docker.io", Address: "http://127.0.0.1:8080", Prefix: "mirror/docker.io"}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		prog.read(ch)
	}()
	vertex := func(d digest.Digest, name string, from, to *time.Time, cached bool, err string) *client.SolveStatus {
		return &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: d, Name: name, Started: from, Completed: to, Cached: cached, Error: err}}}
	}
	const runName = "[build 3/5] RUN go build"
	for _, s := range []*client.SolveStatus{
		vertex(base, "[1/5] FROM 127.0.0.1:8080/mirror/docker.io/library/golang:1.26", nil, nil, false, ""),
		vertex(base, "", at(0), at(0), true, ""),
		vertex(base, "", at(0), at(0), true, ""), // repeated
		vertex(run, runName, at(1), nil, false, ""),
		{Logs: []*client.VertexLog{{Vertex: run, Stream: 1, Data: []byte("one\ntw")}}},
		{Logs: []*client.VertexLog{{Vertex: run, Stream: 2, Data: []byte("10%\r20%\r30%\r\n")}}},
		{Logs: []*client.VertexLog{{Vertex: run, Stream: 1, Data: []byte("o\nrest")}}},
		{Logs: []*client.VertexLog{{Vertex: "sha256:unknown", Stream: 1, Data: []byte("nobody's\n")}, {Vertex: run, Stream: 9, Data: []byte("x\n")}}},
		vertex(run, runName, at(1), at(3.5), false, ""),
		vertex(run, runName, at(1), at(3.5), false, ""),
		vertex(export, "exporting to image", at(4), at(4.1), false, ""),
		{Statuses: []*client.VertexStatus{{ID: "pushing layers", Vertex: export, Total: 1_500_000, Started: at(4.1), Completed: at(5)}}},
		vertex(export, "exporting to image", at(4), at(6), false, ""),
		{Warnings: []*client.VertexWarning{{Vertex: run, Short: []byte("JSONArgsRecommended"), SourceInfo: &pb.SourceInfo{Filename: "Dockerfile"}, Range: []*pb.Range{{Start: &pb.Position{Line: 7}}}}}},
	} {
		ch <- s
	}
	close(ch)
	<-done
	want := `[1/5] FROM docker.io/library/golang:1.26|cached||[1/5] FROM docker.io/library/golang:1.26
[build 3/5] RUN go build|started||[build 3/5] RUN go build
[build 3/5] RUN go build||stdout|one
[build 3/5] RUN go build||stderr|30%
[build 3/5] RUN go build||stdout|two
[build 3/5] RUN go build||stdout|rest
[build 3/5] RUN go build|done||2.5s
exporting to image|started||exporting to image
exporting to image|||pushing layers 1.5 MB 0.9s
[build 3/5] RUN go build|||Dockerfile:7: warning: JSONArgsRecommended
exporting to image|done||2.0s
`
	if log.String() != want {
		t.Errorf("got\n%s\nwant\n%s", log, want)
	}
}

func TestProgressTellsWhatFailed(t *testing.T) {
	t.Parallel()
	log := &lines{}
	prog := newProgress(log, nil)
	now := time.Unix(1, 0)
	prog.update(&client.SolveStatus{Vertexes: []*client.Vertex{
		{Digest: "sha256:a", Name: "[2/2] RUN false", Started: &now, Completed: &now, Error: "exit code: 1\nmore"},
		{Digest: "sha256:b", Name: "[3/3] RUN later", Started: &now, Completed: &now, Error: "canceled"},
	}})
	if prog.failedVertex() != "[2/2] RUN false" || log.all[2].State != "failed" || log.all[2].Text != "exit code: 1" {
		t.Errorf("%q\n%s", prog.failedVertex(), log)
	}
}

func TestLineBuffer(t *testing.T) {
	t.Parallel()
	var b lineBuffer
	got := b.add(bytes.Repeat([]byte("x"), maxLine+10))
	if len(got) != 1 || len(got[0]) != maxLine {
		t.Fatalf("a long line gives %d lines", len(got))
	}
	if got = b.add([]byte("\n\nbad \xff utf8\n")); !slices.Equal(got, []string{"xxxxxxxxxx", "", "bad � utf8"}) {
		t.Errorf("%q", got)
	}
	if s, ok := b.rest(); ok {
		t.Errorf("rest %q", s)
	}
}

func TestLineWriterIsCut(t *testing.T) {
	t.Parallel()
	log, space := &lines{}, &room{limit: 2*lineCost + 10}
	out := &lineWriter{log: log, stream: "stdout", room: space}
	errs := &lineWriter{log: log, stream: "stderr", room: space}
	for _, w := range []*lineWriter{out, errs, out, errs, out} {
		if n, err := w.Write([]byte("12345\n")); n != 6 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	}
	big := bytes.Repeat([]byte("x"), 3*maxLine)
	if n, err := out.Write(big); n != len(big) || err != nil {
		t.Errorf("%d %v", n, err)
	}
	out.Close()
	errs.Close()
	want := "||stdout|12345\n||stderr|12345\n|||the output is cut here: it is longer than 210 B of log\n"
	if log.String() != want {
		t.Errorf("got\n%s\nwant\n%s", log, want)
	}
}

func TestRenderConfig(t *testing.T) {
	t.Parallel()
	l := newLayout("/data/buildkit")
	l.cni, l.runc = "/usr/lib/cni", "/usr/sbin/runc"
	n := network{Bridge: "slipbk00112233", Subnet: netip.MustParsePrefix("10.99.7.0/24")}
	got := renderConfig(l, n, Options{Parallelism: 4, MaxSpace: 20e9, Nameservers: []string{"192.0.2.53"}})
	want := `# Written by Slipway at each start.
root = "/data/buildkit/state"
insecure-entitlements = []
[log]
  format = "json"
  level = "warn"
[grpc]
  address = ["unix:///data/buildkit/buildkitd.sock"]
[otel]
  socketPath = "/data/buildkit/otel.sock"
[cdi]
  disabled = true
[history]
  maxEntries = 100
[frontend."gateway.v0"]
  enabled = false
[dns]
  nameservers = ["192.0.2.53"]
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  binary = "/usr/sbin/runc"
  snapshotter = "auto"
  max-parallelism = 4
  gc = true
  maxUsedSpace = 20000000000
  networkMode = "cni"
  cniConfigPath = "/data/buildkit/cni.conflist"
  cniBinaryPath = "/data/buildkit/plugins"
  cniPoolSize = 4
  defaultCgroupParent = "slipbk00112233"
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	cni, err := renderCNI(l, n)
	if err != nil || !bytes.Contains(cni, []byte(`"subnet": "10.99.7.0/24"`)) || bytes.Contains(cni, []byte("firewall")) {
		t.Errorf("%s %v", cni, err)
	}
}

func TestLayoutOfALongFolder(t *testing.T) {
	t.Parallel()
	dir := "/data/" + strings.Repeat("long/", 30)
	l := newLayout(dir)
	if len(l.socket()) > 107 || len(l.otel()) > 107 || l.state() != filepath.Join(dir, "state") {
		t.Errorf("%s %s", l.socket(), l.state())
	}
	if a, b := tag("/a"), tag("/b"); a == b || len(a) > 15 {
		t.Errorf("tags %s %s", a, b)
	}
}

func TestChooseNetwork(t *testing.T) {
	t.Parallel()
	first, err := chooseNetwork("/a", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := chooseNetwork("/a", nil); err != nil || again != first {
		t.Errorf("%v, then %v (%v)", first, again, err)
	}
	other, err := chooseNetwork("/a", []netip.Prefix{first.Subnet})
	if err != nil || other.Subnet.Overlaps(first.Subnet) {
		t.Errorf("%v is in use, got %v (%v)", first, other, err)
	}
	if _, err := chooseNetwork("/a", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("chose a network in one that is in use")
	}
}

func TestFirewallRules(t *testing.T) {
	t.Parallel()
	n := network{Bridge: "slipbk00112233", Subnet: netip.MustParsePrefix("10.99.7.0/24")}
	rules := firewallRules(n, isolation{
		deny: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}, resolvers: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, links: []string{"vmbr7"},
		upstream: []netip.Addr{netip.MustParseAddr("169.254.169.254")},
	})
	var got []string
	for _, r := range rules {
		got = append(got, strings.Join([]string{r.family, r.table, r.chain, strings.Join(r.spec, " ")}, " "))
	}
	index := func(want string) int {
		t.Helper()
		i := slices.Index(got, want)
		if i < 0 {
			t.Errorf("no rule %q in\n%s", want, strings.Join(got, "\n"))
		}
		return i
	}
	const refuse = " -j REJECT --reject-with icmp-admin-prohibited"
	if index("iptables filter SLIPBK00112233-IN -d 192.0.2.2/32 -p udp --dport 53 -j ACCEPT") > index("iptables filter SLIPBK00112233-IN"+refuse) {
		t.Error("the resolver is refused first")
	}
	if index("iptables filter SLIPBK00112233-FWD -d 169.254.169.254/32 -p udp --dport 53 -j ACCEPT") > index("iptables filter SLIPBK00112233-FWD -d 169.254.0.0/16"+refuse) {
		t.Error("the resolver of a cloud is refused first")
	}
	accept := index("iptables filter SLIPBK00112233-FWD -j ACCEPT")
	for _, before := range []string{"-m conntrack --ctstate DNAT", "-d 169.254.0.0/16", "-d 100.100.100.200/32", "-d 10.42.0.0/16", "-o cni+", "-o docker+", "-o slipbk+", "-o slw-+", "-o vmbr7"} {
		if index("iptables filter SLIPBK00112233-FWD "+before+refuse) > accept {
			t.Errorf("%s is accepted first", before)
		}
	}
	// Inserted at the head one after the other: the last is the first.
	jump, answers, drop := index("iptables filter FORWARD -i slipbk00112233 -j SLIPBK00112233-FWD"),
		index("iptables filter FORWARD -o slipbk00112233 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"), index("iptables filter FORWARD -o slipbk00112233 -j DROP")
	if !(drop < answers && answers < jump) {
		t.Error("the chains of all are in another order")
	}
	index("ip6tables filter INPUT -i slipbk00112233 -j DROP")
	index("iptables nat POSTROUTING -s 10.99.7.0/24 ! -o slipbk00112233 -j MASQUERADE")
}

func TestLeads(t *testing.T) {
	t.Parallel()
	const jump = "SLIPBKA-FWD"
	for want, list := range map[bool][][]string{
		true: {
			{"-P FORWARD ACCEPT", "-A FORWARD -i slipbka -j SLIPBKA-FWD", "-A FORWARD -j OTHER"},
			{"-A FORWARD -o slipbkb -j DROP", "-A FORWARD -i slipbka -j SLIPBKA-FWD"},
		},
		false: {{"-P FORWARD ACCEPT"}, {"-A FORWARD -j KUBE", "-A FORWARD -i slipbka -j SLIPBKA-FWD"}},
	} {
		for _, l := range list {
			if leads(l, jump) != want {
				t.Errorf("leads(%q) is %v", l, !want)
			}
		}
	}
}

func testPolicy(t *testing.T, pins map[string]string, mirrors ...Mirror) *policy {
	t.Helper()
	normal, err := normalisePins(pins)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := credentials{get: func(context.Context, string, string) (string, string) { return "", "" }}
	return &policy{
		creds: &anonymous, pins: normal, mirrors: mirrors, denied: deniedAddress([]netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}), log: &lines{}, mirror: map[string]string{},
		lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if a, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
				return []netip.Addr{a}, nil
			}
			host = strings.ToLower(strings.TrimSuffix(host, "."))
			known := map[string]string{"localhost": "127.0.0.1", "docker.io": "203.0.113.1", "gcr.io": "203.0.113.3", "registry-1.docker.io": "203.0.113.5", "evil.example": "127.0.0.1", "pods.example": "10.42.1.1", "github.com": "203.0.113.2"}
			if a, ok := known[host]; ok {
				return []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr(a)}, nil
			}
			if host == "slow.example" {
				return nil, &net.DNSError{Err: "timed out", Name: host, IsTimeout: true}
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
	}
}

func ask(t *testing.T, p *policy, id string, attrs map[string]string) *policysession.DecisionResponse {
	t.Helper()
	d, _, err := p.check(t.Context(), &policysession.CheckPolicyRequest{Source: &gwpb.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: id, Attrs: attrs}}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	pin := "sha256:" + strings.Repeat("ab", 32)
	p := testPolicy(t, map[string]string{"golang:1.26": pin, "gcr.io/x/y": pin})
	for _, c := range []struct{ id, convert string }{
		{"docker-image://docker.io/library/golang:1.26", "docker-image://docker.io/library/golang:1.26@" + pin},
		{"docker-image://docker.io/library/golang:1.26@sha256:" + strings.Repeat("cd", 32), "docker-image://docker.io/library/golang:1.26@" + pin},
		{"docker-image://docker.io/library/golang:1.26@" + pin, ""},
		{"docker-image://gcr.io/x/y:latest", "docker-image://gcr.io/x/y:latest@" + pin},
		{"docker-image://docker.io/library/golang:1.25", ""},
		{"local://context", ""},
		{"https://docker.io/file", ""},
	} {
		d := ask(t, p, c.id, nil)
		switch {
		case c.convert == "" && d.Action != spb.PolicyAction_ALLOW:
			t.Errorf("%s: %v", c.id, d)
		case c.convert != "" && (d.Action != spb.PolicyAction_CONVERT || d.Update.Identifier != c.convert):
			t.Errorf("%s: %v", c.id, d)
		}
	}
	for _, id := range []string{
		"http://127.0.0.1:8080/api", "https://evil.example/x", "http://[::1]/", "http://0.0.0.0/", "http://169.254.169.254/latest/meta-data", "http://[fe80::1]/",
		"https://pods.example/x", "docker-image://127.0.0.1:5000/a:1", "git://evil.example/repo.git", "docker-image://evil.example/a:1",
		"http://[::ffff:127.0.0.1]/x",
	} {
		if d := ask(t, p, id, nil); d.Action != spb.PolicyAction_DENY || len(d.DenyMessages) != 1 {
			t.Errorf("%s: %v", id, d)
		}
	}
	for full, want := range map[string]spb.PolicyAction{
		"git@evil.example:repo.git": spb.PolicyAction_DENY, "https://evil.example/repo.git": spb.PolicyAction_DENY, "git@github.com:a/b.git": spb.PolicyAction_ALLOW,
		"nothing": spb.PolicyAction_DENY,
	} {
		if d := ask(t, p, "git://x", map[string]string{pb.AttrFullRemoteURL: full}); d.Action != want {
			t.Errorf("%s: %v", full, d)
		}
	}
}

func TestPolicyOfMirrors(t *testing.T) {
	t.Parallel()
	mirror := Mirror{Registry: "docker.io", Address: "http://127.0.0.1:1", Prefix: "mirror/docker.io"}
	p := testPolicy(t, nil, mirror)
	if d := ask(t, p, "docker-image://127.0.0.1:1/mirror/docker.io/library/a:1", nil); d.Action != spb.PolicyAction_ALLOW {
		t.Errorf("the mirror itself: %v", d)
	}
	p.mirror["docker.io/library/a:1"] = "" // asked before: has it not
	if d := ask(t, p, "docker-image://docker.io/library/a:1", nil); d.Action != spb.PolicyAction_ALLOW {
		t.Errorf("not in the mirror: %v", d)
	}
	p.mirrors[0].Only = true
	if d := ask(t, p, "docker-image://docker.io/library/a:1", nil); d.Action != spb.PolicyAction_DENY {
		t.Errorf("only the mirror: %v", d)
	}
	_, _, err := p.check(t.Context(), &policysession.CheckPolicyRequest{Source: &gwpb.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: "docker-image://docker.io/library/b:1"}}})
	if slipway.Temporary(surroundings(err)) != true {
		t.Errorf("a mirror that does not answer: %v", err)
	}
}

func TestPinsThatAreNone(t *testing.T) {
	t.Parallel()
	for ref, dgst := range map[string]string{"UPPER": "sha256:" + strings.Repeat("a", 64), "a": "sha256:12", "b": ""} {
		if _, err := normalisePins(map[string]string{ref: dgst}); err == nil {
			t.Errorf("pin %s=%s is accepted", ref, dgst)
		}
	}
}

func TestNormalise(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stat := func(content string, perm os.FileMode) *fstypes.Stat {
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(content), perm); err != nil {
			t.Fatal(err)
		}
		st := &fstypes.Stat{Mode: uint32(perm), Uid: 1000, Gid: 1000, Size: int64(len(content)), ModTime: time.Now().UnixNano(), Xattrs: map[string][]byte{"a": nil}}
		normalise(dir, "f", st)
		return st
	}
	a, same, other, program := stat("one", 0o600), stat("one", 0o666), stat("two", 0o600), stat("one", 0o711)
	if a.Uid != 0 || a.Mode != 0o644 || program.Mode != 0o755 || len(a.Xattrs) != 0 {
		t.Errorf("%+v %+v", a, program)
	}
	if a.ModTime != same.ModTime || a.ModTime == other.ModTime {
		t.Error("the time does not follow the content")
	}
	if at := time.Unix(0, a.ModTime).UTC(); at.Year() != 2000 || at.YearDay() != 1 || at.Hour() > 1 {
		t.Errorf("time %s", at)
	}
}

func TestFrontendAttributes(t *testing.T) {
	t.Parallel()
	j := job{project: "shop", service: "cart", dockerfile: "docker/Dockerfile.prod", target: "final", epoch: 17,
		args: map[string]string{"A": "b", "SOURCE_DATE_EPOCH": "0", "BUILDKIT_SYNTAX": "evil/frontend", "BUILDKIT_CACHE_MOUNT_NS": "shop/reviewed", "BUILDKIT_SANDBOX_HOSTNAME": "db.4c1d09ab7e"}}
	got := j.frontend()
	for k, want := range map[string]string{
		"filename": "Dockerfile.prod", "target": "final", "build-arg:A": "b", "build-arg:SOURCE_DATE_EPOCH": "17",
		"build-arg:BUILDKIT_CACHE_MOUNT_NS": "shop/branch", "cmdline": "builtin",
	} {
		if got[k] != want {
			t.Errorf("%s is %q, want %q", k, got[k], want)
		}
	}
	if _, ok := got["build-arg:BUILDKIT_SYNTAX"]; ok {
		t.Error("the service chooses the frontend")
	}
	if _, ok := got["build-arg:BUILDKIT_SANDBOX_HOSTNAME"]; ok {
		t.Error("the service chooses the host name of its builds")
	}
}

func TestIsolated(t *testing.T) {
	t.Parallel()
	host := []string{"192.0.2.7", "10.99.1.1"}
	const own = "own 10.99.1.2\ngateway 10.99.1.1\n"
	for out, want := range map[string]bool{
		own + "try 10.99.1.1 nc: can't connect: No route to host\n":                              true,
		own + "try 10.99.1.1 nc: timed out\n":                                                    true,
		own + "try 10.99.1.1 nc: can't connect: Connection refused\n":                            false,
		own + "try 10.99.1.1 connected\n":                                                        false,
		own + "try 10.99.1.1 nc: timed out\ntry 192.0.2.7 nc: can't connect: Connection refused": false,
		own + "try 10.99.1.1 nc: timed out\ntry 10.42.0.1 nc: can't connect: Connection refused": true,  // of a bridge that is gone
		"own 172.17.0.2\ngateway 172.17.0.1\ntry 172.17.0.1 connected\n":                         false, // not of this machine, but of the one that builds
		"own " + host[0] + "\ntry 10.99.1.1 nc: timed out\n":                                     false,
		"": false,
	} {
		if f := isolated(out, host); f.OK != want {
			t.Errorf("%q: %+v", out, f)
		}
	}
}

func TestProbeWithoutBusybox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		own, shared, needed bool
	}{{false, false, true}, {true, false, false}, {false, true, false}} {
		p := &containerProbe{own: c.own, shared: c.shared}
		found := p.unknown(errors.New("no busybox"))
		if f := found[2]; f.OK || f.Needed != c.needed || f.Do != "apt-get install busybox-static" {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

// Ready waits until BuildKit answers.
func (e *Engine) Ready(ctx context.Context) error {
	_, err := e.connection(ctx)
	return err
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Options{Dir: "relative"}); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("relative folder: %v", err)
	}
	e, err := Open(t.Context(), Options{Dir: t.TempDir(), Address: "unix:///nothing/here.sock"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(t.Context()); !slipway.Temporary(err) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("nothing there: %v", err)
	}
	for _, f := range e.Probe(t.Context()) {
		if f.OK || !f.Needed || f.Do == "" {
			t.Errorf("finding %+v", f)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := e.Ready(t.Context()); err == nil {
		t.Error("a closed engine is ready")
	}
}
