package test_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/test"
)

func TestCheckServices(t *testing.T) {
	t.Parallel()
	good := slipway.TestService{Name: "db", Image: "postgres:16", Ports: []int{5432}, Env: map[string]string{"POSTGRES_PASSWORD": "x=y"}, Command: []string{"postgres", "-c", "fsync=off"}}
	with := func(change func(*slipway.TestService)) []slipway.TestService {
		s := good
		change(&s)
		return []slipway.TestService{s}
	}
	many := func(n int) (all []slipway.TestService) {
		for i := range n {
			all = append(all, slipway.TestService{Name: fmt.Sprintf("s%d", i), Image: "x"})
		}
		return all
	}
	for name, c := range map[string]struct {
		services []slipway.TestService
		want     string // "" for nothing wrong
	}{
		"none":              {nil, ""},
		"one":               {[]slipway.TestService{good}, ""},
		"ten":               {many(10), ""},
		"a long name":       {with(func(s *slipway.TestService) { s.Name = strings.Repeat("a", 40) }), ""},
		"eleven":            {many(11), "tests have 11 services: at most 10"},
		"twice":             {[]slipway.TestService{good, good}, "service db of the tests is declared twice"},
		"a longer name":     {with(func(s *slipway.TestService) { s.Name = strings.Repeat("a", 41) }), "is a host name"},
		"no name":           {with(func(s *slipway.TestService) { s.Name = "" }), "is a host name"},
		"a name of labels":  {with(func(s *slipway.TestService) { s.Name = "db.example.com" }), "is a host name"},
		"a name in capital": {with(func(s *slipway.TestService) { s.Name = "DB" }), "is a host name"},
		"a name of lines":   {with(func(s *slipway.TestService) { s.Name = "db\n127.0.0.1 evil" }), "is a host name"},
		"a name that ends":  {with(func(s *slipway.TestService) { s.Name = "db-" }), "is a host name"},
		"a path":            {with(func(s *slipway.TestService) { s.Name = "../x" }), "is a host name"},
		"localhost":         {with(func(s *slipway.TestService) { s.Name = "localhost" }), "that of the test container itself"},
		"no image":          {with(func(s *slipway.TestService) { s.Image = "" }), "has no image"},
		"no port":           {with(func(s *slipway.TestService) { s.Ports = []int{0} }), "0 is not a port"},
		"a large port":      {with(func(s *slipway.TestService) { s.Ports = []int{80, 65536} }), "65536 is not a port"},
		"a negative time":   {with(func(s *slipway.TestService) { s.Timeout = -1 }), "its timeout is negative"},
		"no variable":       {with(func(s *slipway.TestService) { s.Env = map[string]string{"A=B": "1"} }), `"A=B" is not the name of a variable`},
		"a NUL":             {with(func(s *slipway.TestService) { s.Health = []string{"a\x00b"} }), "holds a NUL"},
		"a NUL in a value":  {with(func(s *slipway.TestService) { s.Env = map[string]string{"A": "a\x00b"} }), "holds a NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.CheckServices(c.services)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func runBeside(t *testing.T, c *container, services ...slipway.TestService) slipway.Result {
	t.Helper()
	s := step()
	s.Test.Services = services
	env := stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}, Log: &log{}, Workspace: workspace{t.TempDir()}, Now: func() time.Time { return time.Unix(1, 0) }}
	res, err := test.Runner{Container: c}.Run(t.Context(), env, s)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestServices(t *testing.T) {
	t.Parallel()
	db := slipway.TestService{Name: "db", Image: "postgres:16", Ports: []int{5432}}
	t.Run("are handed over", func(t *testing.T) {
		t.Parallel()
		c := &container{}
		if res := runBeside(t, c, db); res.Outcome != slipway.Succeeded || len(c.got.Services) != 1 || c.got.Services[0].Image != "postgres:16" {
			t.Errorf("%+v, %+v", res, c.got)
		}
	})
	t.Run("are checked before", func(t *testing.T) {
		t.Parallel()
		c := &container{}
		if res := runBeside(t, c, db, db); res.Outcome != slipway.Failed || res.Reason != "service db of the tests is declared twice" || c.got != nil {
			t.Errorf("%+v, %+v", res, c.got)
		}
	})
	t.Run("that are not healthy fail the step", func(t *testing.T) {
		t.Parallel()
		c := &container{res: test.Result{Service: &test.ServiceFailure{Name: "db", Message: "was not healthy after 1m: port 5432 does not accept connections; its last output: no space"}}}
		res := runBeside(t, c, db)
		if res.Outcome != slipway.Failed || res.Report != nil || res.Reason != "no test ran: service db was not healthy after 1m: port 5432 does not accept connections; its last output: no space" {
			t.Errorf("%+v", res)
		}
	})
	t.Run("that stopped are named beside failed tests only", func(t *testing.T) {
		t.Parallel()
		stopped := []test.ServiceFailure{{Name: "db", Message: "ended with exit code 137 while the tests ran"}}
		res := runBeside(t, &container{res: test.Result{ExitCode: 1, Stopped: stopped}}, db)
		if res.Outcome != slipway.Failed || !strings.HasSuffix(res.Reason, "; service db ended with exit code 137 while the tests ran") {
			t.Errorf("%+v", res)
		}
		if res := runBeside(t, &container{res: test.Result{Stopped: stopped}}, db); res.Outcome != slipway.Succeeded || strings.Contains(res.Reason, "137") {
			t.Errorf("%+v", res)
		}
	})
}
