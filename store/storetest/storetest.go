// Package storetest gives tests databases in which nothing is yet. Each is a copy of one that was migrated once for the
// test binary: to migrate one takes longer than most tests.
package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway/store"
)

var migrated struct {
	sync.Mutex
	data []byte
}

// Fresh writes a database in which nothing is yet to path, and makes its folder.
func Fresh(ctx context.Context, path string) error {
	migrated.Lock()
	defer migrated.Unlock()
	if migrated.data == nil {
		data, err := migrate(ctx)
		if err != nil {
			return fmt.Errorf("migrate a database: %w", err)
		}
		migrated.data = data
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, migrated.data, 0o600)
}

func migrate(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "slipway-fresh-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "slipway.db")
	s, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
		return nil, fmt.Errorf("the database has %v beside it", left)
	}
	return os.ReadFile(path)
}

// Open opens a database of the test's own, and closes it with the test.
func Open(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slipway.db")
	if err := Fresh(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
