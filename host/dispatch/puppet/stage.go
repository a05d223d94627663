// Package puppet is the plugin's side of a link in the hands of a test: a real
// segment, passed and attached to as between two processes, of which the test
// moves one descriptor after the other, honest or hostile.
//
// Only tests of the host's rooms use it. It knows nothing of the engine that it
// is to deceive.
package puppet

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"inos/shm/arena"
	"inos/shm/segment"
)

// Stage is a segment that must be left as it was found: when the test ends, no
// arena may hold a block, and no descriptor may be open that was not before.
type Stage struct {
	*segment.Segment
	t testing.TB
}

// NewStage makes a segment of 8 MiB, half of it commons, with rings of so many
// entries, 0 for the default.
func NewStage(t testing.TB, entries uint32) *Stage {
	t.Helper()
	before := descriptors(t)
	s, err := segment.Create(segment.Options{Size: 8 << 20, RingEntries: entries})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil { // names the arenas that are not empty
			t.Error(err)
		}
		if after := descriptors(t); after != before {
			t.Errorf("%d descriptors are open, %d were before", after, before)
		}
	})
	return &Stage{Segment: s, t: t}
}

// Private makes a private arena.
func (s *Stage) Private(module string, size uint64) *arena.Arena {
	s.t.Helper()
	a, err := s.NewPrivate(module, size)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// Puppet makes a link and attaches to it. Close it before the test ends.
func (s *Stage) Puppet(instance uint32, a *arena.Arena) *Puppet {
	s.t.Helper()
	others := links(s.t)
	l, err := s.NewLink(instance, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	var memory string
	for path := range links(s.t) {
		if !others[path] {
			memory = path
		}
	}
	host, plugin := pair(s.t)
	defer host.Close()
	defer plugin.Close()
	if err := s.Pass(host, l, a); err != nil {
		s.t.Fatal(err)
	}
	at, err := segment.Attach(plugin)
	if err != nil {
		s.t.Fatal(err)
	}
	return newPuppet(s.t, at, l, memory)
}

// pair returns both ends of a connection.
func pair(t testing.TB) (host, plugin *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for n, fd := range fds {
		f := os.NewFile(uintptr(fd), "channel")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[n] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// links lists the memory of all links that this process has open.
func links(t testing.TB) map[string]bool {
	t.Helper()
	list := make(map[string]bool)
	for path, to := range open(t) {
		if strings.Contains(to, "memfd:inos-link") {
			list[path] = true
		}
	}
	return list
}

// open lists what this process has open, and what that is.
func open(t testing.TB) map[string]string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]string)
	for _, fd := range fds {
		path := "/proc/self/fd/" + fd.Name()
		list[path], _ = os.Readlink(path) // closed meanwhile, then it is nothing
	}
	return list
}

// descriptors counts what this process has open of the kinds that a segment has:
// memory, doorbells and sockets.
func descriptors(t testing.TB) (n int) {
	t.Helper()
	// The poller of the Go runtime has a doorbell of its own from its first use on.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), w.Close()
	for _, to := range open(t) {
		if strings.Contains(to, "memfd:inos") || strings.Contains(to, "eventfd") || strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
