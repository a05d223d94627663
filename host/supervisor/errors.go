package supervisor

import (
	"errors"
	"fmt"
)

var (
	// ErrDied says that the process has ended.
	ErrDied = errors.New("the plugin's process has ended")
	// ErrForced says that a process had to be killed because it did not stop when
	// it was asked.
	ErrForced = errors.New("the plugin had to be killed")
	// ErrClosed says that the Supervisor is closed.
	ErrClosed = errors.New("supervisor: closed")
	// ErrCrashLoop says that a plugin died so often that it is not started again.
	ErrCrashLoop = errors.New("crash loop")
)

// Reason says why a plugin did not start. It is an error, so that errors.Is
// finds it in a *LaunchError.
type Reason uint8

// The reasons.
const (
	BadSpec       Reason = iota + 1 // the caller asks for what cannot be
	BadDigest                       // the binary is not the one that was admitted
	CannotExecute                   // the kernel does not start it
	NotOurs                         // it speaks go-plugin, but to another host
	Noise                           // it printed something else than the handshake
	WrongProtocol                   // it speaks another version of the protocol
	Crashed                         // it ended before it was ready
	Hung                            // it was not ready in time
	Unreachable                     // it shook hands and cannot be spoken to
	Canceled                        // the caller gave up
)

// reasons holds the text of each reason and what usually helps.
var reasons = [...]struct{ text, hint string }{
	BadSpec:       {"bad-spec", "correct the node's configuration"},
	BadDigest:     {"bad-digest", "the stored binary is damaged; remove it from the store and start the node again"},
	CannotExecute: {"cannot-execute", "check that it is a program for this machine and that its file system is not mounted noexec"},
	NotOurs:       {"not-ours", "build it with this project's plugin SDK"},
	Noise:         {"noise-before-handshake", "print to standard error: standard output belongs to the handshake until the plugin is served"},
	WrongProtocol: {"wrong-protocol", "build it again with the plugin SDK of this node's version"},
	Crashed:       {"crashed-at-start", "read what it printed last; run it by hand to see more"},
	Hung:          {"hung-at-start", "let it do slow work in Configure or Start, after it is served; or raise the start timeout"},
	Unreachable:   {"unreachable", "read what it printed last"},
	Canceled:      {"canceled", "start it again"},
}

// String returns the reason as one word, as it is printed and logged.
func (r Reason) String() string {
	if int(r) < len(reasons) && reasons[r].text != "" {
		return reasons[r].text
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Error is String.
func (r Reason) Error() string { return r.String() }

// LaunchError says why a plugin did not start. Its process, if there ever was
// one, is gone.
type LaunchError struct {
	Name   string // of the plugin
	Reason Reason
	Detail string // what happened
	Hint   string // what to do about it
	Stderr string // the last 4 KiB that it wrote to standard error, safe to print
	Err    error  // what else to find with errors.Is; nil if there is nothing
}

// Error names the plugin, the reason and the way out.
func (e *LaunchError) Error() string {
	return fmt.Sprintf("plugin %q: %s: %s; %s", e.Name, e.Reason, e.Detail, e.Hint)
}

// Unwrap gives the Reason and the cause to errors.Is.
func (e *LaunchError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// failure is a LaunchError with the usual hint.
func failure(r Reason, err error, format string, args ...any) *LaunchError {
	return &LaunchError{Reason: r, Err: err, Detail: fmt.Sprintf(format, args...), Hint: reasons[r].hint}
}
