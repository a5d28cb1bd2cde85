package store

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const keyColumns = `id, public, created_at, replaced_at, expires_at, retired_at`

func scanKey(r scanner) (k slipway.Key, err error) {
	return k, r.Scan(&k.ID, &k.Public, stamp{&k.CreatedAt}, stamp{&k.ReplacedAt}, stamp{&k.Expires}, stamp{&k.RetiredAt})
}

// Keys returns the keys with which this server signs or has signed, newest first. There is none before the
// first SigningKey.
func (s *Store) Keys(ctx context.Context) ([]slipway.Key, error) {
	return list(ctx, s.reader, scanKey, `SELECT `+keyColumns+` FROM keys ORDER BY replaced_at = 0 DESC, replaced_at DESC`)
}

// SigningKey returns the key that signs now. The first call makes it.
func (s *Store) SigningKey(ctx context.Context) (slipway.Key, error) {
	const current = `SELECT ` + keyColumns + ` FROM keys WHERE replaced_at = 0`
	k, ok, err := one(ctx, s.reader, scanKey, current)
	if err != nil || ok {
		return k, err
	}
	err = s.write(ctx, func(t *tx) error {
		if k, ok, err = one(ctx, t, scanKey, current); err != nil || ok {
			return err
		}
		k, err = t.makeKey("")
		return err
	})
	return k, err
}

// makeKey makes the key that signs from now on. Its private half is kept sealed and leaves the store no more.
func (t *tx) makeKey(actor string) (slipway.Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return slipway.Key{}, fmt.Errorf("make a key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return slipway.Key{}, fmt.Errorf("write the public key: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return slipway.Key{}, fmt.Errorf("write the private key: %w", err)
	}
	k := slipway.Key{Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), CreatedAt: t.now}
	k.ID, _ = slipway.KeyID(public)
	sealed, err := t.s.seal(secret, "signing key "+k.ID)
	if err != nil {
		return slipway.Key{}, err
	}
	if _, err := t.exec(`INSERT INTO keys (id, public, sealed, created_at) VALUES ($1, $2, $3, $4)`, k.ID, k.Public, sealed, ms(t.now)); err != nil {
		return slipway.Key{}, fmt.Errorf("save key %s: %w", k.ID, err)
	}
	return k, t.audit(slipway.Event{Kind: "key.created", Actor: actor, Message: fmt.Sprintf("key %s signs images and charts", k.ID), Data: data(map[string]any{"key": k.ID})})
}

// Sign signs a SHA-256 digest with a key: ECDSA on P-256, in ASN.1. A key that has been replaced signs
// nothing any more: Unavailable, as the next attempt finds the new one.
func (s *Store) Sign(ctx context.Context, key string, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, slipway.Errorf(slipway.Internal, "a key signs SHA-256 digests, not %d bytes", len(digest))
	}
	sealed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) }, `SELECT sealed FROM keys WHERE id = $1`, key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noKey(key)
	}
	if len(sealed) == 0 {
		return nil, slipway.Errorf(slipway.Unavailable, "key %s has been replaced and signs no more", key)
	}
	secret, err := s.unseal(sealed, "signing key "+key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	clear(secret)
	private, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, slipway.Errorf(slipway.Internal, "the sealed key %s is no ECDSA key", key)
	}
	return ecdsa.SignASN1(rand.Reader, private, digest)
}

// RotateKey makes a new key that signs from now on. What the old one signed is trusted until then, with a zero
// time until it is retired; its private half is deleted.
func (s *Store) RotateKey(ctx context.Context, until time.Time, actor string) (slipway.Key, error) {
	var k slipway.Key
	err := s.write(ctx, func(t *tx) error {
		if !until.IsZero() && !until.After(t.now) {
			return slipway.Errorf(slipway.Invalid, "the old key cannot be trusted until %s, which is past", until.UTC().Format(time.RFC3339))
		}
		old, _, err := one(t.ctx, t, scanKey, `UPDATE keys SET replaced_at = $1, expires_at = $2, sealed = x'' WHERE replaced_at = 0 RETURNING `+keyColumns, ms(t.now), ms(until))
		if err != nil {
			return fmt.Errorf("replace the key: %w", err)
		}
		if k, err = t.makeKey(actor); err != nil || old.ID == "" {
			return err
		}
		message := fmt.Sprintf("key %s has been replaced by %s", old.ID, k.ID)
		if !until.IsZero() {
			message += "; it is trusted until " + until.UTC().Format(time.RFC3339)
		}
		return t.audit(slipway.Event{Kind: "key.rotated", Actor: actor, Message: message, Data: data(map[string]any{"key": k.ID, "old": old.ID})})
	})
	return k, err
}

// RetireKey takes the trust in a replaced key back: nothing that it signed verifies any more. The key that
// signs is a Conflict, and so is one that was retired before.
func (s *Store) RetireKey(ctx context.Context, id, actor string) (slipway.Key, error) {
	var k slipway.Key
	err := s.write(ctx, func(t *tx) (err error) {
		var ok bool
		if k, ok, err = one(t.ctx, t, scanKey, `SELECT `+keyColumns+` FROM keys WHERE id = $1`, id); err != nil {
			return err
		}
		switch {
		case !ok:
			return noKey(id)
		case k.ReplacedAt.IsZero():
			return slipway.Errorf(slipway.Conflict, "key %s signs: replace it first with `slipway keys rotate`", id)
		case !k.RetiredAt.IsZero():
			return slipway.Errorf(slipway.Conflict, "key %s was retired on %s", id, k.RetiredAt.UTC().Format(time.DateOnly))
		}
		if k, _, err = one(t.ctx, t, scanKey, `UPDATE keys SET retired_at = $1 WHERE id = $2 RETURNING `+keyColumns, ms(t.now), id); err != nil {
			return fmt.Errorf("retire key %s: %w", id, err)
		}
		return t.audit(slipway.Event{Kind: "key.retired", Actor: actor, Message: fmt.Sprintf("key %s is not trusted any more", id), Data: data(map[string]any{"key": id})})
	})
	return k, err
}

// maxBuilders bounds how many former identities are remembered.
const maxBuilders = 50

// Builders returns the identities that provenance of this server has and had, the one that is given first:
// it is remembered, so that what was signed stays believed when the server's URL changes.
func (s *Store) Builders(ctx context.Context, current string) ([]string, error) {
	const key = "builders"
	text, err := s.Setting(ctx, key)
	if err != nil {
		return nil, err
	}
	had := strings.Fields(text)
	all := append([]string{current}, slices.DeleteFunc(slices.Clone(had), func(b string) bool { return b == current })...)
	all = all[:min(len(all), maxBuilders)]
	if slices.Equal(all, had) {
		return all, nil
	}
	return all, s.SetSetting(ctx, key, strings.Join(all, " "))
}

func noKey(id string) error {
	return slipway.Errorf(slipway.NotFound, "there is no key %q; `slipway keys` lists them", id)
}

// BuiltBy is the step that built an image of a service, with what it made: one of that run, or with run 0 the
// newest; NotFound when there is none on record. A step that reused an image has not built it.
func (s *Store) BuiltBy(ctx context.Context, project, service, digest string, run int64) (slipway.Earlier, error) {
	st, ok, err := one(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps
		WHERE project = $1 AND kind = 'build' AND state = 'succeeded' AND reused_from = 0 AND ($2 = 0 OR run_id = $3)
		AND EXISTS (SELECT 1 FROM artifacts a WHERE a.run_id = steps.run_id AND a.step = steps.key AND a.kind = 'image' AND a.digest = $4 AND a.service = $5)
		ORDER BY id DESC LIMIT 1`, project, run, run, digest, service)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "no step is on record that built %s", digest)
	}
	if err != nil {
		return slipway.Earlier{}, err
	}
	found := slipway.Earlier{Step: st.Step}
	found.Artifacts, err = artifacts(ctx, s.reader, `run_id = $1 AND step = $2`, st.RunID, st.Spec.Key)
	return found, err
}

// BuildRecord is the digest of what the builder wrote down of how an image of a project was made; "" when
// nothing is on record.
func (s *Store) BuildRecord(ctx context.Context, project, digest string) (string, error) {
	found, _, err := one(ctx, s.reader, scanString, `SELECT p.digest FROM artifacts i JOIN artifacts p ON p.run_id = i.run_id AND p.step = i.step
		WHERE i.project = $1 AND i.kind = 'image' AND i.digest = $2 AND p.kind = 'provenance' AND p.subject = i.digest ORDER BY p.id DESC LIMIT 1`, project, digest)
	if err != nil {
		return "", fmt.Errorf("find the record of the build of %s: %w", digest, err)
	}
	return found, nil
}
