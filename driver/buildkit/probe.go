package buildkit

import "context"

// Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // nothing is built without it
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do when it is not OK
}

func probe(ctx context.Context, ln *link, opts Options) []Finding { return nil }
