package git

import (
	"context"
	"path"
	"strings"

	"github.com/slipway-cd/slipway"
)

// TreeHash is the hash of a folder of a commit: equal hashes are equal folders, whatever the commits. A
// folder that is not there is NotFound.
func (r Repo) TreeHash(ctx context.Context, commit, dir string) (string, error) {
	if err := checkHash(commit); err != nil {
		return "", err
	}
	at := commit + "^{tree}"
	if dir = path.Clean("/" + dir)[1:]; dir != "" {
		at = commit + ":" + dir
	}
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", at)
	if _, ok := exitStatus(err); ok {
		return "", slipway.Errorf(slipway.NotFound, "commit %s has no folder %q", slipway.ShortHash(commit), dir)
	}
	return strings.TrimSpace(string(out)), err
}
