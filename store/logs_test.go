package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

func testLogs(t *testing.T, limit int64) *Logs {
	t.Helper()
	l := newLogs(t.TempDir(), limit, newClock().now)
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	b, err := json.Marshal(slipway.LogLine{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
}

func texts(t *testing.T, l *Logs, attempt int) []string {
	t.Helper()
	lines, err := l.Lines(context.Background(), 1, 2, attempt, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, line := range lines {
		out = append(out, line.Text)
	}
	return out
}

func TestReadersFollowALogToItsEnd(t *testing.T) {
	t.Parallel()
	l := testLogs(t, 0)
	l.announce(attempt{1, 2, 1})
	var wg sync.WaitGroup
	got := make([]string, 5)
	for i := range got { // before there is a file
		wg.Go(func() {
			r, err := l.Tail(context.Background(), 1, 2, 1, true)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			got[i] = string(b)
		})
	}
	w, err := l.OpenLog(1, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	l.end(attempt{1, 2, 1}) // the step's end does not cut a log that has a writer
	for i := range 500 {
		write(t, w, fmt.Sprintf("line %d", i))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i := range got {
		if n := strings.Count(got[i], "\n"); n != 500 {
			t.Errorf("reader %d has %d lines", i, n)
		}
	}
	if _, err := w.Write([]byte("{}\n")); err == nil {
		t.Error("a closed log takes lines")
	}
}

func TestAReaderSurvivesCompression(t *testing.T) {
	t.Parallel()
	l := testLogs(t, 0)
	w, err := l.OpenLog(1, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, "first")
	r, err := l.Tail(context.Background(), 1, 2, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Fatal(err)
	}
	write(t, w, "second")
	for range 1000 {
		write(t, w, strings.Repeat("x", 100))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	if exists(l.path(attempt{1, 2, 1})) || !exists(l.path(attempt{1, 2, 1})+".gz") {
		t.Error("the log is not compressed")
	}
	rest, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(rest), "second") {
		t.Errorf("rest: %s %v", rest, err)
	}
	if got := texts(t, l, 1); len(got) != 1002 || got[0] != "first" || got[1] != "second" {
		t.Errorf("%d lines", len(got))
	}
}

func TestALogIsBounded(t *testing.T) {
	t.Parallel()
	l := testLogs(t, 4096)
	w, err := l.OpenLog(1, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		write(t, w, strings.Repeat("x", 100))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := texts(t, l, 1)
	if len(got) < 10 || len(got) > 40 || !strings.Contains(got[len(got)-1], "is not kept") {
		t.Errorf("%d lines, the last: %s", len(got), got[len(got)-1])
	}
}

func TestAFollowerLeavesWithItsContext(t *testing.T) {
	t.Parallel()
	l := testLogs(t, 0)
	l.announce(attempt{1, 2, 1})
	why := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	r, err := l.Tail(ctx, 1, 2, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel(why)
	if _, err := r.Read(make([]byte, 10)); !errors.Is(err, why) {
		t.Errorf("read: %v", err)
	}
	l.end(attempt{1, 2, 1}) // nobody ever opened it
	r, err = l.Tail(context.Background(), 1, 2, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("a log that does not exist: %s %v", b, err)
	}
}

func TestALogCutByACrashReadsToTheCut(t *testing.T) {
	t.Parallel()
	l := testLogs(t, 0)
	path := l.path(attempt{1, 2, 1})
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"time":"2026-11-21T09:00:00Z","text":"whole"}`+"\n"+`{"time":"2026-1`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := texts(t, l, 1); fmt.Sprint(got) != "[whole]" {
		t.Errorf("lines: %v", got)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
