package gitserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
)

// serveForKill is the process that TestHookOfADeadServer kills: it serves one repository without
// sign-in, and never decides about a push.
func serveForKill(ctx context.Context, bare, state string) {
	server, err := New(ctx, Options{
		State: state,
		Pushes: &pushes{receive: func(ctx context.Context, p Push) ([]string, error) {
			fmt.Println("receive", p.Commands[0].Ref)
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		Dir:       func(context.Context, string, string) (string, error) { return bare, nil },
		Open:      func(dir string, env []string) Repository { return cli{dir, env} },
		Authorize: func(context.Context, *http.Request, string, bool) (string, error) { return "ann", nil },
	})
	if err != nil {
		fmt.Println("new:", err)
		return
	}
	web := httptest.NewServer(server)
	fmt.Println("url", web.URL+"/git/demo.git")
	<-ctx.Done()
}
