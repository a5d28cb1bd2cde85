package gitserver

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestPkt(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	long := strings.Repeat("x", maxPkt)
	for _, line := range []string{"version=1\x00push-options\n", "", long} {
		if err := writePkt(&b, line); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFlush(&b); err != nil {
		t.Fatal(err)
	}
	got, err := readPkts(&b, 3)
	if err != nil || !slices.Equal(got, []string{"version=1\x00push-options\n", "", long[:maxPkt-4]}) {
		t.Errorf("%d lines, %v", len(got), err)
	}
	for in, want := range map[string]error{
		"":            io.EOF,
		"00":          io.ErrUnexpectedEOF,
		"0003":        errPkt,
		"fff1":        errPkt,
		"+00a":        errPkt,
		"-001":        errPkt,
		"zzzz":        errPkt,
		"0008abc":     errPkt,
		"0005a0005b0": errPkt,
	} {
		if got, err := readPkts(strings.NewReader(in), 1); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v, want %v", in, got, err, want)
		}
	}
}

func FuzzPkt(f *testing.F) {
	f.Add([]byte("000dversion=1\n0000"))
	f.Add([]byte("0000"))
	f.Add([]byte("fff0"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		list, err := readPkts(r, 100)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, line := range list {
			if err := writePkt(&out, line); err != nil {
				t.Fatal(err)
			}
		}
		_ = writeFlush(&out)
		if read := in[:len(in)-r.Len()]; !strings.EqualFold(out.String(), string(read)) {
			t.Errorf("read %q, wrote %q", read, out.Bytes())
		}
	})
}

const zero = slipway.ZeroHash

func one() string { return strings.Repeat("1", 40) }

func TestAskCannotBeForged(t *testing.T) {
	t.Parallel()
	head := "objects /r/objects/in\nalternates /r/objects\n"
	command := zero + " " + one() + " refs/heads/"
	for name, c := range map[string]struct {
		in       string
		commands int
		options  int
		err      bool
	}{
		"plain":            {head + command + "a\noptions N\nx=1\nend N\n", 1, 1, false},
		"end in a ref":     {head + command + "a\nend\n" + command + "b\noptions N\nend N\n", 0, 0, true},
		"end in an option": {head + command + "a\noptions N\nx\nend M\nend N\n", 1, 2, false},
		"forged command":   {head + command + "a\n" + command + "b\noptions N\nend N\n", 2, 0, false},
		"no such line":     {head + "refs/heads/a\noptions N\nend N\n", 0, 0, true},
		"relative":         {"objects x\nalternates\noptions N\nend N\n", 0, 0, true},
		"broken off":       {head + command + "a\n", 0, 0, true},
		"too many":         {head + strings.Repeat(command+"a\n", maxCommands+1) + "options N\nend N\n", 0, 0, true},
		"as many as may":   {head + strings.Repeat(command+"a\n", maxCommands) + "options N\nend N\n", maxCommands, 0, false},
		"too long":         {head + command + strings.Repeat("x", 3*maxLine) + "\noptions N\nend N\n", 0, 0, true},
		"many options":     {head + "options N\n" + strings.Repeat("o\n", maxOptions+1) + "end N\n", 0, 0, true},
	} {
		a, err := readAsk(bufio.NewReaderSize(strings.NewReader(c.in), maxLine), "N")
		if (err != nil) != c.err || len(a.commands) != c.commands || len(a.options) != c.options {
			t.Errorf("%s: %d commands, %d options, %v", name, len(a.commands), len(a.options), err)
		}
	}
}

func FuzzCommands(f *testing.F) {
	for _, ref := range []string{"refs/heads/main", "refs/for/main/x", "refs/heads/-x", "refs/heads/a..b", "refs/heads/a\x00b", "HEAD", "refs/heads/../../x", "refs/pull/1/head"} {
		f.Add(zero + " " + one() + " " + ref)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseCommand(line)
		if err != nil {
			return
		}
		list, err := checkCommands([]Command{c})
		for _, c := range list {
			if err != nil || strings.Contains(c.Ref, "..") || strings.Contains(c.Ref, "/-") || strings.ContainsAny(c.Ref, "\x00\n ;$`") ||
				!strings.HasPrefix(c.Ref, "refs/heads/") && !strings.HasPrefix(c.Ref, "refs/tags/") {
				t.Errorf("%q passed (%v)", c.Ref, err)
			}
		}
		base, topic, ok := splitTarget(strings.TrimPrefix(c.Ref, "refs/for/"), map[string]string{"refs/heads/main": ""})
		if ok && base != "main" || strings.HasPrefix(topic, "/") && !strings.Contains(c.Ref, "//") {
			t.Errorf("%q is base %q, topic %q", c.Ref, base, topic)
		}
	})
}
