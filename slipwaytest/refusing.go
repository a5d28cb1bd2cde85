package slipwaytest

import (
	"fmt"
	"syscall"
	"testing"
)

// Refusing returns the address of a port of this machine that refuses connections, and that nobody else gets while the
// test runs: a port that was listened at and closed may be the next process's.
func Refusing(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) }) //nolint:errcheck // it was not written to
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in, ok := at.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("bound to %T", at)
	}
	return fmt.Sprintf("127.0.0.1:%d", in.Port)
}
