package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/slipway-cd/slipway"
)

const (
	maxServices = 500
	maxFolders  = 50_000 // searched for services
	searchDepth = 8      // folders below the root that are searched
)

// notSearched are folders that hold other people's code, or code that is not delivered (D5).
func notSearched(name string) bool {
	switch name {
	case "testdata", "vendor", "node_modules", "examples":
		return true
	}
	return strings.HasPrefix(name, ".")
}

// Discover finds the services of a repository by convention: every folder with a Dockerfile, named
// after the folder; the root itself is named after the project. Below a service's folder no further
// one is searched for, except below the root. Folders named testdata, vendor, node_modules or
// examples, hidden ones and links are not searched.
//
// fsys is the tree of one commit. Links in it are followed only when it implements fs.ReadLinkFS, as
// os.DirFS does, and only within the tree.
func Discover(fsys fs.FS, project string) ([]slipway.Service, Problems) {
	d := &draft{fsys: fsys, project: project}
	d.discover()
	d.sameNames()
	return d.finish()
}

// draft is the list of services while it is made.
type draft struct {
	fsys     fs.FS
	project  string
	services []found
	below    map[string][]claim // set when all services are known
	pins     map[string]string
	several  bool // other codebases of the project have services too
	problems Problems
}

// found is a service with what slipway.yaml says of it.
type found struct {
	slipway.Service
	settings value    // zero when it is not in the file
	images   []string // that its Dockerfile names
}

func (d *draft) problem(file, hint, format string, args ...any) {
	d.problems.add(Problem{File: file, Message: fmt.Sprintf(format, args...), Hint: hint})
}

var errEnough = errors.New("enough")

func (d *draft) discover() {
	folders := 0
	err := fs.WalkDir(d.fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			d.problem(name, "", "the folder was not searched: %s", because(err))
			return fs.SkipDir
		}
		if !e.IsDir() {
			return nil
		}
		if name != "." && (notSearched(e.Name()) || strings.Count(name, "/") >= searchDepth) {
			return fs.SkipDir
		}
		if folders++; folders > maxFolders {
			d.problem(Name, "name the services in slipway.yaml, each with its path", "services were searched for in the first %d folders only", maxFolders)
			return errEnough
		}
		if !d.consider(name) || name == "." {
			return nil
		}
		if len(d.services) > maxServices {
			d.problem(Name, "", "more than %d folders have a Dockerfile: that is more services than a project may have", maxServices)
			return errEnough
		}
		return fs.SkipDir
	})
	if err != nil && !errors.Is(err, errEnough) {
		d.problem(Name, "", "services were not searched for: %s", because(err))
	}
}

// consider adds a folder if it has a Dockerfile, and reports whether it has.
func (d *draft) consider(dir string) bool {
	file := path.Join(dir, "Dockerfile")
	ok, err := exists(d.fsys, file, false)
	if err != nil {
		d.problem(file, "replace the link by a file", "%s", because(err))
		return true
	}
	if !ok {
		return false
	}
	name := d.project
	if dir != "." {
		name = ServiceName(path.Base(dir))
	}
	d.services = append(d.services, found{Service: slipway.Service{Name: name, Dir: dir, Dockerfile: "Dockerfile"}})
	return true
}

var unfit = regexp.MustCompile(`[^a-z0-9]+`)

// ServiceName makes the name of a service from that of a folder: My_Service becomes my-service, Größe grosse. It
// may be empty, or too long to do.
func ServiceName(folder string) string {
	plain := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) { // the mark of a letter, which norm has taken off it
			return -1
		}
		return r
	}, norm.NFKD.String(strings.ReplaceAll(strings.ToLower(folder), "ß", "ss")))
	return strings.Trim(unfit.ReplaceAllString(plain, "-"), "-")
}

// ShortName is ServiceName cut to the length that a name may have. It may be empty.
func ShortName(folder string) string {
	name := ServiceName(folder)
	return strings.Trim(name[:min(len(name), 40)], "-")
}

// sameNames refuses names that two services have, and those that no service may have.
func (d *draft) sameNames() {
	first := map[string]found{}
	kept := d.services[:0]
	for _, s := range d.services {
		file := path.Join(s.Dir, s.Dockerfile)
		other, twice := first[s.Name]
		switch {
		case twice:
			d.problem(file, fmt.Sprintf("slipway init names them; or give one another name in slipway.yaml: services: {another-name: {path: %s}}", s.Dir),
				"two services are named %s: this one, and %s", s.Name, path.Join(other.Dir, other.Dockerfile))
			continue
		case !slipway.ValidName(s.Name):
			d.problem(file, fmt.Sprintf("give it a name in slipway.yaml: services: {a-name: {path: %s}}", s.Dir),
				"the folder's name makes no name of a service: %q must be lower-case letters, digits and dashes, at most 40", s.Name)
			continue
		}
		first[s.Name] = s
		kept = append(kept, s)
	}
	d.services = kept
}

// chart finds a service's chart by convention; "" stands for the standard chart.
func (d *draft) chart(s slipway.Service) string {
	for _, dir := range []string{path.Join(s.Dir, "chart"), path.Join("charts", s.Name)} {
		file := path.Join(dir, "Chart.yaml")
		ok, err := exists(d.fsys, file, false)
		if err != nil {
			d.problem(file, "replace the link by a file", "%s", because(err))
			continue
		}
		if ok {
			return dir
		}
	}
	return ""
}
