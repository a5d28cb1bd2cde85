package helmchart

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway/stage/chart"
)

func failure(file string, line int, message string) chart.Problem {
	return chart.Problem{Severity: chart.Error, File: file, Line: line, Message: message}
}

func warning(file, message string) chart.Problem {
	return chart.Problem{Severity: chart.Warning, File: file, Message: message}
}

// What Helm and the YAML parser say of places is only in the text of their errors.
var (
	placeExpr = regexp.MustCompile(`([^\s()"]+/templates/[^\s()":]+|[^\s()":]*values[^\s()":]*\.ya?ml):(\d+)(?::\d+)?`)
	lineExpr  = regexp.MustCompile(`\bline (\d+)`)
	spaceExpr = regexp.MustCompile(`\s*\n\s*`)
	noise     = strings.NewReplacer("error converting YAML to JSON: ", "", "unable to parse YAML: ", "", "cannot unmarshal yaml document: ", "",
		"error unmarshaling JSON: while decoding JSON: json: ", "")
)

// templateProblem reads an error of the template engine: the deepest place is where it happened, the
// others are how it got there.
func templateProblem(c chart.Chart, text string) chart.Problem {
	places := placeExpr.FindAllStringSubmatch(text, -1)
	if len(places) == 0 {
		return failure("", 0, oneLine(text))
	}
	last := places[len(places)-1]
	line, err := strconv.Atoi(last[2])
	if err != nil {
		line = 0
	}
	// The engine writes one block for each place: place, what was executed, what went wrong.
	message := text[strings.LastIndex(text, last[0])+len(last[0]):]
	message = strings.TrimPrefix(strings.TrimPrefix(message, ")"), ":")
	message = oneLine(message)
	if first := places[0]; first[0] != last[0] {
		message += " (used at " + inFolder(c, first[1]) + ":" + first[2] + ")"
	}
	return failure(inFolder(c, last[1]), line, message)
}

// yamlProblem reads an error of the YAML parser in a file of the chart.
func yamlProblem(file, text string) chart.Problem {
	line := 0
	if m := lineExpr.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits by the expression
	}
	return failure(file, line, "not valid YAML: "+oneLine(text))
}

func oneLine(text string) string {
	return strings.TrimSpace(noise.Replace(spaceExpr.ReplaceAllString(strings.TrimSpace(text), " ")))
}

// inChart makes the engine's name of a template relative to the chart folder.
func inChart(chartName, name string) string {
	return path.Clean(strings.TrimPrefix(name, chartName+"/"))
}
