package segment

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
)

// TestAttachRefuses sends what a node would not send, one flaw at a time.
func TestAttachRefuses(t *testing.T) {
	s := create(t, small)
	l, err := s.NewLink(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	room, err := s.room(system.ArenaCommons)
	if err != nil {
		t.Fatal(err)
	}
	unsealed, err := memfd("inos-unsealed")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(unsealed)
	if err := unix.Ftruncate(unsealed, int64(len(l.memory.data))); err != nil {
		t.Fatal(err)
	}
	plain, err := newMapping("inos-plain", uint64(len(s.control.data)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.unmap()
	copy(plain.data, s.control.data)
	empty, err := newMapping("inos-empty", uint64(len(l.memory.data)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer empty.unmap()

	good := []int{descriptor(t, s.control.file), descriptor(t, l.memory.file), descriptor(t, room.file), descriptor(t, l.event)}
	for _, c := range []struct {
		name   string
		spoil  func(p *parcel, fds []int) []int
		cut    int // bytes off the message
		extend int
		says   string
	}{
		{name: "no descriptors", spoil: func(*parcel, []int) []int { return nil }, says: "0 descriptors"},
		{name: "one too few", spoil: func(_ *parcel, fds []int) []int { return fds[:3] }, says: "3 descriptors"},
		{name: "many too many", spoil: func(_ *parcel, fds []int) []int { return append(fds, fds...) }, says: "descriptors"},
		{name: "short message", cut: 1, says: "63 bytes"},
		{name: "long message", extend: 1, says: "65 bytes"},
		{name: "other major", spoil: func(p *parcel, fds []int) []int { p.major++; return fds }, says: "ABI 2.1"},
		{name: "other layout", spoil: func(p *parcel, fds []int) []int { p.layout++; return fds }, says: "layout"},
		{name: "arena zero", spoil: func(p *parcel, fds []int) []int { p.number = 0; return fds }, says: "number 0"},
		{name: "larger arena", spoil: func(p *parcel, fds []int) []int { p.bytes += page; return fds }, says: "the message says"},
		{name: "larger link", spoil: func(p *parcel, fds []int) []int { p.link += page; return fds }, says: "the message says"},
		{name: "other order", spoil: func(_ *parcel, fds []int) []int { fds[0], fds[1] = fds[1], fds[0]; return fds }, says: "the message says"},
		{name: "unsealed link", spoil: func(_ *parcel, fds []int) []int { fds[linkFd] = unsealed; return fds }, says: "seals"},
		{name: "writable control", spoil: func(_ *parcel, fds []int) []int { fds[controlFd] = descriptor(t, plain.file); return fds }, says: "seals"},
		{name: "link without header", spoil: func(_ *parcel, fds []int) []int { fds[linkFd] = descriptor(t, empty.file); return fds }, says: "begins with 0x0"},
		{name: "control as arena and link", spoil: func(p *parcel, fds []int) []int {
			p.link, fds[linkFd] = p.control, fds[controlFd]
			return fds
		}, says: "operation not permitted"},
		{name: "memory as doorbell", spoil: func(_ *parcel, fds []int) []int { fds[doorbellFd] = unsealed; return fds }, says: "poller"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, plugin, _ := channel(t)
			runtime.GC()
			before := holding(t)
			p := parcel{newPreamble(system.SegmentMagic, uint64(len(room.data))), uint64(len(s.control.data)), uint64(len(l.memory.data))}
			p.number = uint32(system.ArenaCommons)
			fds := append([]int(nil), good...)
			if c.spoil != nil {
				fds = c.spoil(&p, fds)
			}
			message := make([]byte, headerBytes+c.extend)
			p.encode(message)
			send(t, host, message[:len(message)-c.cut], fds)
			a, err := Attach(plugin)
			if a != nil || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("attached: %v, want %q", err, c.says)
			}
			if after := holding(t); after != before {
				t.Errorf("left %+v behind, had %+v", after, before)
			}
		})
	}
}

// descriptor returns the descriptor of a file that stays open.
func descriptor(t *testing.T, f *os.File) (n int) {
	t.Helper()
	if err := control(f, func(fd int) error { n = fd; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func send(t *testing.T, c *net.UnixConn, message []byte, fds []int) {
	t.Helper()
	if _, _, err := c.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
}

func TestAttachEndsWhenTheHostHangsUp(t *testing.T) {
	host, plugin, _ := channel(t)
	host.Close()
	if a, err := Attach(plugin); a != nil || err == nil {
		t.Errorf("attached: %v", err)
	}
}

func TestPassRefusesWhatIsGone(t *testing.T) {
	s := create(t, small)
	host, _, _ := channel(t)
	l, err := s.NewLink(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.NewPrivate("m", 4096)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropArena(a.ID()); err != nil {
		t.Fatal(err)
	}
	before := holding(t)
	if err := s.Pass(host, l, a); !errors.Is(err, ErrUnknown) {
		t.Errorf("passed a dropped arena: %v", err)
	}
	l.Close()
	before.descriptors -= 2 // the link's memory and doorbell
	before.mappings--
	if err := s.Pass(host, l, s.Commons()); err == nil {
		t.Error("passed a closed link")
	}
	if after := holding(t); after != before {
		t.Errorf("left %+v behind, had %+v", after, before)
	}
}

func TestMemoryIsClosedOnExec(t *testing.T) {
	s := create(t, small)
	l, err := s.NewLink(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"control": descriptor(t, s.control.file), "link": descriptor(t, l.memory.file), "doorbell": descriptor(t, l.event)} {
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: flags %#x, %v", name, flags, err)
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	for _, size := range []uint64{4 << 20, 256 << 20} {
		b.Run(fmt.Sprint(amount(size)), func(b *testing.B) {
			s := create(b, Options{Size: size})
			host, plugin, _ := channel(b)
			l, err := s.NewLink(1, 1)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.Pass(host, l, s.Commons()); err != nil {
					b.Fatal(err)
				}
				a, err := Attach(plugin)
				if err != nil {
					b.Fatal(err)
				}
				a.Close()
			}
		})
	}
}
