package manifest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/gate/manifest"
)

// The page has a section for each policy, in their order, that begins with what the policy says of itself.
func TestPage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/reference/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "\n## ")
	rest = "\n## " + rest
	for _, p := range manifest.Policies() {
		want := fmt.Sprintf("\n## %s\n\n%s\n\nLevel: %s; in production: %s.\n", p.Name, p.Doc, p.Level, p.ProductionLevel)
		if !strings.HasPrefix(rest, want) {
			t.Fatalf("docs/reference/policies.md should go on with %s\nand has %.200s", want, rest)
		}
		_, after, more := strings.Cut(rest[len(want):], "\n## ")
		if rest = ""; more {
			rest = "\n## " + after
		}
	}
	if rest != "" {
		t.Errorf("the page has more: %.100s", rest)
	}
}
