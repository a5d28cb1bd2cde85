package slipway_test

import (
	"testing"

	"github.com/slipway-cd/slipway"
)

// The name of a pull request is read as it is written, and nothing else is.
func TestPullNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]slipway.PullRequest{
		"3": {Number: 3}, "web#3": {Codebase: "web", Number: 3}, "main#3": {Number: 3}, "my-web2#12": {Codebase: "my-web2", Number: 12},
	} {
		codebase, number, err := slipway.ParsePull(text)
		if err != nil || codebase != want.Codebase || number != want.Number {
			t.Errorf("%s is %q %d, %v", text, codebase, number, err)
		}
		if text != "main#3" && want.Name() != text {
			t.Errorf("%+v is called %s", want, want.Name())
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "#3", "web#", "web#0", "web#x", "Web#3", "a/b#3", "web#3#4", "web 3", "99999999999999999999", "web#3\n"} {
		if codebase, number, err := slipway.ParsePull(text); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q is %q %d, %v", text, codebase, number, err)
		}
	}
}
