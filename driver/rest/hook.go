package rest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// Signed reports in constant time whether signature is the HMAC-SHA256 of body with secret, in
// hexadecimal. An empty secret signs nothing.
func Signed(secret string, body []byte, signature string) bool {
	given, err := hex.DecodeString(signature)
	if err != nil || secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), given)
}

// SameSecret reports in constant time, whatever the lengths, whether two secrets are one. An empty one
// is the same as none.
func SameSecret(want, given string) bool {
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}

// Unsigned is the error for a webhook's request whose sender did not prove who it is: what says what was
// wanted, such as "X-Gitlab-Token".
func Unsigned(forge slipway.ForgeKind, h http.Header, what string) error {
	if h.Get(what) == "" {
		return slipway.Errorf(slipway.Unauthorized, "webhook of %s: the header %s is missing; set the webhook's secret on the forge", forge, what)
	}
	return slipway.Errorf(slipway.Unauthorized, "webhook of %s: the header %s does not fit the webhook's secret; set it anew on the forge", forge, what)
}

// Body reads a webhook's body into a value: one JSON value in UTF-8, sent as JSON. To be called when the
// sender is known.
func Body(forge slipway.ForgeKind, h http.Header, body []byte, into any) error {
	bad := func(why string) error {
		return slipway.Errorf(slipway.Invalid, "webhook of %s: %s", forge, why)
	}
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch kind = strings.TrimSpace(strings.ToLower(kind)); {
	case kind == "application/x-www-form-urlencoded":
		return bad("the body is a form; set the webhook's content type to application/json")
	case kind != "application/json":
		return bad("the content type must be application/json")
	case !utf8.Valid(body):
		return bad("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(into); err != nil {
		return slipway.Errorf(slipway.Invalid, "webhook of %s: the body is not the JSON that its documentation says: %w", forge, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("there is something after the JSON")
	}
	return nil
}

// Same reports a payload that is about another repository than the connection's: by the forge's id where
// the connection knows it, by name before. Names of repositories do not differ in case alone.
func Same(c slipway.Connection, id, name string) error {
	if c.RepositoryID != "" {
		if id == c.RepositoryID {
			return nil
		}
	} else if strings.EqualFold(name, c.Repository) {
		return nil
	}
	return slipway.Errorf(slipway.Forbidden, "webhook of %s: it is about the repository %q (id %s), and the project %s is connected with %s",
		c.Forge, slipway.CleanLine(name, 120), slipway.CleanLine(id, 40), c.Project, c.Repository)
}

// ID is a number as the text that a forge's id is kept as; "" for 0.
func ID(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Account makes an account of what a forge says, cleaned.
func Account(id, name, link string) slipway.Account {
	return slipway.Account{ID: slipway.CleanLine(id, 100), Name: slipway.CleanLine(name, 100), Link: Link(link)}
}

// Link returns a page's address that is safe to link to: http or https with a host and without a
// password; "" for anything else.
func Link(raw string) string {
	if len(raw) > 2000 || raw != slipway.CleanLine(raw, 2000) {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		return ""
	}
	return u.String()
}

// Move makes a RefMove of what a forge says, with what is wrong with it: a commit that is none refuses
// the delivery, a ref whose name Slipway does not take, or that is neither branch nor tag, is ignored
// with a reason.
func Move(ref, before, after string) (m slipway.RefMove, ignore string, err error) {
	m = slipway.RefMove{Ref: ref, Old: zero(before), New: zero(after)}
	for _, hash := range []string{before, after} {
		if err := slipway.CheckHash(hash); err != nil {
			return m, "", err
		}
	}
	if err := slipway.CheckRef(ref); err != nil {
		return m, slipway.CleanLine(err.Error(), 300), nil
	}
	if !strings.HasPrefix(ref, "refs/heads/") && !strings.HasPrefix(ref, "refs/tags/") {
		return m, "ref " + ref + " is neither a branch nor a tag", nil
	}
	if before == after {
		return m, "ref " + ref + " did not move", nil
	}
	return m, "", nil
}

// Pushed is a delivery that tells of one ref's move, as Move takes it.
func Pushed(d slipway.Delivery, ref, before, after string) (slipway.Delivery, error) {
	m, why, err := Move(ref, before, after)
	if err != nil || why != "" {
		return Ignored(d, why), err
	}
	d.Kind, d.Refs = slipway.DeliveryPush, []slipway.RefMove{m}
	return d, nil
}

// zero gives the absence of a commit its one form: repositories with SHA-256 have a longer one.
func zero(hash string) string {
	if strings.Trim(hash, "0") == "" && len(hash) == 64 {
		return slipway.ZeroHash
	}
	return hash
}

// Ignored is a delivery of which nothing follows.
func Ignored(d slipway.Delivery, why string) slipway.Delivery {
	d.Kind, d.Reason = slipway.DeliveryIgnored, why
	d.Refs, d.Pull, d.Comment = nil, nil, nil
	return d
}

// Pull checks and cleans a pull request that a forge told of. The second result says why it is ignored,
// "" for one that counts; hashes that are none and a number below 1 refuse the delivery.
func Pull(p slipway.ForgePull) (slipway.ForgePull, string, error) {
	if p.Number < 1 {
		return p, "", slipway.Errorf(slipway.Invalid, "pull request %d: the number must be at least 1", p.Number)
	}
	for _, hash := range []*string{&p.Head, &p.BaseCommit, &p.MergedAs} {
		if strings.Trim(*hash, "0") == "" {
			*hash = ""
			continue
		}
		if err := slipway.CheckHash(*hash); err != nil {
			return p, "", err
		}
	}
	if slipway.CheckRef("refs/heads/"+p.Topic) != nil {
		p.Topic = ""
	}
	p.Title = slipway.CleanLine(p.Title, 255)
	p.HeadRepository = slipway.CleanLine(p.HeadRepository, 255)
	p.Link = Link(p.Link)
	for i, l := range p.Labels {
		p.Labels[i] = slipway.CleanLine(l, 100)
	}
	if len(p.Labels) > 100 {
		p.Labels = p.Labels[:100]
	}
	if err := slipway.CheckRef("refs/heads/" + p.Base); err != nil {
		p.Base = ""
		return p, "its base branch: " + slipway.CleanLine(err.Error(), 300), nil
	}
	return p, "", nil
}

// CommentText is a comment's text, cleaned, of at most 64 KiB.
func CommentText(s string) string { return slipway.CleanText(s, 64<<10) }
