package slipwaytest_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/slipway-cd/slipway/slipwaytest"
)

func TestRefusing(t *testing.T) {
	t.Parallel()
	address := slipwaytest.Refusing(t)
	if conn, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connected with %v: %v", conn, err)
	}
	if slipwaytest.Free(address) {
		t.Errorf("%s can be had", address)
	}
}

// Whoever asks for an address gets one of their own.
func TestFreeAddresses(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 300 {
		address, err := slipwaytest.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
	}
}
