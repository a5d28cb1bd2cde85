package chart

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	askTimeout = 8 * time.Second  // for the document of one cluster
	askAgain   = 30 * time.Second // what a cluster said is taken for true that long
	askNewKind = 2 * time.Second  // the same, where a chart has a kind that the cluster did not have then
	maxAnswers = 8                // clusters whose schema is kept
)

// api is what the objects of an environment are checked against.
type api struct {
	schema  Schema
	version string // of the cluster
	id      string // of the schema: another one judges differently; empty when that cannot be told
	live    bool
	note    string // why it is not the cluster's own schema, or of which version it is; empty: nothing to say
}

// answers keeps what clusters said.
type answers struct {
	mu        sync.Mutex // guards what follows
	byCluster map[string]*answer
}

type answer struct {
	asking chan struct{} // holds a value while the cluster is asked; guards what follows
	tag    string
	schema Schema
	err    error
	asked  time.Time
}

func (a *answers) of(cluster string) *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byCluster == nil || a.byCluster[cluster] == nil && len(a.byCluster) >= maxAnswers {
		a.byCluster = map[string]*answer{}
	}
	if a.byCluster[cluster] == nil {
		a.byCluster[cluster] = &answer{asking: make(chan struct{}, 1)}
	}
	return a.byCluster[cluster]
}

// apis finds the API of each environment; clusters are asked side by side.
func (r *Runner) apis(ctx context.Context, planned []slipway.ChartRender, now time.Time) ([]api, error) {
	if r.opts.Clusters != nil {
		var wg sync.WaitGroup
		for _, p := range planned {
			if p.Cluster != "" {
				wg.Go(func() { _, _, _ = r.ask(ctx, p.Cluster, now, askAgain) })
			}
		}
		wg.Wait()
	}
	out := make([]api, len(planned))
	for i, p := range planned {
		var note string
		if r.opts.Clusters != nil && p.Cluster != "" {
			schema, tag, err := r.ask(ctx, p.Cluster, now, askAgain)
			if schema != nil {
				out[i] = served(schema, tag)
				continue
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			note = fmt.Sprintf("cluster %s was not asked for its API (%v)", p.Cluster, err)
		}
		schema, err := r.schemas.Shipped(p.KubeVersion)
		if err != nil {
			return nil, err
		}
		out[i] = api{schema: schema, version: p.KubeVersion, note: note}
		if out[i].version == "" {
			out[i].version = schema.Version()
		}
		if note == "" { // else the cluster may answer the next time
			out[i].id = "shipped " + schema.Version() + " for " + out[i].version
		}
		if ParseMinor(out[i].version) != ParseMinor(schema.Version()) {
			out[i].note = joinNotes(note, fmt.Sprintf("Kubernetes %s: the nearest schema that ships with Slipway is that of %s", out[i].version, schema.Version()))
		} else if note != "" {
			out[i].note = joinNotes(note, "the schema of "+schema.Version()+" that ships with Slipway is used")
		}
	}
	return out, nil
}

func joinNotes(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// served is the API of a cluster that answered.
func served(schema Schema, tag string) api {
	a := api{schema: schema, version: schema.Version(), live: true}
	if tag != "" {
		a.id = "served " + schema.Version() + " " + tag
	}
	return a
}

// newest is the API of an environment for objects of which the cluster did not know all kinds when it was asked:
// somebody may have defined them since.
func (r *Runner) newest(ctx context.Context, p slipway.ChartRender, a api, objects []judgedObject, now time.Time) (api, error) {
	strange := func(o judgedObject) bool { return !o.verdict.Known || o.verdict.Unserved }
	if !a.live || !slices.ContainsFunc(objects, strange) {
		return a, nil
	}
	schema, tag, err := r.ask(ctx, p.Cluster, now, askNewKind)
	if ctx.Err() != nil {
		return a, context.Cause(ctx)
	}
	if err == nil && schema != nil {
		return served(schema, tag), nil
	}
	return a, nil
}

// ask returns the cluster's schema with its tag, or why there is none. Runs that ask at once share the answer, and it is taken
// for true for a while.
func (r *Runner) ask(ctx context.Context, cluster string, now time.Time, age time.Duration) (Schema, string, error) {
	a := r.answers.of(cluster)
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
	if since := now.Sub(a.asked); !a.asked.IsZero() && since >= 0 && since < age {
		return a.schema, a.tag, a.err
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	doc, err := r.opts.Clusters.OpenAPI(asking, cluster, a.tag)
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	if err == nil && (doc.Data != nil || a.schema == nil) {
		var schema Schema
		if schema, err = r.schemas.Served(doc); err == nil {
			a.schema, a.tag = schema, doc.Tag
		}
	}
	if err != nil {
		a.schema, a.tag = nil, ""
	}
	a.asked, a.err = now, err
	return a.schema, a.tag, err
}
