package main

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// A picture keeps its size and its frequent colours; rare ones beyond 256 become their neighbours.
func TestPack(t *testing.T) {
	t.Parallel()
	in := image.NewRGBA(image.Rect(0, 0, 400, 40))
	for x := range 400 {
		for y := range 40 {
			in.Set(x, y, color.RGBA{240, 242, 245, 255})
		}
		in.Set(x, 0, color.RGBA{uint8(x), uint8(x >> 1), 7, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, in); err != nil {
		t.Fatal(err)
	}
	packed, err := pack(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	out, err := png.Decode(bytes.NewReader(packed))
	if err != nil || out.Bounds() != in.Bounds() {
		t.Fatalf("it is %v, %v", out, err)
	}
	near := func(a, b uint32) bool { return max(a, b)-min(a, b) < 8<<8 }
	for x := range 400 {
		if got := rgba(out.At(x, 20)); got != rgba(in.At(x, 20)) {
			t.Fatalf("the background is %v", got)
		}
		r, g, _, _ := out.At(x, 0).RGBA()
		wantR, wantG, _, _ := in.At(x, 0).RGBA()
		if !near(r, wantR) || !near(g, wantG) {
			t.Errorf("column %d is %v, not %v", x, out.At(x, 0), in.At(x, 0))
		}
	}
	if _, err := pack([]byte("no picture")); err == nil {
		t.Error("what is no picture is packed")
	}
}
