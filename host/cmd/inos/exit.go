package main

import (
	"context"
	"errors"
	"fmt"

	"inos/host/api"
	"inos/plugins/sdk/wire"
)

// Exit codes. The help of the root command lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotRunning  = 3
	exitNotFound    = 4
	exitInterrupted = 130
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command whose output has said already what is wrong.
var errReported = errors.New("")

// exitCode returns what the process says of how a command ended.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled) && !errors.Is(err, wire.ErrCanceled):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, api.ErrNotRunning):
		return exitNotRunning
	case errors.Is(err, wire.ErrNotFound):
		return exitNotFound
	default:
		return exitFailed
	}
}
