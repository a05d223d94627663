// Package compression packs and unpacks blocks of bytes with zstd, S2, Brotli or
// not at all, behind one small interface and under numbers that are stable enough
// to be written to disk.
//
// Plugins and the storage vault use it. It compresses whole blocks, not streams:
// who has a stream cuts it into chunks. It never starts goroutines, and it never
// lets a block unpack to more than the caller said it may.
//
// Formats: zstd is RFC 8878, Brotli is RFC 7932, S2 is the extension of Snappy
// described at github.com/klauspost/compress/tree/master/s2.
package compression

import (
	"errors"
	"fmt"
)

// Algorithm is the number of a format. The numbers are written to disk and never
// change their meaning.
type Algorithm uint8

// The formats.
const (
	None   Algorithm = 0 // bytes as they are
	Zstd   Algorithm = 1 // one zstd frame that says its size
	S2     Algorithm = 2 // one S2 block
	Brotli Algorithm = 3 // one Brotli stream
)

// Level trades time for size. The zero Level is Default.
type Level uint8

// The levels. What they mean differs by algorithm; each is slower and packs
// tighter than the one before it, but for Default, which is the second.
const (
	Default Level = iota
	Fastest
	Better
	Best
)

var (
	// ErrAlgorithm says that an algorithm or level is not known.
	ErrAlgorithm = errors.New("unknown compression")
	// ErrTooLarge says that a block unpacks to more than was allowed.
	ErrTooLarge = errors.New("unpacks to more than is allowed")
	// ErrMalformed says that a block is not what its algorithm writes.
	ErrMalformed = errors.New("compressed data is malformed")
)

// MaxBlock is the most bytes that Compress takes: 1 GiB. The formats could hold
// more, the memory of a plugin could not.
const MaxBlock = 1 << 30

// Codec packs and unpacks blocks of one algorithm. It is safe for concurrent use.
// At most eight blocks of one algorithm and level, and not more than there are
// CPUs, are worked on at once in a process; further callers wait their turn, so
// that the working memory of the encoders is bounded.
type Codec interface {
	// Algorithm returns the number to store beside the block.
	Algorithm() Algorithm
	// Compress appends src, packed, to dst and returns the result. The slices must
	// not overlap. It returns ErrTooLarge for a src over MaxBlock.
	Compress(dst, src []byte) ([]byte, error)
	// Decompress appends src, unpacked, to dst and returns the result. It returns
	// ErrTooLarge as soon as that would be more than limit bytes (or MaxBlock),
	// having used no more memory than limit and a constant, and ErrMalformed for
	// what is not a whole block. On an error the result is dst as it was.
	Decompress(dst, src []byte, limit int) ([]byte, error)
}

var names = [...]string{None: "none", Zstd: "zstd", S2: "s2", Brotli: "brotli"}

// String returns the name of the algorithm as Parse takes it.
func (a Algorithm) String() string {
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("compression(%d)", uint8(a))
}

// Names returns the names of all algorithms, by number.
func Names() []string { return append([]string(nil), names[:]...) }

// Parse returns the algorithm of the given name, or ErrAlgorithm.
func Parse(name string) (Algorithm, error) {
	for a, n := range names {
		if n == name {
			return Algorithm(a), nil
		}
	}
	return None, fmt.Errorf("%w %q: choose one of %v", ErrAlgorithm, name, names)
}

// New returns the codec of an algorithm, packing at the given level, or
// ErrAlgorithm. It is cheap: the state behind it is shared by the process.
func New(a Algorithm, l Level) (Codec, error) {
	if l > Best {
		return nil, fmt.Errorf("%w: level %d of %s; levels go from 0 to %d", ErrAlgorithm, l, a, Best)
	}
	switch a {
	case None:
		return plain{}, nil
	case Zstd:
		return zstdCodec{level: l}, nil
	case S2:
		return s2Codec{level: l}, nil
	case Brotli:
		return brotliCodec{level: l}, nil
	}
	return nil, fmt.Errorf("%w: number %d; this version knows 0 to %d", ErrAlgorithm, uint8(a), len(names)-1)
}

// plain is the codec of None.
type plain struct{}

func (plain) Algorithm() Algorithm { return None }

func (plain) Compress(dst, src []byte) ([]byte, error) {
	if err := checkBlock(src); err != nil {
		return dst, err
	}
	return append(dst, src...), nil
}

func (plain) Decompress(dst, src []byte, limit int) ([]byte, error) {
	if len(src) > bounded(limit) {
		return dst, tooLarge(None, limit)
	}
	return append(dst, src...), nil
}

func checkBlock(src []byte) error {
	if len(src) > MaxBlock {
		return fmt.Errorf("%w: a block of %d bytes, the most is %d; cut it into chunks", ErrTooLarge, len(src), MaxBlock)
	}
	return nil
}

// bounded keeps sums with a caller's limit far from overflow.
func bounded(limit int) int { return max(0, min(limit, MaxBlock)) }

func tooLarge(a Algorithm, limit int) error {
	return fmt.Errorf("%s: %w: the bound is %d bytes", a, ErrTooLarge, limit)
}

func malformed(a Algorithm, cause error) error {
	return fmt.Errorf("%s: %w: %w", a, ErrMalformed, cause)
}
