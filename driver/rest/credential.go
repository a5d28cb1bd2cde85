package rest

import (
	"strings"

	"github.com/slipway-cd/slipway"
)

// Credential returns a token as it goes into a header, without the line end that it was stored with. The
// text of the error holds nothing of it.
func Credential(forge, text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", slipway.Errorf(slipway.Invalid, "the token for %s is empty", forge)
	}
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return "", slipway.Errorf(slipway.Invalid, "the token for %s has a character that none has: was more copied than the token?", forge)
		}
	}
	return text, nil
}
