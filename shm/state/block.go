// Package state keeps what a module must not lose when its process ends: named
// blocks of memory that belong to the module, so that the next process, after a
// crash or a change of version, goes on from the last commit.
//
// A Block is the plugin's side: two halves, of which one is committed and the
// other is being written. A Directory is the host's: which blocks there are. The
// host writes a block's header once, before anyone else has it, and never reads
// it, since the plugin can write there. Nothing here survives the host.
package state

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"inos/shm/internal/mem"
)

// HeaderSize is the number of bytes before the first half of a block. They are,
// little-endian:
//
//	 0  u64  magic, "INOSSTA1" read as a number
//	 8  u32  schema of half 0       12  u32  schema of half 1
//	16  u64  bytes of one half, a multiple of 64
//	24  u64  commits; the lowest bit is the number of the committed half
//	32       zero
//
// The schema stands once for each half, and commits is written last, so whatever
// instant a process dies at, the committed half and its schema are whole.
const HeaderSize = 64

const (
	magic = 0x494E4F5353544131

	magicAt   = 0
	schemaAt  = 8
	halfAt    = 16
	commitsAt = 24
)

// ErrNotState means that the bytes are not a whole state block.
var ErrNotState = errors.New("not a state block")

// Block is one state block as its module sees it. One goroutine at a time may use
// it, in one process at a time.
type Block struct {
	header mem.Region
	halves [2][]byte
}

// Size returns the number of bytes a block with halves of half bytes takes. It
// is math.MaxUint64, which no arena has, when that number does not fit in 64 bits.
func Size(half uint64) uint64 {
	if half > 1<<63-HeaderSize {
		return math.MaxUint64
	}
	return HeaderSize + 2*((half+63)&^63)
}

// Format makes a new block of b and returns it: nothing committed yet, the
// current half all zero and of the given schema. What lay in b is lost.
func Format(b []byte, schema uint32) (*Block, error) {
	half := (uint64(len(b)) - min(uint64(len(b)), HeaderSize)) / 2 &^ 63
	if half == 0 {
		return nil, fmt.Errorf("%w: %d bytes cannot hold one, %d is the least", ErrNotState, len(b), Size(1))
	}
	if err := aligned(b); err != nil {
		return nil, err
	}
	header := mem.Of(b[:HeaderSize])
	header.Store64(magicAt, 0) // not a block until it is whole
	clear(b[8 : HeaderSize+half])
	header.Store32(schemaAt, schema)
	header.Store64(halfAt, half)
	header.Store64(magicAt, magic)
	return Attach(b)
}

// Attach finds the block that another process has left in b.
func Attach(b []byte) (*Block, error) {
	if uint64(len(b)) < Size(1) {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrNotState, len(b))
	}
	if err := aligned(b); err != nil {
		return nil, err
	}
	header := mem.Of(b[:HeaderSize])
	if got := header.Load64(magicAt); got != magic {
		return nil, fmt.Errorf("%w: it begins with %#x", ErrNotState, got)
	}
	half := header.Load64(halfAt)
	if half == 0 || half%64 != 0 || Size(half) > uint64(len(b)) {
		return nil, fmt.Errorf("%w: two halves of %d bytes do not fit in %d", ErrNotState, half, len(b))
	}
	mid, end := HeaderSize+half, HeaderSize+2*half
	return &Block{header: header, halves: [2][]byte{b[HeaderSize:mid:mid], b[mid:end:end]}}, nil
}

// aligned refuses memory in which the header's words would not be atomic.
func aligned(b []byte) error {
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 != 0 {
		return fmt.Errorf("%w: its address is not a multiple of 8", ErrNotState)
	}
	return nil
}

// Current returns the committed half. It stays as it is until the Commit after
// the next one; nobody should write it.
func (b *Block) Current() []byte { return b.halves[b.Commits()&1] }

// Next returns the half to write. What it holds at first is the state before the
// current one, or rubbish: write all of it, or copy Current there first.
func (b *Block) Next() []byte { return b.halves[b.Commits()&1^1] }

// Commit makes Next the current half, with the schema that Current had.
func (b *Block) Commit() { b.CommitAs(b.Schema()) }

// CommitAs is Commit for a state in another schema, as a new version of a module
// writes it after it has read the old one.
func (b *Block) CommitAs(schema uint32) {
	commits := b.Commits()
	b.header.Store32(schemaAt+4*(commits&1^1), schema)
	b.header.Store64(commitsAt, commits+1)
}

// Schema returns the schema of the committed half.
func (b *Block) Schema() uint32 { return b.header.Load32(schemaAt + 4*(b.Commits()&1)) }

// Commits returns how many commits the block has seen; none means that Current
// is all zero.
func (b *Block) Commits() uint64 { return b.header.Load64(commitsAt) }
