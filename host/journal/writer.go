package journal

import (
	"errors"
	"fmt"
	"os"

	"github.com/zeebo/blake3"
)

// writer takes in an input or a result. Little of it stays in memory, more goes
// into a file. One goroutine at a time may use it.
type writer struct {
	spool *spool
	id    uint64
	of    side
	buf   []byte
	file  *os.File
	hash  *blake3.Hasher
	size  uint64
	more  uint64 // reserved beside it
	kept  bool   // or dropped: it is no longer the writer's
}

func (s *spool) create(id uint64, of side) *writer {
	return &writer{spool: s, id: id, of: of, hash: blake3.New()}
}

// Write copies b before it looks at it: a plugin may still write to what b views.
func (w *writer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part := b[:min(len(b), chunk-len(w.buf))]
		if err := w.spool.take(uint64(len(part))); err != nil {
			return 0, err
		}
		w.size += uint64(len(part))
		w.buf = append(w.buf, part...)
		if b = b[len(part):]; len(w.buf) == chunk {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// flush writes the buffer to the file.
func (w *writer) flush() (err error) {
	if w.file == nil {
		if err = spoolCreate.Hit(); err == nil {
			w.file, err = os.OpenFile(w.spool.path(w.id, w.of), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		}
		if err != nil {
			return w.failed(err)
		}
	}
	_, _ = w.hash.Write(w.buf) // never fails
	n, torn := spoolWrite.Torn(len(w.buf))
	_, err = w.file.Write(w.buf[:n])
	if err = errors.Join(err, torn); err != nil {
		return w.failed(err)
	}
	w.buf = w.buf[:0]
	return nil
}

func (w *writer) failed(err error) error {
	return diskError(fmt.Sprintf("writing %s", w.spool.path(w.id, w.of)), err)
}

// finish makes what was written durable, but for what the caller must put into
// the store: small, nil when it lies in a file.
func (w *writer) finish() (b blob, small []byte, err error) {
	b = blob{Size: w.size, Place: inFile}
	if w.file == nil && len(w.buf) <= inlineLimit {
		_, _ = w.hash.Write(w.buf) // never fails
		if small = w.buf; w.size == 0 {
			small = nil
		}
		b.Place = inStore
	} else if err := w.sync(); err != nil {
		return blob{}, nil, err
	}
	if b.Size == 0 {
		b.Place = nowhere
	}
	w.hash.Sum(b.Sum[:0])
	return b, small, nil
}

// sync makes the file and its name durable.
func (w *writer) sync() error {
	if len(w.buf) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	err := spoolSync.Hit()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.buf = nil
	if err == nil {
		err = spoolFolder.Hit()
	}
	if err == nil {
		err = syncDir(w.spool.dir)
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// reserve takes room for what the caller keeps beside the bytes.
func (w *writer) reserve(n uint64) error {
	if err := w.spool.take(n); err != nil {
		return err
	}
	w.more += n
	return nil
}

// keep leaves what was written to the record that names it.
func (w *writer) keep() { w.kept = true }

// abandon drops what was written, unless it is kept.
func (w *writer) abandon() {
	if w.kept {
		return
	}
	w.close()
	if w.file != nil {
		_ = os.Remove(w.file.Name())
	}
	w.spool.give(w.size + w.more)
}

// close ends the writing and leaves the file where it is.
func (w *writer) close() {
	w.kept = true
	if w.file != nil {
		_ = w.file.Close() // closed already when it was finished
	}
}
