package sdk

import (
	"context"
	"sync"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// leases are the blocks that the host has granted and no job uses yet. The host
// keeps a few small ones granted ahead, so that a job with a small output asks
// for nothing; larger ones are asked for and answered by number.
type leases struct {
	mu      sync.Mutex
	ready   []block // few, so a linear search is the shortest path; last in, first out
	waiting map[uint32]chan grant
	next    uint32
	closed  error
}

// grant answers one request for a block.
type grant struct {
	block block
	err   error
}

// keepReady bounds the blocks that released jobs leave behind for the next.
const keepReady = 64

func newLeases() *leases { return &leases{waiting: make(map[uint32]chan grant)} }

// take returns the best of the blocks at hand that hold n bytes: the most recent
// one that is not more than four times too large.
func (l *leases) take(n uint64) (block, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.ready) - 1; i >= 0; i-- {
		if c := uint64(len(l.ready[i].bytes)); c >= n && c/4 <= max(n, smallOutput) {
			b := l.ready[i]
			l.ready = append(l.ready[:i], l.ready[i+1:]...)
			return b, true
		}
	}
	return block{}, false
}

// put keeps b for the next job. It reports whether there was room for it.
func (l *leases) put(b block) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) >= keepReady || l.closed != nil {
		return false
	}
	l.ready = append(l.ready, b)
	return true
}

// request registers a wait for a block and returns its number.
func (l *leases) request() (uint32, chan grant, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return 0, nil, l.closed
	}
	for {
		l.next++
		if _, taken := l.waiting[l.next]; l.next != 0 && !taken {
			break
		}
	}
	c := make(chan grant, 1)
	l.waiting[l.next] = c
	return l.next, c, nil
}

// answer delivers a grant. An unasked one joins the blocks at hand. It reports
// whether anybody took it.
func (l *leases) answer(number uint32, g grant) bool {
	if number == 0 {
		return g.err == nil && l.put(g.block)
	}
	l.mu.Lock()
	defer l.mu.Unlock() // whoever forgets a number can rely on what is in its channel then
	c, ok := l.waiting[number]
	if ok {
		delete(l.waiting, number)
		c <- g // has room for the one answer it gets
	}
	return ok
}

// forget gives up a request. What has not been delivered by then finds nobody.
func (l *leases) forget(number uint32) {
	l.mu.Lock()
	delete(l.waiting, number)
	l.mu.Unlock()
}

// close fails every request, now and later.
func (l *leases) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = err
	for n, c := range l.waiting {
		c <- grant{err: err}
		delete(l.waiting, n)
	}
	l.ready = nil
}

var errArenaFull = wire.NewError(base.Code_resourceExhausted, "wait for other jobs to end, or start the node with a larger --segment",
	"the arena is full")

// await waits for the answer to a request.
func (l *leases) await(ctx context.Context, number uint32, c chan grant) (block, error) {
	select {
	case g := <-c:
		return g.block, g.err
	case <-ctx.Done():
		l.forget(number)
		select { // it may have been delivered before
		case g := <-c:
			return g.block, g.err
		default:
			return block{}, context.Cause(ctx)
		}
	}
}
