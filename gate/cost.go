package gate

import (
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
)

// sizes say how long the lists and texts of a large project's evidence are, to tell what a rule would cost.
// A project may well have more: then the rule is stopped when it is judged.
type sizes struct{}

func listSize(field string) uint64 {
	switch field {
	case "findings":
		return 5000
	case "suites":
		return 200
	case "cases":
		return 500 // of each suite
	case "manifests":
		return 10 // environments
	case "problems":
		return 200
	}
	return 100
}

func textSize(field string) uint64 {
	switch field {
	case "yaml":
		return 5000
	case "output", "message":
		return 2000
	}
	return 200
}

// EstimateSize is the size of a list or text by the name of the field that holds it.
func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	field := ""
	if path := element.Path(); len(path) > 0 {
		field = path[len(path)-1]
	}
	switch element.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &checker.SizeEstimate{Max: listSize(field)}
	case types.StringKind, types.BytesKind:
		return &checker.SizeEstimate{Max: textSize(field)}
	}
	return nil
}

// EstimateCallCost leaves functions to what CEL itself knows of them.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
