package gitlab_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/gitlab"
)

// A webhook that has a signing token in the place of a secret token signs id, time and body, as
// https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944 has it.
func TestSignature(t *testing.T) {
	t.Parallel()
	const secret, id, at = "open-sesame-4711", "f5e57ef9-c1de-4a45-8f3a-96bbb5a0ba40", "1795255260"
	body := `{"object_kind":"push","ref":"refs/heads/main","before":"95790bf891e76fee5e1747ab589903a6a1f80f22",` +
		`"after":"da1560886d4f094c3e6c9ef40349f7d38b5d27d7","user_id":4,"user_username":"jsmith","project":{"id":15,"path_with_namespace":"mike/shop"}}`
	sign := func(token, id, at, body string) string {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "whsec_"))
		if err != nil || len(key) != 32 {
			t.Fatalf("%s: %d bytes, %v", token, len(key), err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "." + body))
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	right := sign(gitlab.SigningToken(secret), id, at, body)
	c := slipway.Connection{Project: "shop", Forge: slipway.GitLab, API: "https://gitlab.example.com/api/v4", Repository: "mike/shop"}
	for name, x := range map[string]struct {
		id, at, body, signature string
		ok                      bool
	}{
		"right":              {id, at, body, right, true},
		"one of two":         {id, at, body, sign(gitlab.SigningToken("other"), id, at, body) + " " + right, true},
		"another id":         {"x" + id, at, body, right, false},
		"another time":       {id, "1795255261", body, right, false},
		"another body":       {id, at, strings.Replace(body, "main", "prod", 1), right, false},
		"another token":      {id, at, body, sign(gitlab.SigningToken("other"), id, at, body), false},
		"without version":    {id, at, body, strings.TrimPrefix(right, "v1,"), false},
		"asymmetric version": {id, at, body, strings.Replace(right, "v1,", "v1a,", 1), false},
		"none":               {id, at, body, "", false},
		"no id":              {"", at, body, sign(gitlab.SigningToken(secret), "", at, body), false},
	} {
		h := http.Header{}
		for k, v := range map[string]string{"Content-Type": "application/json", "X-Gitlab-Event": "Push Hook", "webhook-id": x.id, "webhook-timestamp": x.at, "webhook-signature": x.signature} {
			if v != "" {
				h.Set(k, v)
			}
		}
		d, err := gitlab.Receive(c, secret, h, []byte(x.body))
		if x.ok && (err != nil || d.Kind != slipway.DeliveryPush || d.ID != id) || !x.ok && slipway.ErrorCode(err) != slipway.Unauthorized {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if _, err := gitlab.Receive(c, "", http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {sign(gitlab.SigningToken(""), id, at, body)}}, []byte(body)); slipway.ErrorCode(err) != slipway.Unauthorized {
		t.Errorf("an empty secret signs: %v", err)
	}
}
