package gate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // rules name time zones, also where the machine has none

	"github.com/agext/levenshtein"
	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/interpreter"

	"github.com/slipway-cd/slipway"
)

const (
	// MaxExpression is how many characters the expression of a rule may have.
	MaxExpression = 4096
	// MaxCost is what a rule may cost: about one for each value that is looked at, and one for each ten
	// characters of a text. Compile refuses what would cost more on a large project, and what does when it is
	// judged is stopped.
	MaxCost = 2_000_000

	maxNodes   = 2000
	maxNesting = 60
	maxRegex   = 1000
	ruleTime   = 5 * time.Second
)

// variable is what rules see.
const variable = "evidence"

// Program is a rule that was checked: it reads fields that the evidence has, is true or false, and does not
// cost too much. It is small, never changes and may be used by many at once.
type Program struct {
	program cel.Program
	table   *typeTable
	// Names are the names of things of the project that the rule compares fields with, in the order of the expression.
	Names []Named
	// Cost is the most that it costs on a large project.
	Cost uint64
}

// Named is the name of an environment, a service or a policy of manifests in a rule's expression, and where in it.
type Named struct {
	What, Name   string // environment, service or policy, and its name
	Line, Column int    // from 1
}

// RuleError is what is wrong with a rule's expression, and where in it.
type RuleError struct {
	Line, Column int // from 1; 0 for the expression as a whole
	Message      string
}

// Error is line:column: message.
func (e *RuleError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message)
}

// environment is made once: it takes a while, and never changes.
var environment = sync.OnceValues(func() (rulebook, error) {
	table, err := newTypeTable()
	if err != nil {
		return rulebook{}, fmt.Errorf("types of the evidence: %w", err)
	}
	env, err := cel.NewEnv(
		cel.CustomTypeProvider(table), cel.CustomTypeAdapter(table),
		cel.Variable(variable, cel.ObjectType("Evidence")),
		cel.ParserExpressionSizeLimit(MaxExpression), cel.ParserRecursionLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes), cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(), cel.ValidateHomogeneousAggregateLiterals()),
	)
	return rulebook{env, table}, err
})

type rulebook struct {
	env   *cel.Env
	table *typeTable
}

// Compile checks the expression of a rule: its types, that it compares with what there is and, when the rule has a stage,
// reads what that step has, and what it would cost. The error is a *RuleError unless
// it is Slipway's own.
func Compile(rule slipway.Rule) (*Program, error) {
	book, err := environment()
	if err != nil {
		return nil, fmt.Errorf("environment of rules: %w", err)
	}
	if strings.TrimSpace(rule.Expression) == "" {
		return nil, &RuleError{Message: "the expression is empty"}
	}
	if len(rule.Expression) > 4*MaxExpression {
		return nil, &RuleError{Message: fmt.Sprintf("the expression is longer than %d characters", MaxExpression)}
	}
	ast, issues := book.env.Compile(rule.Expression)
	if issues.Err() != nil {
		return nil, book.first(issues, rule.Expression)
	}
	for _, made := range celast.MatchDescendants(celast.NavigateAST(ast.NativeRep()), celast.KindMatcher(celast.StructKind)) {
		at := ast.NativeRep().SourceInfo().GetStartLocation(made.ID())
		return nil, &RuleError{Line: max(at.Line(), 1), Column: max(at.Column(), 0) + 1, Message: "a rule makes no " + made.AsStruct().TypeName() + ": it reads what evidence holds"}
	}
	if ast.OutputType() != types.BoolType {
		return nil, &RuleError{Line: 1, Column: 1, Message: fmt.Sprintf("the expression gives %s, and a rule must be true or false", ast.OutputType())}
	}
	names, wrong := book.meant(ast, rule.Stage)
	if wrong != nil {
		return nil, wrong
	}
	cost, err := book.env.EstimateCost(ast, sizes{})
	if err != nil {
		return nil, &RuleError{Message: "its cost cannot be told: " + err.Error()}
	}
	if cost.Max > MaxCost {
		return nil, &RuleError{Message: "the expression could cost too much on a large project: go through fewer lists within lists, and through shorter texts"}
	}
	program, err := book.env.Program(ast, cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &RuleError{Message: line(err.Error(), maxMessage)}
	}
	return &Program{program: program, table: book.table, Names: names, Cost: cost.Max}, nil
}

var undefined = regexp.MustCompile(`^undefined field '([^']*)'`)

// first is the first issue, with what was probably meant.
func (b rulebook) first(issues *cel.Issues, expression string) *RuleError {
	all := issues.Errors()
	if len(all) == 0 {
		return &RuleError{Message: line(issues.Err().Error(), maxMessage)}
	}
	e := slices.MinFunc(all, func(x, y *cel.Error) int {
		if d := x.Location.Line() - y.Location.Line(); d != 0 {
			return d
		}
		return x.Location.Column() - y.Location.Column()
	})
	out := &RuleError{Line: max(e.Location.Line(), 1), Column: max(e.Location.Column(), 0) + 1, Message: line(plainly(e.Message, upTo(expression, e.Location.Line(), e.Location.Column())), maxMessage)}
	if m := undefined.FindStringSubmatch(e.Message); m != nil {
		out.Message = fmt.Sprintf("there is no field %q", m[1])
		if path := b.table.readAs(m[1]); path != "" {
			out.Message += " here: it is read as " + path
		} else if n := b.nearest(m[1]); n != "" && n != m[1] {
			out.Message += fmt.Sprintf("; did you mean %s?", n)
		}
	}
	return out
}

// upTo is a line of an expression up to a column, which counts characters from 0.
func upTo(expression string, line, column int) string {
	lines := strings.Split(expression, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	text := []rune(lines[line-1])
	return string(text[:max(0, min(column, len(text)))])
}

// nearest is the field of any type that a misspelt one is like.
func (b rulebook) nearest(name string) string {
	best, least := "", min(3, len(name)/2+1)
	for _, t := range b.table.byName {
		for _, f := range t.names {
			if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(f), nil); d < least || (d == least && best != "" && f < best) {
				best, least = f, d
			}
		}
	}
	return best
}

// errSlow is the cause of the end of a rule that took too long.
var errSlow = errors.New("the rule took too long")

// Holds says whether the rule is true of the evidence. The error is a *RuleError that says what to do, when
// the rule could not be answered: it reads what is not there, or costs too much; or the cause of the
// context's end.
func (p *Program) Holds(ctx context.Context, e slipway.Evidence) (bool, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, ruleTime, errSlow)
	defer cancel()
	left := int64(MaxCost)
	out, _, err := p.program.ContextEval(bounded, map[string]any{variable: adapter{p.table, &left}.NativeToValue(&e)})
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, explain(err)
	}
	holds, ok := out.(types.Bool)
	if !ok {
		return false, &RuleError{Message: fmt.Sprintf("the expression gave %s, and not true or false", out.Type().TypeName())}
	}
	return bool(holds), nil
}

// explain says what to do about a rule that could not be answered.
func explain(err error) *RuleError {
	var absent absentError
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &absent):
		return &RuleError{Message: fmt.Sprintf("it reads %s, which there is not at this step: ask has(%s) first, or give the rule another stage", absent.field, absent.field)}
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		return &RuleError{Message: "it was stopped, as it costs too much: go through fewer lists within lists, and through shorter texts"}
	case errors.Is(err, errSlow):
		return &RuleError{Message: fmt.Sprintf("it was stopped after %s: go through fewer lists within lists, and through shorter texts", ruleTime)}
	}
	return &RuleError{Message: "it could not be answered: " + line(err.Error(), maxMessage)}
}

// rules are the results of the policy's own rules, in its order.
func (j *judge) rules(ctx context.Context) (out []slipway.GateResult, err error) {
	for _, r := range j.policy.Rules {
		if r.Level == slipway.LevelOff || !belongs(r.Stage, j.e.Stage) {
			continue
		}
		result, err := j.rule(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, result)
	}
	return out, nil
}

func belongs(rule, stage slipway.StepKind) bool {
	if stage == slipway.KindGate {
		return rule != slipway.KindDeploy
	}
	return rule == stage
}

// rule is a reason when it is false. That it could not be answered fails whatever its level is: nobody knows
// what it would have said.
func (j *judge) rule(ctx context.Context, r slipway.Rule) (slipway.GateResult, error) {
	holds := false
	program, err := Compile(r)
	if err == nil {
		holds, err = program.Holds(ctx, j.e)
	}
	if ctx.Err() != nil {
		return slipway.GateResult{}, context.Cause(ctx)
	}
	var reasons []found
	summary := "holds"
	switch {
	case err != nil:
		summary = "could not be answered"
		reasons = []found{{GateReason: slipway.GateReason{Verdict: slipway.Fail, Subject: r.Name, Message: "the rule could not be answered: " + err.Error(), Place: r.Place}}}
	case !holds:
		summary = line(r.Message, maxMessage)
		if summary == "" {
			summary = "does not hold"
		}
		reasons = []found{{GateReason: slipway.GateReason{Verdict: verdict(r.Level), Subject: r.Name, Message: summary, Place: r.Place}}}
	}
	return j.result(r.Name, j.e.Environment, j.weigh(r.Name, j.e.Environment, reasons), summary), nil
}
