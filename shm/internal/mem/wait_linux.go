package mem

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations of futex(2). Neither has the private flag: waiter and waker are
// different processes.
const (
	futexWait = 0
	futexWake = 1
)

// Yield offers the rest of this thread's time slice to another thread. Go's
// scheduler knows of the call, so a long turn of the others costs no goroutine
// of this process its processor.
func Yield() { syscall.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// FutexWait parks the thread until somebody calls FutexWake on the same word, in
// whatever process and at whatever address, for at most timeout. It does not park
// when the word no longer holds seen. It may return early for no reason at all (a
// signal of Go's own preemption is a usual one), so the caller checks again what
// it waits for. The memory may be mapped read-only.
func (r Region) FutexWait(off uint64, seen uint32, timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	ts := unix.NsecToTimespec(timeout.Nanoseconds())
	syscall.Syscall6(unix.SYS_FUTEX, uintptr(r.at(off, 4)), futexWait, uintptr(seen), uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// FutexWake wakes up to n threads that are parked on the word.
func (r Region) FutexWake(off uint64, n int32) {
	syscall.Syscall6(unix.SYS_FUTEX, uintptr(r.at(off, 4)), futexWake, uintptr(n), 0, 0, 0)
}
