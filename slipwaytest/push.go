package slipwaytest

import "context"

// PushBases makes the base images and pushes them below mirror/ of the registry at url.
func PushBases(ctx context.Context, url, user, password string, say Progress) error {
	return Bases(ctx, BaseOptions{Address: url, User: user, Password: password, Progress: func(line string) { say("%s", line) }})
}
