package web

import (
	"net/http"

	"github.com/slipway-cd/slipway"
)

// mostBoards is how many projects the list of projects says the state of.
const mostBoards = 30

// projectCard is a project in the list of them, with what of it needs a person.
type projectCard struct {
	slipway.Project
	Known bool // what its board says is known
	boardPage
}

// projectCards are the projects with their states. Whose board cannot be read stands there without one: the list
// leads to the others all the same.
func (s *server) projectCards(r *http.Request, by slipway.User, projects []slipway.Project) []projectCard {
	out := make([]projectCard, len(projects))
	for i, p := range projects {
		out[i].Project = p
		if i >= mostBoards {
			continue
		}
		b, err := s.Reads.Board(r.Context(), by, p.Name)
		if err != nil {
			s.Log.WarnContext(r.Context(), "read the board", "project", p.Name, "error", err)
			continue
		}
		card := boardPage{Services: len(b.Rows), Cut: s.cut(r, by, p.Name)}
		for _, row := range b.Rows {
			card.note(row)
		}
		out[i].boardPage, out[i].Known = card, true
	}
	return out
}

// cut are the codebases of a project whose pushes do not arrive as they should: those that are broken, and those that
// wait for a person. When that cannot be read the page is shown without.
func (s *server) cut(r *http.Request, by slipway.User, project string) (out []codebaseCard) {
	if s.Codebases == nil {
		return nil
	}
	d, err := s.Codebases.Project(r.Context(), by, project)
	if err != nil {
		s.Log.WarnContext(r.Context(), "read codebases", "project", project, "error", err)
		return nil
	}
	var waiting []codebaseCard
	for _, c := range append([]slipway.CodebaseDetail{d.CodebaseDetail}, d.Codebases...) {
		switch card := cardOf(c); card.State() {
		case "broken":
			out = append(out, card)
		case "waiting":
			waiting = append(waiting, card)
		}
	}
	return append(out, waiting...)
}
