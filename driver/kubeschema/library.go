package kubeschema

import (
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway/stage/chart"
)

//go:embed data/*.json.gz data/lifecycle.json
var data embed.FS

// Library has the schemas that are part of the binary, and reads those of clusters. It implements
// chart.Schemas. The zero value works; what is not asked for is not read. It is safe for concurrent use.
type Library struct {
	mu      sync.Mutex // guards what follows
	shipped map[string]*Schema
	life    map[string]chart.Lifecycle // by apiVersion and kind; nil: not read yet
}

// versions are those that are part of the binary, oldest first.
func versions() []string {
	entries, _ := data.ReadDir("data") //nolint:errcheck // it is embedded
	var out []string
	for _, e := range entries {
		if v, ok := strings.CutSuffix(e.Name(), ".json.gz"); ok {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		x, y := chart.ParseMinor(a), chart.ParseMinor(b)
		return (x.Major-y.Major)*1000 + x.Minor - y.Minor
	})
	return out
}

func read(version string) (*Schema, error) {
	f, err := data.Open(path.Join("data", version+".json.gz"))
	if err != nil {
		return nil, fmt.Errorf("open the schema of Kubernetes %s: %w", version, err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("open the schema of Kubernetes %s: %w", version, err)
	}
	var snap Snapshot
	if err := json.NewDecoder(z).Decode(&snap); err != nil {
		return nil, fmt.Errorf("read the schema of Kubernetes %s: %w", version, err)
	}
	return newSchema(snap), nil
}

// Shipped implements chart.Schemas. Of two that are equally near the newer one is taken.
func (l *Library) Shipped(version string) (chart.Schema, error) {
	near := nearestVersion(version, versions())
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.shipped[near]; s != nil {
		return s, nil
	}
	s, err := read(near)
	if err != nil {
		return nil, err
	}
	if l.shipped == nil {
		l.shipped = map[string]*Schema{}
	}
	l.shipped[near] = s
	return s, nil
}

// nearestVersion chooses among versions, oldest first; the newest for a version that is none.
func nearestVersion(version string, all []string) string {
	want := chart.ParseMinor(version)
	best := all[len(all)-1]
	if want == (chart.Minor{}) {
		return best
	}
	away := func(v string) int {
		m := chart.ParseMinor(v)
		return max((m.Major-want.Major)*1000+m.Minor-want.Minor, (want.Major-m.Major)*1000+want.Minor-m.Minor)
	}
	for _, v := range slices.Backward(all) {
		if away(v) < away(best) {
			best = v
		}
	}
	return best
}

// Served implements chart.Schemas.
func (l *Library) Served(doc chart.OpenAPI) (chart.Schema, error) {
	snap, err := Reduce(doc.Data, nil)
	if err != nil {
		return nil, err
	}
	if len(snap.Kinds) == 0 || chart.ParseMinor(snap.Version) == (chart.Minor{}) {
		return nil, fmt.Errorf("the OpenAPI document of version %q has %d kinds: not that of a Kubernetes API", snap.Version, len(snap.Kinds))
	}
	s := newSchema(snap)
	s.served = true
	return s, nil
}

// Lifecycle implements chart.Schemas.
func (l *Library) Lifecycle(apiVersion, kind string) (chart.Lifecycle, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.life == nil {
		l.life = readLifecycles()
	}
	life, ok := l.life[apiVersion+" "+kind]
	return life, ok
}

// Markers is what the generator found in the code of one kind; versions are written 1.22.
type Markers struct {
	Introduced  string `json:"introduced,omitempty"`
	Deprecated  string `json:"deprecated,omitempty"`
	Removed     string `json:"removed,omitempty"`
	Replacement string `json:"replacement,omitempty"` // apps/v1 Deployment
}

func readLifecycles() map[string]chart.Lifecycle {
	out := map[string]chart.Lifecycle{}
	b, err := data.ReadFile("data/lifecycle.json")
	if err != nil {
		return out
	}
	var all map[string]Markers
	if err := json.Unmarshal(b, &all); err != nil {
		return out // a test reads it
	}
	for k, m := range all {
		out[k] = chart.Lifecycle{
			Introduced: chart.ParseMinor(m.Introduced), Deprecated: chart.ParseMinor(m.Deprecated), Removed: chart.ParseMinor(m.Removed),
			Replacement: m.Replacement,
		}
	}
	return out
}
