package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what an XML decoder gets to see at once.
const (
	maxTag  = 256 << 10 // bytes of one tag
	maxText = 64 << 10  // bytes of one value of an attribute; the rest is dropped
)

// filter makes of a file what an XML decoder can read safely, as a stream. It drops comments, processing
// instructions and the DOCTYPE with whatever it declares, leaves out the middle of texts that are too long and the
// end of such values, refuses such tags, decodes UTF-16 and Latin-1, and replaces what XML does not allow and test tools write
// nevertheless: control characters and bytes that are not UTF-8.
type filter struct {
	in    runes
	line  int      // that was read last, from 1
	notes []string // what was replaced, with its line
	bombs []string // what is there for no good, with its line
	rest  []byte   // bytes that come next: the end of a text
	out   [16]byte // bytes that come after those
	n, at int
	state func(*filter) error
	left  int    // bytes that the beginning of the text, or the value, may still have
	tail  ending // of the text, without references
	gone  int64  // bytes that were left out of texts so far
	tag   int    // bytes of the tag
	quote rune
	bad   bool
}

// runes gives one character after the other, utf8.RuneError with size 1 for a byte that is none.
type runes interface {
	next() (r rune, size int, err error)
	peek(n int) []byte // of what comes next, in UTF-8; shorter at the end
	drop(n int)
}

// newFilter reads the beginning of the file and finds out its encoding.
func newFilter(r io.Reader) (*filter, error) {
	in, err := decoded(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, err
	}
	return &filter{in: in, line: 1, state: (*filter).text, left: maxOutput}, nil
}

// Read is there for the decoder's type; the decoder calls ReadByte.
func (f *filter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := f.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

// ReadByte returns the next byte for the decoder.
func (f *filter) ReadByte() (byte, error) {
	for f.at == f.n && len(f.rest) == 0 {
		f.at, f.n = 0, 0
		if err := f.state(f); err != nil {
			return 0, err
		}
	}
	if len(f.rest) > 0 {
		c := f.rest[0]
		f.rest = f.rest[1:]
		return c, nil
	}
	c := f.out[f.at]
	f.at++
	return c, nil
}

// read takes the next character, cleaned.
func (f *filter) read() (rune, error) {
	r, size, err := f.in.next()
	switch {
	case err != nil:
		return 0, err
	case r == '\n':
		f.line++
	case r < 0x20 && r != '\t' && r != '\r':
		return ' ', nil
	case r == utf8.RuneError && size == 1:
		if !f.bad {
			f.bad = true
			f.notes = append(f.notes, fmt.Sprintf("line %d: has bytes that are not text in its encoding; they are shown as \uFFFD", f.line))
		}
	case r == 0xfffe, r == 0xffff:
		return utf8.RuneError, nil
	}
	return r, nil
}

func (f *filter) emit(r rune) {
	f.n += utf8.EncodeRune(f.out[f.n:], r)
}

// keep emits a character of a value while there is room.
func (f *filter) keep(r rune) {
	if f.left -= utf8.RuneLen(r); f.left >= 0 {
		f.emit(r)
	}
}

// value emits what a reference in a value stands for, while there is room.
func (f *filter) value(r rune, raw string) {
	if raw == "" {
		raw = string(r)
	}
	if f.left -= utf8.RuneLen(r); f.left >= 0 {
		f.n += copy(f.out[f.n:], raw)
	}
}

// print takes a character of a text: raw is how it is written in the beginning, without it as it is.
func (f *filter) print(r rune, raw string) {
	size := utf8.RuneLen(r)
	if f.left -= size; f.left >= 0 {
		if raw == "" {
			f.emit(r)
		} else {
			f.n += copy(f.out[f.n:], raw)
		}
		return
	}
	f.left = 0
	var b [utf8.UTFMax]byte
	f.tail.add(b[:utf8.EncodeRune(b[:], r)])
}

// end writes the end of a text that was kept back, escaped or as it is, and begins the next text.
func (f *filter) end(escape bool) {
	f.left = maxOutput
	if len(f.tail.b) == 0 {
		return
	}
	f.rest = f.rest[:0]
	if f.tail.left > 0 {
		f.gone += f.tail.left - 1
		f.rest = append(f.rest, '\n') // nothing in front of the gap goes with what is behind it
	}
	for _, c := range f.tail.b {
		if entity := markupOf(c); escape && entity != "" {
			f.rest = append(f.rest, entity...)
		} else {
			f.rest = append(f.rest, c)
		}
	}
	f.tail = ending{b: f.tail.b[:0]}
}

// markupOf is the reference for a character that is markup in a text.
func markupOf(c byte) string {
	switch c {
	case '&':
		return "&amp;"
	case '<':
		return "&lt;"
	case '>':
		return "&gt;"
	}
	return ""
}

// text is what stands between tags.
func (f *filter) text() error {
	r, err := f.read()
	switch {
	case err != nil && len(f.tail.b) > 0:
		f.end(true)
	case err != nil:
		return err
	case r == '&':
		f.print(f.reference())
	case r == '<':
		f.end(true)
		return f.markup()
	default:
		f.print(r, "")
	}
	return nil
}

const longestRef = 12 // &#x0010FFFF;

// reference is the character that &...; stands for, and how that is written: as it is, unless it stands for one that
// XML does not allow. An & that begins no such reference stands for itself.
func (f *filter) reference() (rune, string) {
	rest := f.in.peek(longestRef)
	end := bytes.IndexByte(rest, ';')
	if end < 0 {
		return '&', "&amp;"
	}
	name := string(rest[:end])
	r, known := named(name)
	if !known {
		digits, numeric := strings.CutPrefix(name, "#")
		base := 10
		if hex, ok := strings.CutPrefix(digits, "x"); ok {
			digits, base = hex, 16
		}
		if !numeric || digits == "" {
			return '&', "&amp;"
		}
		n, err := strconv.ParseUint(digits, base, 32)
		r = rune(n)
		if err != nil || n > utf8.MaxRune || !utf8.ValidRune(r) || (r < 0x20 && r != '\t' && r != '\n' && r != '\r') || r == 0xfffe || r == 0xffff {
			r, name = ' ', ""
		}
	}
	f.in.drop(end + 1)
	if name == "" {
		return r, ""
	}
	return r, "&" + name + ";"
}

// named are the entities of XML itself. Others are not replaced.
func named(entity string) (rune, bool) {
	switch entity {
	case "amp":
		return '&', true
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	return 0, false
}

// markup decides what begins with <.
func (f *filter) markup() error {
	switch ahead := f.in.peek(len("![CDATA[")); {
	case bytes.HasPrefix(ahead, []byte("!--")):
		f.in.drop(len("!--"))
		return f.until("-->")
	case bytes.HasPrefix(ahead, []byte("![CDATA[")):
		f.in.drop(len("![CDATA["))
		f.n = copy(f.out[:], "<![CDATA[")
		f.state = (*filter).cdata
	case bytes.HasPrefix(ahead, []byte("!")):
		return f.doctype()
	case bytes.HasPrefix(ahead, []byte("?")):
		return f.until("?>")
	default:
		f.emit('<')
		f.state, f.tag, f.quote = (*filter).inTag, 0, 0
	}
	return nil
}

// until drops everything up to and with end.
func (f *filter) until(end string) error {
	for {
		r, err := f.read()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if r == rune(end[0]) && bytes.HasPrefix(f.in.peek(len(end)-1), []byte(end[1:])) {
			f.in.drop(len(end) - 1)
			return nil
		}
	}
}

// doctype drops <!DOCTYPE ...>, with the declarations in it. Nothing of them is ever looked up or replaced.
func (f *filter) doctype() error {
	depth, quote, told := 1, rune(0), false
	for depth > 0 {
		r, err := f.read()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case r == '<':
			depth++
			if !told && bytes.HasPrefix(f.in.peek(len("!ENTITY")), []byte("!ENTITY")) {
				told = true
				f.bombs = append(f.bombs, fmt.Sprintf("line %d: declares entities; they are not replaced", f.line))
			}
		case r == '>':
			depth--
		}
	}
	return nil
}

func (f *filter) cdata() error {
	r, err := f.read()
	if err != nil && len(f.tail.b) > 0 {
		f.end(false)
		return nil
	}
	if err != nil {
		return err
	}
	if r == ']' && bytes.HasPrefix(f.in.peek(2), []byte("]>")) {
		f.in.drop(2)
		f.end(false)
		f.n = copy(f.out[:], "]]>")
		f.state = (*filter).text
		return nil
	}
	f.print(r, "")
	return nil
}

func (f *filter) inTag() error {
	r, err := f.read()
	if err != nil {
		return err
	}
	switch {
	case f.quote != 0 && r == f.quote:
		f.quote = 0
		f.emit(r)
	case f.quote != 0 && r == '&':
		f.value(f.reference())
	case f.quote != 0:
		f.keep(r)
	case r == '"' || r == '\'':
		f.quote, f.left = r, maxText
		f.emit(r)
	case r == '>':
		f.emit(r)
		f.state, f.left = (*filter).text, maxOutput
	default:
		f.emit(r)
	}
	if f.tag += f.n; f.tag > maxTag {
		return fmt.Errorf("has a tag of more than %d KiB", maxTag>>10)
	}
	return nil
}

var encodingExpr = regexp.MustCompile(`^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']`)

// decoded finds out the encoding, by the byte order mark or the XML declaration.
func decoded(in *bufio.Reader) (runes, error) {
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		in.Discard(3) //nolint:errcheck // they were peeked
		return &utf8Runes{in}, nil
	case bytes.HasPrefix(head, []byte("\xfe\xff")), bytes.HasPrefix(head, []byte("\x00<")):
		return &otherRunes{decode: utf16Decoder(in, 1)}, nil
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("<\x00")):
		return &otherRunes{decode: utf16Decoder(in, 0)}, nil
	}
	m := encodingExpr.FindSubmatch(head)
	if m == nil {
		return &utf8Runes{in}, nil
	}
	switch label := strings.ToLower(string(m[1])); label {
	case "utf-8", "utf8", "us-ascii", "ascii", "utf-16": // without its mark UTF-16 would not be readable here
		return &utf8Runes{in}, nil
	case "iso-8859-1", "latin1", "windows-1252", "iso-8859-15":
		return &otherRunes{decode: func() (rune, error) {
			c, err := in.ReadByte()
			if c >= 0x80 && c < 0xa0 {
				return utf8.RuneError, err
			}
			return rune(c), err
		}}, nil
	default:
		return nil, fmt.Errorf("encoding %q is not known", label)
	}
}

type utf8Runes struct{ in *bufio.Reader }

func (u *utf8Runes) next() (rune, int, error) { return u.in.ReadRune() }

func (u *utf8Runes) peek(n int) []byte {
	b, _ := u.in.Peek(n) //nolint:errcheck // fewer bytes are the end, which next tells
	return b
}

func (u *utf8Runes) drop(n int) {
	u.in.Discard(n) //nolint:errcheck // they were peeked
}

// otherRunes decodes another encoding. It looks ahead by a few characters, which are kept as UTF-8.
type otherRunes struct {
	decode func() (rune, error)
	ahead  []byte
	err    error
}

func (o *otherRunes) fill(n int) {
	for len(o.ahead) < n && o.err == nil {
		var r rune
		if r, o.err = o.decode(); o.err == nil {
			o.ahead = utf8.AppendRune(o.ahead, r)
		}
	}
}

func (o *otherRunes) next() (rune, int, error) {
	if o.fill(1); len(o.ahead) == 0 {
		return 0, 0, o.err
	}
	r, size := utf8.DecodeRune(o.ahead)
	o.drop(size)
	return r, size, nil
}

func (o *otherRunes) peek(n int) []byte {
	o.fill(n)
	return o.ahead[:min(n, len(o.ahead))]
}

func (o *otherRunes) drop(n int) {
	o.ahead = o.ahead[:copy(o.ahead, o.ahead[min(n, len(o.ahead)):])]
}

// utf16Decoder decodes UTF-16; low is 0 where the low byte of a unit comes first, else 1.
func utf16Decoder(in *bufio.Reader, low int) func() (rune, error) {
	unit := func() (rune, error) {
		var b [2]byte
		if _, err := io.ReadFull(in, b[:]); errors.Is(err, io.ErrUnexpectedEOF) {
			return utf8.RuneError, nil
		} else if err != nil {
			return 0, err
		}
		return rune(b[low]) | rune(b[1-low])<<8, nil
	}
	var held rune
	take := func() (rune, error) {
		if held != 0 {
			r := held
			held = 0
			return r, nil
		}
		return unit()
	}
	return func() (rune, error) {
		r, err := take()
		for err == nil && r == 0xfeff {
			r, err = take()
		}
		switch {
		case err != nil:
			return 0, err
		case r < 0xd800 || r > 0xdfff:
			return r, nil
		case r >= 0xdc00:
			return utf8.RuneError, nil
		}
		second, err := unit()
		if err != nil || second < 0xdc00 || second > 0xdfff {
			held = second
			return utf8.RuneError, nil
		}
		return 0x10000 + (r-0xd800)<<10 + (second - 0xdc00), nil
	}
}
