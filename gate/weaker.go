package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// LessSigned says where a configuration asks less of signatures than the one before: a lower level, an attestation
// that is not asked for any more, a waiver that holds. Nil: nowhere. An environment is compared with the one that had
// its name and those that deployed to its namespace, a new one with what the project demands, in production with fail.
func LessSigned(before, after slipway.Config, now time.Time) []string {
	out := lessAsked("gates.signatures", before.Gates.Signatures, after.Gates.Signatures)
	for _, e := range after.Environments {
		where, known := "gates.signatures of environment "+e.Name, false
		for _, b := range before.Environments {
			if b.Name == e.Name || (b.Cluster == e.Cluster && b.Namespace == e.Namespace) {
				known = true
				out = append(out, lessAsked(where, b.Gates.Signatures, e.Gates.Signatures)...)
			}
		}
		if !known {
			asked := before.Gates.Signatures
			if e.Production && asked.Level != slipway.LevelOff {
				asked.Level = slipway.LevelFail
			}
			out = append(out, lessAsked(where, asked, e.Gates.Signatures)...)
		}
	}
	out = append(out, moreWaived(signatureWaivers(before), signatureWaivers(after), now)...)
	slices.Sort(out)
	return slices.Compact(out)
}

func lessAsked(where string, before, after slipway.SignatureGate) (out []string) {
	if before.Level == slipway.LevelOff {
		return nil
	}
	if stricterLevel(before.Level, after.Level) != after.Level {
		return []string{fmt.Sprintf("%s: the level %s in place of %s", where, after.Level, before.Level)}
	}
	for _, a := range before.Attestations {
		if !slices.Contains(after.Attestations, a) {
			out = append(out, fmt.Sprintf("%s: attestations without %s", where, a))
		}
	}
	return out
}

// signatureWaivers are the waivers of the project and its environments for the gate signatures.
func signatureWaivers(c slipway.Config) (out []slipway.Waiver) {
	all := slices.Clone(c.Gates.Waivers)
	for _, e := range c.Environments {
		all = append(all, e.Gates.Waivers...)
	}
	return slices.DeleteFunc(all, func(w slipway.Waiver) bool { return w.Gate != slipway.GateSignatures })
}

func moreWaived(before, after []slipway.Waiver, now time.Time) (out []string) {
	for _, w := range after {
		covered := slices.ContainsFunc(before, func(b slipway.Waiver) bool {
			return b.Subject == w.Subject && (b.Service == "" || b.Service == w.Service) && (b.Environment == "" || b.Environment == w.Environment) && !b.Expires.Before(w.Expires)
		})
		if w.Holds(now) && !covered {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s: a waiver of %q until %s", w.Place, w.Subject, w.Expires.UTC().Format(time.DateOnly))))
		}
	}
	return out
}
