package buildkit

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/slipway-cd/slipway"
)

// buildContext is a folder as BuildKit sees it. Owners and modes are those that git knows, so that
// where and by whom a tree was checked out changes nothing. Modification times are made from the
// content: BuildKit sends a file again only when its size or time differ from the last build's, and
// the times of two checkouts may agree while an equally long content does not. With patterns it holds
// only what they name.
func buildContext(dir string, only ...string) (fsutil.FS, error) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return nil, slipway.Errorf(slipway.Invalid, "build context %s is not a folder of this commit", filepath.Base(dir))
	}
	plain, err := fsutil.NewFS(dir)
	if err != nil {
		return nil, err
	}
	return fsutil.NewFilterFS(plain, &fsutil.FilterOpt{IncludePatterns: only, Map: func(name string, st *fstypes.Stat) fsutil.MapResult {
		normalise(dir, name, st)
		return fsutil.MapResultKeep
	}})
}

func normalise(dir, name string, st *fstypes.Stat) {
	st.Uid, st.Gid, st.Xattrs = 0, 0, nil
	mode := os.FileMode(st.Mode)
	switch {
	case mode.IsDir():
		st.Mode = uint32(os.ModeDir | 0o755)
		st.ModTime = contentTime(nil)
	case mode.IsRegular():
		perm := os.FileMode(0o644)
		if mode&0o111 != 0 {
			perm = 0o755
		}
		st.Mode = uint32(perm)
		st.ModTime = fileTime(dir, name, st.ModTime)
	case mode&os.ModeSymlink != 0:
		st.Mode = uint32(os.ModeSymlink | 0o777)
		st.ModTime = contentTime([]byte(st.Linkname))
	}
}

// fileTime is the time made from a file's content; the real one when it cannot be read, which the
// transfer will tell.
func fileTime(dir, name string, real int64) int64 {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return real
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return real
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return real
	}
	return contentTime(h.Sum(nil))
}

// contentTime is a time within 69 minutes of the start of the year 2000, made of 42 bits of the
// content's hash. It is before any SOURCE_DATE_EPOCH in use, so an image keeps it, the same for the
// same content whenever it was built; and as after a checkout, no file is notably older than another.
func contentTime(content []byte) int64 {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	if content == nil {
		return start
	}
	sum := sha256.Sum256(content)
	return start + int64(binary.BigEndian.Uint64(sum[:8])>>22)
}
