package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/slipway-cd/slipway"
)

// serveAssets serves the embedded files under names that change with their content, so that browsers
// keep them for good and an upgrade is seen at once.
func (s *server) serveAssets() error {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		return err
	}
	s.assets = map[string]string{}
	err = fs.WalkDir(assets, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := fs.ReadFile(assets, name)
		sum := sha256.Sum256(b)
		s.assets[name] = "/assets/" + name + "?v=" + hex.EncodeToString(sum[:6])
		return err
	})
	if err != nil {
		return err
	}
	files := http.StripPrefix("/assets/", http.FileServerFS(assets))
	s.mux.HandleFunc("GET /assets/", func(w http.ResponseWriter, r *http.Request) {
		if s.assets[path.Base(r.URL.Path)] == r.URL.RequestURI() {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		files.ServeHTTP(w, r)
	})
	s.mux.Handle("GET /favicon.ico", http.RedirectHandler(s.assets["icon.svg"], http.StatusMovedPermanently))
	return nil
}

// small is the size in bytes up to which compressing a page gains nothing.
const small = 2 << 10

// render answers with a page, or with its live part where the page's script asks for it again.
func (s *server) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	var b, live bytes.Buffer
	err := s.pages[name].ExecuteTemplate(&live, "live", v)
	if v.Body = template.HTML(live.String()); err == nil { //nolint:gosec // a template of this package made it
		part := "layout.html"
		if r.Header.Get("X-Part") == "live" {
			part = "body"
		}
		err = s.pages[name].ExecuteTemplate(&b, part, v)
	}
	if err != nil {
		s.Log.ErrorContext(r.Context(), "render page", "page", name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Cache-Control", "no-store")
	head.Set("Vary", "Accept-Encoding, X-Part")
	head.Set("X-Title", url.PathEscape(v.Head()))
	if b.Len() <= small || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.WriteHeader(status)
		w.Write(b.Bytes()) //nolint:errcheck // the reader is gone
		return
	}
	head.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) //nolint:errcheck // the level is a valid one
	z.Write(b.Bytes())                             //nolint:errcheck // the reader is gone
	z.Close()                                      //nolint:errcheck // the reader is gone
}

// problem is what the page of an error shows.
type problem struct {
	Status  int
	Message string
	Back    string
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, by slipway.User, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	p := problem{Status: status(slipway.ErrorCode(err)), Message: err.Error(), Back: "/"}
	if p.Status == http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "page", "path", r.URL.Path, "error", err)
		p.Message = "Something went wrong inside Slipway. The server's log has the details."
	}
	if r.Method == http.MethodPost {
		p.Back = local(r.FormValue("back"))
	}
	s.render(w, r, p.Status, "error", view{Title: http.StatusText(p.Status), User: by, Data: p})
}

func status(c slipway.Code) int {
	switch c {
	case slipway.Invalid:
		return http.StatusUnprocessableEntity
	case slipway.Unauthorized:
		return http.StatusUnauthorized
	case slipway.Forbidden:
		return http.StatusForbidden
	case slipway.NotFound:
		return http.StatusNotFound
	case slipway.Conflict:
		return http.StatusConflict
	case slipway.TooMany:
		return http.StatusTooManyRequests
	case slipway.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// local is to when it is a path of this server, else the first page.
func local(to string) string {
	u, err := url.Parse(to) // refuses control characters, which browsers leave out
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/"
	}
	return to
}
