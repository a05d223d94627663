package journal

import (
	"context"
	"errors"
	"io"
	"math"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// readInput reads the whole input of a request. Only while it writes is it a task
// that Close waits for: nobody knows when a Reader returns.
func (j *Journal) readInput(ctx context.Context, w *writer, r dispatch.Request, most uint64) error {
	in := r.Input
	if in.Reader == nil || in.Size == 0 {
		return nil
	}
	left := int64(math.MaxInt64)
	if in.Size > 0 {
		left = in.Size
	}
	buf := make([]byte, min(left, chunk))
	for left > 0 {
		n, err := in.Reader.Read(buf[:min(left, int64(len(buf)))])
		left -= int64(n)
		if uint64(n) > most-w.size {
			return wire.NewError(base.Code_invalidArgument, "send less, or ask for a capability that streams",
				"%s takes at most %d bytes of input and was given more", r.Capability, most)
		}
		if err := j.write(w, buf[:n]); err != nil {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF) && (in.Size < 0 || left == 0):
			left = 0
		case err != nil:
			return wire.NewError(base.Code_canceled, "send the whole input", "the input ended early: %v", err)
		}
	}
	return submitInput.Hit()
}

func (j *Journal) write(w *writer, b []byte) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.tasks.Done()
	_, err := w.Write(b)
	return err
}

// abandon drops what was written for a job that did not come about. When the
// journal has closed meanwhile the file is left to whoever opens the next one.
func (j *Journal) abandon(w *writer) {
	if err := j.enter(); err != nil {
		w.close()
		return
	}
	defer j.tasks.Done()
	w.abandon()
}
