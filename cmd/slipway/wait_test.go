package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// restarting is a server that breaks off the stream of events, is away for a moment, and is back with
// the run further on.
type restarting struct {
	asked atomic.Int64
	runs  []slipway.RunDetail
}

func (r *restarting) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.HasSuffix(req.URL.Path, "/events") {
		if got := req.URL.Query().Get("after"); got != "7" {
			http.Error(w, "after "+got, http.StatusTeapot)
			return
		}
		fmt.Fprint(w, "id: 8\nevent: step.ready\ndata: {\"id\": 8, \"runID\": 99}\n\n") // of another run
		panic(http.ErrAbortHandler)
	}
	n := int(r.asked.Add(1)) - 1
	if n == 1 {
		panic(http.ErrAbortHandler)
	}
	json.NewEncoder(w).Encode(r.runs[min(n, len(r.runs)-1)])
}

func waiting(state slipway.RunState, steps ...slipway.StepState) slipway.RunDetail {
	d := slipway.RunDetail{Run: slipway.Run{ID: 5, Project: "shop", State: state}, Events: []slipway.Event{{ID: 7, RunID: 5}, {ID: 3, RunID: 5}}}
	for i, s := range steps {
		d.Steps = append(d.Steps, slipway.Step{State: s, Spec: slipway.PlanStep{Key: fmt.Sprintf("step/%d", i)}})
	}
	return d
}

// Whoever waits for a run waits through a restart of the server, and is told what was not told yet.
func TestWaitThroughARestart(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&restarting{runs: []slipway.RunDetail{
		waiting(slipway.RunRunning, slipway.StepSucceeded, slipway.StepRunning, slipway.StepBlocked),
		{},
		waiting(slipway.RunSucceeded, slipway.StepSucceeded, slipway.StepSucceeded, slipway.StepSkipped),
	}})
	defer server.Close()
	var out bytes.Buffer
	c := &cli{out: newPrinter(&out, false)}
	if err := c.waitRun(t.Context(), must[*client.Client](t)(client.New(server.URL, "")), 5); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		if strings.Contains(f[0], ":") {
			f = f[1:] // the time
		}
		got = append(got, strings.Join(f, " "))
	}
	want := "1 step done before|running step/1|succeeded step/1|skipped step/2|run #5 succeeded"
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

func TestWaitForWhatIsNotThere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error": {"code": "not-found", "message": "run #5 does not exist"}}`)
	}))
	defer server.Close()
	c := &cli{out: newPrinter(&bytes.Buffer{}, false)}
	if err := c.waitRun(t.Context(), must[*client.Client](t)(client.New(server.URL, "")), 5); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("got %v", err)
	}
}
