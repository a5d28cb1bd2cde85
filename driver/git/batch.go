package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// batch is a running git cat-file --batch. It is for one goroutine at a time.
type batch struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *bounded
	ctx    context.Context //nolint:containedctx // of the process, to say why it ended
}

func (r Repo) startBatch(ctx context.Context, args ...string) (*batch, error) {
	args = append([]string{"cat-file", "--batch"}, args...)
	cmd := r.command(ctx, nil, nil, args)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("git cat-file: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("git cat-file: %w", err)
	}
	b := &batch{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 64<<10), stderr: &bounded{max: maxStderr, drop: true}, ctx: ctx}
	cmd.Stderr = b.stderr
	if err := cmd.Start(); err != nil {
		return nil, commandError(ctx, args, "", err)
	}
	return b, nil
}

// next reads the header of the next object; its content of size bytes and one newline follow.
func (b *batch) next() (kind string, size int64, err error) {
	line, err := b.out.ReadString('\n')
	if err != nil {
		return "", 0, b.failed(err)
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("git cat-file: %s", strings.TrimSpace(line))
	}
	size, err = strconv.ParseInt(fields[2], 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("git cat-file: size %q", fields[2])
	}
	return fields[1], size, nil
}

// end reads the newline behind an object's content.
func (b *batch) end() error {
	if _, err := b.out.Discard(1); err != nil {
		return b.failed(err)
	}
	return nil
}

// blob asks for one object and returns its content.
func (b *batch) blob(hash string, limit int64) ([]byte, error) {
	if _, err := io.WriteString(b.in, hash+"\n"); err != nil {
		return nil, b.failed(err)
	}
	_, size, err := b.next()
	if err != nil {
		return nil, err
	}
	if size > limit {
		if _, err := io.CopyN(io.Discard, b.out, size); err != nil {
			return nil, b.failed(err)
		}
		return nil, errors.Join(errTooLarge, b.end())
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(b.out, data); err != nil {
		return nil, b.failed(err)
	}
	return data, b.end()
}

func (b *batch) failed(err error) error {
	if b.ctx.Err() != nil {
		return fmt.Errorf("git cat-file: %w", context.Cause(b.ctx))
	}
	return fmt.Errorf("git cat-file: %w", err)
}

// close ends the process and waits for it.
func (b *batch) close() error {
	_ = b.in.Close()
	err := b.cmd.Wait()
	if b.ctx.Err() != nil {
		killGroup(b.cmd)
		return nil
	}
	return commandError(b.ctx, []string{"cat-file"}, b.stderr.String(), err)
}
