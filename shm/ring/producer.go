package ring

import "inos/shm/internal/mem"

// Producer is the sending end of a ring. One goroutine may use it at a time.
type Producer struct {
	end
	tail uint64 // descriptors sent
	head uint64 // descriptors taken, when last looked at
}

// NewProducer returns the sending end of the ring in m, which nothing was sent
// through yet.
func NewProducer(m mem.Region, entries uint32) (*Producer, error) {
	e, err := newEnd(m, entries)
	if err != nil {
		return nil, err
	}
	return &Producer{end: e}, nil
}

// Push sends a copy of d. It returns ErrFull when there is no room, and ErrForged
// when the consumer's position moved backwards or ahead of what was sent. The
// consumer may sleep: ring its bell afterwards.
func (p *Producer) Push(d *Descriptor) error {
	if p.broken != nil {
		return p.broken
	}
	if p.tail-p.head > p.mask {
		if err := p.look(); err != nil {
			return err
		}
		if p.tail-p.head > p.mask {
			return ErrFull
		}
	}
	line, offset := p.line(p.tail)
	d.Encode(line)
	// Release order: whoever sees the sequence sees the line.
	p.memory.Store32(offset, sequence(p.tail))
	p.tail++
	return nil
}

// Free returns how many descriptors can be sent now at least, 0 when the ring is
// broken.
func (p *Producer) Free() int {
	if p.broken != nil || p.look() != nil {
		return 0
	}
	return int(p.mask + 1 - (p.tail - p.head))
}

// Err returns what broke the ring, nil while it is sound.
func (p *Producer) Err() error { return p.broken }

// look reads the consumer's position. One subtraction refuses both a step back
// and a step too far: the position may only be between the last one and the tail,
// and unsigned arithmetic puts everything else beyond.
func (p *Producer) look() error {
	head := p.memory.Load64(consumerLine)
	if head-p.head > p.tail-p.head {
		return p.forged("the consumer says it has taken %d descriptors; it had taken %d of %d", head, p.head, p.tail)
	}
	p.head = head
	return nil
}

// sequence is what the descriptor at a position carries when it is complete.
func sequence(position uint64) uint32 { return uint32(position) + 1 }
