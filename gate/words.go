package gate

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"github.com/slipway-cd/slipway"
)

// wordsOf are the words that a field of a type may hold besides nothing, and nil for a type of any text. A rule that
// compares such a field with anything else always says the same, whatever the evidence.
func wordsOf(g reflect.Type) []string {
	switch g {
	case reflect.TypeFor[slipway.Severity]():
		return words(slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNegligible,
			slipway.SeverityUnknown, slipway.SeverityNone)
	case reflect.TypeFor[slipway.FindingKind]():
		return words(slipway.FindingVulnerability, slipway.FindingSecret)
	case reflect.TypeFor[slipway.TestState]():
		return words(slipway.TestPassed, slipway.TestFailed, slipway.TestSkipped)
	case reflect.TypeFor[slipway.EventKind]():
		return words(slipway.BranchPush, slipway.PullUpdate, slipway.DefaultPush, slipway.ReleasePush, slipway.RollbackCall)
	case reflect.TypeFor[slipway.DeploymentState]():
		return words(slipway.Deploying, slipway.Deployed, slipway.Verified, slipway.Unhealthy, slipway.RolledBack, slipway.Replaced, slipway.DeployFailed)
	case reflect.TypeFor[slipway.ArtifactKind]():
		return words(slipway.ArtifactImage, slipway.ArtifactChart, slipway.ArtifactProvenance, slipway.ArtifactReport, slipway.ArtifactSBOM, slipway.ArtifactSignature)
	case reflect.TypeFor[slipway.StepKind]():
		return words(slipway.KindTest, slipway.KindScan, slipway.KindChart, slipway.KindGate)
	}
	return nil
}

func words[T ~string](all ...T) (out []string) {
	for _, w := range all {
		out = append(out, string(w))
	}
	return out
}

// madeAt are the parts of the evidence that only some steps have, and which.
func madeAt() map[string][]slipway.StepKind {
	return map[string][]slipway.StepKind{
		"tests":        {slipway.KindTest, slipway.KindGate},
		"baseCoverage": {slipway.KindTest, slipway.KindGate},
		"scan":         {slipway.KindScan, slipway.KindGate},
		"previousScan": {slipway.KindScan, slipway.KindGate},
		"manifests":    {slipway.KindChart, slipway.KindGate},
	}
}

// meant finds what is sound for CEL and cannot be what somebody meant: a word that a field never holds, an order of
// words, a time zone that there is not, and at the rule's own step a part of the evidence that another step makes. It
// is nil when there is nothing of that. Whether there are environments, services and policies of the names that fields are compared
// with is not known here: they are returned.
func (b rulebook) meant(ast *cel.Ast, stage slipway.StepKind) ([]Named, *RuleError) {
	c := &meaning{book: b, ast: ast.NativeRep(), asked: map[string]bool{}}
	root := celast.NavigateAST(c.ast)
	selects := celast.MatchDescendants(root, celast.KindMatcher(celast.SelectKind))
	for _, s := range selects {
		if c.ofEvidence(s) && s.AsSelect().IsTestOnly() {
			c.asked[s.AsSelect().FieldName()] = true
		}
	}
	for _, s := range selects {
		if err := c.there(s, stage); err != nil {
			return nil, err
		}
	}
	for _, call := range celast.MatchDescendants(root, celast.KindMatcher(celast.CallKind)) {
		if err := c.call(call.AsCall()); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(c.names, func(a, b Named) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	return c.names, nil
}

type meaning struct {
	book  rulebook
	ast   *celast.AST
	asked map[string]bool // fields of the evidence of which the rule asks has
	names []Named
}

func (c *meaning) at(e celast.Expr, format string, args ...any) *RuleError {
	place := c.ast.SourceInfo().GetStartLocation(e.ID())
	return &RuleError{Line: max(place.Line(), 1), Column: max(place.Column(), 0) + 1, Message: fmt.Sprintf(format, args...)}
}

func (c *meaning) ofEvidence(e celast.Expr) bool {
	of := e.AsSelect().Operand()
	return of.Kind() == celast.IdentKind && of.AsIdent() == variable
}

// there refuses to read without asking what the rule's step never has: such a rule fails each time.
func (c *meaning) there(e celast.Expr, stage slipway.StepKind) *RuleError {
	name := e.AsSelect().FieldName()
	steps, some := madeAt()[name]
	if !some || stage == "" || !c.ofEvidence(e) || c.asked[name] || slices.Contains(steps, stage) {
		return nil
	}
	return c.at(e, "the step %s has no evidence.%s: give the rule the stage %s, or ask has(evidence.%s) first", stage, name, strings.Join(words(steps...), " or "), name)
}

func (c *meaning) call(call celast.CallExpr) *RuleError {
	args := call.Args()
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals:
		if err := c.word(args[0], args[1]); err != nil {
			return err
		}
		return c.word(args[1], args[0])
	case operators.In:
		if args[1].Kind() != celast.ListKind {
			return nil
		}
		for _, e := range args[1].AsList().Elements() {
			if err := c.word(args[0], e); err != nil {
				return err
			}
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		for _, e := range args {
			if field, known := c.field(e); known != nil {
				return c.at(e, "%s is a word, and words have no order: name those that you mean, as in %s in [%q, %q]", field, field, known[0], known[1])
			}
		}
	}
	return c.zone(call)
}

// field is the field of the evidence that an expression reads, when it holds one of some words.
func (c *meaning) field(e celast.Expr) (string, []string) {
	if e.Kind() != celast.SelectKind || e.AsSelect().IsTestOnly() {
		return "", nil
	}
	s := e.AsSelect()
	of := c.ast.GetType(s.Operand().ID())
	if t := c.book.table.byName[of.TypeName()]; t != nil {
		return s.FieldName(), t.words[s.FieldName()]
	}
	return "", nil
}

// word refuses to compare a field with a text that it never holds, and notes the names of what only the configuration
// knows.
func (c *meaning) word(read, with celast.Expr) *RuleError {
	if with.Kind() != celast.LiteralKind {
		return nil
	}
	literal, ok := with.AsLiteral().(types.String)
	if text := string(literal); ok && text != "" {
		field, known := c.field(read)
		switch {
		case known != nil && !slices.Contains(known, text):
			return c.at(with, "%s is never %q: it is %s or %s%s", field, line(text, 60), strings.Join(known[:len(known)-1], ", "), known[len(known)-1], meantWord(text, known))
		case c.named(read):
			place := c.ast.SourceInfo().GetStartLocation(with.ID())
			c.names = append(c.names, Named{What: field, Name: text, Line: max(place.Line(), 1), Column: max(place.Column(), 0) + 1})
		}
	}
	return nil
}

// named reports whether a field holds the name of an environment, a service or a policy.
func (c *meaning) named(e celast.Expr) bool {
	if e.Kind() != celast.SelectKind || e.AsSelect().IsTestOnly() {
		return false
	}
	switch c.ast.GetType(e.AsSelect().Operand().ID()).TypeName() + "." + e.AsSelect().FieldName() {
	case "Evidence.environment", "Evidence.service", "Target.environment", "Target.service", "ManifestReport.environment", "ManifestProblem.policy":
		return true
	}
	return false
}

// meantWord asks for the word that a text is like; "" for none.
func meantWord(text string, known []string) string {
	best, least := "", min(3, len(text)/2+1)
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(text), k, nil); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// zone refuses a time zone that is written out and that there is not.
func (c *meaning) zone(call celast.CallExpr) *RuleError {
	if !call.IsMemberFunction() || len(call.Args()) != 1 || call.Args()[0].Kind() != celast.LiteralKind || !c.ast.GetType(call.Target().ID()).IsExactType(types.TimestampType) {
		return nil
	}
	name, ok := call.Args()[0].AsLiteral().(types.String)
	if !ok || strings.Contains(string(name), ":") { // hours and minutes
		return nil
	}
	if _, err := time.LoadLocation(string(name)); err != nil {
		return c.at(call.Args()[0], "there is no time zone %q: one is called Europe/Berlin, UTC or +02:00", line(string(name), 60))
	}
	return nil
}
