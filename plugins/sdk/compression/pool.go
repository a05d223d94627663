package compression

import "runtime"

// width is how many states of one kind exist at most.
var width = min(runtime.GOMAXPROCS(0), 8)

// pool lends out states that are dear to make. Unlike a sync.Pool it bounds how
// many there are: who finds none waits for one to come back.
type pool[T any] struct {
	slots chan *T // nil stands for one not made yet
	make  func() *T
}

func newPool[T any](fresh func() *T) *pool[T] {
	p := &pool[T]{slots: make(chan *T, width), make: fresh}
	for range width {
		p.slots <- nil
	}
	return p
}

func (p *pool[T]) take() *T {
	if v := <-p.slots; v != nil {
		return v
	}
	return p.make()
}

func (p *pool[T]) put(v *T) { p.slots <- v }

// room returns b with space for n more bytes, having grown it by no more than
// that if it had to.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}
