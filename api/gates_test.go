package api_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
	"github.com/slipway-cd/slipway/client"
)

// judge answers questions about gates with what it was asked.
type judge struct{ *backend }

func (b judge) Gates(_ context.Context, by slipway.User, f slipway.GateFilter) ([]slipway.GateResult, error) {
	return some(b.backend, slipway.GateResult{Gate: "tests", RunID: f.RunID, Verdict: slipway.Warn}), b.asked(by, "gates %+v", f)
}

func (b judge) Manifests(_ context.Context, by slipway.User, run int64, service string) ([]slipway.ManifestReport, error) {
	return some(b.backend, slipway.ManifestReport{Environment: "qa"}), b.asked(by, "manifests %d %s", run, service)
}

func (b judge) Scan(_ context.Context, by slipway.User, run int64, service string) (slipway.Scan, error) {
	return slipway.Scan{Packages: 7}, b.asked(by, "scan %d %s", run, service)
}

func (b judge) SBOM(_ context.Context, by slipway.User, project, digest string) ([]byte, error) {
	return []byte(`{"spdxVersion": "<script>"}`), b.asked(by, "SBOM %s %s", project, digest)
}

func (b judge) Deployed(_ context.Context, by slipway.User, project string) ([]slipway.DeployedScan, error) {
	return some(b.backend, slipway.DeployedScan{Scan: &slipway.Scan{}}), b.asked(by, "deployed scans %s", project)
}

func (b judge) Waivers(_ context.Context, by slipway.User, f slipway.WaiverFilter) ([]slipway.Waiver, error) {
	return some(b.backend, slipway.Waiver{ID: 1}), b.asked(by, "waivers %+v", f)
}

func (b judge) GiveWaiver(_ context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error) {
	return w, b.asked(by, "waive %s %s %s: %s until %s by %q", w.Project, w.Gate, w.Subject, w.Reason, w.Expires.Format(time.DateOnly), w.Author)
}

func (b judge) WithdrawWaiver(_ context.Context, by slipway.User, id int64) (slipway.Waiver, error) {
	return slipway.Waiver{ID: id}, b.asked(by, "withdraw %d", id)
}

func (b judge) Retention(_ context.Context, by slipway.User, project string, dry bool) (slipway.RetentionReport, error) {
	return slipway.RetentionReport{Project: project, DryRun: dry}, b.asked(by, "retention %s %t", project, dry)
}

func newGatesWorld(t *testing.T) *world {
	t.Helper()
	b := judge{&backend{users: map[string]slipway.User{"ada": {Name: "ada"}, "robot": {Name: "robot", Robot: &slipway.Robot{Project: "shop"}}}}}
	server := httptest.NewServer(api.New(api.Options{Gates: b, Waivers: b, Retention: b, Identity: b, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(server.Close)
	return &world{t: t, backend: b.backend, url: server.URL}
}

func TestGatesOverTheAPI(t *testing.T) {
	t.Parallel()
	w := newGatesWorld(t)
	drop := func(_ any, err error) error { return err }
	end := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	ask := func(c *client.Client) map[string]func() error {
		return map[string]func() error{
			"gates {Project: RunID:7 Service: Environment:}": func() error { return drop(c.Gates(t.Context(), slipway.GateFilter{Project: "shop", RunID: 7})) },
			"gates {Project: RunID:7 Service:a b Environment:qa&x}": func() error {
				return drop(c.Gates(t.Context(), slipway.GateFilter{RunID: 7, Service: "a b", Environment: "qa&x"}))
			},
			"gates {Project:shop RunID:0 Service:cart/x Environment:qa}": func() error {
				return drop(c.Gates(t.Context(), slipway.GateFilter{Project: "shop", Service: "cart/x", Environment: "qa"}))
			},
			"gates {Project:shop RunID:0 Service:cart Environment:}": func() error {
				return drop(c.Gates(t.Context(), slipway.GateFilter{Project: "shop", Service: "cart"}))
			},
			"manifests 7 a&b":    func() error { return drop(c.Manifests(t.Context(), 7, "a&b")) },
			"scan 7 cart":        func() error { return drop(c.Scan(t.Context(), 7, "cart")) },
			"deployed scans a/b": func() error { return drop(c.DeployedScans(t.Context(), "a/b")) },
			"waivers {Project:shop Holding:false Before:0 Limit:0}": func() error {
				return drop(c.Waivers(t.Context(), slipway.WaiverFilter{Project: "shop"}))
			},
			"waivers {Project:a b Holding:true Before:7 Limit:1000}": func() error {
				return drop(c.Waivers(t.Context(), slipway.WaiverFilter{Project: "a b", Holding: true, Before: 7, Limit: 5000}))
			},
			`waive shop tests s/TestA*: flaky until 2027-03-01 by ""`: func() error {
				return drop(c.GiveWaiver(t.Context(), slipway.Waiver{Project: "shop", Gate: "tests", Subject: "s/TestA*", Reason: "flaky", Expires: end}))
			},
			"withdraw 9":           func() error { return drop(c.WithdrawWaiver(t.Context(), 9)) },
			"retention shop true":  func() error { return drop(c.Retention(t.Context(), "shop", true)) },
			"retention shop false": func() error { return drop(c.Retention(t.Context(), "shop", false)) },
		}
	}
	for want, call := range ask(w.client("ada")) {
		if err := call(); err != nil || w.last() != "ada: "+want {
			t.Errorf("asked %q, want %q: %v", w.last(), want, err)
		}
	}
	for name, call := range ask(w.client("")) {
		if err := call(); slipway.ErrorCode(err) != slipway.Unauthorized {
			t.Errorf("%s without a token: %v", name, err)
		}
	}
	for name, call := range ask(w.client("robot")) {
		if err := call(); slipway.ErrorCode(err) != slipway.Forbidden {
			t.Errorf("%s as a robot: %v", name, err)
		}
	}
	w.err = slipway.Errorf(slipway.Conflict, "not now")
	for name, call := range ask(w.client("ada")) {
		if err := call(); slipway.ErrorCode(err) != slipway.Conflict || err.Error() != "not now" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatGatesAreAskedWrongly(t *testing.T) {
	t.Parallel()
	w := newGatesWorld(t)
	for _, c := range []struct{ method, path, body, words string }{
		{"GET", "/api/v1/runs/x/gates", "", "expected a positive number"},
		{"GET", "/api/v1/runs/0/manifests?service=a", "", "expected a positive number"},
		{"GET", "/api/v1/runs/-1/scan", "", "expected a positive number"},
		{"DELETE", "/api/v1/waivers/slipway.yaml:7", "", "expected a positive number"},
		{"GET", "/api/v1/projects/shop/waivers?before=-1", "", "before=\"-1\": expected a number"},
		{"GET", "/api/v1/projects/shop/waivers?limit=all", "", "limit=\"all\": expected a number"},
		{"GET", "/api/v1/projects/shop/waivers?holding=yes", "", "holding=\"yes\": expected true or false"},
		{"POST", "/api/v1/projects/shop/waivers", `{"gate": "tests", "untill": "2027-03-01"}`, "untill"},
		{"POST", "/api/v1/projects/shop/waivers", `{"gate": "tests", "expires": "tomorrow"}`, "tomorrow"},
	} {
		resp, body := w.ask(c.method, c.path, c.body)
		w.wantError(resp, body, slipway.Invalid, c.words)
	}
	if w.last() != "" {
		t.Errorf("asked %q", w.last())
	}
	// The project is that of the path, whatever the body says.
	if resp, body := w.ask("POST", "/api/v1/projects/shop/waivers", `{"project": "blog", "gate": "tests", "subject": "a", "reason": "r", "expires": "2027-03-01T00:00:00Z"}`); resp.StatusCode != 200 ||
		!strings.Contains(body, `"project":"shop"`) || !strings.HasPrefix(w.last(), "ada: waive shop tests a") {
		t.Errorf("%s, asked %q", body, w.last())
	}
	w.list = true
	for _, path := range []string{"runs/7/gates", "runs/7/manifests?service=a", "projects/shop/services/a/gates", "projects/shop/scans", "projects/shop/waivers"} {
		if _, body := w.ask("GET", "/api/v1/"+path, ""); strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: nothing is %q", path, body)
		}
	}
}

// A browser saves an SBOM and shows nothing of it.
func TestSBOMsAreSaved(t *testing.T) {
	t.Parallel()
	w := newGatesWorld(t)
	const path = "/api/v1/projects/shop/sboms/sha256:1"
	resp, body := w.ask("GET", path, "")
	h := resp.Header
	if body != `{"spdxVersion": "<script>"}` || h.Get("Content-Type") != "application/spdx+json" || h.Get("Content-Disposition") != `attachment; filename="sbom.spdx.json"` ||
		h.Get("X-Content-Type-Options") != "nosniff" || w.last() != "ada: SBOM shop sha256:1" {
		t.Errorf("%q %v", body, h)
	}
	w.err = slipway.Errorf(slipway.NotFound, "there is none")
	resp, body = w.ask("GET", path, "")
	w.wantError(resp, body, slipway.NotFound, "there is none")
	resp, body = w.ask("GET", path, "", "Authorization", "Bearer wrong")
	w.wantError(resp, body, slipway.Unauthorized, "unknown")
}
