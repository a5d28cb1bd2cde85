package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// readKey reads the key that seals credentials, or makes it. It is a file of its own, so that a copy
// of the database alone opens nothing.
func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key) //nolint:errcheck // never fails
		if err := writeKey(path, key); err != nil {
			return nil, fmt.Errorf("write key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("key file %s has %d bytes, not 32: restore it from a backup", path, len(key))
	}
	return key, nil
}

// writeKey puts the whole key in its place, synced with its folder, before anything is sealed with it: a half one
// would keep the server from starting, and none would lose what a synced database holds.
func writeKey(path string, key []byte) error {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(key); err != nil {
		return errors.Join(err, f.Close(), os.Remove(part))
	}
	return settle(f, path)
}

// seal encrypts v so that only a holder of the key file reads it; what binds it to its row.
func (s *Store) seal(v []byte, what string) ([]byte, error) {
	gcm, err := s.cipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce) //nolint:errcheck // never fails
	return gcm.Seal(nonce, nonce, v, []byte(what)), nil
}

func (s *Store) unseal(v []byte, what string) ([]byte, error) {
	gcm, err := s.cipher()
	if err != nil {
		return nil, err
	}
	if len(v) < gcm.NonceSize() {
		return nil, fmt.Errorf("open sealed %s: too short", what)
	}
	out, err := gcm.Open(nil, v[:gcm.NonceSize()], v[gcm.NonceSize():], []byte(what))
	if err != nil {
		return nil, fmt.Errorf("open sealed %s: the key file is not the one it was sealed with: %w", what, err)
	}
	return out, nil
}

func (s *Store) cipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// newSecret is 32 random bytes in lower-case letters and digits.
func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b) //nolint:errcheck // never fails
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// hashSecret is what is kept of a secret. The secrets are random, so that a plain hash is enough.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Key is a stable secret for one purpose, made from the key file; it tells nothing about the others.
func (s *Store) Key(purpose string) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte("slipway key for " + purpose))
	return m.Sum(nil)
}
