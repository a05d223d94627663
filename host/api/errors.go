package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"unicode/utf8"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Error is the form of an error on its way.
type Error struct {
	Code      string            `json:"code"` // a name of base.Code
	Message   string            `json:"message"`
	Hint      string            `json:"hint,omitempty"` // what to do next
	Temporary bool              `json:"temporary"`      // the same may succeed later
	Context   map[string]string `json:"context,omitempty"`
}

// Bounds on an error in a header: clients commonly take no line over 4 KiB.
const (
	maxHeaderMessage = 2000
	maxHeaderHint    = 500
)

func newError(e *wire.Error) *Error {
	if e == nil {
		return nil
	}
	return &Error{Code: e.Code.String(), Message: e.Message, Hint: e.Hint, Temporary: e.Temporary, Context: e.Context}
}

// short leaves out what a header has no room for.
func (e *Error) short() *Error {
	return &Error{Code: e.Code, Message: cut(e.Message, maxHeaderMessage), Hint: cut(e.Hint, maxHeaderHint), Temporary: e.Temporary}
}

// cut returns the first n bytes of s at most, and no half character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// wire is the error as the node had it.
func (e *Error) wire() *wire.Error {
	if e == nil {
		return nil
	}
	return &wire.Error{Code: base.CodeFromString(e.Code), Message: e.Message, Hint: e.Hint, Temporary: e.Temporary, Context: e.Context}
}

// AsError gives any error the form that it has on its way. AsError(nil) is nil.
func AsError(err error) *Error { return newError(asError(err)) }

// asError gives any error the form that a client sees. asError(nil) is nil.
func asError(err error) *wire.Error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	if e := Exhausted(err); e != nil {
		return e
	}
	return wire.AsError(err)
}

// statusCanceled has no name in the standard. It is what servers write down for
// a request whose client gave up.
const statusCanceled = 499

// statuses says which answer each kind of error is.
var statuses = map[base.Code]int{
	base.Code_invalidArgument:   http.StatusBadRequest,
	base.Code_notFound:          http.StatusNotFound,
	base.Code_alreadyExists:     http.StatusConflict,
	base.Code_permissionDenied:  http.StatusForbidden,
	base.Code_resourceExhausted: http.StatusTooManyRequests,
	base.Code_budgetExceeded:    http.StatusPaymentRequired,
	base.Code_deadlineExceeded:  http.StatusGatewayTimeout,
	base.Code_canceled:          statusCanceled,
	base.Code_unavailable:       http.StatusServiceUnavailable,
	base.Code_notSupported:      http.StatusNotImplemented,
	base.Code_outcomeUnknown:    http.StatusBadGateway,
	base.Code_quarantined:       http.StatusUnprocessableEntity,
}

func statusOf(c base.Code) int {
	if status, ok := statuses[c]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// fail answers with an error.
func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	status := statusOf(e.Code)
	if e.Code == base.Code_resourceExhausted && !e.Temporary {
		status = http.StatusInsufficientStorage // 429 would have programs try again
	}
	reply(w, status, newError(e))
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer has no JSON form","temporary":false}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that is gone needs no answer
}
