//go:build unix && !linux

package git

import "syscall"

// ownGroup starts a process in a group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// lower does nothing: how it is done differs too much.
func lower(int) {}
