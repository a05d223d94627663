package sdk

import (
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/arena"
)

// Block is memory of the arena in the hands of a plugin. It belongs to one
// goroutine at a time.
type Block struct {
	block
	length  uint64
	session *session // nil for a block that is only borrowed
	spent   bool
}

// Bytes is a view of the block. It is valid until Release, or for the input of a
// job until the handler returns. After Release it is nil.
func (b *Block) Bytes() []byte { return b.bytes[:b.length:b.length] }

// Ref returns the reference of the block, for logs and tests. It is zero after
// Release.
func (b *Block) Ref() arena.Ref {
	r := b.ref
	if !r.IsZero() {
		r.Length = b.length
	}
	return r
}

// Release gives the block back. Calling it again, or on a block that is only
// borrowed or was given away, does nothing.
func (b *Block) Release() {
	s := b.session
	if taken := b.take(); s != nil && taken.bytes != nil {
		s.release(taken)
	}
}

// take ends the block as such and returns its memory, for the caller to give back.
func (b *Block) take() block {
	taken := b.block
	*b = Block{spent: true}
	return taken
}

var errSpent = wire.NewError(base.Code_invalidArgument, "tell the plugin's author to release a block after its last use",
	"the block was released or given away before")

// passed returns the reference under which the block is passed on, zero for no
// block.
func (b *Block) passed() (arena.Ref, error) {
	switch {
	case b == nil:
		return arena.Ref{}, nil
	case b.spent:
		return arena.Ref{}, errSpent
	default:
		return b.Ref(), nil
	}
}
