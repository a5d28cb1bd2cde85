package chart

import (
	"errors"
	"strings"
	"text/template"
)

// maxItems bounds what one call of a template function may make.
const maxItems = 1_000_000

var errTooMany = errors.New("makes more than a million")

// Funcs are the template functions that are other than Helm's, wherever Slipway renders a chart: when
// it is checked, when a diff is shown for approval, and when it is deployed. lookup finds nothing, so
// that what was checked is what is applied, and a chart reads nothing of the cluster; functions with
// which a short template takes all memory at once are bounded.
func Funcs() template.FuncMap {
	steps := func(start, stop, step int) ([]int, error) {
		if step == 0 || (stop-start)/step < 0 {
			return nil, nil
		}
		if (stop-start)/step > maxItems {
			return nil, errTooMany
		}
		var out []int
		for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
			out = append(out, i)
		}
		return out, nil
	}
	return template.FuncMap{
		"lookup":    func(string, string, string, string) (map[string]any, error) { return map[string]any{}, nil },
		"untilStep": steps,
		"until": func(n int) ([]int, error) {
			if n < 0 {
				return steps(0, n, -1)
			}
			return steps(0, n, 1)
		},
		"repeat": func(n int, s string) (string, error) {
			if n < 0 || len(s) > 0 && n > 64*maxItems/len(s) {
				return "", errTooMany
			}
			return strings.Repeat(s, n), nil
		},
	}
}
