package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/slipway-cd/slipway"
)

// content is what a manifest names, whatever kind it is.
type content struct {
	Config    *descriptor  `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`
	Subject   *descriptor  `json:"subject"`
}

type descriptor struct {
	Digest string   `json:"digest"`
	URLs   []string `json:"urls"`
}

func (c content) subject() string {
	if c.Subject == nil {
		return ""
	}
	return c.Subject.Digest
}

// pushManifest answers PUT of a manifest.
func (r *Registry) pushManifest(w http.ResponseWriter, req *http.Request, rt route, actor string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &fault{status: http.StatusRequestEntityTooLarge, code: "MANIFEST_INVALID", message: fmt.Sprintf("a manifest may have at most %d bytes", maxManifest)}
		}
		return badRequest("MANIFEST_INVALID", "the body ended too early")
	}
	m := manifest{repository: rt.repository, mediaType: req.Header.Get("Content-Type"), body: body, digest: slipway.DigestOf(body)}
	if digestExpr.MatchString(rt.arg) {
		if rt.arg != m.digest {
			return badRequest("DIGEST_INVALID", fmt.Sprintf("%d bytes have digest %s, not %s", len(body), m.digest, rt.arg))
		}
	} else {
		m.tag = rt.arg
	}
	if err := json.Unmarshal(body, &m.content); err != nil {
		return badRequest("MANIFEST_INVALID", fmt.Sprintf("the manifest is not JSON of the expected form: %v", err))
	}
	unlock := r.lock(rt.repository)
	rep, err := r.keep(req.Context(), m)
	unlock()
	if err != nil {
		return err
	}
	r.announce(req.Context(), m, actor)
	rep.copyTo(w)
	return nil
}

func (r *Registry) announce(ctx context.Context, m manifest, actor string) {
	if r.opts.OnPush != nil {
		r.opts.OnPush(ctx, Pushed{Repository: m.repository, Tag: m.tag, Digest: m.digest, MediaType: m.mediaType, Actor: actor})
	}
}

// manifest is one to be kept.
type manifest struct {
	repository string
	tag        string // empty: by digest
	digest     string
	mediaType  string
	body       []byte
	content    content
}

// keep stores a manifest durably, with its tag if it has one. The caller holds the repository's lock.
func (r *Registry) keep(ctx context.Context, m manifest) (*reply, error) {
	if m.tag != "" {
		if err := r.checkTagFree(ctx, m.repository, m.tag, m.digest); err != nil {
			return nil, err
		}
	}
	if err := r.disk.room(int64(len(m.body))); err != nil {
		return nil, err
	}
	rep, err := r.put(ctx, m)
	if err != nil {
		return nil, err
	}
	if err := r.disk.syncIndex(m.repository); err != nil {
		return nil, fmt.Errorf("sync index of %s: %w", m.repository, err)
	}
	return rep, nil
}

// checkTagFree refuses a tag that names another digest already.
func (r *Registry) checkTagFree(ctx context.Context, repository, tag, digest string) error {
	if !immutable(repository, tag) {
		return nil
	}
	there, err := r.resolve(ctx, repository, tag)
	if err != nil || there == "" || there == digest {
		return err
	}
	return &fault{status: http.StatusConflict, code: "DENIED",
		message: fmt.Sprintf("%s:%s is %s and tags are not moved, so it cannot become %s: push under another version", repository, tag, there, digest)}
}

// put hands the manifest to olareg. The index is not synced yet.
func (r *Registry) put(ctx context.Context, m manifest) (*reply, error) {
	fresh := !r.disk.hasBlob(m.repository, m.digest)
	if err := r.disk.ensure(m.repository); err != nil {
		return nil, fmt.Errorf("store manifest %s: %w", m.digest, err)
	}
	if fresh {
		if err := r.disk.writeBytes(r.disk.blob(m.repository, m.digest), m.body); err != nil {
			return nil, fmt.Errorf("store manifest %s: %w", m.digest, err)
		}
	}
	ref := m.tag
	if ref == "" {
		ref = m.digest
	}
	header := http.Header{"Content-Type": {m.mediaType}}
	rep, err := r.call(ctx, http.MethodPut, m.repository, "manifests/"+ref, header, m.body)
	if err == nil && rep.status != http.StatusCreated {
		err = rep.fault("store manifest " + m.digest)
		if fresh {
			_ = os.Remove(r.disk.blob(m.repository, m.digest))
		}
		if rep.status >= http.StatusInternalServerError {
			err = errors.Join(err, r.disk.touchIndex(m.repository))
		}
	}
	if err != nil {
		return nil, err
	}
	if subject := m.content.subject(); subject != "" {
		if err := r.syncReferrers(ctx, m.repository, subject); err != nil {
			return nil, fmt.Errorf("sync referrers of %s: %w", subject, err)
		}
	}
	return rep, nil
}

// syncReferrers makes durable the list of what refers to subject. olareg keeps it as a blob and answers
// with that blob, unless it is so long that it comes in pages.
func (r *Registry) syncReferrers(ctx context.Context, repository, subject string) error {
	rep, err := r.call(ctx, http.MethodGet, repository, "referrers/"+subject, nil, nil)
	if err != nil {
		return err
	}
	list := slipway.DigestOf(rep.body.Bytes())
	if !r.disk.hasBlob(repository, list) {
		return nil
	}
	return r.disk.syncBlob(repository, list)
}

// deleteManifest answers DELETE of a tag or a manifest.
func (r *Registry) deleteManifest(w http.ResponseWriter, req *http.Request, rt route) error {
	if !r.disk.has(rt.repository) {
		return unknownRepository(rt.repository)
	}
	unlock := r.lock(rt.repository)
	defer unlock()
	rep, err := r.call(req.Context(), http.MethodDelete, rt.repository, "manifests/"+rt.arg, nil, nil)
	if err != nil {
		return err
	}
	if rep.status != http.StatusAccepted {
		return rep.fault("delete " + rt.arg)
	}
	if err := r.disk.syncIndex(rt.repository); err != nil {
		return fmt.Errorf("sync index of %s: %w", rt.repository, err)
	}
	rep.copyTo(w)
	return nil
}

// resolve returns the digest that a tag or digest names as a manifest of the repository, "" for none.
func (r *Registry) resolve(ctx context.Context, repository, ref string) (string, error) {
	digest, _, err := r.head(ctx, repository, ref)
	return digest, err
}

func (r *Registry) head(ctx context.Context, repository, ref string) (digest, mediaType string, err error) {
	if !r.disk.has(repository) {
		return "", "", nil
	}
	rep, err := r.call(ctx, http.MethodHead, repository, "manifests/"+ref, http.Header{"Accept": manifestTypes()}, nil)
	if err != nil {
		return "", "", err
	}
	switch rep.status {
	case http.StatusOK:
		return rep.header.Get("Docker-Content-Digest"), rep.header.Get("Content-Type"), nil
	case http.StatusNotFound:
		return "", "", nil
	}
	return "", "", rep.fault("look up " + repository + " " + ref)
}

// referrers lists the digests of the manifests that refer to one.
func (r *Registry) referrers(ctx context.Context, repository, digest string) ([]string, error) {
	var list []string
	query := ""
	for {
		rep, err := r.call(ctx, http.MethodGet, repository, "referrers/"+digest+query, nil, nil)
		if err != nil {
			return nil, err
		}
		if rep.status != http.StatusOK {
			return nil, rep.fault("list referrers of " + digest)
		}
		var c content
		if err := json.Unmarshal(rep.body.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("referrers of %s: %w", digest, err)
		}
		for _, d := range c.Manifests {
			list = append(list, d.Digest)
		}
		next := nextPage(rep.header.Get("Link"))
		if next == "" || next == query {
			return list, nil
		}
		query = next
	}
}

// nextPage returns the query of the next page that a Link header names, with its question mark.
func nextPage(link string) string {
	start := bytes.IndexByte([]byte(link), '<')
	end := bytes.IndexByte([]byte(link), '>')
	if start < 0 || end < start {
		return ""
	}
	u, err := url.Parse(link[start+1 : end])
	if err != nil || u.RawQuery == "" {
		return ""
	}
	return "?" + u.RawQuery
}

// call asks olareg, in process.
func (r *Registry) call(ctx context.Context, method, repository, rest string, header http.Header, body []byte) (*reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, "/v2/"+repository+"/"+rest, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask for %s %s: %w", repository, rest, err)
	}
	if header != nil {
		req.Header = header
	}
	rep := &reply{header: http.Header{}}
	r.inner.ServeHTTP(rep, req)
	if rep.status == 0 {
		rep.status = http.StatusOK
	}
	return rep, nil
}

// reply is olareg's answer, kept until what it promises is durable.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) Write(b []byte) (int, error) { return r.body.Write(b) }

func (r *reply) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *reply) copyTo(w http.ResponseWriter) {
	for k, v := range r.header {
		w.Header()[k] = v
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body.Bytes())
}

// fault is the answer as an error; olareg's own words go to the client.
func (r *reply) fault(doing string) *fault {
	f := &fault{status: r.status, code: "UNKNOWN", message: fmt.Sprintf("%s: the registry answered %d", doing, r.status)}
	var b errorBody
	if json.Unmarshal(r.body.Bytes(), &b) == nil && len(b.Errors) > 0 {
		first := b.Errors[0]
		f.code, f.message, f.body = first.Code, fmt.Sprintf("%s: %s (%s)", doing, first.Message, first.Detail), r.body.Bytes()
	}
	return f
}
