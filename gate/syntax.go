package gate

import (
	"fmt"
	"regexp"
	"strings"
)

// The words of CEL's parser and checker that are said in plain ones.
var (
	unreadable   = regexp.MustCompile(`(?s)^token recognition error at: '(.*)'$`)
	unexpected   = regexp.MustCompile(`(?s)^(?:mismatched|extraneous) input '(.*)' expecting (.*)$`)
	absent       = regexp.MustCompile(`(?s)^missing (.*) at '(.*)'$`)
	astray       = regexp.MustCompile(`(?s)^no viable alternative at input '(.*)'$`)
	undeclared   = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	reserved     = regexp.MustCompile(`^reserved identifier: (.*)$`)
	misfit       = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
	misfitMethod = regexp.MustCompile(`^(.*)\.\((.*)\)$`)
)

// end is what the parser calls the end of the expression.
const end = "<EOF>"

// instead are signs and words of other languages, and what CEL has for them.
var instead = map[string]string{"and": "&&", "or": "||", "not": "!", "&": "&&", "|": "||", "=": "==", "=>": ">=", "<>": "!="}

// plainly says in plain words what the compiler does not like; before is the expression up to there.
func plainly(message, before string) string {
	if m, ok := strings.CutPrefix(message, "Syntax error: "); ok {
		return syntax(m, before)
	}
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("there is no %s: a rule reads %s, and has the functions of CEL", m[1], variable)
	}
	if m := reserved.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("%s is a word that CEL keeps for itself", m[1])
	}
	if m := misfit.FindStringSubmatch(message); m != nil {
		operator, given := strings.Trim(m[1], "_@"), m[2]
		if of := misfitMethod.FindStringSubmatch(given); of != nil {
			return fmt.Sprintf("%s of %s does not take (%s)", operator, of[1], of[2])
		}
		return fmt.Sprintf("%s does not take %s", operator, given)
	}
	return message
}

func syntax(message, before string) string {
	if m := unreadable.FindStringSubmatch(message); m != nil {
		return unread(m[1])
	}
	if m := absent.FindStringSubmatch(message); m != nil {
		if m[2] == end {
			return "the expression ends too early: expected " + expected(m[1])
		}
		return fmt.Sprintf("expected %s before %s", expected(m[1]), m[2])
	}
	if m := astray.FindStringSubmatch(message); m != nil {
		if m[1] == "." {
			return "after a dot comes the name of a field"
		}
		return m[1] + " cannot stand here"
	}
	m := unexpected.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	input, want := m[1], m[2]
	words := strings.Fields(before)
	switch {
	case input == end:
		return "the expression ends too early: expected " + expected(want)
	case instead[input] != "":
		return fmt.Sprintf("%s is written %s", input, instead[input])
	case len(words) > 0 && words[len(words)-1] == "not":
		return "not is written !"
	case want == end && strings.Contains(")]}", input):
		return fmt.Sprintf("this %s closes nothing", input)
	case want == end:
		return fmt.Sprintf("%s cannot stand here: the expression is whole before it; && or || joins two", input)
	}
	return fmt.Sprintf("%s cannot stand here: expected %s", input, expected(want))
}

// unread says what is wrong with characters that are no part of the language.
func unread(text string) string {
	switch sign := strings.TrimSpace(text); {
	case strings.HasPrefix(sign, `'`) || strings.HasPrefix(sign, `"`):
		return "the text that begins here has no closing quote, or a \\ before what is none of its signs"
	case instead[sign] != "":
		return fmt.Sprintf("%s is written %s", sign, instead[sign])
	case sign != "" && instead[sign[:1]] != "":
		return fmt.Sprintf("%s means nothing; did you mean %s?", sign, instead[sign[:1]])
	default:
		return sign + " means nothing in an expression"
	}
}

// expected names what the parser would take: signs, or a value where it would take one.
func expected(set string) string {
	if strings.Contains(set, "IDENTIFIER") {
		if strings.Contains(set, "')'") {
			return "a value or )"
		}
		return "a value"
	}
	if set == end {
		return "nothing more"
	}
	var signs []string
	for _, s := range strings.Split(strings.Trim(set, "{}"), ", ") {
		signs = append(signs, strings.Trim(s, "'"))
	}
	if len(signs) == 0 {
		return set
	}
	return strings.Join(signs, " or ")
}
