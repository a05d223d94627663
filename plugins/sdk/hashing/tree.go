package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Prefixes that keep the three kinds of node apart: no chunk can pass for an
// inner node, and no inner node for a root.
const (
	leafPrefix byte = iota
	nodePrefix
	rootPrefix
)

// ErrChunkSize says that a tree was asked for with chunks of no size.
var ErrChunkSize = errors.New("chunk size out of range")

// ErrNoLeaf says that a tree has no leaf of the given index.
var ErrNoLeaf = errors.New("no such leaf")

// Tree is a Merkle tree over the chunks of a stream.
//
//	leaf = BLAKE3(0x00, chunk)
//	node = BLAKE3(0x01, left, right)
//	root = BLAKE3(0x02, number of leaves as u64 little-endian, top node)
//
// A node without a partner moves up a level unchanged, which gives the shape of
// RFC 6962; it is never paired with itself, so no other list of leaves has the
// same root. The root also fixes the number of leaves, and with it the place of
// each. The root over no leaves has no top node.
//
// A Tree does not change and is safe for concurrent use. It holds about 64 bytes
// for each leaf.
type Tree struct {
	levels [][]Digest // leaves first
	root   Digest
}

// HashLeaf returns the hash that stands for a chunk in a tree.
func HashLeaf(chunk []byte) Digest {
	h := New()
	writeLeaf(h, chunk)
	return h.Sum()
}

func writeLeaf(h *Hasher, chunk []byte) {
	_, _ = h.Write([]byte{leafPrefix}) // a hash never refuses bytes
	_, _ = h.Write(chunk)
}

func hashNode(left, right Digest) Digest {
	var b [1 + 2*Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+Size:], right[:])
	return Sum(b[:])
}

func hashRoot(leaves uint64, top []byte) Digest {
	var b [1 + 8 + Size]byte
	b[0] = rootPrefix
	binary.LittleEndian.PutUint64(b[1:], leaves)
	n := copy(b[9:], top)
	return Sum(b[:9+n])
}

// NewTree builds the tree over leaves made with HashLeaf. It keeps the slice.
func NewTree(leaves []Digest) *Tree {
	if len(leaves) == 0 {
		return &Tree{root: hashRoot(0, nil)}
	}
	t := &Tree{levels: [][]Digest{leaves}}
	for level := leaves; len(level) > 1; {
		up := make([]Digest, 0, (len(level)+1)/2)
		for ; len(level) > 1; level = level[2:] {
			up = append(up, hashNode(level[0], level[1]))
		}
		up = append(up, level...)
		t.levels = append(t.levels, up)
		level = up
	}
	top := t.levels[len(t.levels)-1][0]
	t.root = hashRoot(uint64(len(leaves)), top[:])
	return t
}

// Root returns the digest that stands for the whole stream.
func (t *Tree) Root() Digest { return t.root }

// Leaves returns the number of chunks.
func (t *Tree) Leaves() uint64 {
	if len(t.levels) == 0 {
		return 0
	}
	return uint64(len(t.levels[0]))
}

// Proof returns the proof that the leaf of the given index, counted from 0, is
// part of the tree, or ErrNoLeaf.
func (t *Tree) Proof(index uint64) (Proof, error) {
	count := t.Leaves()
	if index >= count {
		return Proof{}, fmt.Errorf("%w: index %d of a tree with %d", ErrNoLeaf, index, count)
	}
	p := Proof{Index: index, Leaves: count, Leaf: t.levels[0][index], Root: t.root}
	for _, level := range t.levels[:len(t.levels)-1] {
		if sibling := index ^ 1; sibling < uint64(len(level)) {
			p.Siblings = append(p.Siblings, level[sibling])
		}
		index >>= 1
	}
	return p, nil
}

// TreeHasher builds a Tree from a stream, which it cuts into chunks of one size.
// It is an io.Writer that never fails, holds 32 bytes for each chunk and is not
// safe for concurrent use.
type TreeHasher struct {
	size   int
	filled int // bytes of the current chunk
	chunk  *Hasher
	leaves []Digest
}

// NewTreeHasher returns a TreeHasher for chunks of the given number of bytes, or
// ErrChunkSize.
func NewTreeHasher(chunkSize int) (*TreeHasher, error) {
	if chunkSize < 1 {
		return nil, fmt.Errorf("%w: %d bytes; give at least 1", ErrChunkSize, chunkSize)
	}
	return &TreeHasher{size: chunkSize, chunk: New()}, nil
}

// Write adds p to the stream.
func (h *TreeHasher) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), h.size-h.filled)
		if h.filled == 0 {
			h.chunk.Reset()
			writeLeaf(h.chunk, p[:n])
		} else {
			_, _ = h.chunk.Write(p[:n]) // a hash never refuses bytes
		}
		p, h.filled = p[n:], h.filled+n
		if h.filled == h.size {
			h.leaves, h.filled = append(h.leaves, h.chunk.Sum()), 0
		}
	}
	return total, nil
}

// Tree returns the tree over everything written so far. Writing may go on.
func (h *TreeHasher) Tree() *Tree {
	leaves := append([]Digest(nil), h.leaves...)
	if h.filled > 0 {
		leaves = append(leaves, h.chunk.Sum())
	}
	return NewTree(leaves)
}
