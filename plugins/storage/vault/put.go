package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"inos/plugins/sdk/compression"
	"inos/plugins/sdk/hashing"
)

// PutOptions say how an object or chunk is stored.
type PutOptions struct {
	// Codec compresses; nil means zstd at its fastest level.
	Codec compression.Codec
}

func (o PutOptions) codec() (compression.Codec, error) {
	if o.Codec != nil {
		return o.Codec, nil
	}
	return compression.New(compression.Zstd, compression.Fastest)
}

// Put stores everything that r gives under name, in place of what was there. When
// it returns without error, the object is on disk for good; when it returns one,
// what was there before is untouched, except after ErrReadOnly, where either may
// be found later. While Put runs, the old content can be read.
//
// It returns ErrName, ErrTooLarge for more than MaxChunks chunks, or the error of
// r or ctx.
func (v *Vault) Put(ctx context.Context, name string, r io.Reader, o PutOptions) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	codec, err := o.codec()
	if err != nil {
		return Info{}, err
	}
	ctx, done, err := v.beginChange(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("put %q: %w", name, err)
	}
	defer done()

	p := &putting{v: v, codec: codec, digest: hashing.New()}
	if err = p.run(ctx, r); err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		p.undo()
		return Info{}, fmt.Errorf("put %q: %w", name, err)
	}
	m := &manifest{entries: p.entries, Info: Info{
		Name: name, Size: p.digest.Bytes(), Digest: p.digest.Sum(), Compression: codec.Algorithm(), Chunks: len(p.entries),
	}}
	for i := range m.entries {
		m.Stored += uint64(m.entries[i].stored)
	}
	replaced, err := v.commit(m)
	if err != nil {
		p.undo()
		return Info{}, fmt.Errorf("put %q: %w", name, err)
	}
	v.releaseAll(replaced)
	return m.Info, nil
}

// putting is a Put under way.
type putting struct {
	v      *Vault
	codec  compression.Codec
	digest *hashing.Hasher

	mu      sync.Mutex
	entries []entry // a zero one is not stored yet
}

// run cuts the stream into chunks, which workers store while the next is read,
// and syncs the folders they went to.
func (p *putting) run(ctx context.Context, r io.Reader) error {
	g, ctx := errgroup.WithContext(ctx)
	err := p.cut(ctx, r, g)
	// When a worker failed, what ended the cutting is only the consequence.
	if failed := g.Wait(); failed != nil {
		return failed
	}
	if err != nil || len(p.entries) == 0 {
		return err
	}
	dirs := []string{p.v.path(chunksDir)}
	var seen [fanout]bool
	for i := range p.entries {
		if first := p.entries[i].chunk[0]; !seen[first] {
			seen[first] = true
			dirs = append(dirs, p.v.folder(chunksDir, int(first)))
		}
	}
	if err := p.v.syncDirs(dirs); err != nil {
		// A later sync may report success for what this one lost, and another Put may
		// count on the same chunk.
		return p.v.breakOff(err)
	}
	return nil
}

func (p *putting) cut(ctx context.Context, r io.Reader, g *errgroup.Group) error {
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf := p.v.buffer(p.v.chunkSize)
		plain, last, err := fill((*buf)[:p.v.chunkSize], r)
		if err != nil || len(plain) == 0 {
			p.v.buffers.Put(buf)
			return err
		}
		if n == MaxChunks {
			return fmt.Errorf("%w: more than %d chunks of %d bytes; open the vault with larger chunks or split the object",
				ErrTooLarge, MaxChunks, p.v.chunkSize)
		}
		_, _ = p.digest.Write(plain) // a hash never refuses bytes
		w, err := p.v.slot(ctx)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.entries = append(p.entries, entry{})
		p.mu.Unlock()
		g.Go(func() error {
			defer func() { p.v.slots <- w; p.v.buffers.Put(buf) }()
			e, err := p.v.store(ctx, w, plain, p.codec)
			if err != nil {
				return fmt.Errorf("chunk %d: %w", n, err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.entries[n] = e
			return nil
		})
		if last {
			return nil
		}
	}
}

// fill reads until b is full or r has ended. io.ReadFull will not do: it cannot
// tell the end of r from an io.ErrUnexpectedEOF with which r reports that its own
// source was cut short.
func fill(b []byte, r io.Reader) (_ []byte, last bool, err error) {
	n := 0
	for n < len(b) {
		read, err := r.Read(b[n:])
		n += read
		if err == io.EOF { // the contract of io.Reader is the bare value
			return b[:n], true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return b, false, nil
}

// undo gives up the chunks stored so far.
func (p *putting) undo() {
	for i := range p.entries {
		if p.entries[i].plain > 0 {
			p.v.release(p.entries[i].chunk)
		}
	}
}

// commit makes an object exist, in place of one of the same name, and returns the
// chunks of that.
func (v *Vault) commit(m *manifest) (replaced []entry, err error) {
	object := v.secrets.objectID(m.Name)
	lock := &v.objects[object[0]]
	lock.Lock()
	defer lock.Unlock()

	m.Modified = time.Unix(0, v.now().UnixNano()).UTC() // as it will be read back
	m.Created = m.Modified
	// What cannot be read cannot be released either: its chunks stay until Collect
	// after the next Open.
	if old, err := v.readManifest(object); err == nil {
		m.Created, replaced = old.Created, v.index.counted(old)
	}
	file, err := v.secrets.sealManifest(object, m, v.random)
	if err != nil {
		return nil, err
	}
	dir := v.folder(objectsDir, int(object[0]))
	if err := v.fs.Mkdir(dir); err != nil {
		return nil, err
	}
	if err := v.place(v.file(objectsDir, object), file, dir, v.path(objectsDir)); err != nil {
		return nil, err
	}
	v.index.set(object, m.Info)
	return replaced, nil
}

// place writes a file whose appearance is a promise, and syncs the folders above
// it. Once the file may be in place, a failure leaves it open whether it is.
func (v *Vault) place(path string, b []byte, dirs ...string) error {
	if err := v.broken.Load(); err != nil {
		return *err
	}
	if err := v.write(path, b); err != nil {
		if errors.Is(err, errPlacing) {
			return v.breakOff(err)
		}
		return err
	}
	if err := v.syncDirs(dirs); err != nil {
		return v.breakOff(err)
	}
	return nil
}
