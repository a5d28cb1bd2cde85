package promote

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/slipway-cd/slipway"
)

// AsPlanned reports whether the steps of a service that lead it through the environments are those that would be planned
// of the same version now, by the input: the same environments, approvals, registries, limits and ways back. in.Run is
// the run that they were planned for, and was has them in the order of the plan. A version that may not be deployed any
// more is not as planned. What comes before which other service is not compared.
func AsPlanned(in Input, service slipway.Service, was []slipway.PlanStep) bool {
	var way []slipway.PlanStep
	c := Candidate{Service: service}
	for _, s := range was {
		switch {
		case s.Environment != "":
			s.Needs = nil
			way = append(way, s)
		case s.Scan != nil && !slices.Equal(s.Scan.Reports, service.Scan.Reports):
			return false
		}
		if s.Deploy != nil {
			c.Version, c.Tag, c.Commit = s.Deploy.Version, s.Deploy.Tag, s.Deploy.Commit
		}
		if s.Retag != nil {
			c.ChartVersion = s.Retag.ChartVersion
		}
	}
	now, stopped, err := chain(in, c, in.environments())
	if err != nil || stopped != "" || len(now) != len(way) || len(way) == 0 {
		return false
	}
	for i := range now {
		now[i].Needs = nil
		a, errA := json.Marshal(now[i])
		b, errB := json.Marshal(way[i])
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}
