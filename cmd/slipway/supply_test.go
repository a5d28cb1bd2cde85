package main

import (
	"testing"
	"time"
)

// What cannot be scanned is not tried again every few seconds, and what came into production after the scan of its run is
// looked at within the hour although the database is the same.
func TestWhenProductionIsScannedAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var r rescans
	if !r.wanted("a", now) {
		t.Error("not at the start")
	}
	r.done("a", now, true)
	if r.wanted("a", now.Add(lookEvery)) || !r.wanted("a", now.Add(rescanAgain)) {
		t.Error("after the first failure")
	}
	for range 20 {
		now = now.Add(rescanEvery)
		r.done("a", now, true)
	}
	if r.wanted("a", now.Add(rescanEvery-time.Second)) || !r.wanted("a", now.Add(rescanEvery)) {
		t.Error("after many failures")
	}
	if !r.wanted("b", now) {
		t.Error("another database waits for the pause of the one before")
	}
	r.done("b", now, false)
	if r.wanted("b", now.Add(rescanEvery-time.Second)) || !r.wanted("b", now.Add(rescanEvery)) {
		t.Error("after success")
	}
	r.done("b", now, true)
	if !r.wanted("b", now.Add(rescanAgain)) {
		t.Error("the pause is not forgotten by a success")
	}
}
