package test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth bounds elements in elements.
const maxDepth = 128

// document reads XML element by element. Its errors name the line.
type document struct {
	in    *filter
	dec   *xml.Decoder
	depth int
}

func newDocument(r io.Reader) (*document, error) {
	in, err := newFilter(r)
	if err != nil {
		return nil, err
	}
	d := &document{in: in, dec: xml.NewDecoder(in)}
	d.dec.Strict = false // undefined entities stay as they are written
	return d, nil
}

// next returns the next start, end or text. Text is valid until the call after.
func (d *document) next() (xml.Token, error) {
	token, err := d.dec.Token()
	if err != nil {
		return nil, d.trouble(err)
	}
	switch token.(type) {
	case xml.StartElement:
		if d.depth++; d.depth > maxDepth {
			return nil, fmt.Errorf("line %d: elements are nested deeper than %d", d.in.line, maxDepth)
		}
	case xml.EndElement:
		d.depth--
	}
	return token, nil
}

func (d *document) trouble(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case errors.Is(err, io.EOF) && d.depth == 0:
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: the file ends within an element", d.in.line)
	case errors.As(err, &syntax) && syntax.Msg == "unexpected EOF":
		return fmt.Errorf("line %d: the file ends within an element", d.in.line)
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %s", d.in.line, syntax.Msg)
	}
	return fmt.Errorf("line %d: %w", d.in.line, err)
}

// root is the first element.
func (d *document) root() (xml.StartElement, error) {
	for {
		token, err := d.next()
		if errors.Is(err, io.EOF) {
			return xml.StartElement{}, errors.New("holds no XML element")
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		if start, ok := token.(xml.StartElement); ok {
			return start, nil
		}
	}
}

// another is the next element behind the end of the one before it; io.EOF when there is none.
func (d *document) another() (xml.StartElement, error) {
	for {
		token, err := d.next()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return t, nil
		case xml.CharData:
			if text := bytes.Trim(t, "\ufeff \t\r\n"); len(text) > 0 {
				return xml.StartElement{}, fmt.Errorf("line %d: %q stands behind the end of the report, and is not read", d.in.line, clip(string(text), 40))
			}
		}
	}
}

// skip reads to the end of the element that began last.
func (d *document) skip() error { return d.each(func(xml.StartElement) error { return d.skip() }) }

// each calls child for each element within the one that began last, up to its end. child must read its
// element to the end.
func (d *document) each(child func(xml.StartElement) error) error {
	for {
		token, err := d.next()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if err := child(t); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

// text reads to the end of the element that began last, and returns the text in it and in what it holds,
// cut at limit bytes, which are at most maxOutput.
func (d *document) text(limit int) (string, error) {
	var b strings.Builder
	err := d.texts(func(t []byte) {
		if room := limit - b.Len(); room > 0 {
			b.Write(t[:min(room, len(t))])
		}
	})
	return strings.ToValidUTF8(b.String(), ""), err
}

// output reads like text, and keeps the beginning and the end.
func (d *document) output() (printed, error) {
	var p printed
	before := d.in.gone
	err := d.texts(p.add)
	p.tail.left += d.in.gone - before
	return p, err
}

// texts reads to the end of the element that began last, and hands over the texts in it and in what it holds.
func (d *document) texts(take func([]byte)) error {
	for depth := 1; depth > 0; {
		token, err := d.next()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			take(t)
		}
	}
	return nil
}

func attr(start xml.StartElement, name string) string {
	for _, a := range start.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
