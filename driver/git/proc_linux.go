package git

import "syscall"

// ownGroup starts a process in a group of its own that is told to end when this process dies. (Linux
// means the thread that started it; Go ends none but those that a goroutine was locked to.)
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// lower puts a process group behind everything else that wants the processor. It runs all the same where
// that is refused.
func lower(group int) {
	const least = 19
	_ = syscall.Setpriority(syscall.PRIO_PGRP, group, least)
}
