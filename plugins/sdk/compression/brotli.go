package compression

import (
	"bytes"
	"errors"
	"io"

	"github.com/andybalholm/brotli"
)

// brotliWindow is the base-2 logarithm of how far back the encoder looks: 1 MiB.
const brotliWindow = 20

type brotliCodec struct{ level Level }

func brotliWriters(quality int) *pool[brotli.Writer] {
	return newPool(func() *brotli.Writer {
		return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: quality, LGWin: brotliWindow})
	})
}

var (
	brotliPacking = [...]*pool[brotli.Writer]{
		Default: brotliWriters(5),
		Fastest: brotliWriters(2),
		Better:  brotliWriters(7),
		Best:    brotliWriters(11),
	}
	brotliUnpacking = newPool(func() *brotli.Reader { return new(brotli.Reader) })
)

// appender is an io.Writer at the end of a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func (brotliCodec) Algorithm() Algorithm { return Brotli }

func (c brotliCodec) Compress(dst, src []byte) ([]byte, error) {
	if err := checkBlock(src); err != nil {
		return dst, err
	}
	p := brotliPacking[c.level]
	w := p.take()
	defer p.put(w)
	out := &appender{b: dst}
	w.Reset(out)
	if _, err := w.Write(src); err != nil {
		return dst, err
	}
	if err := w.Close(); err != nil {
		return dst, err
	}
	w.Reset(nil) // do not hold on to the caller's memory
	return out.b, nil
}

func (brotliCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	limit = bounded(limit)
	r := brotliUnpacking.take()
	defer brotliUnpacking.put(r)
	in := bytes.NewReader(src)
	if err := r.Reset(in); err != nil {
		return dst, malformed(Brotli, err)
	}
	start, out := len(dst), dst
	// A stream does not say how long it is: the output grows as it comes, never
	// beyond one byte over the limit, which tells a full block from a longer one.
	for {
		if len(out) == cap(out) {
			grown := min(max(2*(len(out)-start), 4<<10), limit+1)
			out = room(out, grown-(len(out)-start))
		}
		stop := min(cap(out), start+limit+1)
		n, err := r.Read(out[len(out):stop])
		out = out[:len(out)+n]
		switch {
		case len(out)-start > limit:
			return dst, tooLarge(Brotli, limit)
		case errors.Is(err, io.EOF):
			if in.Len() > 0 {
				return dst, malformed(Brotli, errors.New("bytes follow the end of the stream"))
			}
			return out, nil
		case err != nil:
			return dst, malformed(Brotli, err)
		}
	}
}
