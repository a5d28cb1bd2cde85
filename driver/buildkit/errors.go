package buildkit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/build"
)

// solveError sorts the error of a solve. What is wrong with the Dockerfile or with what it runs is a
// Failure; all else is an error, Unavailable where trying again may help. It asks for the types of
// the errors and for what was being done when it went wrong, never for their text.
func solveError(ctx context.Context, err error, j job, prog *progress) (*build.Failure, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if slipway.ErrorCode(err) != slipway.Internal {
		return nil, err
	}
	vertex := prog.failedVertex()
	failure := &build.Failure{File: j.dockerfile, Step: stepOf(vertex), Message: message(err, vertex)}
	located := locate(failure, errdefs.Sources(err))

	var exit *gwpb.ExitError
	if errors.As(err, &exit) {
		failure.ExitCode = int(exit.ExitCode)
		return failure, nil
	}
	if deny := policysession.DenyMessages(err); len(deny) > 0 {
		failure.Message = deny[0].GetMessage()
		return failure, nil
	}
	switch grpcerrors.Code(err) {
	case codes.NotFound, codes.InvalidArgument, codes.FailedPrecondition:
		return failure, nil
	case codes.PermissionDenied, codes.Unauthenticated:
		return nil, err
	}
	var frontend *errdefs.FrontendError
	trouble := surroundings(err)
	switch {
	case slipway.Temporary(trouble):
		return nil, trouble
	case fetches(vertex):
		return nil, slipway.Errorf(slipway.Unavailable, "%w", errors.New(strings.TrimPrefix(failure.Message, "[internal] ")))
	case located, errors.As(err, &frontend), failure.Step != "":
		return failure, nil
	case vertex == "" && prog.loaded(): // the daemon refuses what the Dockerfile asks for, before it runs anything
		return failure, nil
	}
	return nil, err
}

// metadata begins the name of the vertex that asks a registry for a base image.
const metadata = "[internal] load metadata for "

// verdict is solveError with a question of its own: a base image that does not exist looks to BuildKit
// like a registry that does not answer, so the registry is asked.
func (e *Engine) verdict(ctx context.Context, ln *link, err error, j job, prog *progress, creds *credentials) (*build.Failure, error) {
	failure, sorted := solveError(ctx, err, j, prog)
	if failure != nil && ln.daemon != nil && ln.daemon.full() {
		return nil, slipway.Errorf(slipway.Unavailable, "the disk of BuildKit's folder %s is full: %w", e.opts.Dir, err)
	}
	ref, ok := strings.CutPrefix(prog.failedVertex(), metadata)
	if failure != nil || !ok || !slipway.Temporary(sorted) {
		return failure, sorted
	}
	if !missing(ctx, ref, creds) {
		return nil, sorted
	}
	failure = &build.Failure{File: j.dockerfile, Message: "base image " + ref + " is not in its registry, or may not be read"}
	locate(failure, errdefs.Sources(err))
	return failure, nil
}

// missing reports whether the registry says that it has no such image.
func missing(ctx context.Context, image string, creds *credentials) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return false
	}
	_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(creds.registryAuth(ctx, ref.Context().RegistryStr())))
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
		return true
	}
	return false
}

// locate fills in the place in the Dockerfile and reports whether there is one.
func locate(f *build.Failure, sources []*errdefs.Source) bool {
	for _, s := range sources {
		for _, r := range s.GetRanges() {
			if r.GetStart() == nil {
				continue
			}
			f.Line = int(r.GetStart().GetLine())
			if lines := strings.Split(string(s.GetInfo().GetData()), "\n"); f.Step == "" && f.Line > 0 && f.Line <= len(lines) {
				f.Step = strings.TrimSpace(lines[f.Line-1])
			}
			return true
		}
	}
	return len(sources) > 0
}

// stepOf is the instruction in a vertex's name: "[build 3/5] RUN go build" -> "RUN go build".
func stepOf(vertex string) string {
	if !strings.HasPrefix(vertex, "[") || strings.HasPrefix(vertex, "[internal]") {
		return ""
	}
	_, step, _ := strings.Cut(vertex, "] ")
	return step
}

// fetches reports whether a vertex talks to somewhere else rather than runs something here: what goes
// wrong there may go well the next time.
func fetches(vertex string) bool {
	step := stepOf(vertex)
	for _, p := range []string{"FROM ", "ADD http://", "ADD https://", "ADD git"} {
		if strings.HasPrefix(step, p) {
			return true
		}
	}
	return strings.HasPrefix(vertex, metadata) || strings.HasPrefix(vertex, "exporting ")
}

// surroundings sorts an error that is nobody's Dockerfile.
func surroundings(err error) error {
	switch grpcerrors.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return slipway.Errorf(slipway.Unavailable, "BuildKit: %w", err)
	}
	if lostConnection(err) {
		return slipway.Errorf(slipway.Unavailable, "BuildKit: %w", err)
	}
	return err
}

func lostConnection(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

// around is what BuildKit says around the reason.
var around = regexp.MustCompile(`^(failed to solve: |failed to compute cache key: |failed to load cache key: |failed to load LLB: |failed to calculate checksum of ref \S+: |process ".*" did not complete successfully: |dockerfile parse error on line \d+: |rpc error: code = \w+ desc = )`)

// message is the reason for people: what was asked for, and what is wrong with it.
func message(err error, vertex string) string {
	s := firstLine(err.Error())
	for {
		short := around.ReplaceAllString(s, "")
		if short == s {
			break
		}
		s = short
	}
	if step := stepOf(vertex); step != "" {
		return step + ": " + s
	}
	return s
}
