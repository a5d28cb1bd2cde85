package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/slipway-cd/slipway"
)

// translate says in Slipway's words what a registry answered. The original error is not kept: it holds
// the request, and with it addresses that are credentials by themselves.
func (r remoteRepo) translate(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", doing, cause)
	}
	var own *slipway.Error
	if errors.As(err, &own) {
		return err
	}
	host := r.Registry.Host
	var answered *transport.Error
	if errors.As(err, &answered) {
		return answerError(host, doing, answered)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return unavailable(host, doing, request.Err)
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return unavailable(host, doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func unavailable(host, doing string, err error) error {
	return slipway.Errorf(slipway.Unavailable, "%s: registry %s does not answer: %v; check that it runs and can be reached from the Slipway server", doing, host, err)
}

func answerError(host, doing string, e *transport.Error) error {
	said := diagnosis(e)
	switch s := e.StatusCode; {
	case s == http.StatusUnauthorized:
		return slipway.Errorf(slipway.Forbidden, "%s: registry %s does not accept the credentials%s; set a user and token for it that are valid", doing, host, said)
	case s == http.StatusForbidden:
		return slipway.Errorf(slipway.Forbidden, "%s: registry %s refuses%s; give its user the right, or configure another one", doing, host, said)
	case s == http.StatusConflict, s == http.StatusPreconditionFailed, immutable(e):
		return slipway.Errorf(slipway.Conflict, "%s: registry %s does not move the tag%s", doing, host, said)
	case s == http.StatusNotFound:
		return slipway.Errorf(slipway.NotFound, "%s: not found in registry %s%s", doing, host, said)
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s >= http.StatusInternalServerError:
		return slipway.Errorf(slipway.Unavailable, "%s: registry %s has trouble (%d %s)%s", doing, host, s, http.StatusText(s), said)
	default:
		return slipway.Errorf(slipway.Invalid, "%s: registry %s does not accept it (%d %s)%s", doing, host, s, http.StatusText(s), said)
	}
}

// immutable recognises registries that answer 400 when a tag may not be moved.
func immutable(e *transport.Error) bool {
	for _, d := range e.Errors {
		if e.StatusCode == http.StatusBadRequest && d.Code == transport.TagInvalidErrorCode {
			return true
		}
	}
	return false
}

// diagnosis is what the registry itself says, bounded and on one line.
func diagnosis(e *transport.Error) string {
	var said []string
	for _, d := range e.Errors {
		if d.Message != "" {
			said = append(said, d.Message)
		} else if d.Code != "" {
			said = append(said, string(d.Code))
		}
	}
	text := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, strings.Join(said, "; "))
	if text == "" {
		return ""
	}
	if r := []rune(text); len(r) > 500 {
		text = string(r[:500]) + "..."
	}
	return ": " + text
}
