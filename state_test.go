package slipway_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// The whole table, state by state: a move that is added or lost shows here.
func TestStepMoves(t *testing.T) {
	t.Parallel()
	// One row per state a step may leave; the columns are StepStates in their order.
	//                     bl re ru rt wa su fa er sk ca
	want := map[slipway.StepState]string{
		slipway.StepBlocked:   " . X . . . . . . X X",
		slipway.StepReady:     " . . X X . . . . . X",
		slipway.StepRunning:   " . X . X X X X X X X",
		slipway.StepRetrying:  " . X X . . . . X . X",
		slipway.StepWaiting:   " . X . . . X X . . X",
		slipway.StepSucceeded: " X . . . . . . . . .",
		slipway.StepFailed:    " X X . . . . . . . .",
		slipway.StepErrored:   " X X . . . . . . . .",
		slipway.StepSkipped:   " X X . . . . . . . .",
		slipway.StepCancelled: " X X . . . . . . . .",
	}
	for _, from := range slipway.StepStates() {
		got := ""
		for _, to := range slipway.StepStates() {
			if slipway.MayMove(from, to) {
				got += " X"
			} else {
				got += " ."
			}
		}
		if got != want[from] {
			t.Errorf("from %s:\ngot  %s\nwant %s", from, got, want[from])
		}
	}
	if slipway.MayMove("nonsense", slipway.StepReady) || slipway.MayMove(slipway.StepReady, "nonsense") {
		t.Error("a state that does not exist may move")
	}
}

// A step that is not final can come to an end, each state can be reached, and a final one is left
// only backwards, by a retry.
func TestStepMovesLeadSomewhere(t *testing.T) {
	t.Parallel()
	states, moves := slipway.StepStates(), slipway.StepMoves()
	if len(moves) != len(states) {
		t.Errorf("%d states and %d rows", len(states), len(moves))
	}
	reached := map[slipway.StepState]bool{}
	var walk func(slipway.StepState)
	walk = func(s slipway.StepState) {
		if !reached[s] {
			reached[s] = true
			for _, to := range moves[s] {
				walk(to)
			}
		}
	}
	walk(slipway.StepBlocked)
	for _, s := range states {
		if !reached[s] {
			t.Errorf("%s is never reached from %s", s, slipway.StepBlocked)
		}
		ends := slices.ContainsFunc(moves[s], slipway.StepState.Final)
		if !s.Final() && !ends {
			t.Errorf("%s cannot end", s)
		}
		for _, to := range moves[s] {
			if s.Final() && to != slipway.StepReady && to != slipway.StepBlocked {
				t.Errorf("%s is final and may become %s", s, to)
			}
			if to == s {
				t.Errorf("%s may become itself", s)
			}
		}
		if s.Final() != (s == slipway.StepSucceeded || s == slipway.StepFailed || s == slipway.StepErrored || s == slipway.StepSkipped || s == slipway.StepCancelled) {
			t.Errorf("%s: final is %v", s, s.Final())
		}
	}
}

func TestRunStates(t *testing.T) {
	t.Parallel()
	final := map[slipway.RunState]bool{slipway.RunSucceeded: true, slipway.RunFailed: true, slipway.RunErrored: true, slipway.RunCancelled: true}
	seen := map[slipway.RunState]bool{}
	for _, s := range slipway.RunStates() {
		if s.Final() != final[s] {
			t.Errorf("%s: final is %v", s, s.Final())
		}
		seen[s] = true
	}
	for s := range final {
		if !seen[s] {
			t.Errorf("%s is not listed", s)
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d states are listed, want 7", len(seen))
	}
}

// The order of delivery names every kind of step once, and a plan step has a field for each but plan.
func TestOrderIsComplete(t *testing.T) {
	t.Parallel()
	kinds := []slipway.StepKind{slipway.KindPlan, slipway.KindBuild, slipway.KindTest, slipway.KindScan, slipway.KindChart, slipway.KindPublish,
		slipway.KindAttest, slipway.KindGate, slipway.KindDeploy, slipway.KindVerify, slipway.KindApprove, slipway.KindRetag, slipway.KindRollback}
	order := stage.Order()
	if len(order) != len(kinds) {
		t.Errorf("%d kinds in the order of delivery, want %d", len(order), len(kinds))
	}
	for _, k := range kinds {
		if n := len(slices.DeleteFunc(slices.Clone(order), func(o slipway.StepKind) bool { return o != k })); n != 1 {
			t.Errorf("%s is in the order of delivery %d times", k, n)
		}
		field := strings.ToUpper(string(k[:1])) + string(k[1:])
		if _, ok := reflect.TypeFor[slipway.PlanStep]().FieldByName(field); !ok && k != slipway.KindPlan {
			t.Errorf("a step of the plan has no field %s", field)
		}
	}
}
