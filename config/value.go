package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// get is the value under a key, absent when the file does not have it. A key that the shape does not
// list is a mistake of this package.
func (v value) get(name string) value {
	if v.shape != nil {
		if _, ok := v.shape.key(name); !ok {
			panic("config: the shape has no key " + name)
		}
	}
	for i, k := range v.keys {
		if k.Value == name {
			return v.items[i]
		}
	}
	return value{}
}

// present reports whether the file has the value, with something in it.
func (v value) present() bool { return v.node != nil && v.node.ShortTag() != "!!null" }

// isFalse reports whether false stands where an object might.
func (v value) isFalse() bool {
	if v.node == nil {
		return false
	}
	b, ok := boolOf(v.node)
	return ok && !b
}

func (v value) text(fallback string) string {
	if v.node == nil {
		return fallback
	}
	return v.node.Value
}

func (v value) integer(fallback int) int {
	if v.node == nil {
		return fallback
	}
	f, _ := floatOf(v.node) // its shape was checked
	return int(f)
}

func (v value) number(fallback float64) float64 {
	if v.node == nil {
		return fallback
	}
	f, _ := floatOf(v.node) // its shape was checked
	return f
}

func (v value) boolean(fallback bool) bool {
	if v.node == nil {
		return fallback
	}
	b, _ := boolOf(v.node) // its shape was checked
	return b
}

func (v value) texts() []string {
	var out []string
	for _, i := range v.items {
		out = append(out, i.text(""))
	}
	return out
}

func (v value) integers() []int {
	var out []int
	for _, i := range v.items {
		out = append(out, i.integer(0))
	}
	return out
}

func (v value) table() map[string]string {
	if len(v.items) == 0 {
		return nil
	}
	out := map[string]string{}
	for i, k := range v.keys {
		out[k.Value] = v.items[i].text("")
	}
	return out
}

// maxDuration bounds every timeout.
const maxDuration = 24 * time.Hour

func (v value) duration(fallback time.Duration, problems *Problems) time.Duration {
	if v.node == nil {
		return fallback
	}
	d, err := time.ParseDuration(v.node.Value)
	if err != nil || d <= 0 || d > maxDuration {
		problems.add(v.problem("expected more than 0 and at most 24h", "the duration %s is out of range", v.node.Value))
		return fallback
	}
	return d
}

// maxAge bounds every age.
const maxAge = 10 * 365 * 24 * time.Hour

// age is a duration that may be given in days.
func (v value) age(fallback time.Duration, problems *Problems) time.Duration {
	if v.node == nil {
		return fallback
	}
	text := v.node.Value
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > int(maxAge/(24*time.Hour)) {
			n = 0
		}
		text = strconv.Itoa(24*n) + "h"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxAge {
		problems.add(v.problem("expected more than 0 and at most 3650d", "the age %s is out of range", v.node.Value))
		return fallback
	}
	return d
}

// place is where the value stands: file:line.
func (v value) place() string {
	if v.node == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", v.file, v.node.Line)
}

// problem is one about the value's meaning, at its place.
func (v value) problem(hint, format string, args ...any) Problem {
	p := Problem{File: v.file, Path: v.path, Message: fmt.Sprintf(format, args...), Hint: hint}
	if v.node != nil {
		p.Line, p.Column = v.node.Line, v.node.Column
	}
	return p
}
