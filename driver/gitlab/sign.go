package gitlab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

const signatureHeader = "Webhook-Signature"

// SigningToken is what GitLab signs a webhook's requests with where that is entered as the webhook's signing
// token: it follows from the webhook's secret, so that either of the two may be entered.
func SigningToken(secret string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(signingKey(secret))
}

func signingKey(secret string) []byte {
	key := sha256.Sum256([]byte("slipway: signing token of a webhook of GitLab\n" + secret))
	return key[:]
}

// signed reports in constant time whether a request is signed with SigningToken, in the form of Standard
// Webhooks: over its id, its time and its body. The time is not compared with a clock: what follows from a
// request that is sent again follows once, by its id.
func signed(secret string, h http.Header, body []byte) bool {
	id, at := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	if secret == "" || id == "" || at == "" {
		return false
	}
	mac := hmac.New(sha256.New, signingKey(secret))
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	found := false
	for _, s := range strings.Fields(h.Get(signatureHeader)) {
		text, ok := strings.CutPrefix(s, "v1,")
		given, err := base64.StdEncoding.DecodeString(text)
		found = found || ok && err == nil && hmac.Equal(want, given)
	}
	return found
}
