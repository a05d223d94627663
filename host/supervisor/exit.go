package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// ExitState says how a process ended.
type ExitState struct {
	PID int
	// Code is what it exited with, -1 if a signal ended it.
	Code int
	// Signal ended it, 0 if it exited by itself.
	Signal syscall.Signal
	// Killed says why the host killed it, empty if the host did not.
	Killed string
	// Limit names the bound for which it was ended, by the kernel or by the host, as
	// "the memory limit of 64 MiB"; empty if it ended for another reason.
	Limit string
	// Stderr is the last 4 KiB that it wrote to standard error, safe to print. Right after Dead
	// some of it can still be under way; Wait returns all.
	Stderr string
	// CPU is the time it used, PeakMemory the bytes it had resident at most.
	CPU        time.Duration
	PeakMemory uint64
}

// Clean says whether it ended as a program does that has nothing to complain of.
func (s ExitState) Clean() bool { return s.Code == 0 && s.Signal == 0 }

// String says it in a few words, its last ones included.
func (s ExitState) String() string {
	text := fmt.Sprintf("exit status %d", s.Code)
	switch {
	case s.Killed != "":
		text = "killed by the host: " + s.Killed
	case s.Limit != "" && s.Signal == syscall.SIGKILL:
		text = "killed by " + s.Limit
	case s.Limit != "":
		text += ", at " + s.Limit
	case s.Signal != 0:
		text = fmt.Sprintf("signal %d (%s)", s.Signal, s.Signal)
	}
	if words := lastWords(s.Stderr); words != "" && !s.Clean() {
		text += fmt.Sprintf(", last words %q", words)
	}
	return text
}

// maxWords bounds what is quoted of a plugin in a message, in bytes.
const maxWords = 240

// lastWords picks the line of a standard error that says most: the beginning of
// a Go panic, else the last line.
func lastWords(stderr string) string {
	last := ""
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return cut(line)
		}
		if line != "" {
			last = line
		}
	}
	return cut(last)
}

func cut(text string) string {
	if len(text) > maxWords {
		return text[:maxWords] + "..."
	}
	return text
}
