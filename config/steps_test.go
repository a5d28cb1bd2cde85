package config_test

import (
	"reflect"
	"testing"

	"github.com/slipway-cd/slipway/config"
)

// What runs and what moves files is told with its stage and folder; a stage begins in the folder of the one it is built on.
func TestSteps(t *testing.T) {
	t.Parallel()
	got := config.Steps([]byte("FROM a AS one\nWORKDIR /src\nWORKDIR sub\nCOPY x y ./\nFROM ONE AS two\nRUN --mount=type=bind,source=lib,target=lib --mount=type=cache,target=/c make all\n" +
		"COPY --from=one /src/a /b\nFROM scratch\nADD x y\nONBUILD RUN z\nRUN <<EOF\nmake\nEOF\n"))
	want := []config.DockerfileStep{
		{Line: 4, Stage: 0, Dir: "/src/sub", Sources: []string{"x", "y"}, Dest: "/src/sub"},
		{Line: 6, Stage: 1, Dir: "/src/sub", Sources: []string{"lib"}, Dest: "/src/sub/lib"},
		{Line: 6, Stage: 1, Dir: "/src/sub", Run: "make all"},
		{Line: 7, Stage: 1, Dir: "/src/sub", From: "one", Sources: []string{"/src/a"}, Dest: "/b"},
		{Line: 9, Stage: 2, Dir: "/", Sources: []string{"x"}, Dest: "/y"},
		{Line: 10, Stage: 2, Dir: "/", Unclear: true},
		{Line: 11, Stage: 2, Dir: "/", Run: "<<EOF", Unclear: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("steps\n%+v\nwant\n%+v", got, want)
	}
	if got := config.Steps([]byte("FROM\n")); got != nil {
		t.Errorf("%+v of what does not parse", got)
	}
}
