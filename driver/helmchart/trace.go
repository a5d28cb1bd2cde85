package helmchart

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	helm "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/engine"

	"github.com/slipway-cd/slipway/stage/chart"
)

const maxProbes = 40 // renders with a changed value, beside those for all fields at once

// Trace implements chart.Tracer. Lines of templates are found by a render whose templates say on which
// line they are; lines of values by renders with other values, in which the field must change as the value
// did. A bound that is passed is no error: nothing is known then.
func (h *Helm) Trace(ctx context.Context, c chart.Chart, r chart.Render, fields []chart.Field) ([]chart.Origin, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	got, err := h.render(ctx, request{Chart: c, Renders: []chart.Render{r}, Now: h.opts.Now(), Fields: fields, Bound: h.opts.Timeout / 3})
	if errors.Is(err, errTooLong) || errors.Is(err, errTooLarge) {
		return make([]chart.Origin, len(fields)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("trace chart %s: %w", c.Name, err)
	}
	return got.Origins, nil
}

// trace answers a request in which fields are asked for.
func trace(ctx context.Context, req request) []chart.Origin {
	ctx, cancel := context.WithTimeout(ctx, req.Bound)
	defer cancel()
	out := make([]chart.Origin, len(req.Fields))
	t := &tracer{ctx: ctx, chart: req.Chart, render: req.Renders[0], now: req.Now, sources: map[string]bool{}}
	for _, f := range req.Fields {
		t.sources[f.Source] = true
	}
	plain := t.with(nil)
	if plain == nil {
		return out
	}
	t.plain = plain
	t.files = newValuesFiles(t.chart, t.render)
	asked := make([]asked, len(req.Fields))
	for i, f := range req.Fields {
		asked[i] = t.find(f)
	}
	t.templates(asked, out)
	t.values(asked, out)
	return out
}

// tracer renders one chart again and again.
type tracer struct {
	ctx    context.Context
	chart  chart.Chart
	render chart.Render
	now    time.Time
	plain  *rendering // as the chart is
	files  *valuesFiles
	probes int
	// sources are the templates whose objects are asked for: the others are not parsed.
	sources map[string]bool
}

// rendering is what came of one render: the objects of each document of each template.
type rendering struct {
	text   map[string]string             // by template, relative to the chart folder
	docs   map[string][][]map[string]any // nil: a document that does not parse
	values map[string]any                // what templates saw, before edit changed them
}

// with renders the chart after edit changed its templates or values; nil when that does not render.
func (t *tracer) with(edit func(loaded *helm.Chart, values map[string]any)) *rendering {
	if t.ctx.Err() != nil {
		return nil
	}
	loaded, err := load(t.chart)
	if err != nil {
		return nil
	}
	top, problems := prepare(loaded, t.chart, t.render)
	if failed(problems) {
		return nil
	}
	values, ok := plain(asMap(top["Values"])).(map[string]any)
	if !ok {
		return nil
	}
	out := &rendering{text: map[string]string{}, docs: map[string][][]map[string]any{}, values: values}
	if edit != nil {
		changed, _ := plain(values).(map[string]any) //nolint:errcheck // a map is copied into a map
		edit(loaded, changed)
		top["Values"] = changed
	}
	eng := engine.Engine{CustomTemplateFuncs: funcs(t.now)}
	files, err := eng.RenderWithContext(t.ctx, loaded, top)
	if err != nil {
		return nil
	}
	for name, text := range files {
		source := inChart(t.chart.Name, name)
		if !t.sources[source] || strings.TrimSpace(text) == "" {
			continue
		}
		out.text[source] = text
		for _, doc := range documents(text) {
			objects, problems := parse(source, doc)
			if failed(problems) {
				objects = nil
			}
			out.docs[source] = append(out.docs[source], objects)
		}
	}
	return out
}

func asMap(v any) map[string]any {
	if m, ok := v.(interface{ AsMap() map[string]any }); ok {
		return m.AsMap()
	}
	m, _ := v.(map[string]any)
	return m
}

// asked is a field with the place of its object in the plain render.
type asked struct {
	chart.Field
	doc, item int // -1: the object was not found
}

func (t *tracer) find(f chart.Field) asked {
	for i, doc := range t.plain.docs[f.Source] {
		for j, o := range doc {
			if o["kind"] == f.Kind && objectName(o) == f.Name {
				return asked{f, i, j}
			}
		}
	}
	return asked{f, -1, -1}
}

func objectName(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	if name, _ := meta["name"].(string); name != "" {
		return name
	}
	name, _ := meta["generateName"].(string)
	return name
}

// object is the object of a field in another render: that at the same place, when there are as many.
func (r *rendering) object(t *tracer, a asked) map[string]any {
	if r == nil || a.doc < 0 || len(r.docs[a.Source]) != len(t.plain.docs[a.Source]) {
		return nil
	}
	was, is := t.plain.docs[a.Source][a.doc], r.docs[a.Source][a.doc]
	if len(was) != len(is) || is[a.item]["kind"] != a.Kind {
		return nil
	}
	return is[a.item]
}

// at is what stands at keys.
func at(v any, keys []string) (any, bool) {
	for _, k := range keys {
		switch n := v.(type) {
		case map[string]any:
			e, ok := n[k]
			if !ok {
				return nil, false
			}
			v = e
		case []any:
			i, err := strconv.Atoi(k)
			if err != nil || i < 0 || i >= len(n) {
				return nil, false
			}
			v = n[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// set changes what stands at keys, which must be there.
func set(v any, keys []string, to any) {
	holder, ok := at(v, keys[:len(keys)-1])
	if !ok {
		return
	}
	last := keys[len(keys)-1]
	switch n := holder.(type) {
	case map[string]any:
		n[last] = to
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(n) {
			n[i] = to
		}
	}
}

// leaf is a value that is neither map nor list, or an empty one of them.
type leaf struct {
	keys  []string
	value any
}

// leaves of a value, in the order of their keys.
func leavesOf(v any, keys []string, out []leaf) []leaf {
	const most = 5000
	if len(out) >= most {
		return out
	}
	switch n := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(n)) {
			out = leavesOf(n[k], append(slices.Clone(keys), k), out)
		}
		if len(n) > 0 {
			return out
		}
	case []any:
		for i, e := range n {
			out = leavesOf(e, append(slices.Clone(keys), strconv.Itoa(i)), out)
		}
		if len(n) > 0 {
			return out
		}
	}
	if len(keys) == 0 {
		return out
	}
	return append(out, leaf{keys, v})
}
