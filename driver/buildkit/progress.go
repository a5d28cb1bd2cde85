package buildkit

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// maxLine bounds one line of a log; what is longer is continued on the next.
const maxLine = 16 << 10

// progress translates BuildKit's status stream into the lines of a step's log: a group per vertex
// that opens with "started" and closes with "cached", "done" or "failed". BuildKit repeats updates and
// may run a vertex twice; each state is told once.
type progress struct {
	log      stage.Log
	names    *strings.Replacer // mirrors in the names of vertices -> the registries they stand for
	vertices map[digest.Digest]*vertex
	warned   map[string]bool

	mu       sync.Mutex // for what is read by others
	failed   string     // name of the vertex that failed first
	frontend bool       // the Dockerfile was read
}

type vertex struct {
	name    string
	started *time.Time
	state   string
	streams [3]lineBuffer
	done    map[string]bool // statuses told
	held    *client.Vertex  // completed, to be told at the end
}

func newProgress(log stage.Log, mirrors []Mirror) *progress {
	var names []string
	for _, m := range mirrors {
		_, host := splitAddress(m.Address)
		names = append(names, path.Join(host, m.Prefix)+"/", m.Registry+"/")
	}
	return &progress{log: log, names: strings.NewReplacer(names...), vertices: map[digest.Digest]*vertex{}, warned: map[string]bool{}}
}

// read takes statuses until the channel is closed.
func (p *progress) read(ch <-chan *client.SolveStatus) {
	for s := range ch {
		p.update(s)
	}
	for _, v := range p.vertices {
		p.flush(v, time.Time{})
		if v.held != nil {
			p.close(v, v.held)
		}
	}
}

func (p *progress) update(s *client.SolveStatus) {
	for _, v := range s.Vertexes {
		p.open(v)
	}
	for _, st := range s.Statuses {
		p.status(st)
	}
	for _, l := range s.Logs {
		p.lines(l)
	}
	for _, v := range s.Vertexes {
		p.finish(v)
	}
	for _, w := range s.Warnings {
		p.warning(w)
	}
}

func (p *progress) open(in *client.Vertex) {
	v := p.vertices[in.Digest]
	if v == nil {
		v = &vertex{name: p.names.Replace(in.Name), done: map[string]bool{}}
		p.vertices[in.Digest] = v
	}
	if in.Started == nil || v.state != "" {
		return
	}
	v.started = in.Started
	if in.Cached {
		return // told as cached, without a start
	}
	v.state = "started"
	p.log.Line(slipway.LogLine{Time: *in.Started, Group: v.name, State: "started", Text: v.name})
}

func (p *progress) finish(in *client.Vertex) {
	v := p.vertices[in.Digest]
	if in.Completed == nil || v.state == "done" || v.state == "failed" || v.state == "cached" {
		return
	}
	// Exporting completes and begins again for each of its parts.
	if strings.HasPrefix(in.Name, "exporting ") {
		v.held = in
		return
	}
	p.close(v, in)
}

func (p *progress) close(v *vertex, in *client.Vertex) {
	p.flush(v, *in.Completed)
	line := slipway.LogLine{Time: *in.Completed, Group: v.name}
	switch {
	case in.Error != "":
		line.State, line.Text = "failed", p.names.Replace(slipway.FirstLine(in.Error))
		p.mu.Lock()
		if p.failed == "" {
			p.failed = v.name
		}
		p.mu.Unlock()
	case in.Cached:
		line.State, line.Text = "cached", v.name
	default:
		line.State, line.Text = "done", elapsed(v.started, in.Completed)
		if strings.HasPrefix(v.name, "[internal] load build definition") {
			p.mu.Lock()
			p.frontend = true
			p.mu.Unlock()
		}
	}
	v.state = line.State
	p.log.Line(line)
}

// status tells a completed part of a vertex, such as a layer that was pulled or pushed.
func (p *progress) status(st *client.VertexStatus) {
	v := p.vertices[st.Vertex]
	if v == nil || st.Completed == nil || v.done[st.ID] {
		return
	}
	v.done[st.ID] = true
	text := p.names.Replace(st.ID)
	if st.Total > 0 {
		text += " " + size(st.Total)
	}
	p.log.Line(slipway.LogLine{Time: *st.Completed, Group: v.name, Text: text + " " + elapsed(st.Started, st.Completed)})
}

func (p *progress) lines(l *client.VertexLog) {
	v := p.vertices[l.Vertex]
	if v == nil || l.Stream < 0 || l.Stream > 2 {
		return
	}
	for _, text := range v.streams[l.Stream].add(l.Data) {
		p.log.Line(slipway.LogLine{Time: l.Timestamp, Group: v.name, Stream: streamName(l.Stream), Text: text})
	}
}

func (p *progress) flush(v *vertex, at time.Time) {
	for i := range v.streams {
		if text, ok := v.streams[i].rest(); ok {
			p.log.Line(slipway.LogLine{Time: at, Group: v.name, Stream: streamName(i), Text: text})
		}
	}
}

func (p *progress) warning(w *client.VertexWarning) {
	text := "warning: " + string(w.Short)
	if w.SourceInfo != nil && len(w.Range) > 0 && w.Range[0].Start != nil {
		text = fmt.Sprintf("%s:%d: %s", w.SourceInfo.Filename, w.Range[0].Start.Line, text)
	}
	if p.warned[text] {
		return
	}
	p.warned[text] = true
	group := ""
	if v := p.vertices[w.Vertex]; v != nil {
		group = v.name
	}
	p.log.Line(slipway.LogLine{Group: group, Text: text})
}

// failedVertex is the name of the vertex that failed, "" for none.
func (p *progress) failedVertex() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// loaded reports whether the daemon has read the Dockerfile.
func (p *progress) loaded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frontend
}

func streamName(i int) string {
	switch i {
	case 1:
		return "stdout"
	case 2:
		return "stderr"
	}
	return ""
}

// lineBuffer cuts a stream into lines. Carriage returns of progress bars end a line that is replaced
// by the next: only the last of them is kept.
type lineBuffer struct{ buf []byte }

func (b *lineBuffer) add(data []byte) []string {
	b.buf = append(b.buf, data...)
	var lines []string
	for {
		i := bytes.IndexByte(b.buf, '\n')
		switch {
		case i >= 0 && i <= maxLine:
			lines = append(lines, text(b.buf[:i]))
			b.buf = b.buf[i+1:]
		case len(b.buf) > maxLine:
			lines = append(lines, text(b.buf[:maxLine]))
			b.buf = b.buf[maxLine:]
		default:
			return lines
		}
	}
}

func (b *lineBuffer) rest() (string, bool) {
	if len(b.buf) == 0 {
		return "", false
	}
	s := text(b.buf)
	b.buf = nil
	return s, true
}

func text(line []byte) string {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if i := bytes.LastIndexByte(line, '\r'); i >= 0 {
		line = line[i+1:]
	}
	return strings.ToValidUTF8(string(line), "�")
}

// lineWriter writes a stream of a container as lines of a group, as long as there is room.
type lineWriter struct {
	log    stage.Log
	group  string
	stream string
	room   *room // that of all streams of the container

	mu  sync.Mutex
	buf lineBuffer
}

// Write never fails; what there is no room for is dropped.
func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.room.full() {
		return len(b), nil
	}
	for _, text := range w.buf.add(b) {
		w.line(text)
	}
	return len(b), nil
}

// Close writes what has no newline.
func (w *lineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text, ok := w.buf.rest(); ok {
		w.line(text)
	}
	return nil
}

func (w *lineWriter) line(text string) {
	fits, cut := w.room.take(len(text))
	if fits {
		w.log.Line(slipway.LogLine{Group: w.group, Stream: w.stream, Text: text})
	}
	if cut {
		w.log.Line(slipway.LogLine{Group: w.group, Text: "the output is cut here: it is longer than " + size(w.room.limit) + " of log"})
	}
}

// room is how much of a container's output is kept.
type room struct {
	limit int64 // bytes of log

	mu   sync.Mutex
	used int64
}

// lineCost is about what a line takes in a log besides its text.
const lineCost = 100

// take makes room for a line, and reports whether it fits and whether it is the first that does not.
func (r *room) take(n int) (fits, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used > r.limit {
		return false, false
	}
	r.used += int64(n) + lineCost
	return r.used <= r.limit, r.used > r.limit
}

func (r *room) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used > r.limit
}

func elapsed(from, to *time.Time) string {
	if from == nil || to == nil {
		return "0.0s"
	}
	return fmt.Sprintf("%.1fs", to.Sub(*from).Seconds())
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

func lineOf(at time.Time, group, state, text string) slipway.LogLine {
	return slipway.LogLine{Time: at, Group: group, State: state, Text: text}
}
