package arena

import "math"

const poolChunk = 256

// pool keeps records that are named by number, so that they hold no pointers the
// collector must follow and never move. Number 0 is never given. What was put
// back last is got first.
type pool[T any] struct {
	chunks []*[poolChunk]T
	spare  []uint32
	made   uint32 // highest number given so far
}

// get returns the number of a record, which is as it was put back, or zero when
// new. It fails when all numbers are in use.
func (p *pool[T]) get() (uint32, bool) {
	if n := len(p.spare); n > 0 {
		i := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return i, true
	}
	if p.made == math.MaxUint32 {
		return 0, false
	}
	p.made++
	if int(p.made/poolChunk) >= len(p.chunks) {
		p.chunks = append(p.chunks, new([poolChunk]T))
	}
	return p.made, true
}

// at returns record i, which get must have given.
func (p *pool[T]) at(i uint32) *T { return &p.chunks[i/poolChunk][i%poolChunk] }

// put takes record i back.
func (p *pool[T]) put(i uint32) { p.spare = append(p.spare, i) }
