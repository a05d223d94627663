package arena

import (
	"errors"
	"fmt"
)

// ErrBadRef is wrapped by every error about a reference that is not true.
var ErrBadRef = errors.New("bad reference")

// The ways in which a reference can be untrue. Each wraps ErrBadRef.
var (
	ErrUnknown = fmt.Errorf("%w: unknown", ErrBadRef)      // another arena, or a slot that was never given
	ErrStale   = fmt.Errorf("%w: stale", ErrBadRef)        // the block was freed, perhaps given anew
	ErrRange   = fmt.Errorf("%w: out of range", ErrBadRef) // the offset is not the block's, or it is too long
	ErrForeign = fmt.Errorf("%w: foreign", ErrBadRef)      // someone else owns the block
)

var (
	// ErrTooLarge means that the arena could not hold the block if it were empty.
	ErrTooLarge = errors.New("block larger than the arena")
	// ErrFull is what a *FullError is.
	ErrFull = errors.New("arena full")
	// ErrClosed means that the arena gives no more blocks.
	ErrClosed = errors.New("arena closed")
)

// FullError says how much was wanted and how much there was. errors.Is takes it
// for ErrFull. All figures are bytes.
type FullError struct {
	Arena   uint16
	Wanted  uint64
	Free    uint64 // in pages that are part of no block and no slab
	Largest uint64 // longest run of free pages
}

// Error says it in words, with what to do about it.
func (e *FullError) Error() string {
	return fmt.Sprintf("arena %d full: %d bytes wanted, %d free, longest run %d: "+
		"wait for blocks to be released, or start the node with a larger --segment", e.Arena, e.Wanted, e.Free, e.Largest)
}

// Unwrap makes the error an ErrFull.
func (e *FullError) Unwrap() error { return ErrFull }
