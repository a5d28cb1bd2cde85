package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/survey"
)

func TestMissingOfManyServices(t *testing.T) {
	t.Parallel()
	var services []survey.Service
	for i := range 500 {
		services = append(services, survey.Service{Name: fmt.Sprintf("s%d", i), Missing: []string{"no tests run: add a stage"}})
	}
	few, many := lacks(services[:11]), lacks(services)
	if len(few) != 1 || few[0].what != "no tests run" || few[0].do != "add a stage" {
		t.Fatalf("eleven: %+v", few)
	}
	if got := slipway.InShort(few[0].services, 10); !strings.HasSuffix(got, ", s9, s10") {
		t.Errorf("eleven: %s", got)
	}
	if got := slipway.InShort(many[0].services, 10); got != "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 490 more" {
		t.Errorf("five hundred: %s", got)
	}
}
