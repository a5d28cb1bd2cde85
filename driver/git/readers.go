package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxReaders    = 8
	readerIdle    = 2 * time.Minute
	readerAge     = 10 * time.Minute // it keeps packs that were removed since from being freed
	readerRest    = time.Minute      // after a process that never answered
	maxExchange   = 1000             // questions at once
	maxExchanged  = 32 << 20         // bytes of the answers to one exchange
	readerBuffer  = 64 << 10
	maxHeaderLine = 4096
)

// errUnread says that no reader answered. It is seen by nobody: the git command is asked then, and its
// answer, or its error, is what counts.
var errUnread = errors.New("no reader answered")

// Readers are git processes that stay, so that comparing and listing commits starts none. There is at most
// one for each repository and eight in all. One ends when it was not asked for two minutes, is ten minutes
// old, or its repository was removed or replaced. What they do not answer, for whatever reason, a git
// command does: a Repo answers the same with and without them. They are safe for concurrent use.
type Readers struct {
	Now func() time.Time // default: time.Now

	ctx    context.Context //nolint:containedctx // of the processes, which outlive who asks
	mu     sync.Mutex
	open   map[string]*reader // by folder of the repository
	closed bool
	ending sync.WaitGroup
}

// NewReaders returns Readers whose processes end with a context. Close them.
func NewReaders(ctx context.Context) *Readers {
	return &Readers{Now: time.Now, ctx: ctx, open: map[string]*reader{}}
}

// Close ends the processes and waits for them. What is asked afterwards, git commands answer.
func (s *Readers) Close() {
	s.mu.Lock()
	s.closed = true
	for dir, rd := range s.open {
		s.drop(dir, rd)
	}
	s.mu.Unlock()
	s.ending.Wait()
}

// drop ends a reader in the background. The caller holds the lock.
func (s *Readers) drop(dir string, rd *reader) {
	delete(s.open, dir)
	rd.idle.Stop()
	s.ending.Go(rd.end)
}

// reader is that of the repository that is in a folder now.
func (s *Readers) reader(r Repo) (*reader, error) {
	there, err := os.Stat(r.Dir)
	if err != nil {
		return nil, errUnread
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errUnread
	}
	rd := s.open[r.Dir]
	if rd != nil && (!os.SameFile(rd.dir, there) || rd.over()) {
		s.drop(r.Dir, rd)
		rd = nil
	}
	if rd == nil {
		rd = s.add(r, there)
	}
	rd.used = s.Now()
	rd.idle.Reset(readerIdle)
	return rd, nil
}

func (s *Readers) add(r Repo, there os.FileInfo) *reader {
	for len(s.open) >= maxReaders {
		var oldest string
		for dir, rd := range s.open {
			if oldest == "" || rd.used.Before(s.open[oldest].used) {
				oldest = dir
			}
		}
		s.drop(oldest, s.open[oldest])
	}
	rd := &reader{repo: r, dir: there, turn: make(chan struct{}, 1), ctx: s.ctx, now: s.Now, began: s.Now()}
	rd.idle = time.AfterFunc(readerIdle, func() { s.leave(rd) })
	s.open[r.Dir] = rd
	return rd
}

// leave ends a reader that nobody asked for a while.
func (s *Readers) leave(rd *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[rd.repo.Dir] == rd && s.Now().Sub(rd.used) >= readerIdle {
		s.drop(rd.repo.Dir, rd)
	}
}

// reader is one git cat-file --batch-command, started when it is first asked. It keeps the folders and
// commits that it read last: their content follows from their hash.
type reader struct {
	repo Repo
	ctx  context.Context //nolint:containedctx // of the process
	now  func() time.Time
	dir  os.FileInfo // of the repository; the process keeps its inode from being used again
	idle *time.Timer
	used time.Time // guarded by Readers.mu

	turn chan struct{} // full while somebody asks
	in   io.WriteCloser
	out  *bufio.Reader
	kept recently // guarded by turn

	mu      sync.Mutex
	cmd     *exec.Cmd
	stopped bool
	sound   bool // it answered, or nobody waited until it did: another may be started at once
	began   time.Time
	ended   time.Time
}

// over reports whether another process is to be started: this one is old, or ended a while ago.
func (rd *reader) over() bool {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if !rd.stopped {
		return rd.now().Sub(rd.began) > readerAge
	}
	return rd.sound || rd.now().Sub(rd.ended) > readerRest
}

// stop makes whoever waits for the process stop waiting; it ends with end.
func (rd *reader) stop() {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.cmd != nil && !rd.stopped {
		killGroup(rd.cmd)
	}
	if !rd.stopped {
		rd.stopped, rd.ended = true, rd.now()
	}
}

// end ends the process and waits for it.
func (rd *reader) end() {
	rd.stop()
	rd.turn <- struct{}{}
	rd.reap()
	<-rd.turn
}

// reap waits for a process that was stopped. The caller has the turn.
func (rd *reader) reap() {
	rd.kept = recently{}
	if rd.in == nil {
		return
	}
	_ = rd.in.Close()
	_ = rd.cmd.Wait() // it was killed, or died of what it was asked
	rd.in = nil
}

func (rd *reader) start() error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.stopped {
		return errUnread
	}
	if rd.cmd != nil {
		return nil
	}
	cmd := rd.repo.command(rd.ctx, nil, nil, []string{"cat-file", "--batch-command", "--buffer"})
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("git cat-file: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("git cat-file: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("git cat-file: %w", err)
	}
	rd.cmd, rd.in, rd.out = cmd, in, bufio.NewReaderSize(out, readerBuffer)
	return nil
}

// object is what git says of one: its full hash in hex, and with contents its content.
type object struct {
	hash, kind, content string
	size                int64
}

// question is a command of git cat-file --batch-command.
type question struct{ verb, name string }

const (
	contents = "contents"
	about    = "info"
)

// ask puts questions and returns the answers in their order; one that git has no object for is the zero
// object. Whatever else is wrong ends the process and is an error.
func (rd *reader) ask(ctx context.Context, questions []question) ([]object, error) {
	select {
	case rd.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-rd.turn }()
	return rd.askInTurn(ctx, questions)
}

func (rd *reader) askInTurn(ctx context.Context, questions []question) (answers []object, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	late := make(chan struct{})
	inTime := context.AfterFunc(ctx, func() { defer close(late); rd.stop() })
	defer func() {
		if !inTime() { // it would meet the next one's question
			<-late
		}
	}()
	defer func() {
		if err != nil {
			rd.stop()
			rd.reap()
			if ctx.Err() != nil {
				rd.trust()
			}
		}
	}()
	if err := rd.start(); err != nil {
		return nil, err
	}
	room := int64(maxExchanged)
	for len(questions) > 0 {
		some := questions[:min(len(questions), maxExchange)]
		questions = questions[len(some):]
		if answers, err = rd.exchange(some, answers, &room); err != nil {
			return nil, err
		}
	}
	rd.trust()
	return answers, nil
}

func (rd *reader) trust() {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.sound = true
}

// exchange writes all questions before it reads: git answers none before the flush.
func (rd *reader) exchange(questions []question, answers []object, room *int64) ([]object, error) {
	var b strings.Builder
	for _, q := range questions {
		b.WriteString(q.verb + " " + q.name + "\n")
	}
	b.WriteString("flush\n")
	if _, err := io.WriteString(rd.in, b.String()); err != nil {
		return nil, fmt.Errorf("git cat-file: %w", err)
	}
	for _, q := range questions {
		o, err := rd.answer(q, room)
		if err != nil {
			return nil, fmt.Errorf("git cat-file: %w", err)
		}
		answers = append(answers, o)
	}
	return answers, nil
}

func (rd *reader) answer(q question, room *int64) (o object, err error) {
	line, err := rd.out.ReadSlice('\n')
	if err != nil || len(line) > maxHeaderLine {
		return o, errors.Join(err, errTooLarge)
	}
	header := strings.TrimSuffix(string(line), "\n")
	if header == q.name+" missing" {
		return o, nil
	}
	fields := strings.Split(header, " ")
	if len(fields) != 3 || checkHash(fields[0]) != nil {
		return o, fmt.Errorf("unexpected answer %q", header)
	}
	o.hash, o.kind = fields[0], fields[1]
	if o.size, err = strconv.ParseInt(fields[2], 10, 64); err != nil || o.size < 0 {
		return o, fmt.Errorf("size %q", fields[2])
	}
	if q.verb != contents {
		return o, nil
	}
	if *room -= o.size; *room < 0 {
		return o, errTooLarge
	}
	var content strings.Builder
	content.Grow(int(o.size))
	if _, err := io.CopyN(&content, rd.out, o.size); err != nil {
		return o, err
	}
	o.content = content.String()
	end, err := rd.out.ReadByte()
	if err == nil && end != '\n' {
		err = errors.New("an answer of another length than its header says")
	}
	return o, err
}

// objects returns folders or commits by their hashes in hex. One that is not there, or of another kind, is
// an error.
func (rd *reader) objects(ctx context.Context, kind string, hashes []string) (map[string]string, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case rd.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-rd.turn }()
	found := make(map[string]string, len(hashes))
	var questions []question
	for _, h := range hashes {
		if _, twice := found[h]; twice {
			continue
		}
		content, ok := rd.kept.get(kind + h)
		if !ok {
			questions = append(questions, question{contents, h})
		}
		found[h] = content
	}
	if len(questions) == 0 {
		return found, nil
	}
	answers, err := rd.askInTurn(ctx, questions)
	if err != nil {
		return nil, err
	}
	for i, o := range answers {
		if o.kind != kind || o.hash != questions[i].name {
			return nil, errUnread
		}
		found[o.hash] = o.content
		rd.kept.put(kind+o.hash, o.content)
	}
	return found, nil
}

// maxRecently bounds what one reader keeps, in bytes; overhead of an entry included.
const (
	maxRecently      = 4 << 20
	recentlyOverhead = 160
)

// recently keeps what was used last: half of the room is emptied at a time.
type recently struct {
	young, old map[string]string
	size       int // of young, in bytes
}

func (k *recently) get(key string) (string, bool) {
	if content, ok := k.young[key]; ok {
		return content, true
	}
	content, ok := k.old[key]
	if ok {
		k.put(key, content)
	}
	return content, ok
}

func (k *recently) put(key, content string) {
	size := len(key) + len(content) + recentlyOverhead
	if size > maxRecently/4 {
		return
	}
	if k.young == nil || k.size+size > maxRecently/2 {
		k.young, k.old, k.size = map[string]string{}, k.young, 0
	}
	k.young[key] = content
	k.size += size
}
