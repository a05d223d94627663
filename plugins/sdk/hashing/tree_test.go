package hashing

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// referenceRoot is the recursive definition of RFC 6962 section 2.1: split at the
// largest power of two below the number of leaves.
func referenceRoot(leaves []Digest) Digest {
	var top func([]Digest) Digest
	top = func(l []Digest) Digest {
		if len(l) == 1 {
			return l[0]
		}
		k := 1
		for k*2 < len(l) {
			k *= 2
		}
		return hashNode(top(l[:k]), top(l[k:]))
	}
	if len(leaves) == 0 {
		return hashRoot(0, nil)
	}
	d := top(leaves)
	return hashRoot(uint64(len(leaves)), d[:])
}

func numberedLeaves(n int) []Digest {
	leaves := make([]Digest, n)
	for i := range leaves {
		leaves[i] = HashLeaf([]byte{byte(i), byte(i >> 8)})
	}
	return leaves
}

func TestTreeHasTheShapeOfRFC6962(t *testing.T) {
	for n := range 70 {
		leaves := numberedLeaves(n)
		if got, want := NewTree(leaves).Root(), referenceRoot(leaves); got != want {
			t.Errorf("%d leaves: root %s, want %s", n, got, want)
		}
	}
}

func TestEveryLeafHasAProof(t *testing.T) {
	for n := 1; n < 40; n++ {
		tree := NewTree(numberedLeaves(n))
		for i := range uint64(n) {
			p, err := tree.Proof(i)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.VerifyChunk(tree.Root(), []byte{byte(i), 0}); err != nil {
				t.Errorf("leaf %d of %d: %v", i, n, err)
			}
			b, err := p.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			var q Proof
			if err := q.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			if err := q.Verify(tree.Root()); err != nil {
				t.Errorf("leaf %d of %d after decoding: %v", i, n, err)
			}
		}
		if _, err := tree.Proof(uint64(n)); !errors.Is(err, ErrNoLeaf) {
			t.Errorf("leaf %d of %d: %v", n, n, err)
		}
	}
}

func TestProofWithAnythingChangedIsRefused(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8, 13} {
		tree := NewTree(numberedLeaves(n))
		for i := range uint64(n) {
			p, err := tree.Proof(i)
			if err != nil {
				t.Fatal(err)
			}
			good, err := p.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			for bit := range len(good) * 8 {
				bad := bytes.Clone(good)
				bad[bit/8] ^= 1 << (bit % 8)
				var q Proof
				if q.UnmarshalBinary(bad) == nil && q.Verify(tree.Root()) == nil {
					t.Fatalf("leaf %d of %d: a proof with bit %d flipped holds", i, n, bit)
				}
			}
		}
	}
}

func TestProofOfAnotherChunkOrTreeIsRefused(t *testing.T) {
	tree, other := NewTree(numberedLeaves(7)), NewTree(numberedLeaves(8))
	p, err := tree.Proof(3)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.VerifyChunk(tree.Root(), []byte("another")); !errors.Is(err, ErrProof) {
		t.Errorf("another chunk: %v", err)
	}
	if err := p.Verify(other.Root()); !errors.Is(err, ErrProof) {
		t.Errorf("another tree: %v", err)
	}
	p.Siblings = append(p.Siblings, Digest{})
	if err := p.Verify(tree.Root()); !errors.Is(err, ErrProof) {
		t.Errorf("a sibling too many: %v", err)
	}
	if _, err := p.MarshalBinary(); !errors.Is(err, ErrProof) {
		t.Errorf("encoding a sibling too many: %v", err)
	}
	if err := (Proof{}).Verify(Digest{}); !errors.Is(err, ErrProof) {
		t.Errorf("the empty proof: %v", err)
	}
}

// The weakness of Bitcoin's tree (CVE-2012-2459): a list whose last leaf is
// repeated has the root of the list without it.
func TestRepeatedLastLeafChangesTheRoot(t *testing.T) {
	for n := 1; n < 20; n++ {
		leaves := numberedLeaves(n)
		repeated := append(slices.Clone(leaves), leaves[n-1])
		if NewTree(leaves).Root() == NewTree(repeated).Root() {
			t.Errorf("%d leaves: the root does not notice a repeated leaf", n)
		}
	}
}

func TestInnerNodeDoesNotPassForAChunk(t *testing.T) {
	leaves := numberedLeaves(2)
	chunk := append(leaves[0][:], leaves[1][:]...)
	forged := NewTree([]Digest{HashLeaf(chunk)})
	if forged.Root() == NewTree(leaves).Root() {
		t.Fatal("two leaves and the chunk made of them have one root")
	}
}

func TestTreeHasherCutsAnyWritesAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 300).Draw(t, "chunk size")
		h, err := NewTreeHasher(size)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, part := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 700), 0, 6).Draw(t, "writes") {
			all = append(all, part...)
			if n, err := h.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
			var leaves []Digest
			for chunk := range slices.Chunk(all, size) {
				leaves = append(leaves, HashLeaf(chunk))
			}
			if got, want := h.Tree().Root(), referenceRoot(leaves); got != want {
				t.Fatalf("%d bytes in chunks of %d: root %s, want %s", len(all), size, got, want)
			}
		}
	})
}

func TestTreeHasherNeedsAChunkSize(t *testing.T) {
	for _, size := range []int{0, -1} {
		if _, err := NewTreeHasher(size); !errors.Is(err, ErrChunkSize) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func FuzzProofUnmarshal(f *testing.F) {
	tree := NewTree(numberedLeaves(11))
	for _, i := range []uint64{0, 7, 10} {
		p, err := tree.Proof(i)
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, proofHead))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Proof
		if err := p.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrProof) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		_ = p.Verify(p.Root) // must not panic
		back, err := p.MarshalBinary()
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("not the one encoding: %v", err)
		}
	})
}

func BenchmarkTreeHasher(b *testing.B) {
	data := vectorInput(8 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		h, err := NewTreeHasher(1 << 16)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = h.Write(data)
		h.Tree()
	}
}
