package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/slipway-cd/slipway"
)

// Attachments are the files that tests left, kept by digest in a folder for each run. They are safe for
// concurrent use.
type Attachments struct {
	dir string
}

// Attachments are the files that tests left.
func (s *Store) Attachments() *Attachments { return &Attachments{dir: filepath.Join(s.dir, "reports")} }

func (a *Attachments) folder(runID int64) string {
	return filepath.Join(a.dir, strconv.FormatInt(runID, 10))
}

var attachmentDigest = regexp.MustCompile(`^sha256:([0-9a-f]{64})$`)

// Keep keeps what it reads with a run, and returns its digest and size. The same bytes are kept once. What it
// returned is kept through a power cut.
func (a *Attachments) Keep(runID int64, r io.Reader) (digest string, size int64, err error) {
	dir := a.folder(runID)
	if err := folder(dir); err != nil {
		return "", 0, fmt.Errorf("keep attachment: %w", err)
	}
	f, err := os.CreateTemp(dir, ".part-")
	if err != nil {
		return "", 0, fmt.Errorf("keep attachment: %w", err)
	}
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), r)
	if err != nil {
		return "", 0, errors.Join(fmt.Errorf("keep attachment: %w", err), f.Close(), os.Remove(f.Name()))
	}
	name := hex.EncodeToString(sum.Sum(nil))
	if err := settle(f, filepath.Join(dir, name)); err != nil {
		return "", 0, fmt.Errorf("keep attachment: %w", err)
	}
	return "sha256:" + name, size, nil
}

// Open opens an attachment of a run; NotFound when it is not kept, any more or at all. The caller closes it.
func (a *Attachments) Open(runID int64, digest string) (*os.File, error) {
	m := attachmentDigest.FindStringSubmatch(digest)
	if m == nil {
		return nil, slipway.Errorf(slipway.Invalid, "digest %q: expected sha256: and 64 hexadecimal digits", digest)
	}
	f, err := os.Open(filepath.Join(a.folder(runID), m[1]))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, slipway.Errorf(slipway.NotFound, "run #%d has no attachment %s; attachments are removed with their run", runID, digest)
	}
	if err != nil {
		return nil, fmt.Errorf("open attachment: %w", err)
	}
	return f, nil
}

// Delete removes the attachments of a run.
func (a *Attachments) Delete(runID int64) error { return os.RemoveAll(a.folder(runID)) }

// PruneAttachments removes the attachments of runs that were made before a time, but for those of runs that
// published a release, and of runs whose report one that stays has reused.
func (s *Store) PruneAttachments(ctx context.Context, before time.Time) error {
	entries, err := os.ReadDir(s.Attachments().dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	stay := `SELECT id FROM runs WHERE created_at >= $1 UNION SELECT run_id FROM releases`
	ids, err := list(ctx, s.reader, scanInt, stay+` UNION SELECT reused_from FROM steps WHERE reused_from <> 0 AND run_id IN (`+stay+`)`, ms(before))
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, id := range ids {
		kept[strconv.FormatInt(id, 10)] = true
	}
	var problems []error
	for _, e := range entries {
		id, err := strconv.ParseInt(e.Name(), 10, 64)
		if err == nil && !kept[e.Name()] {
			problems = append(problems, s.Attachments().Delete(id))
		}
	}
	return errors.Join(problems...)
}

// OpenAttachment opens an attachment that a report of a run names: kept with the run, or with the one whose
// report it reused. NotFound when no report names it, or it is not kept any more. The caller closes it.
func (s *Store) OpenAttachment(ctx context.Context, runID int64, digest string) (slipway.Attachment, *os.File, error) {
	steps, err := s.Steps(ctx, runID)
	if err != nil {
		return slipway.Attachment{}, nil, err
	}
	for _, st := range steps {
		report, err := s.Report(ctx, st.ID)
		if slipway.ErrorCode(err) == slipway.NotFound {
			continue
		}
		if err != nil {
			return slipway.Attachment{}, nil, err
		}
		if i := slices.IndexFunc(report.Attachments, func(a slipway.Attachment) bool { return a.Digest == digest }); i >= 0 {
			f, err := s.Attachments().Open(cmp.Or(st.ReusedFrom, runID), digest)
			return report.Attachments[i], f, err
		}
	}
	return slipway.Attachment{}, nil, slipway.Errorf(slipway.NotFound, "no report of run #%d has an attachment %s", runID, digest)
}
