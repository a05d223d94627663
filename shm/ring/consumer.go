package ring

import "inos/shm/internal/mem"

// Consumer is the receiving end of a ring. One goroutine may use it at a time.
type Consumer struct {
	end
	head uint64 // descriptors taken
}

// NewConsumer returns the receiving end of the ring in m, which nothing was taken
// from yet.
func NewConsumer(m mem.Region, entries uint32) (*Consumer, error) {
	e, err := newEnd(m, entries)
	if err != nil {
		return nil, err
	}
	return &Consumer{end: e}, nil
}

// Pop takes the next descriptor into d and reports whether there was one. It
// returns ErrForged when the next line holds a sequence that the producer cannot
// have written there. What is in d is the producer's claim.
func (c *Consumer) Pop(d *Descriptor) (bool, error) {
	if c.broken != nil {
		return false, c.broken
	}
	shared, offset := c.line(c.head)
	switch got := c.memory.Load32(offset); got {
	case sequence(c.head):
	case c.previous():
		return false, nil
	default:
		return false, c.forged("sequence %d at position %d", got, c.head)
	}
	line := *shared // the one look at it
	d.Decode(&line)
	c.head++
	// Release order: the producer may overwrite the line when it sees this.
	c.memory.Store64(consumerLine, c.head)
	return true, nil
}

// Ready reports whether Pop would return a descriptor or an error.
func (c *Consumer) Ready() bool {
	_, offset := c.line(c.head)
	return c.broken != nil || c.memory.Load32(offset) != c.previous()
}

// Err returns what broke the ring, nil while it is sound.
func (c *Consumer) Err() error { return c.broken }

// previous is the sequence that the next line holds while it is empty: that of
// one lap ago, and in the first lap zero.
func (c *Consumer) previous() uint32 {
	if c.head <= c.mask {
		return 0
	}
	return sequence(c.head - c.mask - 1)
}
