package sdk

import (
	"context"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
	"inos/shm/segment"
)

// patience is a deadline that only what hangs reaches.
const patience = 30 * time.Second

// hosted is a plugin over real rings, of which the test holds the host's ends.
type hosted struct {
	*testing.T
	*lifecycle
	arena *arena.Arena
	link  *segment.Link
	late  []ring.Descriptor // taken off the ring while the test waited for another
	next  uint64
}

// owner of what the plugin is lent.
const owner = 7

// host configures a plugin as a node would, up to its start.
func host(t *testing.T, p *Plugin, kernel wire.Kernel) *hosted {
	t.Helper()
	p.Name, p.Version = "t", "1.0.0"
	m, err := p.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	s, err := segment.Create(segment.Options{Size: 8 << 20, RingEntries: 64})
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.NewLink(owner, 1)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := sockets(t)
	if err := s.Pass(ours, link, s.Commons()); err != nil {
		t.Fatal(err)
	}
	at, err := segment.Attach(theirs)
	if err != nil {
		t.Fatal(err)
	}
	h := &hosted{T: t, lifecycle: newLifecycle(p, m, hclog.NewNullLogger(), nil), arena: s.Commons(), link: link}
	h.kernel = nothing{}
	h.lifecycle.host = &Host{kernel: kernel, log: h.log, calls: new(atomic.Uint64)}
	h.session = newSession(p, at, h.lifecycle.host, h.log)
	h.lifecycle.host.session = h.session
	h.phase.Store(configured)
	t.Cleanup(func() {
		ctx, stop := h.soon()
		defer stop()
		if err := h.stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
		h.arena.Reclaim(owner)
		if err := at.Close(); err != nil {
			t.Error(err)
		}
		if err := link.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil { // names what is left in the arena
			t.Error(err)
		}
	})
	return h
}

// serve is host for a plugin that is started.
func serve(t *testing.T, p *Plugin) *hosted {
	t.Helper()
	h := host(t, p, nil)
	h.obey(wire.Start{})
	return h
}

// nothing can be closed.
type nothing struct{}

func (nothing) Close() error { return nil }

func sockets(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "channel")
		c, err := net.FileConn(f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// soon is a context for what must not hang.
func (h *hosted) soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// obey has the plugin do a command and fails the test when it cannot.
func (h *hosted) obey(c wire.CommandBody) {
	h.Helper()
	if err := h.command(c); err != nil {
		h.Fatalf("%T: %v", c, err)
	}
}

func (h *hosted) command(c wire.CommandBody) error {
	ctx, stop := h.soon()
	defer stop()
	r, err := h.Command(ctx, wire.Command{ID: 1, Body: c})
	if err == nil && r.Err != nil {
		err = r.Err
	}
	return err
}

// put copies bytes into a block of the host's.
func (h *hosted) put(b []byte) arena.Ref {
	h.Helper()
	ref, err := h.arena.Alloc(uint64(len(b)), arena.Host)
	if err != nil {
		h.Fatal(err)
	}
	v, err := h.arena.View(ref)
	if err != nil {
		h.Fatal(err)
	}
	copy(v, b)
	h.Cleanup(func() { // before that of host
		if err := h.arena.Release(ref); err != nil {
			h.Error(err)
		}
	})
	return ref
}

// send puts descriptors on the submission ring, then rings.
func (h *hosted) send(list ...ring.Descriptor) {
	h.Helper()
	for _, d := range list {
		if err := h.link.Submissions.Push(&d); err != nil {
			h.Fatal(err)
		}
	}
	h.link.PluginBell.Ring()
}

// submission is a job for capability c; its number is new.
func (h *hosted) submission(c uint32, input arena.Ref, flags ...system.DescriptorFlag) ring.Descriptor {
	h.next++
	d := ring.Descriptor{Kind: system.DescriptorKind_submit, Job: h.next, Aux: c, Ref: input}
	for _, f := range flags {
		d.Set(f)
	}
	return d
}

// submit sends a job for the first capability and returns its number.
func (h *hosted) submit(input arena.Ref, flags ...system.DescriptorFlag) uint64 {
	h.Helper()
	d := h.submission(0, input, flags...)
	h.send(d)
	return d.Job
}

// nextPiece is one more piece of a stream.
func nextPiece(job uint64, ref arena.Ref, last bool) ring.Descriptor {
	d := ring.Descriptor{Kind: system.DescriptorKind_piece, Job: job, Ref: ref}
	if last {
		d.Set(system.DescriptorFlag_last)
	}
	return d
}

// grant answers a request for a block.
func (h *hosted) grant(request ring.Descriptor) {
	h.Helper()
	ref, err := h.arena.Alloc(request.Ref.Length, owner)
	if err != nil {
		h.Fatal(err)
	}
	ref.Length = h.arena.Capacity(ref)
	if err := h.link.Credits.Push(&ring.Descriptor{Kind: system.DescriptorKind_lease, Aux: request.Aux, Ref: ref}); err != nil {
		h.Fatal(err)
	}
	h.link.PluginBell.Ring()
}

// await returns the next descriptor of some kinds. It takes back what the plugin
// releases; everything else is kept for later.
func (h *hosted) await(kinds ...system.DescriptorKind) ring.Descriptor {
	h.Helper()
	wanted := func(d ring.Descriptor) bool { return slices.Contains(kinds, d.Kind) }
	if i := slices.IndexFunc(h.late, wanted); i >= 0 {
		d := h.late[i]
		h.late = slices.Delete(h.late, i, i+1)
		return d
	}
	for {
		d, ok := h.pop(time.Now().Add(patience))
		if !ok {
			h.Fatalf("the plugin sent no %v", kinds)
		}
		if wanted(d) {
			return d
		}
		h.late = append(h.late, d)
	}
}

// pop takes one descriptor off the completion ring.
func (h *hosted) pop(deadline time.Time) (d ring.Descriptor, ok bool) {
	h.Helper()
	h.link.HostBell.Wait(h.link.Completions.Ready, deadline)
	ok, err := h.link.Completions.Pop(&d)
	if err != nil {
		h.Fatal(err)
	}
	if ok && d.Kind == system.DescriptorKind_release {
		if err := h.arena.Free(d.Ref, owner); err != nil {
			h.Errorf("released: %v", err)
		}
	}
	return d, ok
}

// finish grants what a job asks for, acknowledges its output, and returns its end
// and what it gave, all blocks taken back.
func (h *hosted) finish(job uint64) (done ring.Descriptor, out []byte, failure *wire.Error) {
	h.Helper()
	for {
		d := h.await(system.DescriptorKind_leaseRequest, system.DescriptorKind_output, system.DescriptorKind_resultHead, system.DescriptorKind_done)
		var bytes []byte
		if d.Kind != system.DescriptorKind_leaseRequest && !d.Ref.IsZero() {
			v, err := h.arena.View(d.Ref)
			if err != nil {
				h.Fatal(err)
			}
			bytes = slices.Clone(v)
			if err := h.arena.Free(d.Ref, owner); err != nil {
				h.Fatalf("handed over: %v", err)
			}
		}
		switch d.Kind {
		case system.DescriptorKind_leaseRequest:
			h.grant(d)
		case system.DescriptorKind_output:
			out = append(out, bytes...)
			h.send(ring.Descriptor{Kind: system.DescriptorKind_ack, Job: d.Job, Aux: 1})
		case system.DescriptorKind_resultHead:
			r, err := wire.DecodeResult(bytes)
			if err != nil {
				h.Fatal(err)
			}
			failure = r.Err
		case system.DescriptorKind_done:
			if d.Job != job {
				h.Fatalf("job %d is done, not %d", d.Job, job)
			}
			return d, append(out, bytes...), failure
		}
	}
}

// lent returns how many blocks the plugin has by the host's books.
func (h *hosted) lent() uint64 {
	for _, o := range h.arena.Stats().Owners {
		if o.Owner == owner {
			return o.Blocks
		}
	}
	return 0
}

// status is the outcome that a done reports.
func status(d ring.Descriptor) compute.Status { return compute.Status(d.Status) }
