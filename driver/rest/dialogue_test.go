package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// dialogue is a file of a forge's testdata/api: what is asked, in the order in which it must be asked,
// and how the forge answers by its documentation. Its first part says what is called with what, its last
// what comes of it.
type dialogue struct {
	mu      sync.Mutex
	path    string
	archive *txtar.Archive
	params  map[string]string
	next    int // file of the next request
	faults  []string
}

func parseDialogue(t *testing.T, path string) *dialogue {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil || len(a.Files) < 3 || len(a.Files)%2 == 0 {
		t.Fatalf("%s: %v, %d parts", path, err, len(a.Files))
	}
	d := &dialogue{path: path, archive: a, params: map[string]string{}}
	for line := range strings.Lines(string(a.Comment)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.Contains(k, " ") {
			d.params[k] = v
		}
	}
	return d
}

func (d *dialogue) fault(w http.ResponseWriter, format string, args ...any) {
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
	w.WriteHeader(http.StatusTeapot)
}

func (d *dialogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := r.Method + " " + r.URL.RequestURI()
	if d.archive.Files[d.next].Name == "result" {
		d.fault(w, "one request too many: %s", got)
		return
	}
	line, body, _ := strings.Cut(string(d.archive.Files[d.next].Data), "\n")
	if got != line {
		d.fault(w, "request %d: got %s, want %s", d.next/2+1, got, line)
		return
	}
	sent, err := io.ReadAll(r.Body)
	if err != nil || !sameJSON(sent, []byte(body)) {
		d.fault(w, "request %d: got the body %s, want %s %v", d.next/2+1, sent, body, err)
		return
	}
	if r.Header.Get("Authorization") == "" || r.Header.Get("User-Agent") != "slipway" || !strings.Contains(r.Header.Get("Accept"), "json") {
		d.fault(w, "request %d: the header is %v", d.next/2+1, r.Header)
		return
	}
	head, text, _ := strings.Cut(string(d.archive.Files[d.next+1].Data), "\n\n")
	d.next += 2
	lines := strings.Split(strings.TrimSpace(head), "\n")
	status, err := strconv.Atoi(lines[0])
	if err != nil {
		d.fault(w, "answer %d: %v", d.next/2, err)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func sameJSON(a, b []byte) bool {
	a, b = bytes.TrimSpace(a), bytes.TrimSpace(b)
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// call makes the call that the file's name begins with.
func (d *dialogue) call(t *testing.T, c client) (any, error) {
	t.Helper()
	ctx := t.Context()
	number := func(name string) int64 {
		n, err := strconv.ParseInt(d.params[name], 10, 64)
		if err != nil {
			t.Fatalf("%s: %s: %v", d.path, name, err)
		}
		return n
	}
	verb, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(d.path), ".txtar"), "-")
	switch verb {
	case "repository":
		return c.Repository(ctx)
	case "pulls":
		return c.Pulls(ctx)
	case "pull":
		return c.Pull(ctx, number("pull"))
	case "heads":
		return c.Heads(ctx)
	case "status":
		s := slipway.CommitStatus{Commit: commit, Context: d.params["context"], State: slipway.StatusState(d.params["state"]), Description: strings.Repeat("ä", 300), URL: "https://slipway.example.com/runs/1", Branch: d.params["branch"]}
		if d.params["pull"] != "" {
			s.Pull = number("pull")
		}
		return nil, c.SetStatus(ctx, s)
	case "comment":
		return c.Comment(ctx, slipway.PullComment{Pull: number("pull"), Marker: "summary", Text: "text", ID: d.params["id"]})
	case "rights":
		return c.MayWrite(ctx, slipway.Account{ID: d.params["id"], Name: d.params["name"], Bot: d.params["bot"] != ""})
	case "hooks":
		return c.CreateHooks(ctx, "https://slipway.example.com/hooks/shop", "open-sesame")
	case "remove":
		return nil, c.DeleteHook(ctx, d.params["id"])
	}
	t.Fatalf("%s: no such call", d.path)
	return nil, nil
}

// TestDialogues holds every driver to its forge's documentation.
func TestDialogues(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		paths, err := filepath.Glob(filepath.Join("..", x.dir, "testdata", "api", "*.txtar"))
		if err != nil || len(paths) < 10 {
			t.Fatalf("%d dialogues, %v", len(paths), err)
		}
		for _, path := range paths {
			t.Run(filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				d := parseDialogue(t, path)
				s := httptest.NewServer(d)
				defer s.Close()
				got, err := d.call(t, clients(t, s.URL, rest.Options{})[x.conn.Forge])
				text, merr := json.MarshalIndent(got, "", "  ")
				if merr != nil {
					t.Fatal(merr)
				}
				if err != nil {
					text = []byte(string(slipway.ErrorCode(err)) + ": " + err.Error())
				}
				text = append(bytes.ReplaceAll(text, []byte(s.URL), []byte("http://forge")), '\n')
				last := len(d.archive.Files) - 1
				for _, f := range d.faults {
					t.Error(f)
				}
				if d.next != last {
					t.Errorf("request %d never came: %s", d.next/2+1, d.archive.Files[d.next].Data)
				}
				if *update {
					d.archive.Files[last].Data = text
					if err := os.WriteFile(path, txtar.Format(d.archive), 0o600); err != nil {
						t.Fatal(err)
					}
				} else if want := d.archive.Files[last].Data; !bytes.Equal(text, want) {
					t.Errorf("got\n%swant\n%s", text, want)
				}
			})
		}
	})
}

// Every driver has a dialogue for each thing that can be asked.
func TestDialoguesComplete(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		seen := map[string]bool{}
		paths, err := filepath.Glob(filepath.Join("..", x.dir, "testdata", "api", "*.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			verb, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(p), ".txtar"), "-")
			seen[verb] = true
		}
		want := []string{"comment", "heads", "hooks", "pull", "pulls", "remove", "repository", "rights", "status"}
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
