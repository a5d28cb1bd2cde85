//go:build linux

package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/test"
)

// mockImage puts the program of testdata/mock into the mirror as an image of its own, without a shell.
func (w *world) mockImage(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "mock"), filepath.Join(dir, "layer.tar")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/mock")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	err = errors.Join(tw.WriteHeader(&tar.Header{Name: "bin/mock", Mode: 0o755, Size: int64(len(data))}), second(tw.Write(data)), tw.Close(), os.WriteFile(file, buf.Bytes(), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	w.reg.push(t, "library/mock:1", file, v1.Config{Entrypoint: []string{"/bin/mock"}, Cmd: []string{"serve", ":8080", "nobody"}, User: "1234", WorkingDir: "/work", Env: []string{"WHO=nobody"}})
}

func second(_ int, err error) error { return err }

// mock is a service that says who it is on port 8080.
func mock(name, who string) slipway.TestService {
	return slipway.TestService{
		Name: name, Image: "mock:1", Ports: []int{8080}, Timeout: slipway.Duration(5 * time.Minute), Command: []string{"serve", ":8080", who},
	}
}

// mockRunner is runner with the program mock.
var mockRunner = strings.Replace(runner, "COPY . .", "COPY . .\nCOPY --from=mock:1 /bin/mock /bin/mock", 1)

// serviceRequest is a request for tests that run a script beside services.
func (w *world) serviceRequest(t testing.TB, dockerfile, script string, services ...slipway.TestService) test.Request {
	t.Helper()
	req := w.testRequest(t, dockerfile, map[string]string{"run.sh": script})
	req.Services = services
	return req
}

// failing is a service that does not become healthy, and what is said of it.
type failing struct {
	service slipway.TestService
	want    []string
}

func TestServices(t *testing.T) {
	w := lodging(t)
	w.mockImage(t)
	sleeps := nap()
	t.Run("are reached by name", func(t *testing.T) {
		store := mock("store", "the store")
		store.Image, store.Env = "busybox:1.36", map[string]string{"WHO": "the store"}
		store.Command = []string{"sh", "-c", "echo I am $WHO; while true; do echo $WHO | nc -l -p 8080; done"}
		store.Health = []string{"sh", "-c", "echo asked as $WHO on $(hostname)"}
		req := w.serviceRequest(t, mockRunner, `mock ask api:8080 || exit 1
until mock ask store:8080; do sleep 0.1; done
cat /etc/hosts; hostname
mock serve 127.0.0.1:7777 mine & until mock ask localhost:7777; do sleep 0.1; done
mock ask localhost:8080 && exit 3
exit 0`, mock("api", "the api"), store)
		begin := time.Now()
		res, log := w.runTests(t, req)
		t.Logf("%s", time.Since(begin))
		if res.ExitCode != 0 || res.Service != nil || len(res.Stopped) != 0 {
			t.Errorf("%+v\n%s", res, log.all())
		}
		for _, want := range []string{"|stdout| the api", "|stdout| the store", "[service] api", "serving the api", "health: asked as the store on store.", "library/mock:1@sha256:", "|stdout| mine", "healthy after", "|stdout| tests-"} {
			if !strings.Contains(log.all(), want) {
				t.Errorf("no %q in the log\n%s", want, log.all())
			}
		}
	})
	t.Run("are ten at once", func(t *testing.T) {
		var all []slipway.TestService
		script := ""
		for i := range test.MaxServices {
			name := fmt.Sprintf("s%d", i)
			all = append(all, mock(name, "I am "+name))
			script += "mock ask " + name + ":8080 || exit 1\n"
		}
		begin := time.Now()
		res, log := w.runTests(t, w.serviceRequest(t, mockRunner, script, all...))
		t.Logf("%s", time.Since(begin))
		if res.ExitCode != 0 || strings.Count(log.all(), "|stdout| I am s") != len(all) {
			t.Errorf("%+v\n%s", res, log.all())
		}
	})
	failing := map[string]failing{
		"never healthy": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{5432}, Timeout: slipway.Duration(20 * time.Second), Command: []string{"sh", "-c", "echo starting; echo 'no space' >&2; sleep " + sleeps}},
			[]string{"was not healthy after 20s: port 5432 does not accept connections; its last output: ", "starting", "no space"},
		},
		"listens for itself only": {
			slipway.TestService{Name: "db", Image: "mock:1", Ports: []int{5432}, Timeout: slipway.Duration(20 * time.Second), Command: []string{"serve", "127.0.0.1:5432", "db"}},
			[]string{"was not healthy after 20s: port 5432 does not accept connections"},
		},
		"never passes its check": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Health: []string{"sh", "-c", "echo not yet; exit 3"}, Timeout: slipway.Duration(20 * time.Second), Command: []string{"sleep", sleeps}},
			[]string{"was not healthy after 20s: sh: not yet"},
		},
		"has no such check": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Health: []string{"pg_isready"}, Timeout: slipway.Duration(20 * time.Second), Command: []string{"sleep", sleeps}},
			[]string{"was not healthy after 20s: pg_isready: ", "not found"},
		},
		"has a check that hangs": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Health: []string{"sleep", sleeps}, Timeout: slipway.Duration(20 * time.Second), Command: []string{"sleep", sleeps}},
			[]string{"was not healthy after 20s: sleep did not end"},
		},
		"dies": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{5432}, Command: []string{"sh", "-c", "echo 'bad configuration' >&2; exit 9"}},
			[]string{"ended with exit code 9 before it was healthy; its last output: bad configuration"},
		},
		"is not there": {
			slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{5432}, Command: []string{"/nothere"}},
			[]string{"ended with exit code", "before it was healthy"},
		},
		"is misspelt": {
			slipway.TestService{Name: "db", Image: "busybocks:1.36", Ports: []int{5432}},
			[]string{"has no image: "},
		},
		"is no reference": {
			slipway.TestService{Name: "db", Image: "Busy Box", Ports: []int{5432}},
			[]string{`has image "Busy Box", which is not a reference`},
		},
	}
	t.Run("fail", func(t *testing.T) { notHealthy(t, w, failing) })
	t.Run("stop while the tests run", func(t *testing.T) {
		dying := mock("api", "api")
		dying.Command = []string{"dies", "137", ":8080"}
		res, log := w.runTests(t, w.serviceRequest(t, mockRunner, "mock kill api:8080; sleep 5; exit 1", dying))
		if res.ExitCode != 1 || len(res.Stopped) != 1 || res.Stopped[0].String() != "service api ended with exit code 137 while the tests ran; its last output: serving for a while | out of memory" {
			t.Errorf("%+v\n%s", res, log.all())
		}
	})
	if left := processes(sleeps); len(left) > 0 {
		t.Errorf("services are left: %v", left)
	}
	if left := entries(w.link.daemon.layout.joins()); len(left) > 0 {
		t.Errorf("joins are left: %v", left)
	}
}

// notHealthy waits for services that never get there, for all of them at once.
func notHealthy(t *testing.T, w *world, failing map[string]failing) {
	var runs sync.WaitGroup
	for name, c := range failing {
		runs.Go(func() {
			begin := time.Now()
			log := newLog(t)
			res, err := w.RunTests(w.ctx, w.serviceRequest(t, mockRunner, "echo the tests run", mock("api", "api"), c.service), log)
			t.Logf("%s: %s: %+v %v", name, time.Since(begin), res.Service, err)
			if err != nil || res.Service == nil || res.Service.Name != "db" {
				t.Errorf("%s: %+v, %v\n%s", name, res, err, log.all())
				return
			}
			for _, want := range c.want {
				if !strings.Contains(res.Service.Message, want) {
					t.Errorf("%s: no %q in %q\n%s", name, want, res.Service.Message, log.all())
				}
			}
			if log.has("the tests run") {
				t.Errorf("%s: the tests ran", name)
			}
		})
	}
	runs.Wait()
}

func TestServicesAreCancelled(t *testing.T) {
	w := lodging(t)
	sleeps := nap()
	api := slipway.TestService{Name: "api", Image: "busybox:1.36", Ports: []int{8080}, Command: []string{"sh", "-c", "sleep " + sleeps + " & while true; do nc -l -p 8080; done"}}
	for name, script := range map[string]string{"while the tests run": "echo sleeping; sleep " + sleeps, "while a service starts": ""} {
		t.Run(name, func(t *testing.T) {
			req, line := w.serviceRequest(t, runner, script, api), "sleeping"
			if script == "" {
				req.Services = append(req.Services, slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{1}, Command: []string{"sh", "-c", "echo db waits; sleep " + sleeps}})
				line = "db waits"
			}
			ctx, cancel := context.WithCancelCause(w.ctx)
			log := newLog(t)
			done := make(chan error, 1)
			go func() {
				_, err := w.RunTests(ctx, req, log)
				done <- err
			}()
			log.wait(w.ctx, line)
			if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) > 1 }) {
				t.Fatal("nothing runs")
			}
			begin := time.Now()
			cancel(slipway.ErrTimeout)
			if err := <-done; !errors.Is(err, slipway.ErrTimeout) {
				t.Errorf("got %v", err)
			}
			if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) == 0 }) {
				t.Error("processes are still there")
			}
			t.Logf("gone %s after the cancel", time.Since(begin))
		})
	}
}

// A daemon that dies takes tests and services with it; that is trouble of the surroundings.
func TestDaemonDiesBesideServices(t *testing.T) {
	w := newWorld(t)
	sleeps := nap()
	serve := []string{"sh", "-c", "sleep " + sleeps + " & while true; do nc -l -p 8080; done"}
	req := w.serviceRequest(t, runner, "echo sleeping; sleep "+sleeps, slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{8080}, Command: serve})
	log := newLog(t)
	done := make(chan error, 1)
	go func() {
		_, err := w.RunTests(w.ctx, req, log)
		done <- err
	}()
	log.wait(w.ctx, "sleeping")
	w.link.daemon.current().signal(syscall.SIGKILL)
	begin := time.Now()
	if err := <-done; !slipway.Temporary(err) {
		t.Errorf("got %v", err)
	}
	t.Logf("it ended %s after the kill", time.Since(begin))
	again := w.serviceRequest(t, runner, "echo again", slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{8080}, Command: []string{"sh", "-c", "while true; do nc -l -p 8080; done"}})
	err := slipwaytest.Await(w.ctx, 200*time.Millisecond, func() (bool, error) {
		res, err := w.RunTests(w.ctx, again, newLog(t))
		if slipway.Temporary(err) {
			return false, nil
		}
		if err == nil && (res.ExitCode != 0 || res.Service != nil) {
			t.Errorf("tests after the kill: %+v", res)
		}
		return true, err
	})
	if err != nil {
		t.Fatalf("tests after the kill: %v", err)
	}
	if left := processes(sleeps); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// whereabouts is a service that tells its addresses and says who it is on port 8080.
func whereabouts(who string) slipway.TestService {
	return slipway.TestService{
		Name: "api", Image: "busybox:1.36", Ports: []int{8080}, Env: map[string]string{"WHO": who},
		Command: []string{"sh", "-c", "for a in $(ip -4 -o addr | sed -n 's/.* inet \\([0-9.]*\\).*/\\1/p'); do echo at $a; done; while true; do echo $WHO | nc -l -p 8080; done"},
	}
}

// Two runs at once have services of the same name, and neither reaches the other's, by name or by address (D20).
func TestServicesOfTwoRuns(t *testing.T) {
	w := lodging(t)
	w.mockImage(t)
	ctx, cancel := context.WithCancel(w.ctx)
	log := newLog(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.RunTests(ctx, w.serviceRequest(t, mockRunner, "mock ask api:8080; echo waiting; sleep 4747", whereabouts("the first")), log) // it ends when we cancel
	}()
	defer func() { cancel(); <-done }()
	log.wait(w.ctx, "waiting")
	script := "mock ask api:8080\n"
	addresses := 0
	for line := range strings.Lines(log.all()) {
		if _, addr, ok := strings.Cut(strings.TrimSpace(line), "|stdout| at "); ok && addr != "127.0.0.1" {
			addresses++
			script += "mock ask " + addr + ":8080 || echo not at " + addr + "\n"
		}
	}
	if addresses != 2 || !log.has("the first") {
		t.Fatalf("%d addresses\n%s", addresses, log.all())
	}
	_, second := w.runTests(t, w.serviceRequest(t, mockRunner, script, whereabouts("the second")))
	all := second.all()
	// The address within a run is the same in both, and there it is the run's own.
	if strings.Count(all, "|stdout| the second") != 2 || strings.Count(all, "|stdout| not at 10.99.") != 1 || strings.Contains(all, "the first") {
		t.Errorf("%s\n%s", script, all)
	}
	_, without := w.runTests(t, w.serviceRequest(t, mockRunner, script))
	if strings.Count(without.all(), "|stdout| not at ") != 2 {
		t.Errorf("tests without services\n%s", without.all())
	}
}

// Services and the tests beside them reach nothing of this machine (D20).
func TestServicesAreIsolated(t *testing.T) {
	w := lodging(t)
	gateway, addr := w.link.daemon.network.gateway().String(), privateAddress(t)
	script, tries := "", 0
	for _, at := range []string{listen(t, addr), listen(t, gateway), listen(t, "127.0.0.1"), gateway + ":1", addr + ":1"} {
		host, port, _ := strings.Cut(at, ":")
		if host == "127.0.0.1" { // through the network of the run, which this process is not in
			host = runAddress(0).String()
		}
		script += fmt.Sprintf("echo \"try %s %s $(nc -w 2 %s %s </dev/null 2>&1 && echo connected)\" & ", host, port, host, port)
		tries++
	}
	script += "wait; echo tried"
	spy := slipway.TestService{Name: "spy", Image: "busybox:1.36", Timeout: slipway.Duration(patience), Command: []string{"sh", "-c", script + "; touch /tmp/tried; sleep 4848"}, Health: []string{"test", "-e", "/tmp/tried"}}
	_, log := w.runTests(t, w.serviceRequest(t, runner, script, spy))
	n := 0
	for line := range strings.Lines(log.all()) {
		_, try, ok := strings.Cut(line, "|stdout| try ")
		if !ok {
			continue
		}
		n++
		if strings.Contains(try, "connected") || (strings.Contains(try, "refused") && !strings.HasPrefix(try, runAddress(0).String())) {
			t.Errorf("reached %s", try)
		}
	}
	if n != 2*tries {
		t.Errorf("%d tries\n%s", n, log.all())
	}
}

// killedDir and killedMirror tell the test binary to be a Slipway that will be killed.
const killedDir, killedMirror, killedSleeps = "SLIPWAY_KILLED_DIR", "SLIPWAY_KILLED_MIRROR", "SLIPWAY_KILLED_SLEEPS"

// beKilled runs tests beside a service until this process is killed.
func beKilled(t testing.TB, dir string) {
	reg := &testRegistry{address: os.Getenv(killedMirror), host: strings.TrimPrefix(os.Getenv(killedMirror), "http://"), password: testPassword}
	e, err := Open(t.Context(), testOptions(t, reg, dir))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Engine: e, ctx: t.Context(), reg: reg, dir: dir}
	sleeps := os.Getenv(killedSleeps)
	res, err := w.RunTests(t.Context(), w.serviceRequest(t, runner, "sleep "+sleeps, slipway.TestService{
		Name: "db", Image: "busybox:1.36", Ports: []int{8080}, Command: []string{"sh", "-c", "sleep " + sleeps + " & while true; do nc -l -p 8080; done"},
	}), newLog(t))
	t.Fatalf("it was not killed: %+v %v", res, err)
}

// A Slipway that is killed leaves a daemon, and nothing of the tests and services that it ran.
func TestSlipwayIsKilledBesideServices(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		beKilled(t, dir)
	}
	w, sleeps := newWorld(t), nap()
	w.Detach()
	cmd := exec.CommandContext(w.ctx, os.Args[0], "-test.run", "^TestSlipwayIsKilledBesideServices$")
	cmd.Env = append(os.Environ(), killedDir+"="+w.dir, killedMirror+"="+w.reg.address, killedSleeps+"="+sleeps, "TMPDIR="+t.TempDir()) // who is killed removes nothing
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) == 2 || len(ended) > 0 }) || len(ended) > 0 {
		t.Fatalf("the tests do not run: %v\n%s", processes(sleeps), out.String())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	<-ended
	if !poll(w.ctx, patience, func() bool { return len(processes(sleeps)) == 0 }) {
		t.Errorf("still there: %v", processes(sleeps))
	}
	t.Logf("gone %s after the kill", time.Since(begin))
	next, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = next
	res, log := w.runTests(t, w.serviceRequest(t, runner, "echo again", slipway.TestService{Name: "db", Image: "busybox:1.36", Ports: []int{8080}, Command: []string{"sh", "-c", "while true; do nc -l -p 8080; done"}}))
	if res.ExitCode != 0 || !log.has("again") {
		t.Errorf("%+v\n%s", res, log.all())
	}
	before := traces(t, w.dir)
	if err := next.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, w.dir, before)
	if left := entries(w.dir + "/joins"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
