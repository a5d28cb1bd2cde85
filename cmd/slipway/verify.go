package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage/attest"
)

// verified is what is proven of an image or a chart.
type verified struct {
	Name    string         `json:"name"` // repository@digest
	Proven  bool           `json:"proven"`
	Missing []string       `json:"missing,omitempty"` // of what was asked for
	Proofs  []attest.Proof `json:"proofs"`
}

// verifyFlags are the flags of verify.
type verifyFlags struct {
	key, registry string
	require       []string
}

func (c *cli) verify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify REF", Short: "Verify signature and attestations of an image or a chart", Args: cobra.ExactArgs(1),
		Long: "Reads from the registry what is attached to the image or chart and verifies it here, with the public keys of\n" +
			"the server or with that of --key, for which no server is needed. REF is a tag or a digest:\n" +
			"registry.slipway.internal/shop/delivery:v1.0.2, shop/delivery:v1.0.2 (of the server's registry), oci://...\n" +
			"The exit status is 1 when it is not signed, or something of --require is missing.",
		RunE: func(cmd *cobra.Command, args []string) error { return c.verifyRef(cmd.Context(), args[0], f) },
	}
	cmd.Flags().StringVar(&f.key, "key", "", "file with a public key in PEM (default: the keys of the server)")
	cmd.Flags().StringVar(&f.registry, "registry", "", "URL at which the registry is reached, when that is not its name in REF")
	cmd.Flags().StringSliceVar(&f.require, "require", []string{attest.Provenance}, "attestations that must be there: provenance, sbom, tests, scan")
	return cmd
}

func (c *cli) verifyRef(ctx context.Context, text string, f verifyFlags) error {
	ref, err := parseArtifactRef(text)
	if err != nil {
		return err
	}
	for _, name := range f.require {
		if !slices.Contains([]string{attest.Provenance, attest.SBOM, attest.Tests, attest.Scan}, name) {
			return slipway.Errorf(slipway.Invalid, "--require %q: expected provenance, sbom, tests or scan", name)
		}
	}
	w, err := c.verifying(ctx, &ref, f)
	if err != nil {
		return err
	}
	if ref.digest == "" {
		if ref.digest, err = w.registry.Resolve(ctx, ref.repo, ref.tag); err != nil {
			return err
		}
	}
	subject := attest.Subject{Repository: ref.repo, Digest: ref.digest}
	proofs, err := w.verifier.Proofs(ctx, subject)
	if err != nil {
		return err
	}
	v := assess(subject, proofs, f.require)
	if done, err := c.out.value(v); err != nil {
		return err
	} else if !done {
		c.showVerified(v)
	}
	if !v.Proven {
		return errQuiet
	}
	return nil
}

func assess(subject attest.Subject, proofs []attest.Proof, require []string) verified {
	said := attest.Summarize(subject, proofs)
	v := verified{Name: said.Name, Proofs: proofs}
	if !said.Signed {
		v.Missing = append(v.Missing, "signature")
	}
	for _, name := range require {
		if !slices.Contains(said.Attestations, name) {
			v.Missing = append(v.Missing, name)
		}
	}
	v.Proven = len(v.Missing) == 0
	if v.Proofs == nil {
		v.Proofs = []attest.Proof{}
	}
	return v
}

func (c *cli) showVerified(v verified) {
	c.out.line("%s", slipway.Printable(v.Name))
	var rows [][]string
	for _, p := range v.Proofs {
		name, says, by := first(p.Name, slipway.Printable(p.Type), "unknown"), slipway.Printable(p.Summary), "key "+p.Key
		if p.Problem != "" {
			rows = append(rows, []string{name, "no", slipway.Printable(p.Problem), ""})
			continue
		}
		if p.Builder != "" {
			by = slipway.Printable(p.Builder)
		}
		rows = append(rows, []string{name, "yes", says, by})
	}
	if len(rows) > 0 {
		c.out.table([]string{"WHAT", "PROVEN", "SAYS", "BY"}, rows)
	}
	if v.Proven {
		c.out.line("proven: it is what this key's owner has published")
		return
	}
	c.out.line("not proven: there is no valid %s", strings.Join(v.Missing, ", no valid "))
}

// verifying is what verifies a reference.
type verifying struct {
	registry *oci.Client
	verifier *attest.Verifier
}

// verifying finds the keys, and the way to the registry.
func (c *cli) verifying(ctx context.Context, ref *artifactRef, f verifyFlags) (verifying, error) {
	at, err := c.reach(ctx, ref, f.registry)
	if err != nil {
		return verifying{}, err
	}
	ring := at.ring
	switch {
	case f.key != "":
		text, err := os.ReadFile(f.key)
		if err != nil {
			return verifying{}, slipway.Errorf(slipway.Invalid, "read the public key: %w", err)
		}
		k, err := cosign.ParseKey(text)
		if err != nil {
			return verifying{}, fmt.Errorf("%s: %w", f.key, err)
		}
		ring = slipway.KeyRing{Keys: []slipway.Key{k}}
	case at.noKeys != nil:
		return verifying{}, at.noKeys
	}
	keys := func(context.Context) ([]slipway.Key, error) { return ring.Keys, nil }
	return verifying{at.registry, attest.NewVerifier(at.registry, cosign.Bundles{}, keys, attest.VerifierOptions{Builders: ring.Builders})}, nil
}
