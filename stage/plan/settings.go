package plan

import (
	"maps"
	"reflect"
	"slices"

	"github.com/slipway-cd/slipway"
)

// settings are the keys of a service whose values changed, as far as they make something else of the
// same files.
type settings struct {
	code  []string // of the image and its tests
	chart []string // of the chart and where it goes, and of nothing else
}

// changedSettings compares what two configurations say of one service. What holds from the next
// deployment on (dependsOn, trigger, rollback, verify) is not among it.
func changedSettings(old, now slipway.Service) (out settings) {
	note := func(to *[]string, key string, differs bool) {
		if differs {
			*to = append(*to, key)
		}
	}
	oldContext, _ := old.BuildContext()
	nowContext, _ := now.BuildContext()
	note(&out.code, "path", clean(old.Dir) != clean(now.Dir))
	note(&out.code, "context", clean(oldContext) != clean(nowContext) && old.Context != now.Context)
	note(&out.code, "dockerfile", old.Dockerfile != now.Dockerfile)
	note(&out.code, "target", old.Target != now.Target)
	note(&out.code, "args", !maps.Equal(old.Args, now.Args))
	note(&out.code, "pins", !maps.Equal(old.Pins, now.Pins))
	note(&out.code, "test", !reflect.DeepEqual(old.Test, now.Test))
	note(&out.chart, "chart", old.Chart != now.Chart)
	note(&out.chart, "port", now.Chart == "" && old.Port != now.Port)
	return out
}

// changedEnvironments names the environments that take what is merged and that are new, elsewhere or
// with other values. What is deployed there is to be deployed anew.
func changedEnvironments(old, now slipway.Config) (out []string) {
	for _, e := range now.Environments {
		if e.Trigger != slipway.OnDefaultBranch {
			continue
		}
		was, ok := old.Environment(e.Name)
		if !ok || was.Trigger != e.Trigger || was.Cluster != e.Cluster || was.Namespace != e.Namespace || was.Production != e.Production || !slices.Equal(was.Values, e.Values) {
			out = append(out, e.Name)
		}
	}
	return out
}
