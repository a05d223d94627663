package segment

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/epoch"
	"inos/shm/internal/mem"
	"inos/shm/layout"
	"inos/shm/registry"
	"inos/shm/ring"
)

// populateAtMost bounds what Attach spends on page tables, some 6 ms: a swap waits for
// it, and must not take longer the more state there is. What lies behind costs a
// minor fault a page when it is first touched.
const populateAtMost = 64 << 20

// Attached is the plugin's side of the segment. The rings belong to one goroutine
// at a time each; all else to any.
type Attached struct {
	Instance    uint32 // this process, as the host calls it
	Incarnation uint32 // how often its module has been started
	Node        []byte // name of the node, 32 bytes

	Epochs   epoch.Reader // of the host, numbered by system.HostEpoch
	Registry *registry.Reader

	Signals     *epoch.Table // of this process, numbered by system.LinkEpoch
	Submissions *ring.Consumer
	Completions *ring.Producer
	Credits     *ring.Consumer
	HostBell    *epoch.Bell // rung here
	PluginBell  *epoch.Bell // waited for here

	Arena *arena.Client

	mappings [][]byte
	once     sync.Once
}

// Attach takes what Pass sends on conn, checks that both sides were built for the
// same memory and that nobody can take it away, and maps it. Errors wrap
// ErrIncompatible, or are those of the socket and of mmap. The caller keeps conn.
func Attach(conn *net.UnixConn) (*Attached, error) {
	p, fds, err := receive(conn)
	defer func() { closeAll(fds) }() // mappings outlive their descriptors
	if err != nil {
		return nil, err
	}
	a := new(Attached)
	if err := a.attach(p, fds); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Attached) attach(p parcel, fds []int) error {
	const ro, rw = unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE
	controlPart, err := a.mmap("control part", fds[controlFd], p.control, ro, unix.F_SEAL_FUTURE_WRITE)
	if err != nil {
		return err
	}
	link, err := a.mmap("link", fds[linkFd], p.link, rw, 0)
	if err != nil {
		return err
	}
	blocks, err := a.mmap("arena", fds[arenaFd], p.bytes, rw, 0)
	if err != nil {
		return err
	}
	a.Arena = arena.NewClient(uint16(p.number), blocks)
	if err := a.readControl(controlPart); err != nil {
		return err
	}
	doorbell := os.NewFile(uintptr(fds[doorbellFd]), "doorbell")
	fds[doorbellFd] = -1
	if err := a.openLink(link, doorbell); err != nil {
		if a.HostBell == nil {
			_ = doorbell.Close()
		}
		return err
	}
	return nil
}

// mmap maps a memfd that has the stated size for good.
func (a *Attached) mmap(what string, fd int, size uint64, prot, seals int) (mem.Region, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return mem.Region{}, fmt.Errorf("segment: %s: %w", what, err)
	}
	if uint64(st.Size) != size {
		return mem.Region{}, fmt.Errorf("%w: the %s has %d bytes, the message says %d", ErrIncompatible, what, st.Size, size)
	}
	seals |= sealAlways
	has, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return mem.Region{}, fmt.Errorf("%w: the %s cannot be sealed: somebody could take its memory away: %w", ErrIncompatible, what, err)
	}
	if has&seals != seals {
		return mem.Region{}, fmt.Errorf("%w: the %s has seals %#x, not %#x: somebody could take its memory away",
			ErrIncompatible, what, has, seals)
	}
	b, err := unix.Mmap(fd, 0, int(size), prot, unix.MAP_SHARED)
	if err != nil {
		return mem.Region{}, fmt.Errorf("segment: mapping the %s of %s: %w", what, amount(size), err)
	}
	a.mappings = append(a.mappings, b)
	advice := unix.MADV_POPULATE_READ
	if prot&unix.PROT_WRITE != 0 {
		advice = unix.MADV_POPULATE_WRITE
	}
	// A kernel that cannot do it does it page by page, later.
	_ = populate(b[:min(len(b), populateAtMost)], advice)
	return mem.Of(b), nil
}

func (a *Attached) readControl(m mem.Region) (err error) {
	table := layout.Control()
	if m.Size() != table.Size() {
		return fmt.Errorf("%w: the control part has %d bytes, not %d", ErrIncompatible, m.Size(), table.Size())
	}
	var h controlHeader
	if err := h.parse(m.MustSub(0, headerBytes).Bytes()); err != nil {
		return err
	}
	a.Node = h.node
	if a.Epochs, err = epoch.NewReader(part(m, table, layout.Epochs)); err != nil {
		return err
	}
	a.Registry, err = registry.NewReader(registryAreas(m, table))
	return err
}

func (a *Attached) openLink(m mem.Region, doorbell *os.File) error {
	header := [headerBytes]byte(m.MustSub(0, headerBytes).Bytes())
	var h linkHeader
	table, err := h.parse(header[:])
	if err != nil {
		return err
	}
	if m.Size() != h.bytes {
		return fmt.Errorf("%w: the link has %d bytes, its header says %d", ErrIncompatible, m.Size(), h.bytes)
	}
	a.Instance, a.Incarnation = h.instance, h.incarnation
	var errs [6]error
	a.Submissions, errs[0] = ring.NewConsumer(part(m, table, layout.Submissions), h.number)
	a.Completions, errs[1] = ring.NewProducer(part(m, table, layout.Completions), h.number)
	a.Credits, errs[2] = ring.NewConsumer(part(m, table, layout.Credits), h.number)
	a.Signals, errs[3] = epoch.NewTable(part(m, table, layout.Epochs))
	a.PluginBell, errs[4] = epoch.NewFutexBell(bell(m, table, layout.PluginBell))
	a.HostBell, errs[5] = epoch.NewEventBell(bell(m, table, layout.HostBell), doorbell)
	return errors.Join(errs[:]...)
}

// Heartbeat shows the host that this process is alive. It makes no call: the host
// looks now and then.
func (a *Attached) Heartbeat() { a.Signals.Touch(uint16(system.LinkEpoch_heartbeat)) }

// Close unmaps everything. No ring, epoch, view or registry may be in use any
// more; bells may, and those who wait for them return. Another Close does nothing.
func (a *Attached) Close() (err error) {
	a.once.Do(func() {
		for _, b := range []*epoch.Bell{a.PluginBell, a.HostBell} {
			if b != nil {
				err = errors.Join(err, b.Close())
			}
		}
		for _, m := range a.mappings {
			err = errors.Join(err, unix.Munmap(m))
		}
	})
	return err
}
