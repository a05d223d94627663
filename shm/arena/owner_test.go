package arena

import (
	"errors"
	"testing"
)

func TestDeadOwnersBlocksAreFreedUnlessRead(t *testing.T) {
	a := newSized(1, 1<<20)
	mine, read, other := must(t, a, 100, 7), must(t, a, 5000, 7), must(t, a, 100, 8)
	if err := a.Retain(read); err != nil {
		t.Fatal(err)
	}
	if blocks, bytes := a.Reclaim(7); blocks != 1 || bytes != 128 {
		t.Errorf("reclaimed %d blocks, %d bytes", blocks, bytes)
	}
	if err := a.Verify(mine, 7); !errors.Is(err, ErrStale) {
		t.Errorf("block of the dead: %v", err)
	}
	if err := errors.Join(a.Verify(read, Host), a.Verify(other, 8)); err != nil {
		t.Error(err)
	}
	release(t, a, read)
	if err := a.Verify(read, Host); !errors.Is(err, ErrStale) {
		t.Errorf("block whose last reader has gone: %v", err)
	}
	host := must(t, a, 100, Host)
	if blocks, _ := a.Reclaim(Host); blocks != 0 || a.Verify(host, Host) != nil {
		t.Error("the host's blocks were reclaimed")
	}
}

func TestOwnerWhoFreesLeavesReadersTheirBlock(t *testing.T) {
	a := newSized(1, 1<<20)
	ref := must(t, a, 100, 7)
	if err := a.Free(ref, 8); !errors.Is(err, ErrForeign) {
		t.Errorf("freed another's block: %v", err)
	}
	if err := errors.Join(a.Retain(ref), a.Free(ref, 7)); err != nil {
		t.Fatal(err)
	}
	if err := a.Free(ref, 7); !errors.Is(err, ErrForeign) {
		t.Errorf("freed twice: %v", err)
	}
	if blocks, _ := a.Reclaim(7); blocks != 0 || a.Verify(ref, Host) != nil {
		t.Error("reader's block went with the old owner")
	}
	release(t, a, ref)
	if err := a.Release(ref); !errors.Is(err, ErrStale) {
		t.Errorf("released twice: %v", err)
	}
}

func TestBlocksPassTogetherOrNotAtAll(t *testing.T) {
	a := newSized(1, 1<<20)
	refs := []Ref{must(t, a, 100, 7), must(t, a, 200, 7), must(t, a, 300, 8)}
	if err := a.TransferAll(refs, 7, 9); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	if err := errors.Join(a.Verify(refs[0], 7), a.Verify(refs[1], 7)); err != nil {
		t.Errorf("some had passed: %v", err)
	}
	twice := []Ref{refs[0], refs[1], refs[0]}
	if err := a.TransferAll(twice, 7, 9); err != nil {
		t.Fatal(err)
	}
	if blocks, bytes := a.Adopt(9, 8); blocks != 2 || bytes != 128+256 {
		t.Errorf("adopted %d blocks, %d bytes", blocks, bytes)
	}
	for _, ref := range refs {
		if err := a.Verify(ref, 8); err != nil {
			t.Error(err)
		}
	}
	if blocks, _ := a.Adopt(8, 8); blocks != 0 {
		t.Errorf("adopted %d blocks from itself", blocks)
	}
	if err := audit(a); err != nil {
		t.Error(err)
	}
}
