package hashing

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProof says that a proof is malformed or does not show what it claims.
var ErrProof = errors.New("proof does not hold")

// Proof shows that a leaf is part of a tree, to anyone who knows the root.
type Proof struct {
	Index    uint64   // place of the leaf, from 0
	Leaves   uint64   // how many the tree has
	Leaf     Digest   // HashLeaf of the chunk
	Siblings []Digest // from the leaf's own level upwards
	Root     Digest   // of the tree it was made from; says nothing by itself
}

// Verify returns ErrProof unless the proof shows its leaf to be part of the tree
// with the given root. The root must come from somewhere the caller trusts, not
// from the proof.
func (p Proof) Verify(root Digest) error {
	if p.Index >= p.Leaves {
		return fmt.Errorf("%w: leaf %d of %d", ErrProof, p.Index, p.Leaves)
	}
	if want := pathLength(p.Index, p.Leaves); len(p.Siblings) != want {
		return fmt.Errorf("%w: %d siblings where leaf %d of %d has %d", ErrProof, len(p.Siblings), p.Index, p.Leaves, want)
	}
	at, rest := p.Leaf, p.Siblings
	for i, last := p.Index, p.Leaves-1; last > 0; i, last = i>>1, last>>1 {
		switch {
		case i&1 == 1:
			at, rest = hashNode(rest[0], at), rest[1:]
		case i < last:
			at, rest = hashNode(at, rest[0]), rest[1:]
		}
	}
	if got := hashRoot(p.Leaves, at[:]); !got.Equal(root) || !p.Root.Equal(root) {
		return fmt.Errorf("%w: leaf %d leads to root %s, expected %s", ErrProof, p.Index, got, root)
	}
	return nil
}

// VerifyChunk is Verify, and also checks that the leaf stands for chunk.
func (p Proof) VerifyChunk(root Digest, chunk []byte) error {
	if got := HashLeaf(chunk); !got.Equal(p.Leaf) {
		return fmt.Errorf("%w: chunk %d hashes to %s, the proof is about %s", ErrProof, p.Index, got, p.Leaf)
	}
	return p.Verify(root)
}

// pathLength counts the siblings on the way from a leaf to the top: one for each
// level, but for those where the node has no partner.
func pathLength(index, leaves uint64) int {
	n := 0
	for i, last := index, leaves-1; last > 0; i, last = i>>1, last>>1 {
		if i&1 == 1 || i < last {
			n++
		}
	}
	return n
}

// proofHead is the length of an encoded proof before its siblings.
const proofHead = 8 + 8 + Size + Size

// MarshalBinary encodes the proof: index and leaves as u64 little-endian, leaf,
// root, siblings. Their number follows from index and leaves.
func (p Proof) MarshalBinary() ([]byte, error) {
	if p.Index >= p.Leaves || len(p.Siblings) != pathLength(p.Index, p.Leaves) {
		return nil, fmt.Errorf("%w: leaf %d of %d with %d siblings", ErrProof, p.Index, p.Leaves, len(p.Siblings))
	}
	b := make([]byte, 0, proofHead+len(p.Siblings)*Size)
	b = binary.LittleEndian.AppendUint64(b, p.Index)
	b = binary.LittleEndian.AppendUint64(b, p.Leaves)
	b = append(b, p.Leaf[:]...)
	b = append(b, p.Root[:]...)
	for i := range p.Siblings {
		b = append(b, p.Siblings[i][:]...)
	}
	return b, nil
}

// UnmarshalBinary decodes what MarshalBinary wrote, or returns ErrProof. There is
// exactly one encoding of each proof. It does not verify what the proof claims.
func (p *Proof) UnmarshalBinary(b []byte) error {
	if len(b) < proofHead {
		return fmt.Errorf("%w: %d bytes are too few", ErrProof, len(b))
	}
	q := Proof{Index: binary.LittleEndian.Uint64(b), Leaves: binary.LittleEndian.Uint64(b[8:])}
	copy(q.Leaf[:], b[16:])
	copy(q.Root[:], b[16+Size:])
	if q.Index >= q.Leaves {
		return fmt.Errorf("%w: leaf %d of %d", ErrProof, q.Index, q.Leaves)
	}
	n := pathLength(q.Index, q.Leaves)
	if len(b) != proofHead+n*Size {
		return fmt.Errorf("%w: %d bytes where leaf %d of %d needs %d", ErrProof, len(b), q.Index, q.Leaves, proofHead+n*Size)
	}
	q.Siblings = make([]Digest, n)
	for i := range q.Siblings {
		copy(q.Siblings[i][:], b[proofHead+i*Size:])
	}
	*p = q
	return nil
}
