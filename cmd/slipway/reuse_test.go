package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"
)

func TestProgramHash(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		if got := programHash(); got != "" {
			t.Errorf("hash %s of what is not shown", got)
		}
		return
	}
	if sum := sha256.Sum256(data); programHash() != hex.EncodeToString(sum[:]) {
		t.Error("it is the hash of something else")
	}
}
