package kube

import (
	"io"
	"net/http"
	"reflect"
	"testing"
)

func TestLogs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		want   []string
	}{
		"lines":                 {200, "one\n\npanic: no database\n", []string{"one", "", "panic: no database"}},
		"nothing":               {200, "", nil},
		"an end that is cut":    {200, "one\ntw", []string{"one", "tw"}},
		"gone":                  {200, `failed to try resolving symlinks in path "/var/log/pods/a/app/2.log": lstat /var/log/pods/a/app/2.log: no such file or directory`, nil},
		"gone with its runtime": {200, "unable to retrieve container logs for containerd://0f2c", nil},
		"said by a container":   {200, "failed to open log file \"/tmp/a\": permission denied\n", []string{`failed to open log file "/tmp/a": permission denied`}},
		"not started":           {400, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","code":400}`, nil},
	} {
		cl := served(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/namespaces/drone-qa/pods/delivery-1/log" || r.URL.Query().Get("previous") != "true" || r.URL.Query().Get("tailLines") != "20" {
				t.Errorf("asked for %s", r.URL)
			}
			if c.status == http.StatusBadRequest {
				w.Header().Set("Content-Type", "application/json")
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		got, err := cl.Logs(t.Context(), target, "delivery-1", "app", true, 20)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
