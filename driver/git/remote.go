package git

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// tracking is where the refs of a mirrored repository are fetched to, before the mirror's own move.
const tracking = "refs/slipway/remote/"

// Remote is an outside repository. User and Password never reach an argument, a log or an error.
type Remote struct {
	URL      string // https, http, ssh or git; user and password in it are used like the fields
	User     string
	Password string
	// SSH is the key for a URL by SSH. Nil: what the user that runs this process has.
	SSH *SSH
	// AllowFile permits a path or file: URL on this machine.
	AllowFile bool
}

// scpExpr is a URL as scp has it, with its user and its host.
var scpExpr = regexp.MustCompile(`^(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*):[^:\s]+$`)

// CheckURL reports whether a repository may be mirrored from this URL.
func CheckURL(raw string, allowFile bool) error {
	_, err := Remote{URL: raw, AllowFile: allowFile}.normal()
	return err
}

// normal checks the URL and moves the credentials out of it.
func (m Remote) normal() (Remote, error) {
	bad := func(why string) (Remote, error) {
		return m, slipway.Errorf(slipway.Invalid, "git URL: %s; give one such as https://host/path.git or ssh://git@host/path.git", why)
	}
	if m.URL == "" || len(m.URL) > 2000 || strings.HasPrefix(m.URL, "-") || strings.ContainsFunc(m.URL, func(r rune) bool { return r <= 0x20 || r == 0x7f }) {
		return bad("it is empty, too long, begins with - or has a blank or control character")
	}
	if strings.Contains(m.URL, "::") {
		return bad("remote helpers (::) are not allowed")
	}
	if !strings.Contains(m.URL, "://") {
		if strings.HasPrefix(m.URL, "/") {
			return m.file(bad)
		}
		if scpExpr.MatchString(m.URL) {
			return m, nil
		}
		return bad("it has no scheme")
	}
	u, err := url.Parse(m.URL)
	if err != nil {
		return bad("it is not a URL")
	}
	switch u.Scheme {
	case "file":
		return m.file(bad)
	case "https", "http":
		if u.User != nil {
			m.User = u.User.Username()
			m.Password, _ = u.User.Password()
			u.User = nil
			m.URL = u.String()
		}
	case "ssh", "git":
		if _, has := u.User.Password(); has {
			return bad("a password does not belong into it")
		}
		if strings.HasPrefix(u.User.Username(), "-") {
			return bad("its user begins with -")
		}
	default:
		return bad("scheme " + u.Scheme + " is not one of https, http, ssh, git")
	}
	if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") {
		return bad("it has no valid host")
	}
	return m, nil
}

func (m Remote) file(bad func(string) (Remote, error)) (Remote, error) {
	if !m.AllowFile {
		return bad("paths of this machine are not allowed")
	}
	return m, nil
}

// credentialHelper answers git's question for a password from the environment, which only the user
// that runs Slipway can read.
const credentialHelper = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$SLIPWAY_GIT_USER" "$SLIPWAY_GIT_PASSWORD"; }; f`

// access is what git needs in configuration and environment to reach the remote and nothing else.
func (m Remote) access() (config, env []string) {
	allowed := "https:http:ssh:git"
	if m.AllowFile {
		allowed += ":file"
	}
	env = []string{"GIT_ALLOW_PROTOCOL=" + allowed}
	u, err := url.Parse(m.URL)
	if err == nil && (m.User != "" || m.Password != "") && (u.Scheme == "https" || u.Scheme == "http") {
		// git splits the key at its first and last dot, and the value at nothing.
		config = []string{"credential." + u.Scheme + "://" + u.Host + ".helper=" + credentialHelper}
		env = append(env, "SLIPWAY_GIT_USER="+m.User, "SLIPWAY_GIT_PASSWORD="+m.Password)
	}
	return config, env
}

// RemoteDefault asks the remote for its default branch; "main" if it is empty.
func (r Repo) RemoteDefault(ctx context.Context, m Remote) (string, error) {
	out, err := r.remote(ctx, m, "ls-remote", "--symref", "--end-of-options", "URL", "HEAD")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		ref, ok := strings.CutPrefix(strings.TrimSuffix(line, "\tHEAD\n"), "ref: refs/heads/")
		if ok && slipway.CheckRef("refs/heads/"+ref) == nil {
			return ref, nil
		}
	}
	return "main", nil
}

// Fetch brings the objects of the remote's branches and tags and returns how the mirror's refs
// differ: they have not moved yet. Record the changes, then Apply them; a crash in between loses
// nothing, the next Fetch returns them again. Refs whose names Slipway does not allow are left out.
func (r Repo) Fetch(ctx context.Context, m Remote) ([]RefChange, error) {
	_, err := r.remote(ctx, m, "fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head",
		"--no-auto-maintenance", "--no-recurse-submodules", "--end-of-options", "URL",
		"+refs/heads/*:"+tracking+"heads/*", "+refs/tags/*:"+tracking+"tags/*")
	if err != nil {
		return nil, err
	}
	theirs, err := r.Refs(ctx, tracking)
	if err != nil {
		return nil, err
	}
	ours, err := r.Refs(ctx)
	if err != nil {
		return nil, err
	}
	return refChanges(ours, theirs), nil
}

func refChanges(ours, theirs map[string]string) []RefChange {
	var changes []RefChange
	for name, hash := range theirs {
		ref := "refs/" + strings.TrimPrefix(name, tracking)
		old, known := ours[ref]
		if !known {
			old = slipway.ZeroHash
		}
		if old != hash && slipway.CheckRef(ref) == nil {
			changes = append(changes, RefChange{Ref: ref, Old: old, New: hash})
		}
	}
	for ref, hash := range ours {
		if _, ok := theirs[tracking+strings.TrimPrefix(ref, "refs/")]; !ok {
			changes = append(changes, RefChange{Ref: ref, Old: hash, New: slipway.ZeroHash})
		}
	}
	slices.SortFunc(changes, func(a, b RefChange) int { return strings.Compare(a.Ref, b.Ref) })
	return changes
}

// Apply moves the mirror's refs as Fetch said: the deletions, then all others at once.
func (r Repo) Apply(ctx context.Context, changes []RefChange) error {
	var deletions, moves []RefChange
	for _, c := range changes {
		if c.New == slipway.ZeroHash {
			deletions = append(deletions, c)
		} else {
			moves = append(moves, c)
		}
	}
	if err := r.moveRefs(ctx, deletions); err != nil {
		return err
	}
	return r.moveRefs(ctx, moves)
}

// remote runs a command that talks to the remote; the argument "URL" stands for its URL.
func (r Repo) remote(ctx context.Context, m Remote, args ...string) ([]byte, error) {
	m, err := m.normal()
	if err != nil {
		return nil, err
	}
	args[slices.Index(args, "URL")] = m.URL
	config, env := m.access()
	if m.SSH != nil {
		if _, err := endpointOf(m.URL); err != nil {
			return nil, err
		}
		more, closing, err := m.SSH.open()
		if err != nil {
			return nil, err
		}
		defer closing()
		env = append(env, more...)
	}
	out, err := r.runWith(ctx, config, call{args: args, env: env})
	if _, ok := exitStatus(err); ok {
		if m.SSH != nil {
			if why := m.SSH.explain(ctx, m.URL); why != nil {
				return nil, why
			}
		}
		return nil, slipway.Errorf(slipway.Unavailable, "%s does not answer as a git repository should: %s", m.URL, m.hide(err.Error()))
	}
	return out, err
}

// hide takes the password out of what git says.
func (m Remote) hide(s string) string {
	for _, secret := range []string{m.Password, url.QueryEscape(m.Password), url.PathEscape(m.Password)} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "***")
		}
	}
	return s
}
