package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// Tests is what tests said and left.
type Tests interface {
	// BaseTests is the numbers of the report that a run's test step is compared with; nil when there is none.
	BaseTests(ctx context.Context, by slipway.User, run int64, step string) (*slipway.TestTotals, error)
	// CaseHistory is how the tests that a filter selects ended over the runs of a service.
	CaseHistory(ctx context.Context, by slipway.User, f slipway.CaseFilter) ([]slipway.CaseHistory, error)
	// OpenAttachment opens a file that the tests of a run left, with what the report says of it. Whoever
	// called closes it.
	OpenAttachment(ctx context.Context, by slipway.User, run int64, digest string) (slipway.Attachment, io.ReadSeekCloser, error)
}

// attachment sends a file that tests left. Nobody has looked at what is in it: pictures of the kinds that hold
// nothing else are shown, of all others a browser saves the bytes.
func (s *server) attachment(w http.ResponseWriter, r *http.Request) {
	by, ok := s.user(w, r)
	if !ok {
		return
	}
	n, err := id(r, "run")
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	a, f, err := s.Tests.OpenAttachment(r.Context(), by, n, r.PathValue("digest"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	defer f.Close()
	kind, err := picture(f)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	name := path.Base(a.Name)
	if kind == "" {
		download(w, "application/octet-stream", name)
	} else {
		download(w, kind, name)
		w.Header().Set("Content-Disposition", disposition("inline", name))
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}

// pictures are the types that a browser may show: they hold no script and refer to nothing.
func pictures() []string { return []string{"image/png", "image/jpeg", "image/gif", "image/webp"} }

// picture is the type of a picture by its first bytes, whatever its name says; "" for everything else.
func picture(f io.ReadSeeker) (string, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if kind := http.DetectContentType(head[:n]); slices.Contains(pictures(), kind) {
		return kind, nil
	}
	return "", nil
}
