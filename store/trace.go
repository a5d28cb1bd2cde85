package store

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

var (
	hexExpr    = regexp.MustCompile(`^[0-9a-f]{6,64}$`)
	runExpr    = regexp.MustCompile(`^#?[0-9]{1,12}$`)
	digestExpr = regexp.MustCompile(`^sha256:[0-9a-f]{6,64}$`)
)

// Bounds of what a trace follows.
const (
	traceRuns        = 25
	traceDeployments = 100 // of an image
)

// tracer gathers what a query leads to.
type tracer struct {
	s       *Store
	ctx     context.Context
	project string
	out     slipway.Trace
	runs    map[int64]bool
	images  map[string]bool // digests that are followed to where they are deployed
	err     error
}

// Trace follows an id both ways: commit (at least 6 characters), branch, tag, digest (or its
// beginning), version, service@version, run (12 or #12), Helm release and revision (delivery/3), or
// an image reference. The empty project is every one. What leads nowhere is NotFound.
func (s *Store) Trace(ctx context.Context, project, query string) (slipway.Trace, error) {
	query = strings.TrimSpace(query)
	tr := &tracer{s: s, ctx: ctx, project: project, runs: map[int64]bool{}, images: map[string]bool{}, out: slipway.Trace{
		Query: query, Matched: []string{}, Commits: []string{}, Runs: []slipway.Run{}, Artifacts: []slipway.Artifact{},
		Releases: []slipway.Release{}, Deployments: []slipway.Deployment{}, Approvals: []slipway.Approval{},
	}}
	if query == "" || len(query) > 500 {
		return tr.out, slipway.Errorf(slipway.Invalid, "nothing to trace: give a commit, branch, tag, digest, version, run or image")
	}
	tr.run()
	tr.commit()
	tr.digest()
	tr.image()
	tr.tag()
	tr.version()
	tr.revision()
	tr.branch()
	if tr.err == nil && len(tr.out.Matched) == 0 {
		return tr.out, slipway.Errorf(slipway.NotFound, "%q is no commit, branch, tag, digest, version, run, revision or image that Slipway knows", query)
	}
	tr.follow()
	return tr.out, tr.err
}

// seed takes the runs of the rows that a condition finds and remembers what the query was.
func (tr *tracer) seed(what, table, cond string, args ...any) {
	if tr.err != nil {
		return
	}
	id := "run_id"
	if table == "runs" {
		id = "id"
	}
	args = append(args, tr.project, tr.project)
	text := fmt.Sprintf(`SELECT DISTINCT %s FROM %s WHERE %s AND ($%d = '' OR project = $%d) ORDER BY 1 DESC LIMIT %d`,
		id, table, cond, len(args)-1, len(args), traceRuns+1)
	ids, err := list(tr.ctx, tr.s.reader, scanInt, text, args...)
	if err != nil {
		tr.err = err
		return
	}
	if len(ids) > traceRuns {
		ids, tr.out.More = ids[:traceRuns], true
	}
	if len(ids) > 0 && !slices.Contains(tr.out.Matched, what) {
		tr.out.Matched = append(tr.out.Matched, what)
	}
	for _, id := range ids {
		tr.runs[id] = true
	}
}

func (tr *tracer) run() {
	if !runExpr.MatchString(tr.out.Query) {
		return
	}
	id, err := strconv.ParseInt(strings.TrimPrefix(tr.out.Query, "#"), 10, 64)
	if err == nil {
		tr.seed("run", "runs", `id = $1`, id)
	}
}

func (tr *tracer) commit() {
	q := strings.ToLower(tr.out.Query)
	if !hexExpr.MatchString(q) || len(q) > 40 {
		return
	}
	for _, table := range []string{"runs", "releases", "deployments"} {
		tr.seed("commit", table, `commit_hash >= $1 AND commit_hash < $2`, q, q+"g")
	}
}

func (tr *tracer) digest() {
	q := strings.ToLower(tr.out.Query)
	if hexExpr.MatchString(q) && len(q) >= 8 {
		q = "sha256:" + q
	}
	if digestExpr.MatchString(q) {
		tr.byDigest("digest", q)
	}
}

// byDigest seeds what has a digest that begins with q, and follows the images among them.
func (tr *tracer) byDigest(what, q string) {
	tr.seed(what, "artifacts", `digest >= $1 AND digest < $2`, q, q+"g")
	for _, table := range []string{"releases", "deployments"} {
		tr.seed(what, table, `image_digest >= $1 AND image_digest < $2`, q, q+"g")
		tr.seed(what, table, `chart_digest >= $1 AND chart_digest < $2`, q, q+"g")
	}
}

// image reads repository:tag and repository@digest, with a slash in the repository.
func (tr *tracer) image() {
	q := strings.TrimPrefix(tr.out.Query, "oci://")
	if name, digest, ok := strings.Cut(q, "@"); ok && strings.Contains(name, "/") && digestExpr.MatchString(digest) {
		tr.byDigest("image", digest)
		return
	}
	slash, colon := strings.LastIndex(q, "/"), strings.LastIndex(q, ":")
	if slash < 0 {
		return
	}
	repository, tag := q, ""
	if colon > slash {
		repository, tag = q[:colon], q[colon+1:]
	}
	tr.seed("image", "artifacts", `repository = $1 AND ($2 = '' OR tag = $3)`, repository, tag, tag)
	tr.seed("image", "deployments", `image = $1 AND ($2 = '' OR tag = $3)`, repository, tag, tag)
}

func (tr *tracer) tag() {
	tr.seed("tag", "artifacts", `tag = $1`, tr.out.Query)
}

// version reads v1.0.2, 1.0.2 and delivery@v1.0.2.
func (tr *tracer) version() {
	service, version, ok := strings.Cut(tr.out.Query, "@")
	if !ok {
		service, version = "", tr.out.Query
	}
	if version == "" {
		return
	}
	tr.seed("version", "releases", `semver = $1 AND ($2 = '' OR service = $3)`, semver(version), service, service)
	tr.seed("version", "deployments", `version = $1 AND ($2 = '' OR service = $3)`, version, service, service)
	if v, err := slipway.ParseVersion(version); err == nil {
		tr.seed("version", "runs", `event = 'release' AND version <> '' AND version IN ($1, $2) AND ($3 = '' OR service = $4)`, v.SemVer(), "v"+v.SemVer(), service, service)
	}
}

// revision reads delivery/3: a Helm release and its revision.
func (tr *tracer) revision() {
	release, number, ok := strings.Cut(tr.out.Query, "/")
	n, err := strconv.Atoi(number)
	if ok && err == nil {
		tr.seed("revision", "deployments", `helm_release = $1 AND revision = $2`, release, n)
	}
}

func (tr *tracer) branch() {
	ref := tr.out.Query
	if !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	// the index of refs begins with the project
	tr.seed("branch", "runs", `ref = $1 AND project IN (SELECT name FROM projects)`, ref)
}

// follow reads what belongs to the runs found, and where their images went: deployments by other runs
// (a rollback, a promotion) with those runs.
func (tr *tracer) follow() {
	for _, id := range sorted(tr.runs) {
		tr.gather(id, true)
	}
	seen := map[int64]bool{}
	for _, d := range tr.out.Deployments {
		seen[d.ID] = true
	}
	for digest := range tr.images {
		if tr.err != nil {
			return
		}
		more, err := deployments(tr.ctx, tr.s.reader, `image_digest = $1 AND ($2 = '' OR project = $3) ORDER BY id DESC LIMIT $4`, digest, tr.project, tr.project, traceDeployments+1)
		if err != nil {
			tr.err = err
			return
		}
		if len(more) > traceDeployments {
			more, tr.out.More = more[:traceDeployments], true
		}
		for _, d := range more {
			if seen[d.ID] {
				continue
			}
			seen[d.ID] = true
			tr.out.Deployments = append(tr.out.Deployments, d)
			switch {
			case tr.runs[d.RunID]:
			case len(tr.runs) < 2*traceRuns:
				tr.runs[d.RunID] = true
				tr.gather(d.RunID, false)
			default:
				tr.out.More = true
			}
		}
	}
	tr.finish()
}

// gather adds a run; all of it, or just the run itself.
func (tr *tracer) gather(id int64, all bool) {
	if tr.err != nil {
		return
	}
	var d slipway.RunDetail
	if d.Run, tr.err = getRun(tr.ctx, tr.s.reader, id); tr.err != nil {
		return
	}
	tr.out.Runs = append(tr.out.Runs, d.Run)
	if !all {
		return
	}
	if d, tr.err = inputs(tr.ctx, tr.s.reader, id); tr.err != nil {
		return
	}
	tr.out.Artifacts = append(tr.out.Artifacts, d.Artifacts...)
	tr.out.Deployments = append(tr.out.Deployments, d.Deployments...)
	tr.out.Approvals = append(tr.out.Approvals, d.Approvals...)
	for _, a := range d.Artifacts {
		if a.Kind == slipway.ArtifactImage {
			tr.images[a.Digest] = true
		}
	}
	for _, v := range d.Deployments {
		if v.ImageDigest != "" {
			tr.images[v.ImageDigest] = true
		}
	}
}

// finish adds the releases of the runs and images, and puts everything in order.
func (tr *tracer) finish() {
	seen := map[int64]bool{}
	add := func(cond string, arg any) {
		if tr.err != nil {
			return
		}
		more, err := list(tr.ctx, tr.s.reader, scanRelease, `SELECT `+releaseColumns+` FROM releases l WHERE `+cond+` AND ($2 = '' OR l.project = $3)`, arg, tr.project, tr.project)
		if err != nil {
			tr.err = err
		}
		for _, v := range more {
			if !seen[v.ID] {
				seen[v.ID] = true
				tr.out.Releases = append(tr.out.Releases, v)
			}
		}
	}
	for _, id := range sorted(tr.runs) {
		add(`l.run_id = $1`, id)
	}
	for digest := range tr.images {
		if digest != "" {
			add(`l.image_digest = $1`, digest)
		}
	}
	sort.Slice(tr.out.Runs, func(i, j int) bool { return tr.out.Runs[i].ID > tr.out.Runs[j].ID })
	sort.Slice(tr.out.Releases, func(i, j int) bool { return tr.out.Releases[i].ID < tr.out.Releases[j].ID })
	sort.Slice(tr.out.Deployments, func(i, j int) bool { return tr.out.Deployments[i].ID < tr.out.Deployments[j].ID })
	for _, r := range tr.out.Runs {
		if tr.out.Project == "" {
			tr.out.Project = r.Project
		}
		if !slices.Contains(tr.out.Commits, r.Commit) {
			tr.out.Commits = append(tr.out.Commits, r.Commit)
		}
	}
}

func sorted(ids map[int64]bool) []int64 {
	out := make([]int64, 0, len(ids))
	for id := range ids {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
