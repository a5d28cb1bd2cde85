package approve

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the expected part of testdata")

// TestDiff compares testdata/*.txt: what is deployed, a line of =====, what would be, a line of =====,
// and the diff.
func TestDiff(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.SplitN(string(b), "=====\n", 3)
			got, err := Diff(parts[0], parts[1], []byte("key"))
			if err != nil {
				got = "error: " + err.Error() + "\n"
			}
			if *update {
				if err := os.WriteFile(file, []byte(parts[0]+"=====\n"+parts[1]+"=====\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != parts[2] {
				t.Errorf("got\n%s\nwant\n%s", got, parts[2])
			}
			if strings.Contains(got, "s3cr3t") {
				t.Error("a secret is shown")
			}
		})
	}
}

// TestEditsRebuildBothSides: taking the removed lines gives the old text, the added ones the new.
func TestEditsRebuildBothSides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 30)
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		var gotA, gotB []string
		for _, e := range edits(a, b) {
			if e.op != '+' {
				gotA = append(gotA, e.text)
			}
			if e.op != '-' {
				gotB = append(gotB, e.text)
			}
		}
		if strings.Join(gotA, "") != strings.Join(a, "") || strings.Join(gotB, "") != strings.Join(b, "") {
			t.Fatalf("%v -> %v became %v -> %v", a, b, gotA, gotB)
		}
	})
}

func TestDiffIsBounded(t *testing.T) {
	t.Parallel()
	big := "kind: ConfigMap\nmetadata: {name: big}\ndata:\n" + strings.Repeat("  x: "+strings.Repeat("y", 200)+"\n", 1)
	var many strings.Builder
	for i := range 8 {
		many.WriteString("---\nkind: ConfigMap\nmetadata: {name: c" + string(rune('0'+i)) + "}\ndata: {x: " + strings.Repeat("z", 200<<10) + "}\n")
	}
	out, err := Diff(big, many.String(), nil)
	if err != nil || len(out) > maxDiff+200 || !strings.Contains(out, "more objects differ") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestDiffOfBadYAML(t *testing.T) {
	t.Parallel()
	if _, err := Diff("a: [", "", nil); err == nil || !strings.Contains(err.Error(), "the deployed manifest") {
		t.Errorf("%v", err)
	}
}
