package dispatch

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// piece is the size of the pieces that the commons are cut into.
var piece = int(wire.PieceBytes(4 << 20))

// pieces reads a streamed job to its end, one piece at a time.
func (a *actor) pieces() (all []byte) {
	d, _ := a.Submit()
	job, streamed := d.Job, d.Has(system.DescriptorFlag_streamIn)
	for {
		if !d.Ref.IsZero() {
			all = append(all, a.Bytes(d.Ref)...)
		}
		if !streamed || d.Has(system.DescriptorFlag_last) {
			return all
		}
		a.Consumed(job, 1)
		d = a.Expect(system.DescriptorKind_piece)
	}
}

func TestStreamedInputArrivesAsItWasGiven(t *testing.T) {
	for _, n := range []int{0, 1, piece - 1, piece, piece + 1, 2 * piece, 20*piece + 7} {
		for name, in := range map[string]func([]byte) Input{
			"sized": inputOf, "unsized": unsized,
			"in crumbs": func(b []byte) Input {
				return Input{Reader: iotest.HalfReader(bytes.NewReader(b)), Size: int64(len(b))}
			},
		} {
			t.Run(name, func(t *testing.T) {
				h := open(t, Options{})
				p := h.attach(manifest("test", 1, stream))
				want := bytesOf(n)
				j := h.submit(Request{Capability: "test.stream", Input: in(want)})
				if got := p.pieces(); !bytes.Equal(got, want) {
					t.Errorf("%d bytes arrived as %d", n, len(got))
				}
				p.Done(j.ID(), compute.Status_success, arena.Ref{})
				if o := h.expect(j, compute.Status_success); o.Metrics.InputBytes != uint64(n) {
					t.Errorf("metrics: %+v", o.Metrics)
				}
				h.hostHolds(0)
			})
		}
	}
}

// reads counts what was asked of it.
type reads struct{ n atomic.Int64 }

func (r *reads) Read(b []byte) (int, error) { r.n.Add(1); return len(b), nil }

func TestStreamedInputKeepsToItsWindow(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	r := new(reads)
	j := h.submit(Request{Capability: "test.stream", Input: Input{Reader: r, Size: -1}})
	p.Submit()
	underway := 1
	for range 3 {
		for ; underway < wire.StreamWindow; underway++ {
			p.Expect(system.DescriptorKind_piece)
		}
		p.Sync()
		p.Idle()
		h.hostHolds(wire.StreamWindow + 1) // and the message at its head
		p.Consumed(j.ID(), 2)
		underway -= 2
	}
	for ; underway < wire.StreamWindow; underway++ {
		p.Expect(system.DescriptorKind_piece)
	}
	if n := r.n.Load(); n != 10 {
		t.Errorf("%d pieces were read for 10 places", n)
	}
	j.Cancel()
	p.Expect(system.DescriptorKind_cancel)
	p.Done(j.ID(), compute.Status_canceled, arena.Ref{})
	p.Sync()
	h.hostHolds(0)
}

// A handler that has seen enough ends well, however much of the input is still on
// its way.
func TestStreamMayEndBeforeItsInput(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	for range 300 {
		j := h.submit(Request{Capability: "test.stream", Input: Input{Reader: new(reads), Size: -1}})
		p.Submit()
		p.Done(j.ID(), compute.Status_success, arena.Ref{})
		h.expect(j, compute.Status_success)
		j.Close()
		var d ring.Descriptor
		for ok := true; ok; {
			ok, _ = p.Submissions.Pop(&d)
		}
	}
	h.hostHolds(0)
}

// Who finds that the job no longer runs must not decide what became of it: that
// is for the one who ended it, and may still be on its way.
func TestPumpDecidesNothingAboutAJobThatHasEnded(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j, err := h.engine.admit(t.Context(), Request{Capability: "test.stream", Input: Input{Reader: new(reads), Size: -1}})
	if err != nil {
		t.Fatal(err)
	}
	j.state, j.in.pumped = ended, make(chan struct{})
	j.in.pump(j, p.inst)
	if j.over() {
		t.Errorf("the pump says %v", j.outcome.Err)
	}
	j.release()
	j.settle(Outcome{})
	h.hostHolds(0)
}

func TestReaderThatFailsEndsTheStream(t *testing.T) {
	for name, r := range map[string]Input{
		"with an error": {Reader: io.MultiReader(bytes.NewReader(bytesOf(2*piece+1)), iotest.ErrReader(errBroken)), Size: -1},
		"too early":     {Reader: bytes.NewReader(bytesOf(2*piece + 1)), Size: int64(3 * piece)},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, Options{})
			p := h.attach(manifest("test", 1, stream))
			j := h.submit(Request{Capability: "test.stream", Input: r})
			p.Submit()
			if o := h.expect(j, compute.Status_canceled); !strings.Contains(o.Err.Error(), "ended early") {
				t.Errorf("error: %v", o.Err)
			}
			p.Expect(system.DescriptorKind_piece)
			p.Expect(system.DescriptorKind_cancel)
			p.Done(j.ID(), compute.Status_canceled, arena.Ref{})
			p.Sync()
			h.hostHolds(0)
		})
	}
}

func TestStreamBeyondItsBoundEnds(t *testing.T) {
	h := open(t, Options{})
	c := stream
	c.MaxInput = uint64(2 * piece)
	p := h.attach(manifest("test", 1, c))
	j := h.submit(Request{Capability: "test.stream", Input: unsized(bytesOf(2*piece + 1))})
	p.Submit()
	if o := h.expect(j, compute.Status_invalidParams); !errors.Is(o.Err, wire.ErrInvalidArgument) {
		t.Errorf("error: %v", o.Err)
	}
}

func TestCloseReturnsOnceTheReaderDoes(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	reading, leave := make(chan struct{}), make(chan struct{})
	var left atomic.Bool
	blocks := readerFunc(func([]byte) (int, error) {
		close(reading)
		<-leave
		left.Store(true)
		return 0, errBroken
	})
	in := io.MultiReader(bytes.NewReader(bytesOf(piece)), blocks)
	j := h.submit(Request{Capability: "test.stream", Input: Input{Reader: in, Size: -1}})
	p.Submit()
	<-reading
	closed := make(chan bool)
	go func() { j.Close(); closed <- left.Load() }()
	h.expect(j, compute.Status_canceled)
	select {
	case <-closed:
		t.Error("closed while the reader reads")
	default:
	}
	close(leave)
	if !<-closed {
		t.Error("closed before the reader returned")
	}
	h.hostHolds(2) // what the plugin was given; the piece that was read is gone
}

// With little room in the arena a stream goes on piece by piece, and as fast as
// ever when there is room again.
func TestStreamLivesThroughAFullArena(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	given := h.fillUp()
	h.give(given[:3]) // two for the stream, one for what is small
	j := h.submit(Request{Capability: "test.stream", Input: Input{Reader: new(reads), Size: -1}})
	p.Submit()
	for range 5 * wire.StreamWindow {
		p.Expect(system.DescriptorKind_piece)
		p.Consumed(j.ID(), 1)
	}
	h.give(given)
	p.Expect(system.DescriptorKind_piece)
	p.Consumed(j.ID(), 2) // all, and the window is whole
	for range wire.StreamWindow {
		p.Expect(system.DescriptorKind_piece)
	}
	p.Sync()
	p.Idle()
	h.hostHolds(wire.StreamWindow + 1)
}

// hungry is a stream under way that holds no block, in an arena that others filled.
func hungry(h *theatre) (j *Job, others []arena.Ref, next func() <-chan error) {
	h.attach(manifest("test", 1, stream))
	j, err := h.engine.admit(h.Context(), Request{Capability: "test.stream", Input: Input{Reader: new(reads), Size: -1}})
	if err != nil {
		h.Fatal(err)
	}
	if !j.in.consumed(j.unit.arena, 1) {
		h.Fatal("the first piece is not under way")
	}
	h.Cleanup(j.release)
	return j, h.fillUp(), func() <-chan error {
		got := make(chan error, 1)
		go func() {
			ref, _, err := j.in.next(j)
			if err == nil {
				freeBlock(j.unit.arena, ref)
			}
			got <- err
		}()
		return got
	}
}

func TestStreamWaitsForRoomThatOthersHold(t *testing.T) {
	h := open(t, Options{})
	j, others, next := hungry(h)
	defer j.settle(Outcome{})
	got := next()
	select {
	case err := <-got:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(3 * roomPause): // it has looked again
	}
	h.give(others)
	if err := <-got; err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// The deadline settles the job, as does all else that ends it.
func TestStreamWaitsForRoomUntilItsJobEnds(t *testing.T) {
	h := open(t, Options{})
	j, _, next := hungry(h)
	got := next()
	j.settle(Outcome{Status: compute.Status_timeout})
	if err := <-got; !errors.Is(err, wire.ErrResourceExhausted) {
		t.Errorf("error: %v", err)
	}
}

// Whoever comes and goes cannot keep a stream from going on: it makes do with little.
func TestStreamWithoutABlockTakesASmallPiece(t *testing.T) {
	h := open(t, Options{})
	little, err := h.Commons().Alloc(leastPiece, arena.Host)
	if err != nil {
		t.Fatal(err)
	}
	j, _, _ := hungry(h)
	defer j.settle(Outcome{})
	h.give([]arena.Ref{little})
	small, _, err := j.in.next(j)
	if err != nil || small.Length != leastPiece {
		t.Fatalf("a piece of %d bytes, %v", small.Length, err)
	}
	freeBlock(h.Commons(), small)
}

func TestStreamedOutputIsAcknowledgedWhenTaken(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j := h.ask("test.stream", nil)
	p.Submit()
	for n := range byte(wire.StreamWindow) {
		p.Emit(j.ID(), []byte{n})
	}
	p.Sync()
	p.Idle()
	var held []*Piece
	for n := range byte(wire.StreamWindow) {
		piece, err := j.Next(within(t))
		if err != nil || piece.Bytes()[0] != n {
			t.Fatalf("piece %d: %v", n, err)
		}
		held = append(held, piece)
	}
	p.Idle() // looking at a piece is not taking it
	p.offends(1, func() { p.Emit(j.ID(), []byte("one too many")) })
	held[0].Release()
	held[0].Release()
	if d := p.Expect(system.DescriptorKind_ack); d.Job != j.ID() || d.Aux != 1 {
		t.Errorf("ack: %+v", d)
	}
	p.Idle()
	p.offends(0, func() { p.Emit(j.ID(), []byte{4}) })
	p.Answer(j.ID(), []byte{5}) // the last one needs no place
	for _, piece := range held {
		piece.Release()
	}
	if out := h.collect(j); !bytes.Equal(out, []byte{4, 5}) {
		t.Errorf("the rest is %v", out)
	}
	h.expect(j, compute.Status_success)
	h.hostHolds(0)
}

// The last piece comes with done, beside a full window; it must not be lost.
func TestLastPieceComesBesideAFullWindow(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j := h.ask("test.stream", nil)
	p.Submit()
	for range wire.StreamWindow {
		p.Emit(j.ID(), []byte("."))
	}
	p.offends(1, func() { p.Emit(j.ID(), []byte("!")) })
	p.Answer(j.ID(), []byte("end"))
	h.expect(j, compute.Status_success)
	if out := string(h.collect(j)); out != "....end" {
		t.Errorf("output %q", out)
	}
	h.hostHolds(0)
}

func TestOutputThatNobodyTakesIsFreed(t *testing.T) {
	h := open(t, Options{})
	p := h.attach(manifest("test", 1, stream))
	j := h.ask("test.stream", nil)
	p.Submit()
	for range wire.StreamWindow {
		p.Emit(j.ID(), []byte("x"))
	}
	p.Sync()
	h.hostHolds(wire.StreamWindow)
	j.Close()
	h.hostHolds(0)
	p.Expect(system.DescriptorKind_cancel)
	for range wire.StreamWindow { // so that the handler can go on until it notices
		p.Expect(system.DescriptorKind_ack)
	}
	p.offends(0, func() { p.Emit(j.ID(), []byte("y")) })
	p.Expect(system.DescriptorKind_ack)
	h.hostHolds(0)
	j.Close()
}

func TestOutputBeyondItsBoundFailsTheJob(t *testing.T) {
	h := open(t, Options{})
	plain, streams := echo, stream
	plain.MaxOutput, streams.MaxOutput = 10, 10
	p := h.attach(manifest("test", 2, plain, streams))
	j := h.ask("test.echo", nil)
	p.Submit()
	p.Answer(j.ID(), bytesOf(11))
	if o := h.expect(j, compute.Status_failed); !strings.Contains(o.Err.Error(), "10 bytes") {
		t.Errorf("error: %v", o.Err)
	}
	j = h.ask("test.stream", nil)
	p.Submit()
	p.Emit(j.ID(), bytesOf(10))
	p.Emit(j.ID(), bytesOf(1))
	if o := h.expect(j, compute.Status_failed); !strings.Contains(o.Err.Error(), "10 bytes") {
		t.Errorf("error: %v", o.Err)
	}
	j.Close()
	h.hostHolds(0)
}
