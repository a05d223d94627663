package wire

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic returns CLOCK_MONOTONIC in nanoseconds: the clock of every deadline
// in a job, since all processes of one boot agree on it.
func Monotonic() int64 {
	var t unix.Timespec
	// It cannot fail: the clock exists on every Linux and the pointer is good.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// MonotonicAt returns what Monotonic will give at t.
func MonotonicAt(t time.Time) int64 { return Monotonic() + int64(time.Until(t)) }
