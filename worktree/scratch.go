package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// scratchLock is the file in a scratch folder whose lock its process holds as long as it lives, however it ends.
const scratchLock = "lock"

var scratchExpr = regexp.MustCompile(`^slipway-(run|plan|tree)-[0-9]+$`)

// errScratchTaken is that another process has the lock of a scratch folder, or has removed it.
var errScratchTaken = errors.New("the folder is another process's")

// Scratch makes a temporary folder of a kind that scratchExpr knows, and removes those whose process was killed.
// remove removes it with all that it holds.
func Scratch(kind string) (dir string, remove func() error, err error) {
	sweepScratch(os.TempDir())
	for err = errScratchTaken; errors.Is(err, errScratchTaken); { // somebody swept between the two calls
		var lock *os.File
		if dir, err = os.MkdirTemp("", "slipway-"+kind+"-"); err != nil {
			break
		}
		if lock, err = lockScratch(dir, os.O_CREATE|os.O_EXCL); err == nil {
			return dir, func() error { return removeScratch(dir, lock) }, nil
		}
		if !errors.Is(err, errScratchTaken) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return "", nil, fmt.Errorf("make a folder for what is not committed: %w", err)
}

// lockScratch takes the lock of a scratch folder. The lock goes with the process; no child inherits it.
func lockScratch(dir string, flags int) (*os.File, error) {
	name := filepath.Join(dir, scratchLock)
	f, err := os.OpenFile(name, flags|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errScratchTaken
	}
	have, err := f.Stat()
	there, gone := os.Lstat(name)
	if err != nil || gone != nil || !os.SameFile(have, there) {
		f.Close()
		return nil, errScratchTaken
	}
	return f, nil
}

// removeScratch removes a folder whose lock is held; the lock goes last, so that what a killed removal leaves is found again.
func removeScratch(dir string, lock *os.File) error {
	defer lock.Close()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != scratchLock {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("clear %s away: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// sweepScratch removes this user's scratch folders whose process is gone. What it cannot remove stays: that is no
// reason not to do what was asked for.
func sweepScratch(temp string) {
	entries, err := os.ReadDir(temp)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !scratchExpr.MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
			continue
		}
		dir := filepath.Join(temp, e.Name())
		if lock, err := lockScratch(dir, 0); err == nil {
			_ = removeScratch(dir, lock) // see above
		}
	}
}
