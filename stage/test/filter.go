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
	maxText = 64 << 10  // bytes of one text or one value of an attribute; the rest is dropped
)

// filter makes of a file what an XML decoder can read safely, as a stream. It drops comments, processing
// instructions and the DOCTYPE with whatever it declares, cuts texts and values that are too long, refuses
// tags that are, decodes UTF-16 and Latin-1, and replaces what XML does not allow and test tools write
// nevertheless: control characters and bytes that are not UTF-8.
type filter struct {
	in    runes
	line  int      // that was read last, from 1
	notes []string // what was replaced, with its line
	bombs []string // what is there for no good, with its line
	out   [16]byte // bytes that come next
	n, at int
	state func(*filter) error
	left  int // bytes that the text or value may still have
	tag   int // bytes of the tag
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
	return &filter{in: in, line: 1, state: (*filter).text, left: maxText}, nil
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
	for f.at == f.n {
		f.at, f.n = 0, 0
		if err := f.state(f); err != nil {
			return 0, err
		}
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

// keep emits a character of a text or value while there is room.
func (f *filter) keep(r rune) {
	if f.left -= utf8.RuneLen(r); f.left >= 0 {
		f.emit(r)
	}
}

// text is what stands between tags.
func (f *filter) text() error {
	r, err := f.read()
	switch {
	case err != nil:
		return err
	case r == '&':
		f.reference()
	case r == '<':
		return f.markup()
	default:
		f.keep(r)
	}
	return nil
}

const longestRef = 12 // &#x0010FFFF;

// reference writes &...; as it is, unless it stands for a character that XML does not allow.
func (f *filter) reference() {
	rest := f.in.peek(longestRef)
	end := bytes.IndexByte(rest, ';')
	if end < 2 || rest[0] != '#' {
		f.keep('&')
		return
	}
	digits, base := string(rest[1:end]), 10
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	r := rune(n)
	if err == nil && n <= utf8.MaxRune && utf8.ValidRune(r) && (r >= 0x20 || r == '\t' || r == '\n' || r == '\r') && r != 0xfffe && r != 0xffff {
		f.keep('&')
		return
	}
	f.in.drop(end + 1)
	f.keep(' ')
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
		f.state, f.left = (*filter).cdata, maxText
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
			f.left = maxText
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
	if err != nil {
		return err
	}
	if r == ']' && bytes.HasPrefix(f.in.peek(2), []byte("]>")) {
		f.in.drop(2)
		f.n = copy(f.out[:], "]]>")
		f.state, f.left = (*filter).text, maxText
		return nil
	}
	f.keep(r)
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
		f.reference()
	case f.quote != 0:
		f.keep(r)
	case r == '"' || r == '\'':
		f.quote, f.left = r, maxText
		f.emit(r)
	case r == '>':
		f.emit(r)
		f.state, f.left = (*filter).text, maxText
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
