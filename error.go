package slipway

import (
	"errors"
	"fmt"
)

// Code says what kind of error it is to whoever asked. It is mapped once to an HTTP status and once
// to an exit status.
type Code string

const (
	Invalid      Code = "invalid"      // the request is wrong and stays wrong
	Unauthorized Code = "unauthorized" // who are you?
	Forbidden    Code = "forbidden"    // known, but may not
	NotFound     Code = "not-found"
	Conflict     Code = "conflict"    // the state is not, or no longer, what the request expects
	TooMany      Code = "too-many"    // more at once than one user may have
	Unavailable  Code = "unavailable" // something around Slipway does not answer; trying again may help
	Internal     Code = "internal"    // our fault; shown without detail
)

// Codes lists every code, for tables that must be exhaustive.
func Codes() []Code {
	return []Code{Invalid, Unauthorized, Forbidden, NotFound, Conflict, TooMany, Unavailable, Internal}
}

// HTTPStatus is the status with which an answer over HTTP begins: 500 for Internal and for what is no code.
func (c Code) HTTPStatus() int {
	switch c {
	case Invalid:
		return 422
	case Unauthorized:
		return 401
	case Forbidden:
		return 403
	case NotFound:
		return 404
	case Conflict:
		return 409
	case TooMany:
		return 429
	case Unavailable:
		return 503
	}
	return 500
}

// Error is an error with a Code. Its message is shown to users as it is: it names the thing, the
// place and what to do, and holds no secret.
type Error struct {
	Code    Code
	Message string
	Err     error // cause, for logs; may be nil
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether trying again later may help.
func (e *Error) Temporary() bool { return e.Code == Unavailable }

// Errorf makes an Error; %w keeps a cause.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// ErrorCode returns the code of err: that of the first Error in its chain, Internal for any other
// error, "" for nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// Temporary reports whether err, or an error in its chain, says that trying again may help.
func Temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// Causes of a cancelled context, told apart with context.Cause.
var (
	ErrCancelled  = errors.New("cancelled by a user")
	ErrSuperseded = errors.New("superseded by a newer run")
	ErrTimeout    = errors.New("timed out")
	ErrShutdown   = errors.New("the server is stopping")
)
