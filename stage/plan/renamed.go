package plan

import (
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// formerly is the service that is gone with whose Dockerfile a new one is built, word for word: that is what the new one was
// until its folder got another name. It is not known where several are gone or new with the same one, and what is built from
// the same place as before is told by its place.
func (q Question) formerly(s slipway.Service) (was slipway.Service, ok bool) {
	if s.DockerfileSum == "" || len(q.Since) == 0 || q.Since[0].Config == nil {
		return was, false
	}
	same := func(o slipway.Service) bool { return o.DockerfileSum == s.DockerfileSum && o.Target == s.Target }
	if !slices.ContainsFunc(q.gone, same) { // of most: what follows looks at all services
		return was, false
	}
	before := names(*q.Since[0].Config)
	if slices.ContainsFunc(q.Since[0].Config.Services, func(o slipway.Service) bool { return samePlace(o, s) }) {
		return was, false
	}
	for _, o := range q.Config.Services {
		if o.Name != s.Name && !before[o.Name] && same(o) {
			return was, false
		}
	}
	for _, o := range q.gone {
		if !same(o) || clean(o.Dir) == clean(s.Dir) || slices.ContainsFunc(q.Config.Services, func(now slipway.Service) bool { return samePlace(now, o) }) {
			continue
		}
		if ok {
			return slipway.Service{}, false
		}
		was, ok = o, true
	}
	return was, ok && !before[s.Name]
}

// samePlace reports whether two services, of one commit or of two, are built from the same place.
func samePlace(a, b slipway.Service) bool {
	return clean(a.Dir) == clean(b.Dir) && a.Dockerfile == b.Dockerfile && a.Target == b.Target
}

// appeared is the reason for a service that was not there before.
func (q Question) appeared(s slipway.Service, before slipway.Config) string {
	for _, o := range before.Services {
		if samePlace(o, s) {
			return fmt.Sprintf("it is new: what is built from %s was %s before", folderName(s.Dir), o.Name)
		}
	}
	if was, ok := q.formerly(s); ok {
		return fmt.Sprintf("it is what %s was until this change: it has the Dockerfile that was in %s", was.Name, folderName(was.Dir))
	}
	return fmt.Sprintf("it is new: there was no service %s before", s.Name)
}
