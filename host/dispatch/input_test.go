package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

func TestInputArrivesAsItWasGiven(t *testing.T) {
	for _, n := range []int{0, 1, firstGuess - 1, firstGuess, firstGuess + 1, 2 * firstGuess, 5*firstGuess + 3} {
		for name, in := range map[string]func([]byte) Input{
			"sized": inputOf, "unsized": unsized,
			"in crumbs": func(b []byte) Input {
				return Input{Reader: iotest.HalfReader(bytes.NewReader(b)), Size: -1}
			},
		} {
			t.Run(name, func(t *testing.T) {
				h := open(t, Options{})
				p := h.attach(manifest("test", 1, echo))
				want := bytesOf(n)
				before := h.Commons().Stats().CopiedIn
				j := h.submit(Request{Capability: "test.echo", Input: in(want)})
				d, _ := p.Submit()
				if n == 0 {
					if !d.Ref.IsZero() {
						t.Errorf("an empty input has the block %+v", d.Ref)
					}
				} else if !bytes.Equal(p.Bytes(d.Ref), want) {
					t.Errorf("%d bytes arrived as %d", n, d.Ref.Length)
				}
				if got := h.Commons().Stats().CopiedIn - before; name == "sized" && got != uint64(n) {
					t.Errorf("%d bytes were copied for %d", got, n)
				}
				p.Answer(j.ID(), want)
				if o := h.expect(j, compute.Status_success); o.Metrics.InputBytes != uint64(n) || o.Metrics.OutputBytes != uint64(n) {
					t.Errorf("metrics: %+v", o.Metrics)
				}
				if out := h.collect(j); !bytes.Equal(out, want) {
					t.Error("the output differs")
				}
				h.hostHolds(0)
			})
		}
	}
}

var errBroken = errors.New("the reader broke")

// Whatever goes wrong with an input, nothing of it stays in the arena and nobody
// hears of the job.
func TestBadInputLeavesNothing(t *testing.T) {
	small, streams := echo, stream
	small.MaxInput, streams.MaxInput = 100, wire.PieceBytes(4<<20)+100
	cancelled, cancel := context.WithCancel(context.Background())
	broken := func(n int) io.Reader {
		return io.MultiReader(bytes.NewReader(bytesOf(n)), iotest.ErrReader(errBroken))
	}
	tests := []struct {
		name       string
		capability string
		in         Input
		ctx        context.Context
		want       error
	}{
		{"sized, too large", "test.echo", Input{Reader: untouched{t}, Size: 101}, nil, wire.ErrInvalidArgument},
		{"unsized, too large", "test.echo", unsized(bytesOf(101)), nil, wire.ErrInvalidArgument},
		{"sized, short", "test.echo", Input{Reader: bytes.NewReader(bytesOf(9)), Size: 10}, nil, wire.ErrCanceled},
		{"sized, empty", "test.echo", Input{Reader: bytes.NewReader(nil), Size: 10}, nil, wire.ErrCanceled},
		{"sized, broken", "test.echo", Input{Reader: broken(9), Size: 10}, nil, wire.ErrCanceled},
		{"unsized, broken at once", "test.large", Input{Reader: broken(0), Size: -1}, nil, wire.ErrCanceled},
		{"unsized, broken in the third block", "test.large", Input{Reader: broken(3 * firstGuess), Size: -1}, nil, wire.ErrCanceled},
		{"unsized, cancelled", "test.large", unsized(bytesOf(3 * firstGuess)), cancelled, context.Canceled},
		{"sized, larger than the arena", "test.large", Input{Reader: untouched{t}, Size: 1 << 40}, nil, wire.ErrResourceExhausted},
		{"unsized, larger than the arena", "test.large", Input{Reader: zeros{}, Size: -1}, nil, wire.ErrResourceExhausted},
		{"stream, too large from the start", "test.stream", Input{Reader: untouched{t}, Size: 1 << 40}, nil, wire.ErrInvalidArgument},
		{"stream, broken", "test.stream", Input{Reader: broken(9), Size: -1}, nil, wire.ErrCanceled},
		{"stream, short", "test.stream", Input{Reader: bytes.NewReader(nil), Size: 10}, nil, wire.ErrCanceled},
		{"stream, cancelled", "test.stream", Input{Reader: zeros{}, Size: -1}, cancelled, context.Canceled},
		{"block that nobody has", "test.large", Input{Ref: arena.Ref{Arena: 1, Slot: 99, Generation: 1, Length: 1}, Owner: 1}, nil, arena.ErrUnknown},
		{"block of no arena", "test.large", Input{Ref: arena.Ref{Arena: 9, Slot: 1, Generation: 1, Length: 1}, Owner: 1}, nil, arena.ErrBadRef},
		{"block that is too large", "test.echo", Input{Ref: arena.Ref{Arena: 1, Slot: 1, Generation: 1, Length: 101}, Owner: 1}, nil, wire.ErrInvalidArgument},
	}
	cancel()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, small, streams, wire.Capability{Name: "test.large"}))
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			if _, err := h.engine.Submit(tt.ctx, Request{Capability: tt.capability, Input: tt.in}); !errors.Is(err, tt.want) {
				t.Errorf("error: %v", err)
			}
			h.hostHolds(0)
			if s := h.engine.Stats(); s.Submitted != 0 || s.Refused != 1 || len(h.engine.Jobs()) != 0 {
				t.Errorf("stats: %+v", s)
			}
			p.Idle()
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// fillUp takes all of the commons in blocks as large as a piece of a stream, as long as there is room for one, and
// smaller ones.
func (h *theatre) fillUp() (refs []arena.Ref) {
	h.Helper()
	for size := uint64(piece); size >= 64; size /= 2 {
		for {
			ref, err := h.Commons().Alloc(size, arena.Host)
			if err != nil {
				break
			}
			refs = append(refs, ref)
		}
	}
	h.Cleanup(func() { h.give(refs) })
	return refs
}

// give frees what fillUp took and the test has not given back yet.
func (h *theatre) give(refs []arena.Ref) {
	for _, ref := range refs {
		_ = h.Commons().Release(ref) // stale when given back before
	}
}

func TestFullArenaRefusesAtOnce(t *testing.T) {
	other := wire.Capability{Name: "other.run"}
	for _, tt := range []struct {
		name string
		r    Request
	}{
		{"sized", Request{Capability: "test.echo", Input: inputOf([]byte("x"))}},
		{"unsized", Request{Capability: "test.echo", Input: unsized([]byte("x"))}},
		{"stream", Request{Capability: "test.stream", Input: unsized([]byte("x"))}},
		{"message", Request{Capability: "test.echo", Key: "k"}},
		{"from another arena", Request{Capability: "test.echo", Input: Input{Owner: 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, echo, stream))
			from := h.attachIn(h.Private("other", 1<<16), manifest("other", 1, other))
			if tt.r.Input.Owner != 0 {
				tt.r.Input.Ref = from.Put([]byte("x"))
			}
			given := h.fillUp()
			if _, err := h.engine.Submit(t.Context(), tt.r); !errors.Is(err, wire.ErrResourceExhausted) || !bytes.Contains([]byte(err.Error()), []byte("--segment")) {
				t.Errorf("error: %v", err)
			}
			h.hostHolds(uint64(len(given)))
			p.Idle()
			if tt.r.Input.Owner != 0 {
				from.offends(0, func() { from.Send(releaseOf(tt.r.Input.Ref)) }) // still its own
			}
		})
	}
}

func TestBlockInTheSameArenaIsPassedByReference(t *testing.T) {
	h := open(t, Options{})
	server, caller := h.attach(manifest("test", 1, echo)), h.attach(manifest("other", 1))
	ref := caller.Put([]byte("where it lies"))
	before := h.Commons().Stats()
	j := h.submit(Request{Capability: "test.echo", Input: Input{Ref: ref, Owner: 2}})
	d, _ := server.Submit()
	if d.Ref != ref {
		t.Errorf("the server was given %+v, not %+v", d.Ref, ref)
	}
	if after := h.Commons().Stats(); after.Blocks != before.Blocks || after.CopiedIn != before.CopiedIn {
		t.Errorf("blocks %d to %d, copied %d to %d", before.Blocks, after.Blocks, before.CopiedIn, after.CopiedIn)
	}
	// The caller may let go of it, and even die: the server goes on reading.
	caller.offends(0, func() { caller.Send(releaseOf(ref)) })
	caller.die()
	if got := server.Bytes(d.Ref); string(got) != "where it lies" {
		t.Errorf("the block holds %q", got)
	}
	h.hostHolds(1)
	server.Answer(j.ID(), []byte("y"))
	h.expect(j, compute.Status_success)
	h.collect(j)
	h.hostHolds(0)
}

func TestBlockInAnotherArenaIsCopiedOnce(t *testing.T) {
	h := open(t, Options{})
	server := h.attach(manifest("test", 1, echo))
	vault := h.Private("other", 1<<16)
	caller := h.attachIn(vault, manifest("other", 1))
	ref := caller.Put([]byte("from afar"))
	to, from := h.Commons().Stats().Crossed, vault.Stats()
	j := h.submit(Request{Capability: "test.echo", Input: Input{Ref: ref, Owner: 2}})
	d, _ := server.Submit()
	if got := server.Bytes(d.Ref); string(got) != "from afar" {
		t.Errorf("the block holds %q", got)
	}
	if got := h.Commons().Stats().Crossed - to; got != ref.Length {
		t.Errorf("%d bytes were copied", got)
	}
	if got := vault.Stats(); got.Crossed != from.Crossed || got.Blocks != from.Blocks {
		t.Errorf("the source was %+v and is %+v", from, got)
	}
	server.Answer(j.ID(), []byte("back"))
	piece, err := j.Next(within(t))
	if err != nil {
		t.Fatal(err)
	}
	out, err := piece.Hand(caller.inst, nil)
	if err != nil || out.Arena != vault.ID() || string(caller.Bytes(out)) != "back" {
		t.Errorf("handed %+v, %v", out, err)
	}
	if got := vault.Stats().Crossed - from.Crossed; got != 4 {
		t.Errorf("%d bytes were copied back", got)
	}
	h.hostHolds(0)
	caller.offends(0, func() { caller.Send(releaseOf(out)) })
}

// Input goes down a chain of calls, whoever owns it: the middle of the chain may
// pass on what it was given, and nothing else.
func TestInputIsPassedOnAlongAChainOfCalls(t *testing.T) {
	for name, in := range map[string]func(h *theatre, first *actor) Input{
		"a reader's":        func(*theatre, *actor) Input { return inputOf([]byte("passed on")) },
		"a plugin's":        func(h *theatre, p *actor) Input { return Input{Ref: p.Put([]byte("passed on")), Owner: 1} },
		"a piece of stream": func(*theatre, *actor) Input { return unsized(bytesOf(3 << 20)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{})
			first := h.attach(manifest("first", 1))
			middle := h.attach(manifest("middle", 1, wire.Capability{Name: "middle.run", Streams: true}))
			last := h.attach(manifest("last", 1, wire.Capability{Name: "last.run"}))
			parent := h.submit(Request{Capability: "middle.run", Input: in(h, first)})
			d, _ := middle.Submit()
			call := func(ref arena.Ref) error {
				j, err := h.engine.Submit(t.Context(), Request{Capability: "last.run", Parent: parent, Input: Input{Ref: ref, Owner: 2}})
				if err != nil {
					return err
				}
				got, _ := last.Submit()
				if got.Ref != ref {
					t.Errorf("%+v was passed on as %+v", ref, got.Ref)
				}
				last.Done(j.ID(), compute.Status_success, arena.Ref{})
				h.outcome(j)
				j.Close()
				return nil
			}
			part := d.Ref
			part.Length = 4
			longer, later := d.Ref, d.Ref
			longer.Length++
			later.Offset++
			if err := errors.Join(call(d.Ref), call(part)); err != nil {
				t.Error(err)
			}
			for _, bad := range []arena.Ref{longer, later, first.Put([]byte("not given"))} {
				if err := call(bad); !errors.Is(err, arena.ErrBadRef) {
					t.Errorf("%+v: %v", bad, err)
				}
			}
			middle.Done(parent.ID(), compute.Status_success, arena.Ref{})
			h.expect(parent, compute.Status_success)
			if err := call(d.Ref); err == nil {
				t.Error("passed on after the end")
			}
		})
	}
}

// cutShort is a reader whose source broke off, as a truncated upload does.
type cutShort struct{ io.Reader }

func (c cutShort) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestInputThatIsCutShortIsNotTakenForWhole(t *testing.T) {
	h := open(t, Options{})
	h.attach(manifest("test", 1, echo, stream))
	for _, capability := range []string{"test.echo", "test.stream"} {
		_, err := h.engine.Submit(within(t), Request{
			Capability: capability, Input: Input{Reader: cutShort{strings.NewReader("half of")}, Size: -1},
		})
		if !errors.Is(err, wire.ErrCanceled) {
			t.Errorf("%s: %v", capability, err)
		}
	}
	h.hostHolds(0)
}
