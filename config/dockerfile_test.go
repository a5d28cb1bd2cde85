package config_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway/config"
)

// A port that an ENV names is known; one that only the build or the container knows is not.
func TestExposedByEnv(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"FROM a\nENV PORT=8080\nEXPOSE $PORT":                               8080,
		"FROM a\nENV PORT 8080\nEXPOSE ${PORT}/tcp":                         8080,
		"FROM a AS base\nENV PORT=\"81\"\nFROM base\nEXPOSE $PORT":          81,
		"FROM a AS base\nENV PORT=81\nFROM base\nENV PORT=82\nEXPOSE $PORT": 82,
		"FROM a\nEXPOSE $PORT\nENV PORT=8080":                               0,
		"FROM a AS other\nENV PORT=81\nFROM a\nEXPOSE $PORT":                0,
		"FROM a\nARG P=81\nENV PORT=$P\nEXPOSE $PORT":                       0,
		"FROM a\nARG PORT=81\nEXPOSE $PORT":                                 0,
	} {
		d, problems := config.ParseDockerfile("Dockerfile", []byte(text))
		if got := d.Port(""); got != want || len(problems) > 0 {
			t.Errorf("%q: port %d, want %d; %v", text, got, want, problems)
		}
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	d, problems := config.ParseDockerfile("Dockerfile", []byte(`# syntax=docker/dockerfile:1
ARG BASE=alpine
FROM ${BASE} AS Base
EXPOSE 8080/tcp 8080
USER app
FROM base AS build
EXPOSE 9000/udp ${PORT} 7000-7010
FROM base
EXPOSE 9090
USER 1000:1000
USER 65532
FROM scratch AS bare
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		target string
		port   int
	}{
		{"base", 8080}, {"BUILD", 8080}, {"2", 0}, {"bare", 0}, {"", 0}, {"nothing", 0},
	} {
		if got := d.Port(c.target); got != c.port {
			t.Errorf("target %q: port %d, want %d", c.target, got, c.port)
		}
	}
	if s, ok := d.Stage(""); !ok || s.Name != "bare" || s.Line != 12 {
		t.Errorf("the last stage: %+v", s)
	}
	if _, ok := d.Stage("4"); ok {
		t.Error("a fifth stage of four")
	}
}

// A Dockerfile from strangers is read or refused with its name, and never crashes.
func FuzzDockerfile(f *testing.F) {
	for _, s := range []string{
		"FROM scratch", "FROM a AS b\nFROM b\nEXPOSE 1\nUSER x", "RUN <<EOF\nx\nEOF", "# escape=`\nFROM x", "FROM a AS a\nFROM a AS a\nFROM a",
		"ONBUILD ONBUILD RUN x", "FROM --platform=$X scratch", "\ufeffFROM x", "FROM x\nHEALTHCHECK --interval=1x CMD x", "FROM x\\\n\\\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, problems := config.ParseDockerfile("Dockerfile", []byte(text))
		if len(problems) == 0 && len(d.Stages) == 0 {
			t.Error("neither stages nor problems")
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.String(), "Dockerfile:") || p.Line < 0 || p.Line > strings.Count(text, "\n")+2 {
				t.Errorf("a problem that points nowhere: %s", p)
			}
		}
		for _, s := range d.Stages {
			d.Port(s.Name)
		}
	})
}

// What strangers write in Dockerfiles does not crash, and names nothing out of the build context.
func FuzzDockerfileSources(f *testing.F) {
	for _, text := range []string{
		"FROM a\nCOPY ../../x /y ${V}/z /\nADD https://x /\n", "ARG V=..\nFROM a AS b\nRUN --mount=type=bind,source=x,target=/y true\nCOPY --from=b /x /\n",
		"FROM a\nRUN --mount=type=bind,from=c,src=$X true\nCOPY [\"a b\", \"/c\"]\n", "# escape=`\nFROM a\nCOPY <<EOF /x\nEOF\n", "FROM a\nARG V=/../..\nCOPY $V/* \\\n /\n",
	} {
		f.Add([]byte(text), "value")
	}
	f.Fuzz(func(t *testing.T, data []byte, arg string) {
		d, problems := config.ParseDockerfile("Dockerfile", data)
		if len(problems) > 0 {
			return
		}
		for _, s := range d.Sources {
			p, _ := d.Path(s, map[string]string{"V": arg})
			if !fs.ValidPath(strings.ToValidUTF8(p, "?")) || s.Line < 1 {
				t.Errorf("%q names %q, line %d", s.Text, p, s.Line)
			}
		}
	})
}

// A Dockerfile of the greatest size is read, and what it copies is all of its build context.
func TestHugeDockerfile(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := 0; b.Len() < 900<<10; i++ {
		fmt.Fprintf(&b, "FROM i%d AS s%d\nCOPY x%d /\nCOPY --from=s%d /x /\n", i, i, i, i/2)
	}
	tree := fstest.MapFS{"a/Dockerfile": {Data: []byte(b.String())}, "slipway.yaml": {Data: []byte("services: {a: {context: .}}\n")}}
	c, problems := config.LoadServices(tree, options())
	if err := problems.Err(); err != nil || len(c.Services[0].Copies) != 2 || c.Services[0].Copies[0].Path != "." {
		t.Errorf("%+v, %v", c.Services, err)
	}
}
