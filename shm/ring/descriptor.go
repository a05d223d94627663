package ring

import (
	"encoding/binary"

	"inos/protocols/system/v1"
	"inos/shm/arena"
)

// Size is the number of bytes a descriptor takes: one cache line.
const Size = int(system.DescriptorSize)

// Descriptor is one 64-byte message of a ring. On the wire, little-endian:
//
//	 0  u32  sequence, published last
//	 4  u16  kind      6  u16  flags
//	 8  u64  job
//	16  u16  arena    18  u16  status   20  u32  slot
//	24  u32  generation                 28  u32  aux
//	32  u64  offset   40  u64  length
//	48  u64  args[0]  56  u64  args[1]
//
// What aux, status and args mean depends on the kind: see protocols/system/v1
// and docs/plugin-abi.md.
type Descriptor struct {
	Kind   system.DescriptorKind
	Flags  uint16 // bits numbered by system.DescriptorFlag
	Job    uint64
	Status uint16 // compute.Status
	Aux    uint32
	Ref    arena.Ref
	Args   [2]uint64
}

// Has reports whether flag f is set.
func (d *Descriptor) Has(f system.DescriptorFlag) bool { return d.Flags&(1<<f) != 0 }

// Set sets flag f.
func (d *Descriptor) Set(f system.DescriptorFlag) { d.Flags |= 1 << f }

// Encode writes d to line, all but the sequence in its first four bytes.
func (d *Descriptor) Encode(line *[Size]byte) {
	le := binary.LittleEndian
	le.PutUint16(line[4:], uint16(d.Kind))
	le.PutUint16(line[6:], d.Flags)
	le.PutUint64(line[8:], d.Job)
	le.PutUint16(line[16:], d.Ref.Arena)
	le.PutUint16(line[18:], d.Status)
	le.PutUint32(line[20:], d.Ref.Slot)
	le.PutUint32(line[24:], d.Ref.Generation)
	le.PutUint32(line[28:], d.Aux)
	le.PutUint64(line[32:], d.Ref.Offset)
	le.PutUint64(line[40:], d.Ref.Length)
	le.PutUint64(line[48:], d.Args[0])
	le.PutUint64(line[56:], d.Args[1])
}

// Decode reads d from line, all but the sequence. Every content of the line is
// some descriptor, and none of it is checked: kind, job and reference are claims
// of whoever wrote them. The line must not be shared memory, so that what was
// read stays what is checked.
func (d *Descriptor) Decode(line *[Size]byte) {
	le := binary.LittleEndian
	d.Kind = system.DescriptorKind(le.Uint16(line[4:]))
	d.Flags = le.Uint16(line[6:])
	d.Job = le.Uint64(line[8:])
	d.Ref.Arena = le.Uint16(line[16:])
	d.Status = le.Uint16(line[18:])
	d.Ref.Slot = le.Uint32(line[20:])
	d.Ref.Generation = le.Uint32(line[24:])
	d.Aux = le.Uint32(line[28:])
	d.Ref.Offset = le.Uint64(line[32:])
	d.Ref.Length = le.Uint64(line[40:])
	d.Args[0] = le.Uint64(line[48:])
	d.Args[1] = le.Uint64(line[56:])
}
