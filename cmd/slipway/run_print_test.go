package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// diamond is build -> test, chart -> check of one service, and a build of another.
func diamond() []slipway.PlanStep {
	return []slipway.PlanStep{
		{Key: "build/a", Kind: slipway.KindBuild, Service: "a"},
		{Key: "test/a", Kind: slipway.KindTest, Service: "a", Needs: []string{"build/a", "publish/left-out"}},
		{Key: "chart/a", Kind: slipway.KindChart, Service: "a"},
		{Key: "build/b", Kind: slipway.KindBuild, Service: "b"},
		{Key: "test/b", Kind: slipway.KindTest, Service: "b", Needs: []string{"build/b"}},
	}
}

// What comes from a build cannot move the cursor, and bookkeeping is left out.
func TestLiveLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLive(newPrinter(&out, false), false, diamond())
	log := l.of("test/a")
	log.Line(slipway.LogLine{Group: "[internal] load build context", State: "started", Text: "x"})
	log.Line(slipway.LogLine{Group: "[a 1/2] RUN x", State: "started", Text: "[a 1/2] RUN x"})
	log.Line(slipway.LogLine{Group: "[a 1/2] RUN x", Stream: "stdout", Text: "evil \x1b[2J\r"})
	log.Line(slipway.LogLine{Group: "other", Stream: "stdout", Text: "one\ntwo"})
	log.Line(slipway.LogLine{Group: "[internal] load build context", State: "failed", Text: "no context"})
	log.Printf("%d passed", 3)
	want := `test/a  │   started [a 1/2] RUN x
test/a  │     evil \x1b[2J\x0d
test/a  │   · other
test/a  │     one
test/a  │     two
test/a  │   failed [internal] load build context no context
test/a  │     3 passed
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	quiet := newLive(newPrinter(&out, false), true, diamond()).of("build/a")
	for range 3 * tail {
		quiet.Printf("line")
	}
	if out.Len() > 0 {
		t.Errorf("a quiet run says %s", out.String())
	}
	quiet.showTail()
	if got := strings.Count(out.String(), "line"); got != tail {
		t.Errorf("%d lines are kept, want %d", got, tail)
	}
}
