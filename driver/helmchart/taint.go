package helmchart

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	helm "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/slipway-cd/slipway/stage/chart"
)

// values finds the lines of values files: first with all candidates changed at once, then one by one.
func (t *tracer) values(fields []asked, out []chart.Origin) {
	all := leavesOf(t.plain.values, nil, nil)
	probes := make([][]probe, len(fields)) // of each field
	changed := map[int]bool{}
	for i, f := range fields {
		if f.doc < 0 {
			continue
		}
		probes[i] = t.probesOf(f, all)
		for _, p := range probes[i] {
			for _, c := range p.candidates {
				if !isBool(all[c].value) {
					changed[c] = true
				}
			}
		}
	}
	together := t.change(all, changed)
	for i, f := range fields {
		for _, p := range probes[i] {
			if out[i].Values.Line == 0 {
				out[i].Values = t.verified(f, p, all, together, changed)
			}
		}
	}
	t.oneByOne(fields, probes, all, out)
	t.missing(fields, all, out)
}

// probe is a rendered value that tells where a field comes from: the field itself, one below it, or, for a
// field that is not there, one beside it.
type probe struct {
	keys       []string
	text       string
	boolean    bool
	candidates []int    // leaves of the values that may have given it
	holder     []string // not nil: keys of the values' map whose line is the answer
}

// probesOf says what to look at for a field.
func (t *tracer) probesOf(f asked, all []leaf) []probe {
	o := t.plain.docs[f.Source][f.doc][f.item]
	var out []probe
	if v, ok := at(o, f.Keys); ok {
		for _, l := range leavesOf(v, f.Keys, nil) {
			if p := newProbe(l.keys, l.value, all); len(p.candidates) > 0 && len(out) < 5 {
				out = append(out, p)
			}
		}
		if _, scalar := scalarText(v); scalar && len(f.Keys) > 0 {
			if p := newProbe(f.Keys, v, all); len(p.candidates) > 0 {
				out = []probe{p}
			}
		}
		return out
	}
	return t.besides(o, f, all)
}

// besides probes what stands beside a field that is missing, when all of it is one map of the values.
func (t *tracer) besides(o map[string]any, f asked, all []leaf) []probe {
	up := f.Keys
	var holder any
	for ok := false; !ok && len(up) > 0; {
		up = up[:len(up)-1]
		holder, ok = at(o, up)
	}
	rendered, isMap := holder.(map[string]any)
	if !isMap || len(rendered) == 0 || len(up) == 0 {
		return nil
	}
	var out []probe
	for _, l := range leavesOf(rendered, nil, nil) {
		for i, v := range all {
			n := len(v.keys) - len(l.keys)
			if n <= 0 || !slices.Equal(v.keys[n:], l.keys) || len(out) >= 5 {
				continue
			}
			if given, ok := at(t.plain.values, v.keys[:n]); ok && reflect.DeepEqual(normal(given), normal(rendered)) {
				text, _ := scalarText(l.value)
				out = append(out, probe{keys: append(slices.Clone(up), l.keys...), text: text, boolean: isBool(l.value), candidates: []int{i}, holder: v.keys[:n]})
			}
		}
	}
	return out
}

// newProbe finds the leaves whose text is in that of a rendered value, likely ones first.
func newProbe(keys []string, v any, all []leaf) probe {
	p := probe{keys: keys, boolean: isBool(v)}
	var ok bool
	if p.text, ok = scalarText(v); !ok || p.text == "" {
		return p
	}
	for i, l := range all {
		text, ok := scalarText(l.value)
		if !ok || text == "" {
			continue
		}
		if text == p.text || !isBool(l.value) && partOf(p.text, text) {
			p.candidates = append(p.candidates, i)
		}
	}
	last := keys[len(keys)-1]
	slices.SortStableFunc(p.candidates, func(a, b int) int {
		return rank(all[a].keys, last) - rank(all[b].keys, last)
	})
	return p
}

// partOf reports whether a text is a part of another; a short one must be a word of it.
func partOf(whole, part string) bool {
	if len(part) > 3 {
		return strings.Contains(whole, part)
	}
	wordy := func(s string, i int) bool {
		return i >= 0 && i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9')
	}
	for from := 0; ; {
		i := strings.Index(whole[from:], part)
		if i < 0 {
			return false
		}
		i += from
		if !wordy(whole, i-1) && !wordy(whole, i+len(part)) {
			return true
		}
		from = i + 1
	}
}

func rank(keys []string, last string) int {
	if keys[len(keys)-1] == last {
		return 0
	}
	return 1
}

// change renders with leaves that are other values of the same kind; nil when that does not render.
func (t *tracer) change(all []leaf, which map[int]bool) *rendering {
	if len(which) == 0 {
		return nil
	}
	return t.with(func(_ *helm.Chart, values map[string]any) {
		for i := range which {
			set(values, all[i].keys, other(all[i].value, i))
		}
	})
}

// other is another value of the same kind, which can be recognised.
func other(v any, i int) any {
	switch v := v.(type) {
	case bool:
		return !v
	case string:
		return marker(i)
	case float64:
		return float64(numberMark(i))
	case int64:
		return numberMark(i)
	case int:
		return int(numberMark(i))
	case json.Number:
		return json.Number(strconv.FormatInt(numberMark(i), 10))
	}
	return v
}

func marker(i int) string { return fmt.Sprintf("qz%dzq", i) }

// numberMark has six digits: longer numbers are printed with an exponent.
func numberMark(i int) int64 { return 731_003 + 17*int64(i) }

var markExpr = regexp.MustCompile(`qz(\d+)zq`)

// verified says which leaf gave a probe's value: in the changed render its own mark must stand there, and
// putting back what the leaf was must give what was rendered.
func (t *tracer) verified(f asked, p probe, all []leaf, r *rendering, changed map[int]bool) chart.Place {
	o := r.object(t, f)
	if o == nil {
		return chart.Place{}
	}
	v, ok := at(o, p.keys)
	if !ok {
		return chart.Place{}
	}
	text, ok := scalarText(v)
	if !ok {
		return chart.Place{}
	}
	var found []int
	back := markExpr.ReplaceAllStringFunc(text, func(m string) string {
		i, err := strconv.Atoi(m[2 : len(m)-2])
		if err != nil || !changed[i] || i >= len(all) {
			return m
		}
		found = append(found, i)
		was, _ := scalarText(all[i].value)
		return was
	})
	for i := range changed {
		if _, isText := all[i].value.(string); isText || isBool(all[i].value) {
			continue
		}
		if mark := strconv.FormatInt(numberMark(i), 10); strings.Contains(back, mark) && slices.Contains(p.candidates, i) {
			was, _ := scalarText(all[i].value)
			back = strings.ReplaceAll(back, mark, was)
			found = append(found, i)
		}
	}
	if back != p.text {
		return chart.Place{}
	}
	for _, i := range slices.Backward(found) {
		if p.holder != nil && !slices.Contains(p.candidates, i) {
			continue
		}
		keys, value := all[i].keys, all[i].value
		if p.holder != nil {
			keys, value = p.holder, nil
		}
		if place := t.files.place(keys, value); place.Line > 0 {
			return place
		}
	}
	return chart.Place{}
}

// oneByOne changes single leaves for what is not known yet, as far as the bound allows.
func (t *tracer) oneByOne(fields []asked, probes [][]probe, all []leaf, out []chart.Origin) {
	renders := map[int]*rendering{}
	for i, f := range fields {
		for _, p := range probes[i] {
			for _, c := range p.candidates {
				if out[i].Values.Line > 0 || t.files.place(all[c].keys, all[c].value).Line == 0 {
					continue
				}
				r, done := renders[c]
				if !done {
					if t.probes++; t.probes > maxProbes {
						return
					}
					r = t.change(all, map[int]bool{c: true})
					renders[c] = r
				}
				if isBool(all[c].value) {
					out[i].Values = t.flipped(f, p, all[c], r)
				} else {
					out[i].Values = t.verified(f, p, all, r, map[int]bool{c: true})
				}
			}
		}
	}
}

// flipped says whether a rendered true or false followed a leaf.
func (t *tracer) flipped(f asked, p probe, l leaf, r *rendering) chart.Place {
	v, ok := at(r.object(t, f), p.keys)
	text, isScalar := scalarText(v)
	if !ok || !isScalar || p.text != fmt.Sprint(l.value) || text != fmt.Sprint(other(l.value, 0)) {
		return chart.Place{}
	}
	if p.holder != nil {
		return t.files.place(p.holder, nil)
	}
	return t.files.place(l.keys, l.value)
}

// missing looks for what would make a field appear: an empty map of the values that is rendered where the
// field would be, or a switch that is off.
func (t *tracer) missing(fields []asked, all []leaf, out []chart.Origin) {
	gone := func(i int) bool {
		if out[i].Values.Line > 0 || fields[i].doc < 0 {
			return false
		}
		_, there := at(t.plain.docs[fields[i].Source][fields[i].doc][fields[i].item], fields[i].Keys)
		return !there
	}
	filled := t.fill(fields, all, gone)
	for i, f := range fields {
		if gone(i) && filled != nil {
			out[i].Values = t.filledAt(filled.object(t, f), f, all)
		}
	}
	for c, l := range all {
		if l.value != false || t.files.place(l.keys, l.value).Line == 0 || !slices.ContainsFunc(indexes(fields), gone) {
			continue
		}
		if t.probes++; t.probes > maxProbes {
			return
		}
		r := t.change(all, map[int]bool{c: true})
		for i, f := range fields {
			if _, appears := at(r.object(t, f), f.Keys); appears && gone(i) {
				out[i].Values = t.files.place(l.keys, l.value)
			}
		}
	}
}

func indexes(fields []asked) []int {
	out := make([]int, len(fields))
	for i := range out {
		out[i] = i
	}
	return out
}

// fill renders with a mark in each empty map of the values, when a field is missing.
func (t *tracer) fill(fields []asked, all []leaf, gone func(int) bool) *rendering {
	if !slices.ContainsFunc(indexes(fields), gone) {
		return nil
	}
	return t.with(func(_ *helm.Chart, values map[string]any) {
		for i, l := range all {
			if m, ok := l.value.(map[string]any); ok && len(m) == 0 {
				set(values, l.keys, map[string]any{marker(i): "x"})
			}
		}
	})
}

// filledAt finds the mark in the field or in the maps on the way to it, the deepest first, and none above
// what is there without the mark: a map of the whole pod says nothing of a field of a container.
func (t *tracer) filledAt(o map[string]any, f asked, all []leaf) chart.Place {
	there := 0
	for n := range f.Keys {
		if _, ok := at(t.plain.docs[f.Source][f.doc][f.item], f.Keys[:n]); ok {
			there = n
		}
	}
	for n := len(f.Keys); n >= max(there, 1) && o != nil; n-- {
		v, _ := at(o, f.Keys[:n])
		m, _ := v.(map[string]any)
		for k := range m {
			if mark := markExpr.FindStringSubmatch(k); mark != nil && mark[0] == k {
				if i, err := strconv.Atoi(mark[1]); err == nil && i < len(all) {
					return t.files.place(all[i].keys, nil)
				}
			}
		}
	}
	return chart.Place{}
}

func isBool(v any) bool {
	_, ok := v.(bool)
	return ok
}

// scalarText is a value as templates print it.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatInt(int64(v), 10), true
		}
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case int:
		return strconv.Itoa(v), true
	}
	return "", false
}

// normal makes values of different decoders comparable.
func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = normal(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normal(e)
		}
		return out
	}
	if text, ok := scalarText(v); ok {
		return text
	}
	return v
}
