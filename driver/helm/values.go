package helm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// load reads the package and merges the values over the chart's own (D17). Helm changes both while
// it works with them, so that each use loads anew.
func load(req deploy.Request) (*chart.Chart, map[string]any, error) {
	ch, err := loader.LoadArchive(bytes.NewReader(req.Package))
	if err != nil {
		return nil, nil, slipway.Errorf(slipway.Invalid, "the chart package does not load: %w", err)
	}
	if ch.Metadata.Type == "library" {
		return nil, nil, slipway.Errorf(slipway.Invalid, "chart %s is a library: it cannot be deployed", ch.Name())
	}
	vals := map[string]any{}
	for _, f := range req.ValuesFiles {
		data, ok := packaged(ch, f.Name)
		if !ok && f.Optional {
			continue
		}
		if !ok {
			return nil, nil, slipway.Errorf(slipway.Invalid, "chart %s has no values file %s: it must lie in the chart folder", ch.Name(), f.Name)
		}
		more, err := loader.LoadValues(bytes.NewReader(data))
		if err != nil {
			return nil, nil, slipway.Errorf(slipway.Invalid, "values file %s of chart %s: %w", f.Name, ch.Name(), err)
		}
		vals = loader.MergeMaps(vals, more)
	}
	return ch, loader.MergeMaps(vals, req.Literals), nil
}

func packaged(ch *chart.Chart, name string) ([]byte, bool) {
	for _, set := range [][]*common.File{ch.Raw, ch.Files} {
		for _, f := range set {
			if f.Name == name {
				return f.Data, true
			}
		}
	}
	return nil, false
}

// Inspect reads the chart and merges its values without a cluster.
func (c *Client) Inspect(req deploy.Request) (deploy.Inspection, error) {
	ch, vals, err := load(req)
	if err != nil {
		return deploy.Inspection{}, err
	}
	all, err := util.CoalesceValues(ch, vals)
	if err != nil {
		return deploy.Inspection{}, slipway.Errorf(slipway.Invalid, "merge the values of chart %s: %w", ch.Name(), err)
	}
	digest, err := valuesDigest(all)
	if err != nil {
		return deploy.Inspection{}, slipway.Errorf(slipway.Invalid, "the values of chart %s: %w", ch.Name(), err)
	}
	return deploy.Inspection{ChartName: ch.Name(), ChartVersion: ch.Metadata.Version, ValuesDigest: digest}, nil
}

// valuesDigest is the sha256 of the values as JSON with sorted keys, without the reason.
func valuesDigest(vals map[string]any) (string, error) {
	vals = maps.Clone(vals)
	delete(vals, "reason")
	b, err := json.Marshal(vals)
	if err != nil {
		return "", fmt.Errorf("write as JSON: %w", err)
	}
	return slipway.DigestOf(b), nil
}
