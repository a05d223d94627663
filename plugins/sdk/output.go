package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/arena"
)

// output is how far a handler has written.
type output struct {
	out     block         // what is being written
	written uint64        // bytes of out in use
	emitted uint64        // bytes in pieces already sent
	credit  chan struct{} // pieces that may be under way, one token each
}

// Output returns n bytes of shared memory for the handler to fill, whatever was
// in them before. For a capability that does not stream they become the result,
// and another call replaces them. For one that streams they are the next piece,
// at most PieceSize: the call sends what was written before, and returning from
// the handler sends the last.
func (j *Job) Output(n int) ([]byte, error) {
	if n < 0 {
		return nil, wire.NewError(base.Code_invalidArgument, "tell the plugin's author", "job %x: an output of %d bytes", j.id, n)
	}
	size := uint64(n)
	if j.spec.Streams {
		if most := j.port.pieceBytes(); size > most {
			return nil, wire.NewError(base.Code_invalidArgument, "ask for PieceSize or less, or use Write",
				"job %x: a piece of %d bytes of output; the stream's hold %d", j.id, n, most)
		}
		if err := j.flush(); err != nil {
			return nil, err
		}
	}
	if err := j.bound(size); err != nil {
		return nil, err
	}
	if size > uint64(len(j.out.bytes)) {
		j.drop()
		b, err := j.lease(size)
		if err != nil {
			return nil, fmt.Errorf("job %x: output of %d bytes: %w", j.id, n, err)
		}
		j.out = b
	}
	j.written = size
	return j.out.bytes[:n:n], nil
}

// PieceSize returns how many bytes one piece of a streamed output holds at most,
// between 16 KiB and 1 MiB in a node.
func (j *Job) PieceSize() int { return int(j.port.pieceBytes()) }

// Write appends to the output.
func (j *Job) Write(p []byte) (int, error) {
	var done int
	for done < len(p) {
		room := uint64(len(j.out.bytes)) - j.written
		if room == 0 {
			if err := j.grow(uint64(len(p) - done)); err != nil {
				return done, err
			}
			continue
		}
		n := min(room, uint64(len(p)-done))
		if err := j.bound(j.written + n); err != nil {
			return done, err
		}
		copy(j.out.bytes[j.written:], p[done:])
		j.written += n
		done += int(n)
	}
	return done, nil
}

// Bounds of how long a piece of a stream waits while the arena is full. Others give
// their pieces back as their callers take them, so there will be room.
const (
	roomWait   = 30 * time.Second
	firstRetry = time.Millisecond
	lastRetry  = 50 * time.Millisecond
)

// lease gets a block for output. A stream waits for one, since it has begun and
// cannot be asked for again.
func (j *Job) lease(size uint64) (block, error) {
	b, err := j.port.lease(j.Context(), size)
	if !j.spec.Streams {
		return b, err
	}
	t := time.NewTimer(0)
	defer t.Stop()
	<-t.C
	pause := firstRetry
	for until := time.Now().Add(roomWait); errors.Is(err, wire.ErrResourceExhausted) && time.Now().Before(until); pause = min(2*pause, lastRetry) {
		t.Reset(pause)
		select {
		case <-t.C:
		case <-j.Context().Done():
			return block{}, context.Cause(j.Context())
		}
		b, err = j.port.lease(j.Context(), size)
	}
	return b, err
}

// smallOutput is the first block that Write asks for: leases of this size are
// held ahead, so a short answer costs no request.
const smallOutput = 256

// grow makes room for more bytes: the next piece of a stream, or a block twice
// as large with what was written so far.
func (j *Job) grow(more uint64) error {
	if j.spec.Streams {
		if err := j.flush(); err != nil {
			return err
		}
		b, err := j.lease(j.port.pieceBytes())
		if err != nil {
			return fmt.Errorf("job %x: next piece of the output: %w", j.id, err)
		}
		j.out = b
		return nil
	}
	need := j.written + more
	want := max(smallOutput, 2*j.written, need)
	if limit := j.spec.MaxOutput; limit > 0 {
		if need > limit {
			return j.bound(need)
		}
		want = min(want, limit)
	}
	b, err := j.port.lease(j.Context(), want)
	if errors.Is(err, wire.ErrResourceExhausted) && want > need {
		b, err = j.port.lease(j.Context(), need) // the room to grow was only a wish
	}
	if err != nil {
		return fmt.Errorf("job %x: output of %d bytes: %w", j.id, need, err)
	}
	copy(b.bytes, j.out.bytes[:j.written])
	kept := j.written
	j.drop()
	j.out, j.written = b, kept
	return nil
}

// flush sends what was written as a piece of the stream.
func (j *Job) flush() error {
	if j.written == 0 {
		return nil
	}
	select {
	case <-j.credit:
	default:
		select {
		case <-j.credit:
		case <-j.Context().Done():
			return context.Cause(j.Context())
		}
	}
	if err := j.port.emit(j.id, j.out, j.written); err != nil {
		return err
	}
	j.emitted += j.written
	j.out, j.written = block{}, 0
	return nil
}

// drop gives back the current output block.
func (j *Job) drop() {
	if j.out.bytes != nil {
		j.port.release(j.out)
	}
	j.out, j.written = block{}, 0
}

// result takes what was written out of the job's hands, or gives back a block in
// which there is nothing.
func (j *Job) result() (ref arena.Ref) {
	if j.written == 0 {
		j.drop()
		return ref
	}
	ref = j.out.ref
	ref.Length = j.written
	j.out, j.written = block{}, 0
	return ref
}

// bound refuses an output larger than the manifest allows.
func (j *Job) bound(n uint64) error {
	limit := j.spec.MaxOutput
	if limit == 0 || (n <= limit && j.emitted <= limit-n) {
		return nil
	}
	return wire.NewError(base.Code_resourceExhausted, "raise MaxOutput in the plugin's manifest or ask for less",
		"%s: the output exceeds %d bytes", j.spec.Name, limit)
}

// Give makes a block of the plugin's own the output of the job, without copying
// it. The block is the host's afterwards, and the caller's Release of it does
// nothing. It is for capabilities that do not stream.
func (j *Job) Give(b *Block) error {
	ref, err := b.passed()
	switch {
	case err != nil:
		return fmt.Errorf("job %x: output: %w", j.id, err)
	case j.spec.Streams:
		return wire.NewError(base.Code_notSupported, "write a stream with Output or Write", "job %x: a block as the output of a stream", j.id)
	case ref.Length > 0 && b.session == nil:
		return wire.NewError(base.Code_invalidArgument, "copy the input into an Output", "job %x: the block given as output is only borrowed", j.id)
	}
	if err := j.bound(ref.Length); err != nil {
		return err
	}
	j.drop()
	if b != nil {
		j.out, j.written = b.take(), ref.Length
	}
	return nil
}
