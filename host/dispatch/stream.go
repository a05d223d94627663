package dispatch

import (
	"context"
	"errors"
	"io"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

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
	return s.readUpTo(j, s.piece)
}

// readUpTo is read for a piece of at most n bytes.
func (s *source) readUpTo(j *Job, n uint64) (ref arena.Ref, last bool, err error) {
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
	got, err := readFull(s.reader, v)
	a.CountCopy(uint64(got))
	total := j.inBytes.Add(uint64(got))
	switch {
	case err == nil:
	case s.left < 0 && errors.Is(err, io.EOF):
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

// A stream that finds no room looks again after roomPause, for a piece of leastPiece
// at the least.
const (
	roomPause  = 2 * time.Millisecond
	leastPiece = 4 << 10
)

// next reads a piece. When the arena is full it waits until the plugin finishes one of
// this very stream, or others have given theirs back, until the deadline. While it has
// none under way it makes do with a small one, so that those who come and go cannot
// keep it from going on.
func (s *source) next(j *Job) (ref arena.Ref, last bool, err error) {
	var pause *time.Ticker
	for {
		s.mu.Lock()
		none := len(s.underway) == 0
		s.mu.Unlock()
		for n := s.piece; ; n /= 2 {
			if ref, last, err = s.readUpTo(j, n); !isFull(err) {
				return ref, last, err
			}
			if !none || n/2 < leastPiece {
				break
			}
		}
		if pause == nil {
			pause = time.NewTicker(roomPause)
			defer pause.Stop()
		}
		// Not a token: those stand for places in the window, and the piece to come
		// has taken its own.
		select {
		case <-s.freed:
		case <-pause.C:
		case <-j.done:
			return arena.Ref{}, false, err
		}
	}
}

// isFull reports whether an error says that there is no room now.
func isFull(err error) bool {
	var e *wire.Error
	return errors.As(err, &e) && e.Code == base.Code_resourceExhausted && e.Temporary
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
