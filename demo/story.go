package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// story is what is played, as three people: ada writes code, bob approves, admin keeps the server.
type story struct {
	world *world
	say   *narrator
	repo  string
}

func (s *story) play(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{s.people, s.firstPush, s.pullRequest, s.release, s.badRelease} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// slipway runs a command of the CLI as a user.
func (s *story) slipway(ctx context.Context, user string, args ...string) (string, error) {
	return s.say.output(ctx, s.repo, s.world.env(user), s.world.bin.Slipway, args...)
}

// git runs git in the repository as ada.
func (s *story) git(ctx context.Context, args ...string) (string, error) {
	return s.say.output(ctx, s.repo, nil, "git", args...)
}

func (s *story) quietGit(ctx context.Context, args ...string) error {
	_, err := quiet(ctx, s.repo, nil, "git", args...)
	return err
}

// people makes the project, the cluster and two users, unless an earlier demo did.
func (s *story) people(ctx context.Context) error {
	w := s.world
	projects, err := w.admin.Projects(ctx)
	if err != nil {
		return err
	}
	s.say.step("a project, a cluster and two people")
	if len(projects) == 0 {
		for _, args := range [][]string{
			{"cluster", "add", "default", "--kubeconfig", w.kubeconfig},
			{"project", "add", project},
			{"users", "add", "ada"}, {"users", "role", "ada", "developer"},
			{"users", "add", "bob"}, {"users", "role", "bob", "approver"},
		} {
			if _, err := s.slipway(ctx, "admin", args...); err != nil {
				return err
			}
		}
		for _, user := range []string{"ada", "bob"} {
			link, err := w.admin.CreateLink(ctx, user)
			if err != nil {
				return err
			}
			if _, err := s.slipway(ctx, user, "login", link); err != nil {
				return err
			}
		}
	} else if _, err := quiet(ctx, "", w.env("admin"), w.bin.Slipway, "cluster", "add", "default", "--kubeconfig", w.kubeconfig); err != nil {
		return err
	}
	for _, user := range []string{"ada", "bob"} {
		if err := w.signIn(user); err != nil {
			return err
		}
	}
	return s.clone(ctx)
}

// clone makes ada's repository: the samples, or what is left of an earlier demo.
func (s *story) clone(ctx context.Context) error {
	s.repo = filepath.Join(s.world.dir, project)
	credentials := filepath.Join(s.world.dir, "git-credentials")
	lines := ""
	for _, user := range []string{"ada", "bob"} {
		lines += strings.Replace(s.world.url, "http://", "http://"+user+":"+s.world.tokens[user]+"@", 1) + "\n"
	}
	if err := os.WriteFile(credentials, []byte(lines), 0o600); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.repo, ".git")); err == nil {
		return nil
	}
	root, err := slipwaytest.Root()
	if err != nil {
		return err
	}
	if err := os.CopyFS(s.repo, os.DirFS(filepath.Join(root, "examples", "shop"))); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch", "main"},
		{"config", "user.name", "Ada"}, {"config", "user.email", "ada@shop.example"},
		{"config", "credential.helper", "store --file " + credentials},
		{"remote", "add", "origin", s.world.url + "/git/" + project + ".git"},
		{"add", "."}, {"commit", "--quiet", "-m", "The shop: web, orders and delivery"},
	} {
		if err := s.quietGit(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// edit changes a file of the repository and commits it.
func (s *story) edit(ctx context.Context, file, old, new, message string) error {
	path := filepath.Join(s.repo, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), old)
	if !ok {
		return fmt.Errorf("%s does not hold %q", file, old)
	}
	_, after, ok := strings.Cut(rest, "\n")
	if !ok {
		return fmt.Errorf("%s ends in the line to change", file)
	}
	if err := os.WriteFile(path, []byte(before+new+"\n"+after), 0o644); err != nil {
		return err
	}
	s.say.detail("ada changes %s: %s", file, message)
	err = s.quietGit(ctx, "commit", "--quiet", "-am", message)
	return err
}

// push pushes as ada and follows the run until it ends or waits for a person.
func (s *story) push(ctx context.Context, refspec string) (slipway.RunDetail, error) {
	return s.pushAs(ctx, "ada", refspec)
}

func (s *story) pushAs(ctx context.Context, user, refspec string) (slipway.RunDetail, error) {
	if _, err := s.git(ctx, "-c", "credential.username="+user, "push", "origin", refspec); err != nil {
		return slipway.RunDetail{}, err
	}
	return s.follow(ctx)
}

// follow follows the newest run; a run that fails is not an error here.
func (s *story) follow(ctx context.Context) (slipway.RunDetail, error) {
	runs, err := s.world.admin.Runs(ctx, slipway.RunFilter{Project: project, Limit: 1})
	if err != nil || len(runs) == 0 {
		return slipway.RunDetail{}, errors.Join(err, errors.New("the push made no run"))
	}
	if _, err := s.slipway(ctx, "ada", "runs", "show", fmt.Sprint(runs[0].ID), "--wait"); err != nil {
		s.say.detail("(exit status 1: the run did not succeed)")
	}
	return s.world.admin.Run(ctx, runs[0].ID)
}

func expect(d slipway.RunDetail, want slipway.RunState) error {
	if d.Run.State != want {
		return fmt.Errorf("run #%d is %s, not %s: %s", d.Run.ID, d.Run.State, want, d.Run.Reason)
	}
	return nil
}

func (s *story) firstPush(ctx context.Context) error {
	board, err := s.world.admin.Board(ctx, project)
	if err != nil {
		return err
	}
	if len(board.Rows) > 0 {
		return nil
	}
	s.say.step("the first push: three services are built, tested and deployed to development")
	s.say.detail("bob pushes it: developers change the default branch through pull requests")
	d, err := s.pushAs(ctx, "bob", "main")
	if err != nil {
		return err
	}
	if err := expect(d, slipway.RunSucceeded); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "ada", "status"); err != nil {
		return err
	}
	if err := s.curl(ctx, "development", "delivery", "/quote?to=Rotterdam"); err != nil {
		return err
	}
	return s.curl(ctx, "development", "web:8080", "/")
}

func (s *story) pullRequest(ctx context.Context) error {
	s.say.step("a pull request: only the service it touches is built, tested and checked")
	if err := s.quietGit(ctx, "pull", "--quiet", "--rebase", "origin", "main"); err != nil {
		return err
	}
	greeting := "delivered with care, " + time.Now().Format("15:04:05")
	if err := s.edit(ctx, "src/shipping/delivery/main.go", "const greeting = ", fmt.Sprintf("const greeting = %q", greeting), "Greet customers better"); err != nil {
		return err
	}
	d, err := s.push(ctx, "HEAD:refs/for/main")
	if err != nil {
		return err
	}
	if err := expect(d, slipway.RunSucceeded); err != nil {
		return err
	}
	s.say.step("the merge: the same service goes to development")
	if _, err := s.slipway(ctx, "ada", "merge", fmt.Sprint(d.Run.Pull)); err != nil {
		return err
	}
	merged, err := s.follow(ctx)
	if err != nil {
		return err
	}
	if err := expect(merged, slipway.RunSucceeded); err != nil {
		return err
	}
	if err := s.curl(ctx, "development", "delivery", "/quote?to=Rotterdam"); err != nil {
		return err
	}
	err = s.quietGit(ctx, "pull", "--quiet", "--rebase", "origin", "main")
	return err
}

// next is the next minor version of delivery.
func (s *story) next(ctx context.Context) (string, error) {
	releases, err := s.world.admin.Releases(ctx, slipway.ReleaseFilter{Project: project, Service: "delivery"})
	if err != nil {
		return "", err
	}
	newest := slipway.Version{Major: 1}
	for _, r := range releases {
		if v, err := slipway.ParseVersion(r.Version); err == nil && v.Compare(newest) > 0 {
			newest = v
		}
	}
	if len(releases) == 0 {
		return "v1.0.0", nil
	}
	return fmt.Sprintf("v%d.%d.0", newest.Major, newest.Minor+1), nil
}

func (s *story) release(ctx context.Context) error {
	version, err := s.next(ctx)
	if err != nil {
		return err
	}
	s.say.step("release %s: built once, QA, and then it waits for a person", version)
	d, err := s.push(ctx, "HEAD:refs/heads/release/delivery/"+version)
	if err != nil {
		return err
	}
	if err := expect(d, slipway.RunWaiting); err != nil {
		return err
	}
	if err := s.curl(ctx, "qa", "delivery", "/quote?to=Rotterdam"); err != nil {
		return err
	}
	s.say.step("bob looks at the gates and approves: the same digest goes to production")
	if _, err := s.slipway(ctx, "bob", "gates", fmt.Sprint(d.Run.ID), "--env", "production"); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "bob", "approvals"); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "bob", "approve", fmt.Sprint(d.Run.ID), "--reason", "the quote in QA is right"); err != nil {
		return err
	}
	if d, err = s.follow(ctx); err != nil {
		return err
	}
	if err := expect(d, slipway.RunSucceeded); err != nil {
		return err
	}
	if err := s.curl(ctx, "production", "delivery", "/quote?to=Rotterdam"); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "ada", "trace", version); err != nil {
		return err
	}
	s.say.step("what runs in production proves where it comes from")
	if _, err := s.slipway(ctx, "ada", "verify", "prod/"+project+"/delivery:"+version, "--require", "provenance,sbom,tests,scan"); err != nil {
		return err
	}
	return sameDigest(d)
}

// sameDigest checks the promise: what was tested is what runs.
func sameDigest(d slipway.RunDetail) error {
	for _, a := range d.Deployments {
		if a.ImageDigest != d.Deployments[0].ImageDigest {
			return fmt.Errorf("%s runs %s, %s runs %s", a.Target.Environment, a.ImageDigest, d.Deployments[0].Target.Environment, d.Deployments[0].ImageDigest)
		}
	}
	return nil
}

func (s *story) badRelease(ctx context.Context) error {
	good, err := s.next(ctx)
	if err != nil {
		return err
	}
	s.say.step("release %s is bad: fine in QA, but its production values make it never ready", good)
	if err := s.edit(ctx, "src/shipping/delivery/chart/values-production.yaml", "replicas: 2", "replicas: 2\nhealth: /nowhere", "Ask production's health elsewhere"); err != nil {
		return err
	}
	d, err := s.push(ctx, "HEAD:refs/heads/release/delivery/"+good)
	if err != nil {
		return err
	}
	if err := expect(d, slipway.RunWaiting); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "bob", "approve", fmt.Sprint(d.Run.ID), "--reason", "QA is green"); err != nil {
		return err
	}
	s.say.step("production does not become healthy: Slipway rolls it back, image and configuration")
	if d, err = s.follow(ctx); err != nil {
		return err
	}
	if err := expect(d, slipway.RunFailed); err != nil {
		return err
	}
	if err := s.curl(ctx, "production", "delivery", "/quote?to=Rotterdam"); err != nil {
		return err
	}
	if _, err := s.slipway(ctx, "ada", "status"); err != nil {
		return err
	}
	err = s.quietGit(ctx, "reset", "--quiet", "--hard", "HEAD~1")
	return err
}

// curl asks a running service through the cluster's API server, as kubectl get --raw does.
func (s *story) curl(ctx context.Context, env, service, path string) error {
	config, err := clientcmd.BuildConfigFromFlags("", s.world.kubeconfig)
	if err != nil {
		return err
	}
	k, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	path, query, _ := strings.Cut(path, "?")
	params := map[string]string{}
	if name, value, ok := strings.Cut(query, "="); ok {
		params[name] = value
	}
	service, port, ok := strings.Cut(service, ":")
	if !ok {
		port = "80"
	}
	b, err := k.CoreV1().Services(project+"-"+env).ProxyGet("http", service, port, path, params).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("ask %s in %s: %w", service, env, err)
	}
	s.say.detail("curl http://%s.%s-%s:%s%s%s", service, project, env, port, path, question(query))
	s.say.detail("  %s", strings.TrimSpace(string(b)))
	return nil
}

func question(query string) string {
	if query == "" {
		return ""
	}
	return "?" + query
}

func (s *story) end(ctx context.Context) error {
	link, err := s.world.admin.CreateLink(ctx, "admin")
	if err != nil {
		return err
	}
	s.say.stop()
	fmt.Fprintf(s.say.w, `
%s in %.0f s. Everything stays up:

  the UI           %s   (sign in once with the link below)
  sign in          %s
  the repository   %s   (a clone: change something and push)
  the CLI          export %s PATH=%s:$PATH

What to try next:
  cd %s && git checkout -b feature/mine && ... && git push origin HEAD
  slipway status;  slipway trace v1.0.0;  slipway rollback delivery --env production
  make demo        plays the next releases;  make demo-down  takes everything away

`, s.say.paint("1;32", "Done"), time.Since(s.say.began).Seconds(), s.world.url, link, s.repo,
		strings.Join(s.world.env("ada")[:2], " "), filepath.Dir(s.world.bin.Slipway), s.repo)
	return nil
}
