package test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// filtered is what a decoder gets to see of a file.
func filtered(t testing.TB, data string) (string, error) {
	t.Helper()
	f, err := newFilter(strings.NewReader(data))
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for {
		c, err := f.ReadByte()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), err
		}
		out.WriteByte(c)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", maxText)
	for in, want := range map[string]string{
		"<a>text</a>":                                              "<a>text</a>",
		"\xef\xbb\xbf<?xml version='1.0'?><a/>":                    "<a/>",
		"<a><!-- <b/> --><c/></a>":                                 "<a><c/></a>",
		"<a><![CDATA[<b> ]] ]]>&amp;</a>":                          "<a><![CDATA[<b> ]] ]]>&amp;</a>",
		"<a b='>'  c=\"</a>'\">\x1b[1m</a>":                        "<a b='>'  c=\"</a>'\"> [1m</a>",
		"&#x1b;&#27;&#xFFFE;&#x41;&#65;&#xD800;&#99999999999;":     "   &#x41;&#65; &amp;#99999999999;",
		"a & b &lt; &undefined; &#;":                               "a &amp; b &lt; &amp;undefined; &amp;#;",
		"<a b='&#000000000000;&quot;&#10;&x;'>&#000000000000;</a>": "<a b='&amp;#000000000000;&quot;&#10;&amp;x;'>&amp;#000000000000;</a>",
		"<!DOCTYPE a [<!ELEMENT b ANY> '>' ]><a/>":                 "<a/>",
		"<a>\xff\xfe\ufffe</a>":                                    "<a>\ufffd\ufffd\ufffd</a>",
		"<a b='" + long + "'/>":                                    "<a b='" + long[:maxText] + "'/>",
		"\xfe\xff\x00<\x00a\xd8\x3d\xde\xa2\x00/\x00>":             "<a🚢/>",
		"\xff\xfe<\x00\xff\xfea\x00\x00\xd8/\x00>\x00\x00":         "<a\ufffd/>\ufffd",
	} {
		got, err := filtered(t, in)
		if err != nil || got != want {
			t.Errorf("%.60q: %v\ngot  %.200q\nwant %.200q", in, err, got, want)
		}
	}
	for in, want := range map[string]string{
		"<!-- never closed": "unexpected EOF", "<!DOCTYPE a [": "unexpected EOF", "<?xml never closed": "unexpected EOF",
		"<a " + strings.Repeat("b='c' ", maxTag): "has a tag of more than 256 KiB", `<?xml version="1.0" encoding="EBCDIC"?><a/>`: `encoding "ebcdic" is not known`,
	} {
		if _, err := filtered(t, in); err == nil || err.Error() != want {
			t.Errorf("%.60q: %v, want %q", in, err, want)
		}
	}
}

// Whatever comes in, what comes out is text that XML allows, without declarations, and no longer than what came
// in made it, escaped.
func FuzzFilter(f *testing.F) {
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("\xfe\xff\xd8\x00\xd8\x00\x00<")
	f.Fuzz(func(t *testing.T, in string) {
		out, err := filtered(t, in)
		if !utf8.ValidString(out) || len(out) > 5*len(in) {
			t.Fatalf("%d bytes of %d: %q", len(out), len(in), out)
		}
		for _, r := range out {
			if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
				t.Fatalf("%U in %q", r, out)
			}
		}
		dec := xml.NewDecoder(strings.NewReader(out))
		dec.Strict = false
		for err == nil {
			var token xml.Token
			token, err = dec.Token()
			if d, ok := token.(xml.Directive); ok {
				t.Fatalf("a declaration came through: %q", d)
			}
		}
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) && strings.Contains(syntax.Msg, "illegal character") {
			t.Fatalf("%v in %q", err, out)
		}
	})
}
