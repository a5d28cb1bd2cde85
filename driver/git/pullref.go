package git

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// FetchPull brings the objects of a ref of the remote that is neither branch nor tag of the mirror, or
// that is the branch of a pull request, and returns the commit that it holds there now. No ref of the
// mirror moves.
func (r Repo) FetchPull(ctx context.Context, m Remote, number int64, ref string) (string, error) {
	if err := slipway.CheckRef(ref); err != nil {
		return "", err
	}
	into := fmt.Sprintf("refs/slipway/pull/%d", number)
	if _, err := r.remote(ctx, m, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules",
		"--end-of-options", "URL", "+"+ref+":"+into); err != nil {
		return "", err
	}
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", into+"^{commit}")
	if _, ok := exitStatus(err); ok {
		return "", slipway.Errorf(slipway.Invalid, "%s of the remote is not a commit", ref)
	}
	return strings.TrimSpace(string(out)), err
}
