package segment

import (
	"encoding/binary"
	"fmt"

	"inos/protocols/system/v1"
	"inos/shm/layout"
)

// Headers are little-endian and 64 bytes long. The control part and the links
// begin with one, and the message that carries the descriptors is one:
//
//	 0  u64  magic     8  u16  ABI major     10  u16  ABI minor
//	12  u32  control: 0   link: ring entries   message: arena number
//	16  u64  layout hash
//	24  u64  bytes of the part, or of the arena
//
//	control  32  32 B  node id, zeroes behind it
//	link     32  u64   hash of the link's table
//	         40  u32   instance    44  u32  incarnation
//	message  32  u64   bytes of the control part
//	         40  u64   bytes of the link
//
// The rest is zero.
const (
	headerBytes = 64
	nodeIDBytes = 32
)

var le = binary.LittleEndian

// preamble is what all headers have in common.
type preamble struct {
	magic        uint64
	major, minor uint16
	number       uint32 // means something else in each
	layout       uint64
	bytes        uint64
}

func newPreamble(magic, bytes uint64) preamble {
	return preamble{magic: magic, major: system.AbiMajor, minor: system.AbiMinor, layout: layout.Hash(), bytes: bytes}
}

func (p *preamble) encode(b []byte) {
	le.PutUint64(b, p.magic)
	le.PutUint16(b[8:], p.major)
	le.PutUint16(b[10:], p.minor)
	le.PutUint32(b[12:], p.number)
	le.PutUint64(b[16:], p.layout)
	le.PutUint64(b[24:], p.bytes)
}

// parse reads b and refuses what this program was not built for.
func (p *preamble) parse(b []byte, what string, magic uint64) error {
	if len(b) < headerBytes {
		return fmt.Errorf("%w: the header of the %s has %d bytes of %d", ErrIncompatible, what, len(b), headerBytes)
	}
	*p = preamble{
		magic: le.Uint64(b), major: le.Uint16(b[8:]), minor: le.Uint16(b[10:]),
		number: le.Uint32(b[12:]), layout: le.Uint64(b[16:]), bytes: le.Uint64(b[24:]),
	}
	switch {
	case p.magic != magic:
		return fmt.Errorf("%w: the %s begins with %#x, not %#x; it was not made by an INOS node", ErrIncompatible, what, p.magic, magic)
	case p.major != system.AbiMajor || p.minor < system.AbiMinor:
		return fmt.Errorf("%w: the node speaks ABI %d.%d, this program %d.%d; build it with the node's SDK",
			ErrIncompatible, p.major, p.minor, system.AbiMajor, system.AbiMinor)
	case p.layout != layout.Hash():
		return fmt.Errorf("%w: the node's layout is %#x, this program's %#x; build it with the node's SDK",
			ErrIncompatible, p.layout, layout.Hash())
	}
	return nil
}

// controlHeader opens the control part.
type controlHeader struct {
	preamble
	node []byte
}

func (h *controlHeader) encode(b []byte) {
	h.preamble.encode(b)
	copy(b[32:headerBytes], h.node)
}

func (h *controlHeader) parse(b []byte) error {
	if err := h.preamble.parse(b, "control part", system.SegmentMagic); err != nil {
		return err
	}
	if want := layout.Control().Size(); h.bytes != want {
		return fmt.Errorf("%w: the control part has %d bytes, not %d", ErrIncompatible, h.bytes, want)
	}
	h.node = append([]byte(nil), b[32:headerBytes]...)
	return nil
}

// linkHeader opens a link. Its number is the ring entries.
type linkHeader struct {
	preamble
	table                 uint64
	instance, incarnation uint32
}

func (h *linkHeader) encode(b []byte) {
	h.preamble.encode(b)
	le.PutUint64(b[32:], h.table)
	le.PutUint32(b[40:], h.instance)
	le.PutUint32(b[44:], h.incarnation)
}

// parse also returns the table that the header stands for, computed here.
func (h *linkHeader) parse(b []byte) (layout.Table, error) {
	if err := h.preamble.parse(b, "link", system.LinkMagic); err != nil {
		return nil, err
	}
	t, err := layout.Link(h.number)
	if err != nil {
		return nil, fmt.Errorf("%w: link: %w", ErrIncompatible, err)
	}
	h.table, h.instance, h.incarnation = le.Uint64(b[32:]), le.Uint32(b[40:]), le.Uint32(b[44:])
	if h.bytes != t.Size() || h.table != t.Hash() {
		return nil, fmt.Errorf("%w: a link of %d bytes with table %#x; %d entries make %d bytes and table %#x",
			ErrIncompatible, h.bytes, h.table, h.number, t.Size(), t.Hash())
	}
	return t, nil
}

// parcel is the message that comes with the descriptors. Its number is the
// arena's, its bytes are the arena's.
type parcel struct {
	preamble
	control, link uint64
}

func (h *parcel) encode(b []byte) {
	h.preamble.encode(b)
	le.PutUint64(b[32:], h.control)
	le.PutUint64(b[40:], h.link)
}

// maxPart bounds what a peer may ask to have mapped: the address space of a
// process.
const maxPart = 1 << 47

func (h *parcel) parse(b []byte) error {
	if len(b) != headerBytes {
		return fmt.Errorf("%w: a message of %d bytes, not %d", ErrIncompatible, len(b), headerBytes)
	}
	if err := h.preamble.parse(b, "message", system.SegmentMagic); err != nil {
		return err
	}
	h.control, h.link = le.Uint64(b[32:]), le.Uint64(b[40:])
	if h.number == uint32(system.ArenaNone) || h.number > 1<<16-1 {
		return fmt.Errorf("%w: no arena can have number %d", ErrIncompatible, h.number)
	}
	for what, n := range map[string]uint64{"control part": h.control, "link": h.link, "arena": h.bytes} {
		if n == 0 || n%page != 0 || n > maxPart {
			return fmt.Errorf("%w: the %s cannot have %d bytes", ErrIncompatible, what, n)
		}
	}
	return nil
}
