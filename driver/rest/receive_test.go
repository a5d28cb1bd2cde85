package rest_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/azuredevops"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/gitlab"
)

var update = flag.Bool("update", false, "rewrite what the fixtures are expected to become")

const secret = "open-sesame-4711"

// forge is a driver as the caller sees it: what holds of one webhook holds of all four.
type forge struct {
	conn    slipway.Connection
	receive func(slipway.Connection, string, http.Header, []byte) (slipway.Delivery, error)
	sign    func(h http.Header, secret string, body []byte)
	signed  string // the header that proves the sender
	dir     string
	push    string // fixture of a push to main
	comment string
}

func mac(secret string, body []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

func forges() map[slipway.ForgeKind]forge {
	return map[slipway.ForgeKind]forge{
		slipway.GitHub: {
			conn:    slipway.Connection{Project: "shop", Forge: slipway.GitHub, API: "https://api.github.com", Repository: "Octo-Shop/shop"},
			receive: github.Receive, signed: "X-Hub-Signature-256", dir: "github", push: "push", comment: "comment",
			sign: func(h http.Header, secret string, body []byte) {
				h.Set("X-Hub-Signature-256", "sha256="+mac(secret, body))
			},
		},
		slipway.GitLab: {
			conn:    slipway.Connection{Project: "shop", Forge: slipway.GitLab, API: "https://gitlab.example.com/api/v4", Repository: "mike/group/shop"},
			receive: gitlab.Receive, signed: "X-Gitlab-Token", dir: "gitlab", push: "push", comment: "comment",
			sign: func(h http.Header, secret string, _ []byte) { h.Set("X-Gitlab-Token", secret) },
		},
		slipway.Gitea: {
			conn:    slipway.Connection{Project: "shop", Forge: slipway.Gitea, API: "https://gitea.example.com/api/v1", Repository: "ada/shop"},
			receive: gitea.Receive, signed: "X-Gitea-Signature", dir: "gitea", push: "push", comment: "comment",
			sign: func(h http.Header, secret string, body []byte) { h.Set("X-Gitea-Signature", mac(secret, body)) },
		},
		slipway.AzureDevOps: {
			conn:    slipway.Connection{Project: "shop", Forge: slipway.AzureDevOps, API: "https://dev.azure.com", Repository: "fabrikam/My Project/Shop"},
			receive: azuredevops.Receive, signed: "Authorization", dir: "azuredevops", push: "push", comment: "comment",
			sign: func(h http.Header, secret string, _ []byte) {
				h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("slipway:"+secret)))
			},
		},
	}
}

func each(t *testing.T, f func(t *testing.T, x forge)) {
	t.Helper()
	for kind, x := range forges() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f(t, x)
		})
	}
}

type fixture struct {
	path    string
	archive *txtar.Archive
	header  http.Header
	body    []byte
	want    []byte
}

func read(t testing.TB, path string) fixture {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil || len(a.Files) != 3 {
		t.Fatalf("%s: %v", path, err)
	}
	f := fixture{path: path, archive: a, header: http.Header{}, body: bytes.TrimSuffix(a.Files[1].Data, []byte("\n")), want: a.Files[2].Data}
	for line := range strings.Lines(string(a.Files[0].Data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		f.header.Set(name, value)
	}
	return f
}

func (x forge) fixture(t testing.TB, name string) fixture {
	t.Helper()
	f := read(t, filepath.Join("..", x.dir, "testdata", name+".txtar"))
	x.sign(f.header, secret, f.body)
	return f
}

func (x forge) fixtures(t testing.TB) (out []fixture) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", x.dir, "testdata", "*.txtar"))
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d fixtures of %s, %v", len(paths), x.dir, err)
	}
	for _, p := range paths {
		f := read(t, p)
		x.sign(f.header, secret, f.body)
		out = append(out, f)
	}
	return out
}

// Every fixture becomes what stands in its own file.
func TestReceive(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		for _, f := range x.fixtures(t) {
			d, err := x.receive(x.conn, secret, f.header, f.body)
			if err != nil {
				t.Errorf("%s: %v", f.path, err)
				continue
			}
			if (d.Digest == slipway.BodyDigest(f.body)) == (x.conn.Forge == slipway.GitLab) {
				t.Errorf("%s: digest %s", f.path, d.Digest)
			}
			d.Digest = ""
			got, err := json.MarshalIndent(d, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			if *update {
				f.archive.Files[2].Data = got
				if err := os.WriteFile(f.path, txtar.Format(f.archive), 0o600); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if !bytes.Equal(got, f.want) {
				t.Errorf("%s: got\n%swant\n%s", f.path, got, f.want)
			}
		}
	})
}

// What a delivery holds passes the checks of the root, so that whoever takes it need not ask again.
func sound(t testing.TB, d slipway.Delivery) {
	t.Helper()
	line := func(what, s string) {
		if s != slipway.CleanLine(s, 400) {
			t.Errorf("%s is no clean line: %q", what, s)
		}
	}
	line("id", d.ID)
	line("name", d.Name)
	line("label", d.Label)
	line("reason", d.Reason)
	line("actor", d.Actor.Name)
	for _, m := range d.Refs {
		if err := slipway.CheckRef(m.Ref); err != nil {
			t.Error(err)
		}
		for _, h := range []string{m.Old, m.New} {
			if h != "" && slipway.CheckHash(h) != nil {
				t.Errorf("%q of %s is no commit", h, m.Ref)
			}
		}
	}
	if p := d.Pull; p != nil {
		line("title", p.Title)
		line("author", p.Author.Name)
		line("head repository", p.HeadRepository)
		for _, l := range p.Labels {
			line("label", l)
		}
		if err := slipway.CheckRef("refs/heads/" + p.Base); err != nil {
			t.Error(err)
		}
		if err := slipway.CheckRef(p.FetchRef); err != nil {
			t.Error(err)
		}
		if p.Topic != "" && slipway.CheckRef("refs/heads/"+p.Topic) != nil {
			t.Errorf("topic %q", p.Topic)
		}
		if p.Head != "" && slipway.CheckHash(p.Head) != nil || p.Number < 1 {
			t.Errorf("pull request %d with the head %q", p.Number, p.Head)
		}
	}
	if c := d.Comment; c != nil {
		line("author", c.Author.Name)
		if c.ID == "" || c.Pull < 1 || c.Text != slipway.CleanText(c.Text, 64<<10) {
			t.Errorf("comment %+v", *c)
		}
	}
	kinds := []slipway.DeliveryKind{slipway.DeliveryPush, slipway.DeliveryPull, slipway.DeliveryComment, slipway.DeliveryPing, slipway.DeliveryIgnored}
	if d.ID == "" || len(d.Digest) != 64 || !slices.Contains(kinds, d.Kind) || (d.Kind == slipway.DeliveryIgnored) != (d.Reason != "") ||
		(d.Kind == slipway.DeliveryPull) != (d.Pull != nil && d.Event != "") || (d.Kind == slipway.DeliveryPush) != (len(d.Refs) > 0) || (d.Kind == slipway.DeliveryComment) != (d.Comment != nil) {
		t.Errorf("the parts do not fit the kind: %+v", d)
	}
}

func TestReceiveSound(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		for _, f := range x.fixtures(t) {
			if d, err := x.receive(x.conn, secret, f.header, f.body); err == nil {
				sound(t, d)
			}
		}
	})
}

// A request whose sender does not prove who it is gets nowhere, whatever its body.
func TestReceiveUnsigned(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		f := x.fixture(t, x.push)
		good := f.header.Get(x.signed)
		for name, value := range map[string]string{
			"none": "", "empty": " ", "of another body": "", "cut": good[:len(good)-2], "longer": good + "00", "not hexadecimal": "sha256=zz", "scheme alone": "sha256=",
			"bearer": "Bearer " + secret, "SHA-1": "sha1=" + good, "of no secret": "sha256=" + mac("", f.body), "of no secret, bare": mac("", f.body),
		} {
			h := f.header.Clone()
			h.Set(x.signed, value)
			if name == "of another body" {
				x.sign(h, secret+"x", f.body)
			}
			for _, body := range [][]byte{f.body, nil, []byte("{"), []byte("\xff\xfe")} {
				d, err := x.receive(x.conn, secret, h, body)
				if slipway.ErrorCode(err) != slipway.Unauthorized || d.Kind != "" {
					t.Errorf("%s: %+v, %v", name, d.Kind, err)
				}
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s: the error shows the secret: %v", name, err)
				}
			}
		}
		h := f.header.Clone()
		x.sign(h, "", f.body)
		if _, err := x.receive(x.conn, "", h, f.body); slipway.ErrorCode(err) != slipway.Unauthorized {
			t.Errorf("a webhook without a secret is open to all: %v", err)
		}
	})
}

// A body that was changed is refused where the forge signs; a token does not see it.
func TestReceiveChanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		f := x.fixture(t, x.push)
		changed := bytes.Replace(f.body, []byte("refs/heads/"), []byte("refs/heads/x"), 1)
		_, err := x.receive(x.conn, secret, f.header, changed)
		signs := x.conn.Forge == slipway.GitHub || x.conn.Forge == slipway.Gitea
		if signs != (slipway.ErrorCode(err) == slipway.Unauthorized) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReceiveBadBodies(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		f := x.fixture(t, x.push)
		utf16 := []byte{0xff, 0xfe}
		for _, b := range f.body {
			utf16 = append(utf16, b, 0)
		}
		deep := bytes.Repeat([]byte(`{"repository":`), 20_000)
		for name, body := range map[string][]byte{
			"empty": nil, "cut": f.body[:len(f.body)/2], "one byte short": f.body[:len(f.body)-1], "twice": append(slices.Clone(f.body), f.body...), "UTF-16": utf16,
			"Latin-1": bytes.Replace(f.body, []byte("README"), []byte("R\xc4DME"), 1)[:], "list": []byte("[]"), "text": []byte(`"x"`), "deep": deep, "form": []byte("payload=%7B%7D"),
			"byte order mark": append([]byte("\xef\xbb\xbf"), f.body...), "number as text": bytes.ReplaceAll(f.body, []byte(`"id": 1`), []byte(`"id": "1"`)),
		} {
			if bytes.Equal(body, f.body) {
				continue // this forge's fixture has nothing of the kind
			}
			h := f.header.Clone()
			x.sign(h, secret, body)
			d, err := x.receive(x.conn, secret, h, body)
			if slipway.ErrorCode(err) != slipway.Invalid || len(d.Refs) > 0 {
				t.Errorf("%s: %+v, %v", name, d, err)
			}
		}
		for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			h := f.header.Clone()
			h.Set("Content-Type", kind)
			if _, err := x.receive(x.conn, secret, h, f.body); slipway.ErrorCode(err) != slipway.Invalid {
				t.Errorf("content type %q: %v", kind, err)
			}
		}
	})
}

// A payload of another repository is refused, though it is signed with the right secret.
func TestReceiveOtherRepository(t *testing.T) {
	t.Parallel()
	ids := map[slipway.ForgeKind]string{slipway.GitHub: "186853002", slipway.GitLab: "15", slipway.Gitea: "1", slipway.AzureDevOps: "278d5cd2-584d-4b63-824a-2ba458937249"}
	each(t, func(t *testing.T, x forge) {
		for _, name := range []string{x.push, x.comment, "pull-opened"} {
			f := x.fixture(t, name)
			for _, c := range []struct {
				id, repository string
				code           slipway.Code
			}{
				{"", x.conn.Repository, ""},
				{"", strings.ToUpper(x.conn.Repository), ""},
				{"", strings.Replace(x.conn.Repository, "hop", "hop2", 1), slipway.Forbidden},
				{"", "else" + x.conn.Repository, slipway.Forbidden},
				{ids[x.conn.Forge], "renamed/since/then", ""},
				{"4711", x.conn.Repository, slipway.Forbidden}, // another one that has the name now
			} {
				conn := x.conn
				conn.RepositoryID, conn.Repository = c.id, c.repository
				d, err := x.receive(conn, secret, f.header, f.body)
				if slipway.ErrorCode(err) != c.code {
					t.Errorf("%s for %+v: %v", name, c, err)
				}
				if c.code != "" && (d.Refs != nil || d.Pull != nil || d.Comment != nil) {
					t.Errorf("%s for %+v: %+v", name, c, d)
				}
			}
		}
	})
}

// Refs and commits of a push that none would have.
func TestReceiveHostileRefs(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a", 40)
	each(t, func(t *testing.T, x forge) {
		f := x.fixture(t, x.push)
		var before, after, ref string
		d, err := x.receive(x.conn, secret, f.header, f.body)
		if err != nil {
			t.Fatal(err)
		}
		ref, before, after = d.Refs[0].Ref, d.Refs[0].Old, d.Refs[0].New
		try := func(old, with string) (slipway.Delivery, error) {
			text, err := json.Marshal(with)
			if err != nil {
				t.Fatal(err)
			}
			body := bytes.ReplaceAll(f.body, []byte(`"`+old+`"`), text)
			if bytes.Equal(body, f.body) {
				t.Fatalf("%s is not in the fixture", old)
			}
			h := f.header.Clone()
			x.sign(h, secret, body)
			return x.receive(x.conn, secret, h, body)
		}
		for _, bad := range []string{"", "main", "-main", "HEAD", "refs/heads/-x", "refs/heads/--upload-pack=x", "refs/heads/../../x", "refs/heads/a\nb", "refs/heads/a\x00b", "refs/heads/\x1b[31m", "refs/heads/a b", "refs/heads/x.lock",
			"refs/heads/$(id)", "refs/heads/" + strings.Repeat("x", 300), "refs/pull/1/head", "refs/slipway/x", "refs/remotes/origin/main"} {
			d, err := try(ref, bad)
			if err != nil || d.Kind != slipway.DeliveryIgnored || d.Reason == "" || len(d.Refs) != 0 {
				t.Errorf("ref %q: %+v, %v", bad, d, err)
			}
			sound(t, d)
		}
		for _, bad := range []string{"", "main", "abc", strings.ToUpper(hash), hash + "a", "-" + hash[1:], "--" + hash[2:], hash[1:] + "\n"} {
			for _, which := range []string{before, after} {
				if d, err := try(which, bad); slipway.ErrorCode(err) != slipway.Invalid || len(d.Refs) != 0 {
					t.Errorf("commit %q: %+v, %v", bad, d, err)
				}
			}
		}
		if d, err := try(after, strings.Repeat("0", 64)); err != nil || !d.Refs[0].Deleted() {
			t.Errorf("the end of a branch with SHA-256: %+v, %v", d, err)
		}
	})
}

// A delivery that comes again has its ID, and one that is replayed under another name its digest; not with
// GitLab, where who knows the token may say anything, and where two pushes may look the same.
func TestReceiveReplay(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, x forge) {
		f := x.fixture(t, x.push)
		first, err := x.receive(x.conn, secret, f.header, f.body)
		if err != nil {
			t.Fatal(err)
		}
		again, err := x.receive(x.conn, secret, f.header, f.body)
		if err != nil || again.ID != first.ID || again.Digest != first.Digest {
			t.Errorf("sent again: %s, then %s, %v", first.ID, again.ID, err)
		}
		h := f.header.Clone()
		for _, name := range []string{"X-Github-Delivery", "X-Gitea-Delivery", "Idempotency-Key"} {
			if h.Get(name) != "" {
				h.Set(name, "another\x1b[31m "+strings.Repeat("x", 500))
			}
		}
		replayed, err := x.receive(x.conn, secret, h, f.body)
		if err != nil || (replayed.Digest == first.Digest) == (x.conn.Forge == slipway.GitLab) {
			t.Errorf("replayed: %s, then %s, %v", first.Digest, replayed.Digest, err)
		}
		sound(t, replayed)
		for name := range h {
			if name != x.signed && name != "Content-Type" && !strings.HasSuffix(name, "-Event") {
				h.Del(name)
			}
		}
		if bare, err := x.receive(x.conn, secret, h, f.body); err != nil || bare.ID == "" {
			t.Errorf("without an id: %+v, %v", bare, err)
		}
	})
}

func FuzzReceive(f *testing.F) {
	kinds := slipway.ForgeKinds()
	for i, kind := range kinds {
		x := forges()[kind]
		for _, fix := range x.fixtures(f) {
			event := fix.header.Get("X-GitHub-Event") + fix.header.Get("X-Gitea-Event")
			f.Add(uint8(i), event, fix.body)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, event string, body []byte) {
		x := forges()[kinds[int(which)%len(kinds)]]
		h := http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {event}, "X-Gitea-Event": {event}, "X-Gitlab-Event": {event}}
		x.sign(h, secret, body)
		d, err := x.receive(x.conn, secret, h, body)
		if err == nil {
			sound(t, d)
		} else if c := slipway.ErrorCode(err); c != slipway.Invalid && c != slipway.Forbidden {
			t.Errorf("%s: %v", c, err)
		}
	})
}

// BenchmarkReceive is what a webhook costs before it is kept: verification and reading.
func BenchmarkReceive(b *testing.B) {
	for kind, x := range forges() {
		f := x.fixture(b, x.push)
		b.Run(string(kind), func(b *testing.B) {
			b.SetBytes(int64(len(f.body)))
			for b.Loop() {
				if _, err := x.receive(x.conn, secret, f.header, f.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
