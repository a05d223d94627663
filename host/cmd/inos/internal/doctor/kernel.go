package doctor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
	"inos/shm/segment"
)

// since names what a node needs of Linux and the release that brought it.
var since = []struct {
	major, minor int
	what         string
	level        Level
}{
	{5, 1, "memory that only its maker may write (F_SEAL_FUTURE_WRITE)", Fail},
	{5, 3, "watching processes without a race (pidfd_open)", Fail},
	{5, 14, "filling memory ahead of use (MADV_POPULATE_WRITE)", Warn},
}

func kernel() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fail("kernel", err.Error(), "use Linux")
	}
	return judgeKernel(unix.ByteSliceToString(u.Release[:]))
}

func judgeKernel(release string) Finding {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return warn("kernel", "release "+release+" is not understood", "see the checks below")
	}
	for _, s := range since {
		if major < s.major || major == s.major && minor < s.minor {
			return Finding{
				Check: "kernel", Level: s.level, Detail: "Linux " + release + " lacks " + s.what,
				Advice: fmt.Sprintf("use Linux %d.%d or newer", s.major, s.minor),
			}
		}
	}
	return ok("kernel", "Linux "+release)
}

// wakeTimeout bounds a wait that ends at once on a machine that is well.
const wakeTimeout = 5 * time.Second

// sharedMemory makes the smallest segment there is and waits on one of its
// counters: memfd, its seals and the futex in one.
func sharedMemory() Finding {
	const check = "shared memory"
	s, err := segment.Create(segment.Options{Size: system.SegmentMinimum, RingEntries: system.RingEntriesMinimum})
	if err != nil {
		return fail(check, err.Error(), "allow memfd_create and its seals, in a container's seccomp profile for instance")
	}
	defer s.Close()
	var signalled sync.WaitGroup
	defer signalled.Wait() // before the memory goes
	ctx, cancel := context.WithTimeout(context.Background(), wakeTimeout)
	defer cancel()
	e := s.Epochs()
	seen := e.Load(uint16(system.HostEpoch_health))
	signalled.Go(func() { e.Signal(uint16(system.HostEpoch_health)) })
	if _, err := e.Wait(ctx, uint16(system.HostEpoch_health), seen); err != nil {
		return fail(check, "a futex in shared memory wakes nobody: "+err.Error(), "allow futex, in a container's seccomp profile for instance")
	}
	return ok(check, "memfd sealed against writing, shrinking and growing; futex wakes")
}

func deathWatch() Finding {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fail("pidfd", err.Error(), "use Linux 5.3 or newer, and allow pidfd_open in a container's seccomp profile")
	}
	unix.Close(fd)
	return ok("pidfd", "the death of a plugin is seen at once")
}

func doorbell() Finding {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fail("eventfd", err.Error(), "allow eventfd2, in a container's seccomp profile for instance")
	}
	unix.Close(fd)
	return ok("eventfd", "available")
}
