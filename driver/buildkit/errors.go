package buildkit

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
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

// verdict is solveError with questions of its own, as what is missing or refused looks to BuildKit like a network that
// does not answer: a registry is asked whether it has the base image, and what was to be fetched whether it
// leads to where builds may not reach.
func (e *Engine) verdict(ctx context.Context, ln *link, err error, j job, prog *progress, pol *policy) (*build.Failure, error) {
	failure, sorted := solveError(ctx, err, j, prog)
	if failure != nil && ln.daemon != nil && ln.daemon.full() {
		return nil, slipway.Errorf(slipway.Unavailable, "the disk of BuildKit's folder %s is full: %w", e.opts.Dir, err)
	}
	vertex, message := prog.failedVertex(), ""
	ref, base := strings.CutPrefix(vertex, metadata)
	switch {
	case ctx.Err() != nil:
	case adds(vertex):
		message = pol.leads(ctx)
	case base && failure == nil && slipway.Temporary(sorted):
		message = pol.missing(ctx, ref)
	}
	if message == "" {
		return failure, sorted
	}
	failure = &build.Failure{File: j.dockerfile, Message: message}
	locate(failure, errdefs.Sources(err))
	return failure, nil
}

// missing says what is wrong with a base image if its registry says that it has no such image, or leads to where builds
// may not reach.
func (p *policy) missing(ctx context.Context, image string) string {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ref, err := name.ParseReference(image)
	if err != nil {
		return ""
	}
	auth := p.creds.registryAuth(ctx, ref.Context().RegistryStr())
	_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(p.client()))
	var fenced *fencedError
	if asError(err, &fenced) {
		return "base image " + image + ": its registry leads to " + fenced.addr.String() + ", " + notReached
	}
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden:
		return "base image " + image + " is not in its registry, or may not be read"
	}
	return ""
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
	return strings.HasPrefix(stepOf(vertex), "FROM ") || adds(vertex) || strings.HasPrefix(vertex, metadata) || strings.HasPrefix(vertex, "exporting ")
}

// adds reports whether a vertex fetches a URL or a git repository.
func adds(vertex string) bool {
	rest, ok := strings.CutPrefix(stepOf(vertex), "ADD ")
	return ok && slices.ContainsFunc(strings.Fields(rest), func(s string) bool {
		return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "git")
	})
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
	s := slipway.FirstLine(err.Error())
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
