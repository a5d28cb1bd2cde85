package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// uploads are the blobs that are being sent. They live in files of their own and become visible only
// when they are whole, checked and synced; a restart forgets them.
type uploads struct {
	dir  string
	idle time.Duration
	mu   sync.Mutex
	open map[string]*upload
}

type upload struct {
	id         string
	repository string
	timer      *time.Timer
	moves      atomic.Int64 // counts requests that begin and bytes that come
	reading    reading

	mu   sync.Mutex // held while bytes are written
	file *os.File   // nil when finished or dropped
	hash hash.Hash
	size int64
}

// reading is the request that sends an upload at the moment.
type reading struct {
	mu      sync.Mutex
	request *http.ResponseController // nil: none sends
	seen    int64                    // moves at the last look
}

func (r *reading) set(request *http.ResponseController) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.request = request
}

// look ends the reading of a request from which nothing came since the last look.
func (r *reading) look(moves int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.request != nil && r.seen == moves {
		_ = r.request.SetReadDeadline(time.Unix(1, 0)) // who cannot set one reads on, as before
	}
	r.seen = moves
}

func newUploads(dir string, idle time.Duration) *uploads {
	return &uploads{dir: dir, idle: idle, open: map[string]*upload{}}
}

func (u *uploads) start(repository string) (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.open) >= maxUploads {
		return nil, &fault{status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS", message: fmt.Sprintf("%d uploads are open; try again later", len(u.open))}
	}
	f, err := os.CreateTemp(u.dir, "blob-")
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	up := &upload{id: hex.EncodeToString(b[:]), repository: repository, file: f, hash: sha256.New()}
	up.timer = time.AfterFunc(u.idle, func() { u.expire(up) })
	u.open[up.id] = up
	return up, nil
}

// get returns the upload, locked.
func (u *uploads) get(repository, id string) (*upload, error) {
	u.mu.Lock()
	up, ok := u.open[id]
	u.mu.Unlock()
	if !ok || up.repository != repository {
		return nil, unknownUpload(id)
	}
	up.mu.Lock()
	if up.file == nil {
		up.mu.Unlock()
		return nil, unknownUpload(id)
	}
	return up, nil
}

// expire drops an upload to which nothing came for a while. A request that sends it and came to a halt is
// ended first: until then it holds the upload, and the place of one.
func (u *uploads) expire(up *upload) {
	if !up.mu.TryLock() {
		up.reading.look(up.moves.Load())
		up.timer.Reset(u.idle)
		return
	}
	defer up.mu.Unlock()
	u.drop(up)
}

// drop forgets an upload that the caller has locked, with its file.
func (u *uploads) drop(up *upload) {
	up.timer.Stop()
	u.mu.Lock()
	delete(u.open, up.id)
	u.mu.Unlock()
	if up.file != nil {
		_ = up.file.Close()
		_ = os.Remove(up.file.Name())
		up.file = nil
	}
}

func (u *uploads) dropAll() {
	u.mu.Lock()
	all := make([]*upload, 0, len(u.open))
	for _, up := range u.open {
		all = append(all, up)
	}
	u.mu.Unlock()
	for _, up := range all {
		up.mu.Lock()
		u.drop(up)
		up.mu.Unlock()
	}
}

func (up *upload) location() string { return "/v2/" + up.repository + "/blobs/uploads/" + up.id }

func (up *upload) header(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Location", up.location())
	h.Set("Docker-Upload-UUID", up.id)
	h.Set("Range", fmt.Sprintf("0-%d", max(up.size-1, 0)))
	h.Set("Content-Length", "0")
}

// startUpload answers POST: a mount from another repository, a whole blob, or the beginning of an
// upload.
func (r *Registry) startUpload(w http.ResponseWriter, req *http.Request, repository string) error {
	q := req.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		done, err := r.mount(req, mount, q.Get("from"), repository)
		if err != nil {
			return err
		}
		if done {
			blobCreated(w, repository, mount)
			return nil
		}
	}
	if err := r.disk.room(req.ContentLength); err != nil {
		return err
	}
	digest := q.Get("digest")
	if digest != "" {
		if err := checkDigest(digest); err != nil {
			return err
		}
	}
	up, err := r.uploads.start(repository)
	if err != nil {
		return err
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if digest == "" {
		up.header(w)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	defer r.uploads.drop(up)
	if err := r.receive(w, req, up); err != nil {
		return err
	}
	return r.finish(w, up, digest)
}

// mount links a blob from another repository that the client may pull from. Not done means: send it.
func (r *Registry) mount(req *http.Request, digest, from, to string) (bool, error) {
	if err := checkDigest(digest); err != nil {
		return false, err
	}
	if r.tell(to, digest) {
		return true, nil
	}
	if from == "" || checkRepository(from) != nil {
		return false, nil
	}
	user, secret, _ := req.BasicAuth()
	if _, err := r.authorize(req.Context(), user, secret, Pull, from); err != nil {
		return false, nil //nolint:nilerr // as if it were not there: the client sends the blob
	}
	if !r.disk.hasBlob(from, digest) {
		return false, nil
	}
	if err := r.disk.ensure(to); err != nil {
		return false, fmt.Errorf("mount %s: %w", digest, err)
	}
	if err := r.disk.link(from, to, digest); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("mount %s: %w", digest, err)
	}
	if err := r.disk.syncBlobs(to); err != nil {
		return false, fmt.Errorf("mount %s: %w", digest, err)
	}
	return true, nil
}

func blobCreated(w http.ResponseWriter, repository, digest string) {
	h := w.Header()
	h.Del("Range")
	h.Set("Location", "/v2/"+repository+"/blobs/"+digest)
	h.Set("Docker-Content-Digest", digest)
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

func (r *Registry) continueUpload(w http.ResponseWriter, req *http.Request, repository, id string) error {
	up, err := r.uploads.get(repository, id)
	if err != nil {
		return err
	}
	defer up.mu.Unlock()
	switch req.Method {
	case http.MethodGet:
		up.header(w)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodDelete:
		r.uploads.drop(up)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		if err := r.receive(w, req, up); err != nil {
			return err
		}
		up.header(w)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	digest := req.URL.Query().Get("digest")
	if err := checkDigest(digest); err != nil {
		return err
	}
	if err := r.receive(w, req, up); err != nil {
		return err
	}
	defer r.uploads.drop(up)
	return r.finish(w, up, digest)
}

// receive appends the request's body to an upload that the caller has locked. The upload is dropped when
// it cannot go on; it stays, for the client to resume, when the client went away or sent nothing for
// Options.UploadIdle.
func (r *Registry) receive(w http.ResponseWriter, req *http.Request, up *upload) error {
	if err := checkContentRange(req.Header.Get("Content-Range"), up.size); err != nil {
		return err
	}
	up.moves.Add(1)
	up.reading.set(http.NewResponseController(w))
	defer func() {
		up.reading.set(nil)
		up.timer.Reset(r.opts.UploadIdle)
	}()
	const portion = 16 << 20
	left, announced := r.opts.MaxBlob-up.size, req.ContentLength
	for {
		if err := r.disk.room(announced); err != nil {
			r.uploads.drop(up)
			return err
		}
		n, err := io.CopyN(uploadWriter{up}, req.Body, min(portion, left+1))
		left -= n
		announced -= n
		var write *writeError
		switch {
		case left < 0:
			r.uploads.drop(up)
			return &fault{status: http.StatusRequestEntityTooLarge, code: "SIZE_INVALID", message: fmt.Sprintf("a blob may have at most %d bytes", r.opts.MaxBlob)}
		case errors.As(err, &write):
			r.uploads.drop(up)
			return fmt.Errorf("write blob: %w", err)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &fault{status: http.StatusBadRequest, code: "BLOB_UPLOAD_INVALID", message: "the body ended too early", err: err}
		}
		if cause := context.Cause(req.Context()); cause != nil {
			return &fault{status: http.StatusBadRequest, code: "BLOB_UPLOAD_INVALID", message: "the request was cancelled", err: cause}
		}
	}
}

// writeError tells trouble with our file from trouble with the client's body.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

type uploadWriter struct{ up *upload }

func (w uploadWriter) Write(p []byte) (int, error) {
	n, err := w.up.file.Write(p)
	w.up.hash.Write(p[:n])
	w.up.size += int64(n)
	w.up.moves.Add(int64(n))
	if err != nil {
		return n, &writeError{err}
	}
	return n, nil
}

func checkContentRange(header string, size int64) error {
	if header == "" {
		return nil
	}
	first, _, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil || start != size {
		return &fault{status: http.StatusRequestedRangeNotSatisfiable, code: "BLOB_UPLOAD_INVALID",
			message: fmt.Sprintf("content range %q: the upload has %d bytes, go on from there", header, size)}
	}
	return nil
}

// finish makes the upload a blob, if its digest is what the client says.
func (r *Registry) finish(w http.ResponseWriter, up *upload, digest string) error {
	if got := "sha256:" + hex.EncodeToString(up.hash.Sum(nil)); got != digest {
		return badRequest("DIGEST_INVALID", fmt.Sprintf("%d bytes have digest %s, not %s", up.size, got, digest))
	}
	if r.tell(up.repository, digest) {
		blobCreated(w, up.repository, digest)
		return nil
	}
	if err := up.file.Sync(); err != nil {
		return fmt.Errorf("sync blob %s: %w", digest, err)
	}
	if err := r.disk.adopt(up.file.Name(), up.repository, digest); err != nil {
		return fmt.Errorf("store blob %s: %w", digest, err)
	}
	blobCreated(w, up.repository, digest)
	return nil
}
