package sdk

import (
	"sync"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/arena"
)

// Block is memory of the arena in the hands of a plugin. Calls of one Block must
// not overlap, but for Release, which any goroutine may call at any time after
// the last look at Bytes.
type Block struct {
	block
	length  uint64
	session *session // nil for a block that is only borrowed

	mu    sync.Mutex
	spent bool
}

// Bytes is a view of the block. It is valid until Release, or for the input of a
// job until the handler returns. After Release it is nil.
func (b *Block) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes[:b.length:b.length]
}

// Ref returns the reference of the block, for logs and tests. It is zero after
// Release.
func (b *Block) Ref() arena.Ref {
	b.mu.Lock()
	defer b.mu.Unlock()
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

// take ends the block as such and returns its memory, which is then the caller's
// to give back. The second call returns nothing.
func (b *Block) take() block {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.block
	b.block, b.length, b.spent = block{}, 0, true
	return taken
}

var errSpent = wire.NewError(base.Code_invalidArgument, "tell the plugin's author to release a block after its last use",
	"the block was released or given away before")

// passed returns the reference under which the block is passed on, zero for no
// block.
func (b *Block) passed() (arena.Ref, error) {
	if b == nil {
		return arena.Ref{}, nil
	}
	r := b.Ref()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent {
		return arena.Ref{}, errSpent
	}
	return r, nil
}
