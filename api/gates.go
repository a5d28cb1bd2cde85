package api

import (
	"context"
	"net/http"

	"github.com/slipway-cd/slipway"
)

// Gates is what gates said, and what they saw.
type Gates interface {
	Gates(ctx context.Context, by slipway.User, f slipway.GateFilter) ([]slipway.GateResult, error)
	Manifests(ctx context.Context, by slipway.User, run int64, service string) ([]slipway.ManifestReport, error)
	// Scan is what the scan of a service found in a run, SBOM the SPDX document that a scan names.
	Scan(ctx context.Context, by slipway.User, run int64, service string) (slipway.Scan, error)
	SBOM(ctx context.Context, by slipway.User, project, digest string) ([]byte, error)
	// Deployed is what runs, each with the newest scan of its image.
	Deployed(ctx context.Context, by slipway.User, project string) ([]slipway.DeployedScan, error)
}

// Waivers are what is let through gates.
type Waivers interface {
	Waivers(ctx context.Context, by slipway.User, f slipway.WaiverFilter) ([]slipway.Waiver, error)
	GiveWaiver(ctx context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, by slipway.User, id int64) (slipway.Waiver, error)
}

// Retention removes old candidates.
type Retention interface {
	Retention(ctx context.Context, by slipway.User, project string, dry bool) (slipway.RetentionReport, error)
}

func (s *server) gates() {
	for method, dry := range map[string]bool{"GET": true, "POST": false} {
		s.handle(method+" /api/v1/projects/{project}/retention", func(r *http.Request, by slipway.User) (any, error) {
			return s.Retention.Retention(r.Context(), by, r.PathValue("project"), dry)
		})
	}
	s.handleID("GET /api/v1/runs/{run}/gates", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		q := r.URL.Query()
		return list(s.Gates.Gates(r.Context(), by, slipway.GateFilter{RunID: id, Service: q.Get("service"), Environment: q.Get("environment")}))
	})
	s.handleID("GET /api/v1/runs/{run}/manifests", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return list(s.Gates.Manifests(r.Context(), by, id, r.URL.Query().Get("service")))
	})
	s.handle("GET /api/v1/projects/{project}/services/{service}/gates", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Gates.Gates(r.Context(), by, slipway.GateFilter{Project: r.PathValue("project"), Service: r.PathValue("service"),
			Environment: r.URL.Query().Get("environment")}))
	})
	s.handleID("GET /api/v1/runs/{run}/scan", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Gates.Scan(r.Context(), by, id, r.URL.Query().Get("service"))
	})
	s.handle("GET /api/v1/projects/{project}/scans", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Gates.Deployed(r.Context(), by, r.PathValue("project")))
	})
	s.mux.HandleFunc("GET /api/v1/projects/{project}/sboms/{digest}", func(w http.ResponseWriter, r *http.Request) {
		by, err := s.user(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		doc, err := s.Gates.SBOM(r.Context(), by, r.PathValue("project"), r.PathValue("digest"))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/spdx+json")
		w.Header().Set("Content-Disposition", `attachment; filename="sbom.spdx.json"`)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(doc) //nolint:errcheck // whoever asked has gone
	})
	s.handle("GET /api/v1/projects/{project}/waivers", func(r *http.Request, by slipway.User) (any, error) {
		f, err := waiverFilter(r)
		if err != nil {
			return nil, err
		}
		return list(s.Waivers.Waivers(r.Context(), by, f))
	})
	s.handle("POST /api/v1/projects/{project}/waivers", func(r *http.Request, by slipway.User) (any, error) {
		var in slipway.Waiver
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		in.Project = r.PathValue("project")
		return s.Waivers.GiveWaiver(r.Context(), by, in)
	})
	s.handleID("DELETE /api/v1/waivers/{waiver}", "waiver", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Waivers.WithdrawWaiver(r.Context(), by, id)
	})
}

func waiverFilter(r *http.Request) (slipway.WaiverFilter, error) {
	q := r.URL.Query()
	f := slipway.WaiverFilter{Project: r.PathValue("project")}
	switch v := q.Get("holding"); v {
	case "", "false":
	case "true":
		f.Holding = true
	default:
		return f, slipway.Errorf(slipway.Invalid, "holding=%q: expected true or false", v)
	}
	err := numbers(q, map[string]func(int64){
		"before": func(n int64) { f.Before = n },
		"limit":  func(n int64) { f.Limit = int(min(n, 1000)) },
	})
	return f, err
}
