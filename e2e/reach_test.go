package e2e_test

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// TestBuildsCannotReachTheHost lets a Dockerfile's RUN and the tests try to reach this machine: Slipway,
// the cluster's API server, the kubelet.
func TestBuildsCannotReachTheHost(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	api, err := url.Parse(kube(t).config.Host)
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{s.address, api.Host}
	for _, p := range kubelets(t) {
		targets = append(targets, net.JoinHostPort(api.Hostname(), fmt.Sprint(p)))
	}
	var try strings.Builder
	try.WriteString("echo begin\nhttpd -p 127.0.0.1:8099 && wget -q -T 30 -O /dev/null http://127.0.0.1:8099/ 2>/dev/null; nc -w 30 127.0.0.1 8099 </dev/null && echo control works\n")
	for _, target := range targets {
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialTimeout("tcp", target, time.Minute)
		if err != nil {
			t.Fatalf("this machine itself does not reach %s: %v", target, err)
		}
		conn.Close()
		fmt.Fprintf(&try, "if nc -w 2 %s %s </dev/null; then echo reached %s; else echo out of reach %s; fi\n", host, port, target, target)
	}
	// The host by the address at which the container sees it.
	fmt.Fprintf(&try, "gateway=$(ip route | awk '/^default/ {print $3}')\nif nc -w 2 $gateway %s </dev/null; then echo reached the gateway; else echo out of reach the gateway; fi\n", port(s.address))
	r := s.project(t, "reach", tree{
		"reach/Dockerfile": "FROM busybox:1.36 AS base\nCOPY try.sh /\nRUN sh /try.sh\nFROM base AS testrunner\nENTRYPOINT [\"sh\", \"/try.sh\"]\nFROM base AS final\n",
		"reach/try.sh":     try.String(),
	})
	run := r.push("HEAD:refs/heads/feature/reach")
	d := s.until(t, run.ID, slipway.RunSucceeded, slipway.RunFailed)
	for _, key := range []string{"build/reach", "test/reach"} {
		step(t, d, key)
		log := s.log(t.Context(), run.ID, key)
		if !strings.Contains(log, "control works") {
			t.Errorf("%s: the try itself does not work:\n%s", key, log)
		}
		if strings.Contains(log, "reached") {
			t.Errorf("%s reached this machine:\n%s", key, log)
		}
		if n := strings.Count(log, "out of reach"); n < len(targets)+1 {
			t.Errorf("%s tried %d of %d addresses:\n%s", key, n, len(targets)+1, log)
		}
	}
}

func port(address string) string {
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // the address is ours
	}
	return p
}
