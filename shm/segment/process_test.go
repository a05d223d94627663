package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/internal/twin"
	"inos/shm/ring"
)

// long is a deadline that only a lost wake-up reaches.
const long = 90 * time.Second

// attachFirst attaches to what comes on the first inherited file.
func attachFirst(files []*os.File) (*Attached, error) {
	conn, err := unixConn(files[0])
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return Attach(conn)
}

// start runs a role in a second process that attaches to a link of s and to a.
func start(t *testing.T, s *Segment, role string, a *arena.Arena) (*Link, *twin.Process) {
	t.Helper()
	l, err := s.NewLink(1, 3)
	if err != nil {
		t.Fatal(err)
	}
	host, _, inherited := channel(t)
	p := twin.Start(t, role, inherited)
	if err := s.Pass(host, l, a); err != nil {
		t.Fatal(err)
	}
	return l, p
}

// serve is a plugin: it writes what it is given in capital letters into a block
// that it was lent, until it is told to stop.
func serve(files []*os.File) error {
	a, err := attachFirst(files)
	if err != nil {
		return err
	}
	if a.Instance != 1 || a.Incarnation != 3 || !strings.HasPrefix(string(a.Node), "node of a test\x00") {
		return fmt.Errorf("attached as %d, %d of %q", a.Instance, a.Incarnation, a.Node)
	}
	if m, err := a.Registry.Snapshot(); len(m) != 0 || err != nil {
		return fmt.Errorf("registry: %v, %w", m, err)
	}
	deadline := time.Now().Add(long)
	var lease, d ring.Descriptor
	for d.Kind != system.DescriptorKind_cancel {
		a.Heartbeat()
		if !a.PluginBell.Wait(a.Submissions.Ready, deadline) {
			return errors.New("nothing came")
		}
		if ok, err := a.Submissions.Pop(&d); !ok || err != nil || d.Kind != system.DescriptorKind_submit {
			continue
		}
		if ok, err := a.Credits.Pop(&lease); !ok || err != nil {
			return fmt.Errorf("no lease for job %d: %w", d.Job, err)
		}
		in, err := a.Arena.View(d.Ref)
		if err != nil {
			return err
		}
		out, err := a.Arena.View(lease.Ref)
		if err != nil {
			return err
		}
		done := ring.Descriptor{Kind: system.DescriptorKind_done, Job: d.Job, Ref: lease.Ref}
		done.Ref.Length = uint64(copy(out, strings.ToUpper(string(in))))
		if err := a.Completions.Push(&done); err != nil {
			return err
		}
		a.HostBell.Ring()
	}
	// A doorbell that is left, and nothing else of the four.
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "memfd:inos") {
			return fmt.Errorf("descriptor %s is still %s", fd.Name(), to)
		}
	}
	return errors.Join(a.Close(), a.Close())
}

func TestJobsCrossProcesses(t *testing.T) {
	s := create(t, small)
	vault, err := s.NewPrivate("vault", 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*arena.Arena{"commons": s.Commons(), "private": vault} {
		t.Run(name, func(t *testing.T) {
			l, child := start(t, s, "serve", a)
			defer l.Close()
			const owner = 1
			deadline := time.Now().Add(long)
			for job := range uint64(500) {
				text := fmt.Sprintf("job number %d", job)
				in, err := a.Alloc(uint64(len(text)), owner)
				if err != nil {
					t.Fatal(err)
				}
				out, err := a.Alloc(64, owner)
				if err != nil {
					t.Fatal(err)
				}
				view, err := a.View(in)
				if err != nil {
					t.Fatal(err)
				}
				copy(view, text)
				if err := errors.Join(l.Credits.Push(&ring.Descriptor{Kind: system.DescriptorKind_lease, Ref: out}),
					l.Submissions.Push(&ring.Descriptor{Kind: system.DescriptorKind_submit, Job: job, Ref: in})); err != nil {
					t.Fatal(err)
				}
				l.PluginBell.Ring()
				if !l.HostBell.Wait(l.Completions.Ready, deadline) || time.Now().After(deadline) {
					t.Fatalf("job %d was lost", job)
				}
				var d ring.Descriptor
				if ok, err := l.Completions.Pop(&d); !ok || err != nil || d.Job != job {
					t.Fatalf("job %d: %v, %v, %+v", job, ok, err, d)
				}
				if err := a.Verify(d.Ref, owner); err != nil {
					t.Fatal(err)
				}
				if got, err := a.View(d.Ref); err != nil || string(got) != strings.ToUpper(text) {
					t.Fatalf("got %q, %v", got, err)
				}
				if err := errors.Join(a.Release(in), a.Release(out)); err != nil {
					t.Fatal(err)
				}
			}
			if u := s.Usage().Links[0]; u.Submitted != 500 || u.Completed != 500 || u.Credited != 500 || u.Heartbeat < 500 {
				t.Errorf("usage %+v", u)
			}
			if err := l.Submissions.Push(&ring.Descriptor{Kind: system.DescriptorKind_cancel}); err != nil {
				t.Fatal(err)
			}
			l.PluginBell.Ring()
			child.Wait(t)
		})
	}
}

// writeControl tries every way to write the control part, of which it has the
// descriptor, and to take memory away from any part.
func writeControl(files []*os.File) error {
	conn, err := unixConn(files[0])
	if err != nil {
		return err
	}
	_, fds, err := receive(conn)
	if err != nil {
		return err
	}
	fd, size := fds[controlFd], 4*int(page)
	ro, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR, 0)
	if err != nil {
		again = fd // not even that
	}
	byteAt := []byte{0xff}
	var wrong []error
	for name, try := range map[string]func() error{
		"map for writing": func() error {
			_, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			return err
		},
		"mprotect": func() error { return unix.Mprotect(ro, unix.PROT_READ|unix.PROT_WRITE) },
		"write":    func() error { _, err := unix.Write(fd, byteAt); return err },
		"pwrite":   func() error { _, err := unix.Pwrite(fd, byteAt, 0); return err },
		"punch a hole": func() error {
			return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(page))
		},
		"zero a range":          func() error { return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 0, int64(page)) },
		"remove":                func() error { return unix.Madvise(ro, unix.MADV_REMOVE) },
		"write after reopening": func() error { _, err := unix.Pwrite(again, byteAt, 0); return err },
		"map after reopening":   func() error { _, err := unix.Mmap(again, 0, size, unix.PROT_WRITE, unix.MAP_SHARED); return err },
		"truncate by reopening": func() error {
			_, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_TRUNC, 0)
			return err
		},
		"punch a hole after reopening": func() error {
			return unix.Fallocate(again, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(page))
		},
		"copy into":      func() error { _, err := unix.CopyFileRange(fds[linkFd], new(int64), fd, new(int64), 8, 0); return err },
		"splice into":    func() error { return spliceInto(fd) },
		"more seals":     func() error { return addSeal(fds[arenaFd], unix.F_SEAL_WRITE) },
		"shrink control": func() error { return unix.Ftruncate(fd, 0) },
		"shrink link":    func() error { return unix.Ftruncate(fds[linkFd], 0) },
		"grow link":      func() error { return unix.Ftruncate(fds[linkFd], 1<<30) },
		"shrink arena":   func() error { return unix.Ftruncate(fds[arenaFd], 4096) },
	} {
		if err := try(); err == nil {
			wrong = append(wrong, fmt.Errorf("could %s", name))
		}
	}
	for i, b := range ro {
		if b != 0 && i >= headerBytes && i < int(system.HeaderSize) {
			wrong = append(wrong, fmt.Errorf("byte %d is now %#x", i, b))
		}
	}
	return errors.Join(wrong...)
}

func addSeal(fd, seal int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seal)
	return err
}

func spliceInto(fd int) error {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	defer closeAll(p[:])
	if _, err := unix.Write(p[1], make([]byte, 8)); err != nil {
		return err
	}
	_, err := unix.Splice(p[0], nil, fd, new(int64), 8, unix.SPLICE_F_NONBLOCK)
	return err
}

func TestPluginCannotWriteTheControlPart(t *testing.T) {
	s := create(t, small)
	header := append([]byte(nil), s.control.data[:headerBytes]...)
	l, child := start(t, s, "write control", s.Commons())
	child.Wait(t)
	if string(s.control.data[:headerBytes]) != string(header) {
		t.Errorf("the header is now %x", s.control.data[:headerBytes])
	}
	s.Epochs().Signal(1) // the host's own mapping still writes
	if s.Epochs().Load(1) != 1 {
		t.Error("the host cannot write either")
	}
	l.Close()
	// The seal holds in the host's process too, for a second mapping.
	err := control(s.control.file, func(fd int) error {
		_, err := unix.Mmap(fd, 0, int(page), unix.PROT_WRITE, unix.MAP_SHARED)
		return err
	})
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("mapped again for writing: %v", err)
	}
}

// scribble overwrites all it can reach with rubbish, in words, lines and bytes,
// until it is killed. It begins with a completion, to show that it has attached.
func scribble(files []*os.File) error {
	a, err := attachFirst(files)
	if err != nil {
		return err
	}
	if err := a.Completions.Push(&ring.Descriptor{}); err != nil {
		return err
	}
	a.HostBell.Ring()
	link, blocks := a.mappings[1], a.mappings[2]
	rng := rand.New(rand.NewPCG(1, 2))
	for end := time.Now().Add(long); time.Now().Before(end); {
		for range 1 << 10 {
			b := link
			if rng.IntN(8) == 0 {
				b = blocks
			}
			at := rng.IntN(len(b) - 64)
			for i := range rng.IntN(64) {
				b[at+i] = byte(rng.Uint32())
			}
		}
		a.HostBell.Ring()
	}
	return errors.New("nobody killed the scribbler")
}

func TestHostSurvivesAScribbler(t *testing.T) {
	s := create(t, small)
	l, _ := start(t, s, "scribble", s.Commons())
	deadline := time.Now().Add(long)
	if !l.HostBell.Wait(l.Completions.Ready, deadline) {
		t.Fatal("the scribbler did not begin")
	}
	var stop atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for !stop.Load() {
			s.Usage()
			l.PluginBell.Ring()
			l.Epochs.Load(uint16(system.LinkEpoch_heartbeat))
		}
	})
	forged, own := 0, &Link{memory: l.memory, table: l.table}
	for range 3000 {
		// Fresh ends of the same memory, once one is broken.
		if own.Submissions == nil || errors.Join(own.Submissions.Err(), own.Completions.Err(), own.Credits.Err()) != nil {
			forged++
			if err := own.openRings(s.options.RingEntries); err != nil {
				t.Fatal(err)
			}
		}
		d := ring.Descriptor{Job: 1}
		_ = own.Submissions.Push(&d)
		_ = own.Credits.Push(&d)
		l.HostBell.Wait(own.Completions.Ready, time.Now().Add(time.Millisecond))
		if ok, err := own.Completions.Pop(&d); ok && err == nil {
			_ = s.Commons().Verify(d.Ref, 1)
		}
	}
	stop.Store(true)
	others.Wait()
	if forged < 2 {
		t.Error("no forgery was found")
	}
	if n := s.Commons().Stats().Blocks; n != 0 {
		t.Errorf("%d blocks appeared", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLinkGivesBackDescriptorsAndMappings(t *testing.T) {
	s := create(t, small)
	host, plugin, _ := channel(t)
	runtime.GC()
	before := holding(t)
	for i := range uint32(20) {
		l, err := s.NewLink(i, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Pass(host, l, s.Commons()); err != nil {
			t.Fatal(err)
		}
		a, err := Attach(plugin)
		if err != nil {
			t.Fatal(err)
		}
		var waiters sync.WaitGroup
		never := func() bool { return false }
		waiters.Go(func() { l.HostBell.Wait(never, time.Now().Add(long)) })
		waiters.Go(func() { a.PluginBell.Wait(never, time.Now().Add(long)) })
		if err := errors.Join(l.Close(), a.Close(), l.Close(), a.Close()); err != nil {
			t.Fatal(err)
		}
		waiters.Wait()
		l.PluginBell.Ring()
		a.HostBell.Ring()
	}
	if after := holding(t); after != before {
		t.Errorf("left %+v behind, had %+v", after, before)
	}
}
