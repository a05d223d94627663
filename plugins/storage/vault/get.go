package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"inos/plugins/sdk/hashing"
)

// readAhead is how many chunks of an object are read before they are asked for.
const readAhead = 4

// Stat returns what is known of an object, from its manifest, or ErrNotFound or
// ErrCorrupt. It does not look at the chunks.
func (v *Vault) Stat(ctx context.Context, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	_, done, err := v.begin(ctx)
	if err != nil {
		return Info{}, err
	}
	defer done()
	m, err := v.manifest(name)
	if err != nil {
		return Info{}, err
	}
	return m.Info, nil
}

// Get opens an object for reading, or returns ErrNotFound or ErrCorrupt. What the
// reader gives is the content at this moment, whatever is put or deleted while it
// is read. The caller closes the reader. Reading ends when ctx does.
func (v *Vault) Get(ctx context.Context, name string) (*Reader, error) {
	m, s, err := v.stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Reader{stream: s, info: m.Info, digest: hashing.New()}, nil
}

// stream opens the chunks of an object.
func (v *Vault) stream(ctx context.Context, name string) (*manifest, *stream, error) {
	if err := CheckName(name); err != nil {
		return nil, nil, err
	}
	_, done, err := v.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	// Nothing may delete the object between reading which chunks it has and holding
	// on to them.
	lock := &v.objects[v.secrets.objectID(name)[0]]
	lock.RLock()
	defer lock.RUnlock()
	m, err := v.manifest(name)
	if err != nil {
		return nil, nil, err
	}
	for i := range m.entries {
		v.retain(m.entries[i].chunk)
	}
	s := &stream{v: v, name: name, entries: m.entries}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return m, s, nil
}

// stream reads the chunks of an object ahead, in order. One goroutine uses it.
type stream struct {
	v       *Vault
	name    string
	entries []entry
	ctx     context.Context
	cancel  context.CancelFunc
	next    int          // first entry not asked for yet
	coming  []chan piece // asked for and not taken yet
	closed  bool
}

// piece is a chunk that was read, or why it could not be.
type piece struct {
	number int
	buf    *[]byte
	plain  []byte
	err    error
}

// take returns the next chunk, and false after the last. Its buffer goes back with
// give.
func (s *stream) take() (piece, bool) {
	for ; s.next < len(s.entries) && len(s.coming) < readAhead; s.next++ {
		c := make(chan piece, 1)
		s.coming = append(s.coming, c)
		ctx, done, err := s.v.begin(s.ctx)
		if err != nil {
			c <- piece{number: s.next, err: err}
			continue
		}
		go func(n int) {
			defer done()
			c <- s.read(ctx, n)
		}(s.next)
	}
	if len(s.coming) == 0 {
		return piece{}, false
	}
	p := <-s.coming[0]
	s.coming = s.coming[1:]
	return p, true
}

func (s *stream) give(p piece) {
	if p.buf != nil {
		s.v.buffers.Put(p.buf)
	}
}

func (s *stream) read(ctx context.Context, n int) piece {
	p := piece{number: n}
	w, err := s.v.slot(ctx)
	if err != nil {
		p.err = err
		return p
	}
	defer func() { s.v.slots <- w }()
	e := &s.entries[n]
	p.buf = s.v.buffer(int(e.plain))
	p.plain, err = s.v.fetch(w, (*p.buf)[:0], e.chunk)
	*p.buf = p.plain // a decoder may have wanted more room than the bytes take
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: the file of chunk %s is missing", ErrCorrupt, e.chunk)
	case err == nil && len(p.plain) != int(e.plain):
		err = fmt.Errorf("%w: chunk %s has %d bytes, the manifest says %d", ErrCorrupt, e.chunk, len(p.plain), e.plain)
	}
	if err != nil {
		p.err = fmt.Errorf("object %q: chunk %d of %d: %w; put the object again or restore the file %s",
			s.name, n+1, len(s.entries), err, s.v.file(chunksDir, e.chunk))
	}
	return p
}

// close ends reading ahead and lets go of the chunks.
func (s *stream) close() {
	if s.closed {
		return
	}
	s.closed = true
	s.cancel()
	for _, c := range s.coming {
		s.give(<-c)
	}
	s.coming, s.next = nil, len(s.entries)
	// After the vault was closed its files belong to others.
	if _, done, err := s.v.begin(context.Background()); err == nil {
		s.v.releaseAll(s.entries)
		done()
	}
}

// Reader reads an object from start to end. It belongs to one goroutine.
type Reader struct {
	stream *stream
	info   Info
	digest *hashing.Hasher
	piece  piece
	rest   []byte // of the piece, not read yet
	err    error  // how reading ended
}

// Info describes the object being read.
func (r *Reader) Info() Info { return r.info }

// Read gives the next bytes of the object. Every byte was authenticated before it
// is given. Damage ends reading with ErrCorrupt, which names object and chunk:
// what was given before it is right, but not the whole.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo writes the rest of the object to w, a chunk at a time, without copying.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		if err == nil && n != len(r.rest) {
			err = io.ErrShortWrite
		}
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

// fill makes sure that rest has bytes, or returns how reading ended.
func (r *Reader) fill() error {
	for len(r.rest) == 0 && r.err == nil {
		r.stream.give(r.piece)
		r.piece = piece{}
		p, ok := r.stream.take()
		switch {
		case !ok:
			r.end(io.EOF)
		case p.err != nil:
			r.stream.give(p)
			r.end(p.err)
		default:
			r.piece, r.rest = p, p.plain
			_, _ = r.digest.Write(p.plain) // a hash never refuses bytes
		}
	}
	if len(r.rest) > 0 {
		return nil
	}
	return r.err
}

func (r *Reader) end(err error) {
	if errors.Is(err, io.EOF) && r.digest.Sum() != r.info.Digest {
		err = fmt.Errorf("object %q: %w: the whole has digest %s, the manifest says %s; put the object again",
			r.info.Name, ErrCorrupt, r.digest.Sum(), r.info.Digest)
	}
	r.err = err
	r.stream.close()
}

// Close ends reading. It always returns nil, and may be called again.
func (r *Reader) Close() error {
	if r.err == nil || errors.Is(r.err, io.EOF) {
		r.err = ErrClosed
	}
	r.rest = nil
	r.stream.give(r.piece)
	r.piece = piece{}
	r.stream.close()
	return nil
}
