package arena

import "fmt"

// Pin keeps the memory mapped until Unpin, whatever becomes of the blocks in it.
// It returns ErrClosed when the memory may already be gone.
func (a *Arena) Pin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed && a.onIdle == nil {
		return fmt.Errorf("arena %d: %w", a.id, ErrClosed)
	}
	a.pins++
	return nil
}

// Unpin undoes one Pin. Without one it panics, for then someone may be reading
// memory that is about to go.
func (a *Arena) Unpin() {
	a.mu.Lock()
	defer a.unlock()
	if a.pins == 0 {
		panic(fmt.Sprintf("arena %d: Unpin without Pin", a.id))
	}
	a.pins--
}

// Close stops the arena from giving blocks and has onIdle called once, as soon
// as no block is left and nothing is pinned: at once, or by whoever lets go of
// the last one. Only then may the memory be unmapped. Reclaim the plugins that
// are gone and drop the state blocks first, or it will never be. Another Close
// does nothing.
func (a *Arena) Close(onIdle func()) {
	a.mu.Lock()
	defer a.unlock()
	if a.closed {
		return
	}
	a.closed = true
	if a.onIdle = onIdle; onIdle == nil {
		a.onIdle = func() {}
	}
}

// unlock ends a call that may have taken the last hold on a closed arena. The
// hook runs outside the lock, since it is not ours.
func (a *Arena) unlock() {
	hook := a.onIdle
	if hook == nil || a.pins > 0 || a.table.blocks > 0 {
		a.mu.Unlock()
		return
	}
	a.onIdle = nil
	a.mu.Unlock()
	hook()
}
