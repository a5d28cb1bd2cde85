package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) keys() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Keys with which images and charts are signed: list, show, rotate, retire", Args: cobra.NoArgs,
		RunE: answer(c, func(ctx context.Context, q question) (slipway.KeyRing, error) {
			return q.api.Keys(ctx)
		}, func(_ question, ring slipway.KeyRing) {
			now := time.Now()
			var rows [][]string
			for _, k := range ring.Keys {
				rows = append(rows, []string{k.ID, string(k.State(now)), ago(k.CreatedAt), keyNote(k)})
			}
			c.out.table([]string{"KEY", "STATE", "MADE", "TRUSTED"}, rows)
		}),
	}
	cmd.AddCommand(c.keysShow(), c.keysRotate(), &cobra.Command{
		Use: "retire KEY", Short: "Trust nothing any more that a replaced key has signed", Args: cobra.ExactArgs(1),
		Long: "What only this key has signed is not deployed any more where signatures are asked for:\ndeliver what is in production again first, so that the key that signs now has signed it.",
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Key, error) {
			return q.api.RetireKey(ctx, q.args[0])
		}, func(_ question, k slipway.Key) {
			c.out.line("key %s is not trusted any more", k.ID)
		}),
	})
	return cmd
}

func keyNote(k slipway.Key) string {
	switch {
	case !k.RetiredAt.IsZero():
		return "no, since " + k.RetiredAt.UTC().Format(time.DateOnly)
	case !k.Expires.IsZero():
		return "until " + k.Expires.UTC().Format(time.DateOnly)
	}
	return "until it is retired"
}

func (c *cli) keysShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [KEY]", Short: "Print a public key, for cosign verify --key (default: the one that signs)", Args: cobra.MaximumNArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Key, error) {
			ring, err := q.api.Keys(ctx)
			if err != nil {
				return slipway.Key{}, err
			}
			for _, k := range ring.Keys {
				if len(q.args) == 0 && k.ReplacedAt.IsZero() || len(q.args) == 1 && k.ID == q.args[0] {
					return k, nil
				}
			}
			return slipway.Key{}, slipway.Errorf(slipway.NotFound, "there is no such key; `slipway keys` lists them")
		}, func(_ question, k slipway.Key) {
			c.out.line("%s", strings.TrimSpace(k.Public))
		}),
	}
}

func (c *cli) keysRotate() *cobra.Command {
	var trust time.Duration
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new key that signs from now on", Args: cobra.NoArgs,
		Long: "The private half of the old key is deleted. What it signed stays trusted until it is retired, or for --trust.\nGive the new public key (slipway keys show) to whoever verifies with cosign.",
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Key, error) {
			return q.api.RotateKey(ctx, trust)
		}, func(_ question, k slipway.Key) {
			c.out.line("key %s signs from now on; `slipway keys show` prints it", k.ID)
		}),
	}
	cmd.Flags().DurationVar(&trust, "trust", 0, "how long the old key is trusted, such as 2160h (default: until it is retired)")
	return cmd
}
