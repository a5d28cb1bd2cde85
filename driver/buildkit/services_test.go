package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/test"
)

func TestServiceProcess(t *testing.T) {
	t.Parallel()
	image := ocispecs.ImageConfig{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, User: "70", WorkingDir: "/data",
		Env: []string{"PATH=/usr/bin", "PGDATA=/data", "TZ=UTC"},
	}
	service := func(spec slipway.TestService) *service { return &service{spec: spec, out: &lastLines{log: discard{}}} }
	t.Run("is the image's", func(t *testing.T) {
		t.Parallel()
		req, err := service(slipway.TestService{Name: "db"}).process(image)
		if err != nil || !slices.Equal(req.Args, []string{"docker-entrypoint.sh", "postgres"}) || req.User != "70" || req.Cwd != "/data" || !slices.Equal(req.Env, image.Env) || req.SecretEnv != nil {
			t.Errorf("%+v, %v", req, err)
		}
	})
	t.Run("has another command and environment", func(t *testing.T) {
		t.Parallel()
		req, err := service(slipway.TestService{Name: "db", Command: []string{"postgres", "-c", "fsync=off"}, Env: map[string]string{"PGDATA": "/tmp/db", "A": "x=y"}}).process(image)
		if err != nil || strings.Join(req.Args, " ") != "docker-entrypoint.sh postgres -c fsync=off" || strings.Join(req.Env, " ") != "PATH=/usr/bin TZ=UTC A=x=y PGDATA=/tmp/db" {
			t.Errorf("%+v, %v", req, err)
		}
	})
	t.Run("is nothing", func(t *testing.T) {
		t.Parallel()
		_, err := service(slipway.TestService{Name: "db"}).process(ocispecs.ImageConfig{})
		if err == nil || err.Error() != "service db has nothing to run: its image has neither ENTRYPOINT nor CMD; give it a command" {
			t.Error(err)
		}
	})
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	log := &lines{}
	l := &lastLines{log: log}
	w := &lineWriter{log: l, group: "[service] db", stream: "stderr", room: &room{limit: 1000}}
	if l.text() != "" {
		t.Errorf("%q", l.text())
	}
	if _, err := w.Write([]byte("one\n\ntwo\n  three\n" + strings.Repeat("x", 300) + "\n")); err != nil {
		t.Fatal(err)
	}
	l.Line(slipway.LogLine{Text: "not of the service"})
	if got, want := l.text(), "two | three | "+strings.Repeat("x", 200)+"..."; got != want {
		t.Errorf("got %q", got)
	}
	if len(log.all) != 6 || log.all[0].Text != "one" || log.all[5].Text != "not of the service" {
		t.Errorf("%q", log.all)
	}
}

func TestServiceExit(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	close(closed)
	for name, c := range map[string]struct {
		service service
		code    int
		ended   bool
	}{
		"did not begin": {service{}, 0, false},
		"runs":          {service{ended: make(chan struct{})}, 0, false},
		"ended well":    {service{ended: closed}, 0, true},
		"failed":        {service{ended: closed, err: &gwpb.ExitError{ExitCode: 3}}, 3, true},
		"failed by -1":  {service{ended: closed, err: &gwpb.ExitError{ExitCode: 255}}, 255, true},
		"was lost":      {service{ended: closed, err: status.Error(codes.Unavailable, "gone")}, 0, false},
	} {
		if code, ended := c.service.exit(); code != c.code || ended != c.ended {
			t.Errorf("%s: %d, %v", name, code, ended)
		}
	}
}

// Who is at fault decides whether the step failed or is tried again (D7).
func TestServiceVerdict(t *testing.T) {
	t.Parallel()
	e := &Engine{}
	pol := &policy{
		creds: &credentials{get: func(context.Context, string, string) (string, string) { return "", "" }}, denied: func(netip.Addr) bool { return true },
		lookup: lookupHost, log: discard{},
	}
	image := func(err error) error { return &imageError{"db", "127.0.0.1:1/postgres:16", err} }
	for name, c := range map[string]struct {
		err       error
		failure   string // "" for an error
		temporary bool
	}{
		"not healthy":                 {&downError{test.ServiceFailure{Name: "db", Message: "was not healthy"}}, "was not healthy", false},
		"no such image":               {image(status.Error(codes.NotFound, "not found")), "has no image: 127.0.0.1:1/postgres:16 is not in its registry", false},
		"no image for this platform":  {image(status.Error(codes.InvalidArgument, "no match for platform")), "has no image: no match for platform", false},
		"a registry on this machine":  {image(status.Error(codes.Unknown, "dial")), "has no image: 127.0.0.1:1/postgres:16: its registry leads to 127.0.0.1, " + notReached, false},
		"BuildKit gone":               {status.Error(codes.Unavailable, "gone"), "", true},
		"something of Slipway itself": {errors.New("no network"), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure, err := e.serviceVerdict(t.Context(), c.err, pol)
			if c.failure != "" {
				if err != nil || failure == nil || failure.Name != "db" || failure.Message != c.failure {
					t.Errorf("%+v, %v", failure, err)
				}
				return
			}
			if failure != nil || err == nil || slipway.Temporary(err) != c.temporary {
				t.Errorf("%+v, %v", failure, err)
			}
		})
	}
	t.Run("a registry that does not answer", func(t *testing.T) {
		t.Parallel()
		open := policy{creds: pol.creds, denied: func(netip.Addr) bool { return false }, lookup: lookupHost, log: discard{}}
		failure, err := e.serviceVerdict(t.Context(), image(status.Error(codes.Unknown, "dial tcp: refused")), &open)
		if failure != nil || !slipway.Temporary(err) || !strings.HasPrefix(err.Error(), "image 127.0.0.1:1/postgres:16 of service db: ") {
			t.Errorf("%+v, %v", failure, err)
		}
	})
}

func TestRunAddresses(t *testing.T) {
	t.Parallel()
	for i := range 2 + test.MaxServices {
		if a := runAddress(i); !runSubnet.Contains(a) || a == runSubnet.Addr() || a.Next() == runSubnet.Addr() || !runSubnet.Contains(a.Next()) {
			t.Errorf("address %d is %s", i, a)
		}
	}
	raw, err := renderJoin(runAddress(2))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Type, Bridge string
		IsGateway    bool
		IsDefault    bool `json:"isDefaultGateway"`
		IPMasq       bool `json:"ipMasq"`
		IPAM         struct {
			Type      string
			Addresses []struct{ Address, Gateway string }
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Type != "bridge" || got.IPAM.Type != "static" || got.IsDefault || got.IPMasq || len(got.IPAM.Addresses) != 1 || got.IPAM.Addresses[0].Address != "198.19.255.243/28" {
		t.Errorf("%s", raw)
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", 90 * time.Second: "1m30s", 2 * time.Second: "2s", time.Hour: "1h", 10 * time.Minute: "10m", 500 * time.Millisecond: "500ms", 70 * time.Minute: "1h10m",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

// Another BuildKit cannot keep the services of two runs apart.
func TestServicesNeedTheOwnBuildKit(t *testing.T) {
	t.Parallel()
	e := &Engine{link: &link{name: "BuildKit at tcp://builder:1234", version: "v0.33.1"}}
	_, err := e.RunTests(t.Context(), test.Request{Services: []slipway.TestService{{Name: "db", Image: "postgres:16"}}}, discard{})
	if slipway.ErrorCode(err) != slipway.Invalid || slipway.Temporary(err) || !strings.Contains(err.Error(), "BuildKit at tcp://builder:1234") {
		t.Error(err)
	}
}
