package compression

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow is how far back the encoder looks, which bounds what it keeps.
const zstdWindow = 1 << 20

// zstdSlack is what the decoder wants beyond the last byte to copy in long steps.
const zstdSlack = 16

type zstdCodec struct{ level Level }

func zstdEncoders(l zstd.EncoderLevel) *pool[zstd.Encoder] {
	return newPool(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true),
			zstd.WithSingleSegment(true), zstd.WithZeroFrames(true))
		if err != nil {
			panic(fmt.Sprintf("compression: zstd options refused: %v", err)) // they are constants
		}
		return e
	})
}

var (
	zstdPacking = [...]*pool[zstd.Encoder]{
		Default: zstdEncoders(zstd.SpeedDefault),
		Fastest: zstdEncoders(zstd.SpeedFastest),
		Better:  zstdEncoders(zstd.SpeedBetterCompression),
		Best:    zstdEncoders(zstd.SpeedBestCompression),
	}
	zstdUnpacking = newPool(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(fmt.Sprintf("compression: zstd options refused: %v", err)) // they are constants
		}
		return d
	})
)

func (zstdCodec) Algorithm() Algorithm { return Zstd }

func (c zstdCodec) Compress(dst, src []byte) ([]byte, error) {
	if err := checkBlock(src); err != nil {
		return dst, err
	}
	p := zstdPacking[c.level]
	e := p.take()
	defer p.put(e)
	return e.EncodeAll(src, dst), nil
}

func (zstdCodec) Decompress(dst, src []byte, limit int) ([]byte, error) {
	limit = bounded(limit)
	var head zstd.Header
	if err := head.Decode(src); err != nil {
		return dst, malformed(Zstd, err)
	}
	if head.Skippable || !head.HasFCS {
		return dst, malformed(Zstd, errors.New("the frame does not say its size"))
	}
	if head.FrameContentSize > uint64(limit) {
		return dst, tooLarge(Zstd, limit)
	}
	d := zstdUnpacking.take()
	defer zstdUnpacking.put(d)
	// The decoder fills the capacity it is given and never grows it.
	n := int(head.FrameContentSize)
	dst = room(dst, n+zstdSlack)
	out, err := d.DecodeAll(src, dst[len(dst):len(dst):len(dst)+n+zstdSlack])
	if err == nil && len(out) != n {
		err = fmt.Errorf("%d bytes where the frame says %d", len(out), n)
	}
	if err != nil {
		return dst, malformed(Zstd, err)
	}
	return dst[:len(dst)+n], nil
}
