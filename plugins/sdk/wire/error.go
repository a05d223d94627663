package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"inos/protocols/base/v1"
)

// Error is a failure that a person or a program on the other side of a process
// boundary can act on. Make one with NewError and leave it alone after.
type Error struct {
	// Code says which kind of failure it is; errors.Is finds it by the sentinel
	// of the same name.
	Code base.Code
	// Message says what happened and where.
	Message string
	// Hint says what to do next, empty if there is nothing to say.
	Hint string
	// Temporary says that the same call may succeed later.
	Temporary bool
	// Context holds facts for programs and logs.
	Context map[string]string

	cause error // stays on this side
}

// sentinel is an error that stands for every Error of one code.
type sentinel base.Code

// One sentinel for each code, for errors.Is.
var (
	ErrUnknown           error = sentinel(base.Code_unknown)
	ErrInvalidArgument   error = sentinel(base.Code_invalidArgument)
	ErrNotFound          error = sentinel(base.Code_notFound)
	ErrAlreadyExists     error = sentinel(base.Code_alreadyExists)
	ErrPermissionDenied  error = sentinel(base.Code_permissionDenied)
	ErrResourceExhausted error = sentinel(base.Code_resourceExhausted)
	ErrBudgetExceeded    error = sentinel(base.Code_budgetExceeded)
	ErrDeadlineExceeded  error = sentinel(base.Code_deadlineExceeded)
	ErrCanceled          error = sentinel(base.Code_canceled)
	ErrUnavailable       error = sentinel(base.Code_unavailable)
	ErrNotSupported      error = sentinel(base.Code_notSupported)
	ErrDataLoss          error = sentinel(base.Code_dataLoss)
	ErrInternal          error = sentinel(base.Code_internal)
	ErrOutcomeUnknown    error = sentinel(base.Code_outcomeUnknown)
	ErrQuarantined       error = sentinel(base.Code_quarantined)
)

// Error returns the name of the code in words: "not found".
func (s sentinel) Error() string {
	var b strings.Builder
	for _, r := range base.Code(s).String() {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// NewError returns an error with a message that is formatted as by fmt.Errorf. An
// error wrapped with %w is found by errors.Is and errors.As on this side of a
// process boundary, and not on the other. An error that is exhausted or
// unavailable counts as temporary.
func NewError(code base.Code, hint, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{
		Code: code, Message: err.Error(), Hint: hint,
		Temporary: code == base.Code_resourceExhausted || code == base.Code_unavailable,
	}
	switch err.(type) { //nolint:errorlint // asks whether err wraps anything, not what
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		e.cause = err
	}
	return e
}

// AsError gives any error the form that crosses a process boundary. An Error
// comes back as it is, or, if others are wrapped around it, as a copy whose
// message says what they say. What else there is becomes internal, unless it is
// the end of a context. AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // asks whether nothing is wrapped around it
		return e
	}
	if inner := (*Error)(nil); errors.As(err, &inner) {
		e := *inner
		e.Message = strings.Replace(err.Error(), inner.Error(), inner.Message, 1)
		e.cause = err
		return &e
	}
	code := base.Code_internal
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = base.Code_deadlineExceeded
	case errors.Is(err, context.Canceled):
		code = base.Code_canceled
	default:
		if s := sentinel(0); errors.As(err, &s) {
			code = base.Code(s)
		}
	}
	return NewError(code, "", "%w", err)
}

// Error returns the message, and the hint behind it.
func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = sentinel(e.Code).Error()
	}
	if e.Hint == "" {
		return msg
	}
	return msg + "; " + e.Hint
}

// Is reports whether target is the sentinel of e's code, or the error that the
// standard library has for it.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == base.Code_deadlineExceeded
	case context.Canceled:
		return e.Code == base.Code_canceled
	}
	return target == error(sentinel(e.Code))
}

// Unwrap returns what NewError wrapped, nil in an error that was received.
func (e *Error) Unwrap() error { return e.cause }

// Encode returns e as a message of its own. What is too long to travel is cut.
func (e Error) Encode() ([]byte, error) {
	return encode(base.NewRootError, func(w *writer, s base.Error, e Error) { writeError(w, s, &e) }, e)
}

// DecodeError is the inverse of Error.Encode.
func DecodeError(b []byte) (Error, error) {
	return decode(b, func(r *reader, s base.Error) Error { return *readError(r, s) })
}

// maxContext bounds the facts of one error.
const maxContext = 32

// writeError never fails: what cannot be told in full is told in part.
func writeError(w *writer, s base.Error, e *Error) {
	s.SetCode(known(e.Code))
	w.prose("message", s.SetMessage_, e.Message, maxText)
	w.prose("hint", s.SetHint, e.Hint, maxText)
	s.SetTemporary(e.Temporary)
	facts := pairs(e.Context)
	writeList(w, "context", s.NewContext, maxContext, writeFact, facts[:min(len(facts), maxContext)])
}

func readError(r *reader, s base.Error) *Error {
	return &Error{
		Code:      known(s.Code()),
		Message:   r.text("message", s.Message_Bytes, maxText),
		Hint:      r.text("hint", s.HintBytes, maxText),
		Temporary: s.Temporary(),
		Context:   unpair(readList(r, "context", s.Context, maxContext, readPair)),
	}
}

// known takes a code that this build has no name for as an unknown failure,
// which is still a failure.
func known(c base.Code) base.Code {
	if c.String() == "" {
		return base.Code_unknown
	}
	return c
}

// KeyValue is a name and a text.
type KeyValue struct{ Key, Value string }

// writeFact writes a pair that a person reads, in part if need be.
func writeFact(w *writer, s base.KeyValue, p KeyValue) {
	w.prose("key", s.SetKey, p.Key, maxName)
	w.prose("value", s.SetValue, p.Value, maxText)
}

// writeSetting writes a pair that a program reads, in full.
func writeSetting(w *writer, s base.KeyValue, p KeyValue) {
	w.text("key", s.SetKey, p.Key, maxName)
	w.text("value", s.SetValue, p.Value, maxLong)
}

func readPair(r *reader, s base.KeyValue) KeyValue {
	return KeyValue{r.text("key", s.KeyBytes, maxName), r.text("value", s.ValueBytes, maxLong)}
}

// pairs lists a map in the order of its keys, so that equal maps give equal bytes.
func pairs(m map[string]string) []KeyValue {
	var list []KeyValue
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, KeyValue{k, m[k]})
	}
	return list
}

// unpair is the inverse of pairs. Of two values for one key the later one counts.
func unpair(list []KeyValue) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[p.Key] = p.Value
	}
	return m
}
