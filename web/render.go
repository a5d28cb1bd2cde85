package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// asset is an embedded file, ready to be sent.
type asset struct {
	kind, etag     string
	plain, gzipped []byte
}

// serveAssets serves the embedded files under names that change with their content, so that browsers
// keep them for good and an upgrade is seen at once.
func (s *server) serveAssets() error {
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		return err
	}
	s.assets = map[string]string{}
	for _, e := range entries {
		b, err := fs.ReadFile(files, "assets/"+e.Name())
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		version := hex.EncodeToString(sum[:6])
		var z bytes.Buffer
		w, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)       //nolint:errcheck // the level is a valid one
		if err := errors.Join(write(w, b), w.Close()); err != nil { // into memory
			return err
		}
		a := asset{mime.TypeByExtension(path.Ext(e.Name())), `W/"` + version + `"`, b, z.Bytes()}
		s.assets[e.Name()] = "/assets/" + e.Name() + "?v=" + version
		s.mux.HandleFunc("GET /assets/"+e.Name(), func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, r.FormValue("v") == version) })
	}
	s.mux.Handle("GET /favicon.ico", http.RedirectHandler(s.assets["icon.svg"], http.StatusMovedPermanently))
	return nil
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// serve answers with the file, or with 304 to who has it.
func (a asset) serve(w http.ResponseWriter, r *http.Request, forGood bool) {
	head, body := w.Header(), a.plain
	head.Set("Content-Type", a.kind)
	head.Set("ETag", a.etag)
	head.Set("Vary", "Accept-Encoding")
	head.Set("Cache-Control", "no-cache")
	if forGood {
		head.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(a.gzipped) < len(a.plain) {
		head.Set("Content-Encoding", "gzip")
		body = a.gzipped
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
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
	Again   string // the same page, when it may be there in a moment
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, by slipway.User, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	p := problem{Back: "/"}
	p.Status, p.Message = s.told(r, err)
	if r.Method == http.MethodPost {
		p.Back = local(r.FormValue("back"))
	}
	v := view{Title: http.StatusText(p.Status), User: by}
	if name := r.PathValue("project"); name != "" && by.Name != "" && p.Status < http.StatusInternalServerError {
		if known, err := s.project(r, by, name); err == nil && known != nil { // its other pages are there
			v.Project, v.Waivers, v.Codebases = name, s.Waivers != nil, s.Codebases != nil
		}
	}
	if r.Method == http.MethodGet && (p.Status > http.StatusInternalServerError || p.Status == http.StatusTooManyRequests) {
		p.Again = r.URL.RequestURI()
	}
	v.Data = p
	s.render(w, r, p.Status, "error", v)
}

// refuse is fail for what a program asks for: it answers with the message alone.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, message := s.told(r, err)
	http.Error(w, visible(message), status)
}

// told is what whoever asked is told of an error: of one that is Slipway's own only that the log has it.
func (s *server) told(r *http.Request, err error) (status int, message string) {
	status = slipway.ErrorCode(err).HTTPStatus()
	if status != http.StatusInternalServerError {
		return status, err.Error()
	}
	s.Log.ErrorContext(r.Context(), "page", "path", r.URL.Path, "error", err)
	return status, "Something went wrong inside Slipway. The server's log has the details."
}

// local is to when it is a path of this server, else the first page.
func local(to string) string {
	u, err := url.Parse(to) // refuses control characters, which browsers leave out
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, `\`) {
		return "/"
	}
	return to
}
