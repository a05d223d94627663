package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// Input is what a job works on: bytes from a reader, or a block that lies in an
// arena already. The zero Input is empty.
type Input struct {
	// Reader gives the bytes. It must return soon after the one who submitted the
	// job has closed what is behind it, or Job.Close waits.
	Reader io.Reader
	// Size is the length of what Reader gives, -1 when unknown.
	Size int64
	// Ref names a block instead, which Owner holds. A module in the same arena
	// reads it where it lies.
	Ref   arena.Ref
	Owner arena.Owner
}

// firstGuess is the block that an input of unknown length is first read into.
const firstGuess = 64 << 10

// source is the input of one job: the block its descriptor carries, and for a
// stream the pieces after it.
type source struct {
	first arena.Ref // what the submit descriptor names, zero for an empty input
	more  bool      // pieces follow
	known uint64    // whole length where known

	reader io.Reader
	left   int64         // bytes still to come, -1 when unknown
	piece  uint64        // size of a piece
	token  chan struct{} // one for each piece that may be under way
	freed  chan struct{} // a piece was given back, capacity 1
	pumped chan struct{} // closed when the pump has ended; guarded by unit.mu, nil before it starts

	mu       sync.Mutex
	underway []arena.Ref // pieces the plugin may still read, the oldest first
}

func (s *source) streams() bool { return s.more }
func (s *source) size() uint64  { return s.known }

// open brings the input into the arena, as far as the first block.
func (s *source) open(ctx context.Context, j *Job, in Input) error {
	switch {
	case !in.Ref.IsZero():
		return s.borrow(j, in)
	case in.Reader == nil:
		return nil
	case in.Size > 0:
		s.known = uint64(in.Size)
	case in.Size == 0:
		return nil
	}
	a, spec := j.unit.arena, &j.cap.spec
	if limit := spec.MaxInput; limit > 0 && s.known > limit {
		return inputTooLarge(spec.Name, s.known, limit)
	}
	s.reader, s.left = in.Reader, in.Size
	if spec.Streams {
		return s.openStream(ctx, j)
	}
	if in.Size > 0 {
		ref, err := s.fill(j, uint64(in.Size))
		s.first = ref
		return err
	}
	return s.openUnknown(ctx, j)
}

// openUnknown reads an input of unknown length into a block, and into one twice
// as large while that is full. The bytes moved between them are counted as
// copies. What it leaves in first on an error, the job's release frees.
func (s *source) openUnknown(ctx context.Context, j *Job) error {
	a, spec := j.unit.arena, &j.cap.spec
	var have []byte
	for size := uint64(firstGuess); ; size *= 2 {
		ref, v, err := blank(a, size)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			a.CountCopy(uint64(copy(v, have)))
			freeBlock(a, s.first)
		}
		n, err := io.ReadFull(s.reader, v[len(have):])
		have = v[:len(have)+n]
		ref.Length = uint64(len(have))
		s.first = ref
		a.CountCopy(uint64(n))
		j.inBytes.Store(ref.Length)
		switch limit := spec.MaxInput; {
		case limit > 0 && ref.Length > limit:
			return inputTooLarge(spec.Name, ref.Length, limit)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if len(have) == 0 {
				s.free(a) // an empty input has no block
			}
			return nil
		case err != nil:
			return readError(err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// blank returns a new block of the host's and a view of it.
func blank(a *arena.Arena, size uint64) (arena.Ref, []byte, error) {
	ref, err := a.Alloc(size, arena.Host)
	if err != nil {
		return arena.Ref{}, nil, ArenaError(err)
	}
	v, err := a.View(ref)
	if err != nil {
		freeBlock(a, ref)
		return arena.Ref{}, nil, err
	}
	return ref, v, nil
}

// borrow uses a block that somebody holds already. In the same arena nothing is
// copied; from one arena to another, once.
func (s *source) borrow(j *Job, in Input) error {
	from, ok := j.engine.opts.Arena(in.Ref.Arena)
	if !ok {
		return fmt.Errorf("input: %w: no arena %d", arena.ErrBadRef, in.Ref.Arena)
	}
	if limit := j.cap.spec.MaxInput; limit > 0 && in.Ref.Length > limit {
		return inputTooLarge(j.cap.spec.Name, in.Ref.Length, limit)
	}
	if err := j.hold(from, in); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	s.known = in.Ref.Length
	j.inBytes.Store(in.Ref.Length)
	if from == j.unit.arena {
		s.first = in.Ref
		return nil
	}
	ref, _, err := copyBlock(j.unit.arena, from, in.Ref)
	freeBlock(from, in.Ref)
	s.first = ref
	return err
}

// hold takes a reference to a block that the caller may name: one it owns, or,
// whoever owns that, a part of the input of the job that it serves.
func (j *Job) hold(a *arena.Arena, in Input) error {
	if j.parent != nil && j.parent.lend(in.Ref) {
		return nil
	}
	if err := a.Verify(in.Ref, in.Owner); err != nil {
		return err
	}
	return a.Retain(in.Ref)
}

// copyBlock copies a block from one arena to another, where it is the host's.
// The caller holds a reference to the source, so that its memory stays mapped.
func copyBlock(to, from *arena.Arena, src arena.Ref) (arena.Ref, []byte, error) {
	v, err := from.View(src)
	if err != nil {
		return arena.Ref{}, nil, err
	}
	ref, w, err := blank(to, src.Length)
	to.CountCopy(uint64(copy(w, v)))
	return ref, w, err
}

// openStream reads the first piece and prepares for the rest.
func (s *source) openStream(ctx context.Context, j *Job) error {
	s.piece = wire.PieceBytes(j.unit.arena.Size())
	ref, last, err := s.read(j)
	if err != nil {
		return err
	}
	s.first, s.more = ref, !last
	if s.more {
		s.token = make(chan struct{}, wire.StreamWindow)
		s.freed = make(chan struct{}, 1)
		for range wire.StreamWindow - 1 { // the first piece has the missing one
			s.token <- struct{}{}
		}
		if !ref.IsZero() {
			s.underway = append(s.underway, ref)
		}
	}
	return ctx.Err()
}

// read fills one block with the next bytes of a stream. The reference is zero
// when there were none.
func (s *source) read(j *Job) (ref arena.Ref, last bool, err error) {
	n := s.piece
	if s.left >= 0 {
		n = min(n, uint64(s.left))
	}
	if n == 0 {
		return arena.Ref{}, true, nil
	}
	a := j.unit.arena
	ref, v, err := blank(a, n)
	if err != nil {
		return arena.Ref{}, false, err
	}
	got, err := io.ReadFull(s.reader, v)
	a.CountCopy(uint64(got))
	total := j.inBytes.Add(uint64(got))
	switch {
	case err == nil:
	case s.left < 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		last = true
	default:
		freeBlock(a, ref)
		return arena.Ref{}, false, readError(err)
	}
	if limit := j.cap.spec.MaxInput; limit > 0 && total > limit {
		freeBlock(a, ref)
		return arena.Ref{}, false, inputTooLarge(j.cap.spec.Name, total, limit)
	}
	if s.left >= 0 {
		s.left -= int64(got)
		last = s.left == 0
	}
	if got == 0 {
		freeBlock(a, ref)
		return arena.Ref{}, last, nil
	}
	ref.Length = uint64(got)
	return ref, last, nil
}

// fill reads exactly size bytes into one block.
func (s *source) fill(j *Job, size uint64) (arena.Ref, error) {
	s.piece = size
	ref, _, err := s.read(j)
	return ref, err
}

func readError(err error) error {
	return wire.NewError(base.Code_canceled, "send the whole input", "the input ended early: %v", err)
}

// pump reads the rest of a stream and hands it to the plugin piece by piece, a
// window ahead of it at most.
func (s *source) pump(j *Job, inst *Instance) {
	defer close(s.pumped)
	for last := false; !last; {
		select {
		case <-s.token:
		case <-j.done:
			return
		}
		ref, end, err := s.next(j)
		if err != nil {
			j.stop(wire.AsError(err))
			return
		}
		last = end
		if !inst.sendPiece(j, ref, last) {
			if !ref.IsZero() {
				freeBlock(j.unit.arena, ref)
			}
			return // who ended the job decides what came of it
		}
	}
}

// next reads a piece. When the arena is full it waits for the plugin to finish
// one of this very stream; if it holds none, nobody promises that there will be
// room, and the job fails.
func (s *source) next(j *Job) (arena.Ref, bool, error) {
	for {
		ref, last, err := s.read(j)
		if !errors.Is(err, wire.ErrResourceExhausted) {
			return ref, last, err
		}
		s.mu.Lock()
		none := len(s.underway) == 0
		s.mu.Unlock()
		if none {
			return ref, last, err
		}
		// Not a token: those stand for places in the window, and the piece to come
		// has taken its own.
		select {
		case <-s.freed:
		case <-j.done:
			return arena.Ref{}, false, err
		}
	}
}

// sendPiece puts a piece on the ring, if the job still runs on this instance and
// the ring is sound. It reports whether it did.
func (i *Instance) sendPiece(j *Job, ref arena.Ref, last bool) bool {
	d := ring.Descriptor{Kind: system.DescriptorKind_piece, Job: j.id, Ref: ref}
	if last {
		d.Set(system.DescriptorFlag_last)
	}
	i.unit.mu.Lock()
	sent := j.state == running && j.inst == i && i.push(&d)
	if sent && !ref.IsZero() {
		j.in.mu.Lock()
		j.in.underway = append(j.in.underway, ref)
		j.in.mu.Unlock()
	}
	i.unit.mu.Unlock()
	if sent {
		i.link.PluginBell.Ring()
	}
	return sent
}

// consumed frees the n oldest pieces under way. It reports whether there were
// as many.
func (s *source) consumed(a *arena.Arena, n uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if uint64(n) > uint64(len(s.underway)) {
		return false
	}
	for _, ref := range s.underway[:n] {
		freeBlock(a, ref)
		select {
		case s.token <- struct{}{}:
		default: // the window is full already
		}
	}
	s.underway = s.underway[n:]
	select {
	case s.freed <- struct{}{}:
	default: // one sign is enough, and without a stream nobody waits
	}
	return true
}

// lend takes one more reference to ref, if it is a block of the input or the
// start of one that the plugin may read now.
func (s *source) lend(a *arena.Arena, ref arena.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds(ref) && a.Retain(ref) == nil
}

// holds reports whether ref is a block of the input, or the start of one. The
// caller holds mu.
func (s *source) holds(ref arena.Ref) bool {
	blocks := s.underway
	if !s.more {
		blocks = []arena.Ref{s.first}
	}
	for _, r := range blocks {
		if n := ref.Length; n <= r.Length {
			if r.Length = n; r == ref {
				return true
			}
		}
	}
	return false
}

// free drops every block of the input. The plugin must be done with them.
func (s *source) free(a *arena.Arena) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more {
		for _, ref := range s.underway {
			freeBlock(a, ref)
		}
	} else if !s.first.IsZero() {
		freeBlock(a, s.first)
	}
	s.first, s.underway = arena.Ref{}, nil
}

// replayable reports whether the whole input still lies in its first block.
func (s *source) replayable() bool { return !s.more }
