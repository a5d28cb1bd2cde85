package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/slipway-cd/slipway/driver/kubeschema"
)

var (
	groupExpr  = regexp.MustCompile(`(?m)^\s*(?:const )?GroupName\s*=\s*"([^"]*)"`)
	markerExpr = regexp.MustCompile(`(?s)func \(in \*(\w+)\) APILifecycle(\w+)\(\) [^{]*\{\s*return ([^\n]*)\n`)
	pairExpr   = regexp.MustCompile(`^(\d+), (\d+)$`)
	gvkExpr    = regexp.MustCompile(`Group: "([^"]*)", Version: "([^"]*)", Kind: "([^"]*)"`)
)

// lifecycles writes the markers of all kinds, by apiVersion and kind. Where no marker says what to use
// instead, it is the stable version of the same kind, if kinds has one.
func lifecycles(versions []string, kinds []kubeschema.Kind, out string) error {
	all := map[string]kubeschema.Markers{}
	for _, v := range versions {
		dir, err := download("k8s.io/api", v)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(dir, "*/*/zz_generated.prerelease-lifecycle.go"))
		if err != nil {
			return err
		}
		if len(files) < 10 {
			return fmt.Errorf("k8s.io/api %s has only %d files of markers: their form has changed", v, len(files))
		}
		for _, f := range files {
			if err := markers(f, all); err != nil {
				return err
			}
		}
	}
	for k, m := range all {
		if strings.HasSuffix(k, "List") || m == (kubeschema.Markers{}) {
			delete(all, k)
		}
	}
	for _, k := range kinds {
		if strings.Contains(k.Version, "alpha") || strings.Contains(k.Version, "beta") {
			continue
		}
		for said, m := range all {
			if m.Removed != "" && m.Replacement == "" && strings.HasPrefix(said, k.Group+"/") && strings.HasSuffix(said, " "+k.Kind) {
				m.Replacement = strings.TrimPrefix(k.Group+"/"+k.Version, "/") + " " + k.Kind
				all[said] = m
			}
		}
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	log.Printf("lifecycles of %d kinds", len(all))
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

// markers adds those of one group and version.
func markers(file string, all map[string]kubeschema.Markers) error {
	code, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	register, err := os.ReadFile(filepath.Join(filepath.Dir(file), "register.go"))
	if err != nil {
		return err
	}
	m := groupExpr.FindSubmatch(register)
	if m == nil {
		return fmt.Errorf("%s: no GroupName beside it", file)
	}
	apiVersion := strings.TrimPrefix(string(m[1])+"/"+filepath.Base(filepath.Dir(file)), "/")
	found := map[string]kubeschema.Markers{}
	for _, m := range markerExpr.FindAllStringSubmatch(string(code), -1) {
		life := found[m[1]]
		pair := pairExpr.FindStringSubmatch(m[3])
		to := gvkExpr.FindStringSubmatch(m[3])
		switch {
		case m[2] == "Introduced" && pair != nil:
			life.Introduced = pair[1] + "." + pair[2]
		case m[2] == "Deprecated" && pair != nil:
			life.Deprecated = pair[1] + "." + pair[2]
		case m[2] == "Removed" && pair != nil:
			life.Removed = pair[1] + "." + pair[2]
		case m[2] == "Replacement" && to != nil:
			life.Replacement = strings.TrimPrefix(to[1]+"/"+to[2], "/") + " " + to[3]
		default:
			return fmt.Errorf("%s: %s of %s returns %s", file, m[2], m[1], m[3])
		}
		found[m[1]] = life
	}
	for kind, life := range found {
		all[apiVersion+" "+kind] = life
	}
	return nil
}
