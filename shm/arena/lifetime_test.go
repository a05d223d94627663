package arena

import (
	"errors"
	"testing"

	"inos/shm/internal/mem"
)

func TestClosedArenaIsIdleOnceLetGo(t *testing.T) {
	a := New(1, mem.Of(make([]byte, 1<<20)))
	idle := 0
	ref := must(t, a, 100, 7)
	if err := a.Pin(); err != nil {
		t.Fatal(err)
	}
	a.Close(func() { idle++ })
	a.Close(func() { t.Error("hook of the second Close") })
	if _, err := a.Alloc(1, 7); !errors.Is(err, ErrClosed) {
		t.Errorf("closed arena gave a block: %v", err)
	}
	if _, err := a.View(ref); err != nil {
		t.Errorf("block cannot be read to its end: %v", err)
	}
	a.Reclaim(7)
	if idle != 0 {
		t.Fatal("idle while pinned")
	}
	a.Unpin()
	if idle != 1 {
		t.Fatalf("idle %d times", idle)
	}
	if err := a.Pin(); !errors.Is(err, ErrClosed) {
		t.Errorf("pinned memory that may be gone: %v", err)
	}
	if _, err := a.View(ref); !errors.Is(err, ErrBadRef) {
		t.Errorf("view of memory that may be gone: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Unpin without Pin went unnoticed")
		}
	}()
	a.Unpin()
}

func TestEmptyArenaIsIdleAtOnce(t *testing.T) {
	idle := false
	newSized(1, 1<<20).Close(func() { idle = true })
	if !idle {
		t.Error("hook not called")
	}
}
