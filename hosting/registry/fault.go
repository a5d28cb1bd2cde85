package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/slipway-cd/slipway"
)

// fault is a request that was not done: an HTTP status with the OCI error that goes into the body.
// Its message is shown to users.
type fault struct {
	status  int
	code    string // of the OCI distribution specification, where it has one
	message string
	err     error // cause, for the log
	body    []byte
}

func (f *fault) Error() string {
	if f.err != nil {
		return f.message + ": " + f.err.Error()
	}
	return f.message
}

func (f *fault) Unwrap() error { return f.err }

// slipwayError is the fault for callers in this process.
func (f *fault) slipwayError() error {
	code := slipway.Internal
	switch f.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed:
		code = slipway.Invalid
	case http.StatusUnauthorized:
		code = slipway.Unauthorized
	case http.StatusForbidden:
		code = slipway.Forbidden
	case http.StatusNotFound:
		code = slipway.NotFound
	case http.StatusConflict:
		code = slipway.Conflict
	case http.StatusServiceUnavailable, http.StatusInsufficientStorage, http.StatusTooManyRequests:
		code = slipway.Unavailable
	}
	return &slipway.Error{Code: code, Message: f.message, Err: f.err}
}

type errorBody struct {
	Errors []errorInfo `json:"errors"`
}

type errorInfo struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
}

func respondFault(w http.ResponseWriter, req *http.Request, f *fault) {
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="slipway"`)
	}
	body := f.body
	if len(body) == 0 {
		b, err := json.Marshal(errorBody{Errors: []errorInfo{{Code: f.code, Message: f.message}}})
		if err != nil {
			b = []byte(`{"errors":[]}`)
		}
		body = b
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

func badRequest(code, message string) *fault {
	return &fault{status: http.StatusBadRequest, code: code, message: message}
}

func unknownRepository(name string) *fault {
	return &fault{status: http.StatusNotFound, code: "NAME_UNKNOWN", message: fmt.Sprintf("there is no repository %s", name)}
}

func unknownUpload(id string) *fault {
	return &fault{status: http.StatusNotFound, code: "BLOB_UPLOAD_UNKNOWN", message: fmt.Sprintf("there is no upload %q (any more); begin again", id)}
}

// accessFault translates what Authorize said. A client that gave no credentials is asked for them.
func accessFault(err error, known bool, repository string) *fault {
	message := "sign in with a Slipway user and token"
	var e *slipway.Error
	if errors.As(err, &e) && e.Message != "" {
		message = e.Message
	}
	switch code := slipway.ErrorCode(err); {
	case code == slipway.Unauthorized, code == slipway.Forbidden && !known:
		return &fault{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: message}
	case code == slipway.Forbidden:
		return &fault{status: http.StatusForbidden, code: "DENIED", message: message}
	case code == slipway.NotFound:
		return unknownRepository(repository)
	case code == slipway.Invalid:
		return badRequest("NAME_INVALID", message)
	case slipway.Temporary(err):
		return &fault{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: message, err: err}
	}
	return &fault{status: http.StatusInternalServerError, code: "UNKNOWN", message: "internal error", err: err}
}

// diskFault translates trouble with the folder.
func diskFault(err error) *fault {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fullFault(err)
	}
	return &fault{status: http.StatusInternalServerError, code: "UNKNOWN", message: "internal error", err: err}
}

func fullFault(err error) *fault {
	return &fault{status: http.StatusInsufficientStorage, code: "INSUFFICIENT_STORAGE",
		message: "the registry's disk is full; nothing was stored. Free space on the server and push again", err: err}
}
