package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestDeployOptions(t *testing.T) {
	t.Parallel()
	whole := deployOptions{environment: "qa", kubeconfig: "f", context: "c"}
	for want, o := range map[string]deployOptions{
		"go with --deploy ENVIRONMENT":                {context: "c"},
		"name the cluster with --kubeconfig FILE and": {environment: "qa", context: "c", yes: true},
		"standard input is no terminal: say --yes":    whole,
	} {
		if err := o.check(slipway.PullUpdate, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if err := whole.check(slipway.DefaultPush, true); err == nil || !strings.Contains(err.Error(), "goes without --event") {
		t.Error(err)
	}
	if err := errors.Join(whole.check(slipway.PullUpdate, true), deployOptions{}.check(slipway.DefaultPush, false)); err != nil {
		t.Error(err)
	}
}

// Only yes is yes, and whoever cancels is not waited for.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{"y\n": true, " Yes \n": true, "\n": false, "": false, "yesterday\n": false} {
		if got, err := confirm(t.Context(), strings.NewReader(answer), io.Discard, "Deploy?"); got != want || err != nil {
			t.Errorf("%q: %v, %v", answer, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	if yes, err := confirm(ctx, silent, io.Discard, "Deploy?"); yes || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", yes, err)
	}
}
