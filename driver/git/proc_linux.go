package git

import "syscall"

// ownGroup starts a process in a group of its own that does not outlive this process.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
