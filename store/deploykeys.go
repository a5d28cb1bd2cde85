package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

const deployKeyColumns = `codebase, accepted, git_url, public, hosts, problem, created_at`

func scanDeployKey(r scanner) (k slipway.DeployKey, err error) {
	return k, r.Scan(&k.Codebase, &k.Accepted, &k.GitURL, &k.Public, &k.Hosts, &k.Problem, stamp{&k.CreatedAt})
}

// SaveDeployKey keeps the key of a codebase, its private half sealed. One that is accepted takes the place of the
// one in use, and nothing stays prepared; one that is not is prepared, and what is in use stays.
func (s *Store) SaveDeployKey(ctx context.Context, k slipway.DeployKey, private, actor string) error {
	sealed, err := s.seal([]byte(private), sealedFor(k))
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		if k.Accepted {
			if _, err := t.exec(`DELETE FROM deploy_keys WHERE codebase = $1`, k.Codebase); err != nil {
				return fmt.Errorf("replace the deploy key of %s: %w", k.Codebase, err)
			}
		}
		_, err := t.exec(`INSERT INTO deploy_keys (codebase, accepted, git_url, public, hosts, sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (codebase, accepted) DO UPDATE SET git_url = excluded.git_url, public = excluded.public, hosts = excluded.hosts,
				sealed = excluded.sealed, problem = '', created_at = excluded.created_at`,
			k.Codebase, bit(k.Accepted), k.GitURL, k.Public, k.Hosts, sealed, ms(t.now))
		if err != nil {
			return fmt.Errorf("save the deploy key of %s: %w", k.Codebase, err)
		}
		project, name := slipway.SplitCodebase(k.Codebase)
		e := slipway.Event{Kind: "forge.keyed", Project: project, Actor: actor, Message: fmt.Sprintf("%sfetched by SSH with the deploy key %s from %s",
			about(name), slipway.KeyFingerprint(k.Public), strings.Join(k.HostKeys(), ", "))}
		if !k.Accepted {
			e.Kind, e.Message = "forge.key-prepared", fmt.Sprintf("%sdeploy key %s prepared", about(name), slipway.KeyFingerprint(k.Public))
		}
		return t.audit(e)
	})
}

// sealedFor binds a private key to the codebase and to what it is for.
func sealedFor(k slipway.DeployKey) string { return "deploy key " + k.Codebase + " " + k.GitURL }

// DeployKey is the key of a codebase that is in use or, not accepted, the prepared one; NotFound if there is none.
func (s *Store) DeployKey(ctx context.Context, codebase string, accepted bool) (slipway.DeployKey, error) {
	k, ok, err := one(ctx, s.reader, scanDeployKey, `SELECT `+deployKeyColumns+` FROM deploy_keys WHERE codebase = $1 AND accepted = $2`, codebase, bit(accepted))
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "%s has no deploy key", codebase)
	}
	return k, err
}

// PrivateKey opens the private half of a key.
func (s *Store) PrivateKey(ctx context.Context, k slipway.DeployKey) (string, error) {
	sealed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) },
		`SELECT sealed FROM deploy_keys WHERE codebase = $1 AND accepted = $2 AND public = $3`, k.Codebase, bit(k.Accepted), k.Public)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "the deploy key of %s was replaced meanwhile", k.Codebase)
	}
	if err != nil {
		return "", err
	}
	open, err := s.unseal(sealed, sealedFor(k))
	return string(open), err
}

// SetDeployKeyProblem keeps why a codebase could not be fetched with its key, "" when it was. Saying the same
// again changes nothing.
func (s *Store) SetDeployKeyProblem(ctx context.Context, codebase, problem string) error {
	k, err := s.DeployKey(ctx, codebase, true)
	if slipway.ErrorCode(err) == slipway.NotFound || err == nil && k.Problem == problem {
		return nil
	}
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE deploy_keys SET problem = $1 WHERE codebase = $2 AND accepted = 1 AND problem <> $1`, problem, codebase)
		if err != nil || n == 0 {
			return err
		}
		project, name := slipway.SplitCodebase(codebase)
		e := slipway.Event{Kind: "forge.refused", Project: project, Message: about(name) + problem}
		if problem == "" {
			e.Kind, e.Message = "forge.answered", about(name)+"fetched by SSH again"
		}
		return t.audit(e)
	})
}
