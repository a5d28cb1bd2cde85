package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Desired is what a target is to become.
type Desired struct {
	Run         int64
	Step        string
	Target      slipway.Target
	Version     string
	Commit      string
	Image       slipway.Repository
	Tag         string
	ImageDigest string
	Chart       slipway.Repository
	ChartDigest string
	Reason      string   // change-cause (S97)
	Aliases     []string // further names of the same image, such as the candidate's
}

// Request is a desired state in Helm's terms: it says everything, the driver decides nothing.
type Request struct {
	Target  slipway.Target
	Package []byte // chart package
	// ValuesFiles are read from the package, later ones over earlier ones, all over its values.yaml.
	ValuesFiles []ValuesFile
	Literals    map[string]any // over the files
	Pin         Pin
	// Annotations are put on the metadata of each object that makes pods, never on the pods, so that
	// they roll no pod. ChangeCause is put there unless the chart sets it.
	Annotations map[string]string
	ChangeCause string
	Marks       Marks
	Description string // of the Helm revision once it is deployed
	// Seen is the history as it was just seen, from which Apply goes on; none: Apply looks itself. Where somebody else made
	// a revision since, Apply makes none.
	Seen []Revision
	Log  func(slipway.LogLine)

	desired    Desired
	inspection Inspection
}

// ValuesFile is a values file inside a chart package.
type ValuesFile struct {
	Name     string
	Optional bool
}

// Pin says which images of a rendered chart are the service's, and what they become (D17).
type Pin struct {
	Hosts      []string // an image with another host is not the service's; one without a host may be
	Paths      []string // repositories without the host
	Repository string   // with the host
	Tag        string
	Digest     string
	PullSecret string // added to pods that run the image
}

// Image is the reference that every image of the service becomes.
func (p Pin) Image() string {
	if p.Tag == "" {
		return p.Repository + "@" + p.Digest
	}
	return p.Repository + ":" + p.Tag + "@" + p.Digest
}

// Inspection is what a chart package says before anything is rendered.
type Inspection struct {
	ChartName    string
	ChartVersion string
	// ValuesDigest is the sha256 of the canonical JSON of the merged values, without reason, which
	// says why and not what.
	ValuesDigest string
}

// Marks are how Slipway knows its own revisions again. Helm keeps them as labels of the release's
// secret; they are only those of the revision they were made for, never inherited ones.
type Marks struct {
	Intent  string // identifies the intended deployment; "" when the revision is not Slipway's
	Run     string
	Version string
	Commit  string
	Image   string // digests, cut to what a label holds: compare with SameDigest
	Chart   string
	Values  string
}

// OfServer reports whether a run of a server made the revision: neither another Helm client nor the command
// slipway run, of which no server knows and which holds no lock.
func (m Marks) OfServer() bool { return m.Intent != "" && m.Run != "0" }

// outside reports whether a revision was made outside of a run: a run without a number is the command's, to
// which its own revisions are not.
func (m Marks) outside(run int64) bool { return m.Intent == "" || run != 0 && !m.OfServer() }

// SameDigest reports whether a mark is that of a digest.
func SameDigest(mark, digest string) bool { return mark != "" && mark == digestMark(digest) }

// digestMark is a digest as a label value, which holds 63 characters and no colon.
func digestMark(digest string) string {
	_, h, _ := strings.Cut(digest, ":")
	return h[:min(63, len(h))]
}

var unsafeLabel = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

func labelValue(s string) string {
	s = unsafeLabel.ReplaceAllString(s, "-")
	return strings.Trim(s[:min(63, len(s))], "-_.")
}

// NewRequest says in Helm's terms what is desired; pkg is the chart package.
func NewRequest(want Desired, pkg []byte) Request {
	t := want.Target
	req := Request{
		Target: t, Package: pkg, desired: want,
		ValuesFiles: []ValuesFile{{Name: slipway.EnvironmentValues(t.Environment), Optional: true}},
		Literals:    slipway.ChartValues(want.Image, want.Tag, want.ImageDigest, want.Reason),
		Pin:         newPin(want),
		ChangeCause: want.Reason,
		Description: describe(want.Run, want.Version, want.Reason),
		Annotations: map[string]string{
			"slipway.dev/run":     fmt.Sprint(want.Run),
			"slipway.dev/commit":  want.Commit,
			"slipway.dev/version": want.Version,
		},
	}
	for _, name := range t.Values {
		if name != req.ValuesFiles[0].Name {
			req.ValuesFiles = append(req.ValuesFiles, ValuesFile{Name: name})
		}
	}
	req.Marks = Marks{
		Run: fmt.Sprint(want.Run), Version: labelValue(want.Version), Commit: labelValue(want.Commit),
		Image: digestMark(want.ImageDigest), Chart: digestMark(want.ChartDigest),
	}
	return req
}

func newPin(want Desired) Pin {
	p := Pin{
		Repository: want.Image.Ref(), Tag: want.Tag, Digest: want.ImageDigest, PullSecret: PullSecretName,
	}
	for _, ref := range append([]string{want.Image.Ref(), want.Image.Registry.Host + "/" + want.Target.Project + "/" + want.Target.Service}, want.Aliases...) {
		host, path, ok := strings.Cut(ref, "/")
		if !ok {
			continue
		}
		if !slices.Contains(p.Hosts, host) {
			p.Hosts = append(p.Hosts, host)
		}
		if !slices.Contains(p.Paths, path) {
			p.Paths = append(p.Paths, path)
		}
	}
	return p
}

func (r Request) inspected(in Inspection) Request {
	r.inspection = in
	r.Marks.Values = digestMark(in.ValuesDigest)
	w := r.desired
	r.Marks.Intent = intentID(fmt.Sprint(w.Run), w.Step, w.Target.Lock(), w.Target.Cluster, w.Target.Namespace, w.Target.Release,
		w.ImageDigest, w.ChartDigest, in.ValuesDigest)
	return r
}

// intentID names an intended deployment: the same after a crash, different for every other one.
func intentID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:40]
}

func (r Request) deployment() slipway.Deployment {
	w := r.desired
	return slipway.Deployment{
		Target: w.Target, Version: w.Version, Commit: w.Commit, RunID: w.Run, Step: w.Step,
		Image: w.Image.Ref(), Tag: w.Tag, ImageDigest: w.ImageDigest,
		Chart: w.Chart.Ref(), ChartDigest: w.ChartDigest, ChartVersion: r.inspection.ChartVersion,
		ValuesDigest: r.inspection.ValuesDigest,
	}
}

// describe is a line for helm history, short enough for Helm's limit of 256 characters.
func describe(run int64, version, reason string) string {
	s := fmt.Sprintf("slipway run %d: %s", run, version)
	if run == 0 { // the command, without a server
		s = "slipway run: " + version
	}
	if reason != "" {
		s += ": " + reason
	}
	r := []rune(s)
	return string(r[:min(len(r), 240)])
}

// Status is the state of a Helm revision, in Helm's words.
type Status string

const (
	StatusDeployed        Status = "deployed"
	StatusSuperseded      Status = "superseded"
	StatusFailed          Status = "failed"
	StatusPendingInstall  Status = "pending-install"
	StatusPendingUpgrade  Status = "pending-upgrade"
	StatusPendingRollback Status = "pending-rollback"
	StatusUninstalling    Status = "uninstalling"
	StatusUninstalled     Status = "uninstalled"
	StatusUnknown         Status = "unknown"
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{StatusDeployed, StatusSuperseded, StatusFailed, StatusPendingInstall, StatusPendingUpgrade,
		StatusPendingRollback, StatusUninstalling, StatusUninstalled, StatusUnknown}
}

// Moving reports whether a Helm client is at work on the revision, or was when it died.
func (s Status) Moving() bool {
	return slices.Contains([]Status{StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback, StatusUninstalling}, s)
}

// Revision is one revision of a Helm release.
type Revision struct {
	Number      int
	Status      Status
	Description string
	Updated     time.Time // when the operation that made it began
	Chart       string    // name-version
	Marks       Marks
	// Stored is the driver's own form of the revision, for an Apply that goes on from it; nil where it came from elsewhere.
	Stored any
}
