package arena

import (
	"fmt"

	"inos/shm/internal/mem"
)

// Client is a plugin's side of an arena. It can look at what references name and
// cannot make, check or free any: that is the host's. It may be used by many
// goroutines at once.
type Client struct {
	id     uint16
	memory mem.Region
}

// NewClient returns the plugin's side of arena id, whose memory must stay mapped
// as long as views of it are used.
func NewClient(id uint16, memory mem.Region) *Client { return &Client{id: id, memory: memory} }

// ID returns the number that references to this arena carry.
func (c *Client) ID() uint16 { return c.id }

// Size returns the number of bytes mapped.
func (c *Client) Size() uint64 { return c.memory.Size() }

// View returns the ref.Length bytes that ref names, or an error that wraps
// ErrBadRef when they do not lie in the arena. Whether the block is still the
// plugin's only the host knows.
func (c *Client) View(ref Ref) ([]byte, error) {
	if ref.Arena != c.id {
		return nil, fmt.Errorf("arena %d: reference to arena %d: %w", c.id, ref.Arena, ErrUnknown)
	}
	b, err := c.memory.Slice(ref.Offset, ref.Length)
	if err != nil {
		return nil, fmt.Errorf("arena %d slot %d: %w: %w", c.id, ref.Slot, ErrRange, err)
	}
	return b, nil
}
