package subprocess_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway/driver/subprocess"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is a process that answers with what it is asked, and has said something before.
func program(t *testing.T) *subprocess.Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", `printf '%5000s' x >&2; exec cat`) //nolint:noctx // it ends with its requests
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	p, err := subprocess.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.HangUp(); p.Cmd.Wait() }) //nolint:errcheck // a test may have waited for it
	return p
}

func TestAProcessAnswersUntilItIsTooMuch(t *testing.T) {
	t.Parallel()
	p := program(t)
	for _, want := range []string{"one", "two"} {
		var got string
		if err := p.Send([]byte(`"`+want+"\"\n"), 100); err != nil {
			t.Fatal(err)
		}
		if err := p.Receive(&got); err != nil || got != want || p.Exceeded() {
			t.Errorf("%q, %v, exceeded: %v", got, err, p.Exceeded())
		}
	}
	if err := p.Send([]byte(`"`+strings.Repeat("x", 200)+"\"\n"), 100); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := p.Receive(&got); err == nil || !p.Exceeded() {
		t.Errorf("%q, %v, exceeded: %v", got, err, p.Exceeded())
	}
	p.HangUp()
	if err := p.Cmd.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(p.Said()); n != 4<<10 {
		t.Errorf("%d bytes are kept of what it said", n)
	}
}

// ended is closed when it ended.
type ended chan struct{}

func (e ended) End() { close(e) }

func TestOneWaits(t *testing.T) {
	t.Parallel()
	s := subprocess.Spare[ended]{Wait: time.Hour}
	if _, ok := s.Take(); ok {
		t.Error("one waits that nobody kept")
	}
	first, second := make(ended), make(ended)
	s.Keep(first)
	s.Keep(second)
	select {
	case <-second:
	default:
		t.Error("the second was not ended, though the first waits")
	}
	if got, ok := s.Take(); !ok || got != first {
		t.Error("the first does not wait")
	}
	if _, ok := s.Take(); ok {
		t.Error("it waits still, though it was taken")
	}
	select {
	case <-first:
		t.Error("the first was ended though it was taken")
	default:
	}
}

func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	s := subprocess.Spare[ended]{Wait: time.Millisecond}
	p := make(ended)
	s.Keep(p)
	<-p
	if _, ok := s.Take(); ok {
		t.Error("what was ended waits")
	}
}
