package test

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// MaxServices is how many services may run beside the tests of one service.
const MaxServices = 10

// hostName is a label of a host name, with room for what tells two runs apart.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// CheckServices says what is wrong with services as they are declared: an Invalid error for whoever wrote
// them, nil when nothing is.
func CheckServices(services []slipway.TestService) error {
	if len(services) > MaxServices {
		return slipway.Errorf(slipway.Invalid, "tests have %d services: at most %d may run beside them", len(services), MaxServices)
	}
	names := map[string]bool{}
	for _, s := range services {
		switch {
		case !hostName.MatchString(s.Name):
			return slipway.Errorf(slipway.Invalid, "service %q of the tests: a name is a host name: at most 40 of a-z, 0-9 and - between them", s.Name)
		case s.Name == "localhost":
			return slipway.Errorf(slipway.Invalid, "service %s of the tests: the name is that of the test container itself; choose another", s.Name)
		case names[s.Name]:
			return slipway.Errorf(slipway.Invalid, "service %s of the tests is declared twice", s.Name)
		case s.Image == "":
			return slipway.Errorf(slipway.Invalid, "service %s of the tests has no image", s.Name)
		case s.Timeout < 0:
			return slipway.Errorf(slipway.Invalid, "service %s of the tests: its timeout is negative", s.Name)
		}
		names[s.Name] = true
		for _, port := range s.Ports {
			if port < 1 || port > 65535 {
				return slipway.Errorf(slipway.Invalid, "service %s of the tests: %d is not a port", s.Name, port)
			}
		}
		for name := range s.Env {
			if name == "" || strings.ContainsAny(name, "=\x00") {
				return slipway.Errorf(slipway.Invalid, "service %s of the tests: %q is not the name of a variable", s.Name, name)
			}
		}
		if strings.Contains(strings.Join(texts(s), ""), "\x00") {
			return slipway.Errorf(slipway.Invalid, "service %s of the tests: its command or a variable holds a NUL", s.Name)
		}
	}
	return nil
}

// texts is what a service hands to the kernel.
func texts(s slipway.TestService) []string {
	return slices.Concat(s.Command, s.Health, slices.Collect(maps.Values(s.Env)))
}
