package sdk

import (
	"fmt"
	"runtime"
	"strings"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Error is a failure that carries a code, a message and what to do next.
type Error = wire.Error

// Code is the kind of an error.
type Code = base.Code

// Codes of errors that a handler makes most often.
const (
	InvalidArgument  = base.Code_invalidArgument
	NotFound         = base.Code_notFound
	AlreadyExists    = base.Code_alreadyExists
	PermissionDenied = base.Code_permissionDenied
	Exhausted        = base.Code_resourceExhausted
	Unavailable      = base.Code_unavailable
	NotSupported     = base.Code_notSupported
	DataLoss         = base.Code_dataLoss
	Internal         = base.Code_internal
)

// Errorf makes an error for the caller of a job: its kind, what to do next, and
// what happened. An error wrapped with %w is found by errors.Is on this side of the
// process boundary; its text crosses it.
func Errorf(code Code, hint, format string, args ...any) error {
	return wire.NewError(code, hint, format, args...)
}

// maxFrames bounds what one panic puts into the log.
const maxFrames = 24

// stack names the callers of a panic in one line, the innermost first, since a
// line is what a log keeps together.
func stack() string {
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers[:])])
	var list []string
	for panicked := false; len(list) < maxFrames; {
		f, more := frames.Next()
		if panicked && f.Function != "" {
			list = append(list, fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line))
		}
		panicked = panicked || f.Function == "runtime.gopanic"
		if !more {
			break
		}
	}
	return strings.Join(list, " < ")
}
