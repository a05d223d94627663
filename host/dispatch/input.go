package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"inos/shm/arena"
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
	spec := &j.cap.spec
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
		n, err := readFull(s.reader, v[len(have):])
		have = v[:len(have)+n]
		ref.Length = uint64(len(have))
		s.first = ref
		a.CountCopy(uint64(n))
		j.inBytes.Store(ref.Length)
		switch limit := spec.MaxInput; {
		case limit > 0 && ref.Length > limit:
			return inputTooLarge(spec.Name, ref.Length, limit)
		case errors.Is(err, io.EOF):
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

// readFull reads until b is full. It returns io.EOF where the input ends before;
// unlike io.ReadFull it does not say so of a reader that was itself cut short.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	if n == len(b) {
		return n, nil
	}
	return n, err
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
	to.CountCrossing(uint64(copy(w, v)))
	return ref, w, err
}

// fill reads exactly size bytes into one block.
func (s *source) fill(j *Job, size uint64) (arena.Ref, error) {
	s.piece = size
	ref, _, err := s.read(j)
	return ref, err
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
