package arena

const (
	warmPages = 16 // longest run that is kept, 64 KiB
	warmDepth = 8  // runs kept of each length, 4.25 MiB in all at most
)

// warm keeps the short runs that were freed last apart from the rest, so that the
// next one of the same length costs no splitting and is still in the processor's
// cache. They are free all the same: runs.trim gives them back when they are
// needed for something else.
type warm struct {
	stacks [warmPages + 1]struct {
		n     int
		pages [warmDepth]uint64
	}
	held int // runs in all stacks
}

// take returns the run of n pages that was given last.
func (w *warm) take(n uint64) (page uint64, ok bool) {
	if n > warmPages || w.stacks[n].n == 0 {
		return 0, false
	}
	s := &w.stacks[n]
	s.n--
	w.held--
	return s.pages[s.n], true
}

// give keeps a run if there is room for it.
func (w *warm) give(page, n uint64) bool {
	if n > warmPages || w.stacks[n].n == warmDepth {
		return false
	}
	s := &w.stacks[n]
	s.pages[s.n] = page
	s.n++
	w.held++
	return true
}

// pop returns any run that is kept.
func (w *warm) pop() (page, n uint64, ok bool) {
	if w.held == 0 {
		return 0, 0, false
	}
	for n = 1; w.stacks[n].n == 0; n++ {
	}
	page, ok = w.take(n)
	return page, n, ok
}
