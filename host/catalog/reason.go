package catalog

import (
	"fmt"
	"path/filepath"
)

// Reason says why a file is refused. It is an error, so that errors.Is finds it
// in a *Refusal.
type Reason uint8

// The reasons.
const (
	NotAPlugin         Reason = iota + 1 // neither an ELF program nor a #! script
	WrongArchitecture                    // a program for another machine
	Truncated                            // its header speaks of more bytes than there are
	NotExecutable                        // has no executable bit
	UnsafePermissions                    // somebody else could change it
	BadChecksum                          // not the bytes that the operator's list names
	TooLarge                             // more bytes than the limit
	TooMany                              // more files than the limit
	Unreadable                           // cannot be opened or read
	MissingInterpreter                   // the program that must run it is not installed
	BadName                              // a name that cannot be printed
	Changed                              // other bytes than were inspected
	BadSignature                         // not signed by whom it says, or by somebody unknown
)

// reasons holds the text of each reason and what usually helps.
var reasons = [...]struct{ text, hint string }{
	NotAPlugin:         {"not-a-plugin", "put only programs built with the plugin SDK into the folder"},
	WrongArchitecture:  {"wrong-architecture", "build it for " + here()},
	Truncated:          {"truncated", "copy it again; write it under a name that begins with a dot and rename it when it is complete"},
	NotExecutable:      {"not-executable", "chmod u+x it if it is a plugin, else move it away"},
	UnsafePermissions:  {"unsafe-permissions", "let only the operator write it"},
	BadChecksum:        {"bad-checksum", "fetch the binary again, or write its true digest with sha256sum"},
	TooLarge:           {"too-large", "raise the limit, or strip the binary"},
	TooMany:            {"too-many", "move the files away that are no plugins, or raise the limit"},
	Unreadable:         {"unreadable", "let the operator read it"},
	MissingInterpreter: {"missing-interpreter", "install it, or build the plugin with CGO_ENABLED=0"},
	BadName:            {"bad-name", "rename it: letters, digits and punctuation, no control characters"},
	Changed:            {"changed", "wait until it is copied completely"},
	BadSignature:       {"bad-signature", "fetch the binary and its signature again, or sign it anew"},
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

// Refusal is the error of a file that is not taken.
type Refusal struct {
	File   string // its path as it was given
	Reason Reason
	Detail string // what is wrong with this file
	Hint   string // what the operator can do
}

// Error names the file, the reason and the way out.
func (r *Refusal) Error() string {
	return fmt.Sprintf("plugin file %q: %s: %s; %s", filepath.Base(r.File), r.Reason, r.Detail, r.Hint)
}

// Unwrap gives the Reason to errors.Is.
func (r *Refusal) Unwrap() error { return r.Reason }

// refuse is a refusal with the usual hint. The file is filled in by whoever
// knows it.
func refuse(r Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: r, Detail: fmt.Sprintf(format, args...), Hint: reasons[r].hint}
}

// about completes a refusal with the file it is about.
func (r *Refusal) about(file string) *Refusal {
	r.File = file
	return r
}

// but replaces the usual hint.
func (r *Refusal) but(format string, args ...any) *Refusal {
	r.Hint = fmt.Sprintf(format, args...)
	return r
}
