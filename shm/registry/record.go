package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"inos/protocols/system/v1"
)

// The table in memory, little-endian. All offsets are bytes from the start of
// the record.
//
// Registry area: a header line, then 64 entries.
//
//	 0  u64  signature
//	 8  u64  changes: moves when any entry has changed
//	16  u32  modules in the table
//
// Overflow area: 24 pages, each a header line and 42 entries.
//
//	0  u64  signature, 0 while no entry of the page was ever used
//	8  u32  number of the page
//
// Entry, 96 bytes:
//
//	 0  u64  signature, 0 while the entry was never used
//	 8  u64  generation, odd while the entry is being written
//	16  [32] id, NUL padded
//	48  u32  CRC-32C of the id     52  u32  FNV-1a of the id
//	56  u16  major   58  u16  minor   60  u16  patch
//	62  u8   state, 0 when the module was removed
//	63  u8   flags: 1 I/O intensive, 2 network intensive
//	64  u32  incarnation
//	68  u16  instances             70  u16  CPU cores
//	72  u16  first capability      74  u16  how many
//	76  u16  first dependency      78  u16  how many
//	80  u32  detail in the strings 84  u32  its length
//	88  u64  zero
//
// Capability, 36 bytes:
//
//	 0  [32] name, NUL padded
//	32  u32  flags in the low byte, MiB of memory needed in the others
//
// Dependency, 16 bytes:
//
//	 0  u16  where its text begins in the detail
//	 2  u8   flags: 1 optional     3  u8   length of the module's id
//	 4  u16  min major, minor, patch
//	10  u16  max major, minor, patch
//
// Detail, in the strings area at a multiple of 8:
//
//	 0  u64  memory, arena, GPU memory, in bytes
//	24  u64  cost: base, for each MiB, for each second
//	48  u16  length of the description
//	50  u8   number of exclusive resources   51  u8  zero
//	52       description; for each exclusive resource u8 length and text; for
//	         each dependency its id, u8 number of alternatives, and for each of
//	         them u8 length and id
const (
	entrySize      = int(system.RegistryEntrySize)
	capabilitySize = int(system.CapabilityEntrySize)
	dependencySize = int(system.DependencyEntrySize)
	detailFixed    = 52
	detailMax      = detailFixed + MaxDescription + MaxExclusive*(1+MaxText) +
		MaxDependencies*(MaxName+1+MaxAlternatives*(1+MaxName))

	signatureAt  = 0
	generationAt = 8
	bodyAt       = 16 // the first byte that is neither
	crcAt        = 48
	fnvAt        = 52
	stateAt      = 62
)

// ErrCorrupt means that a record is not one that a Writer writes.
var ErrCorrupt = errors.New("corrupt registry record")

// tables says where the records of an entry lie in their areas.
type tables struct {
	capability, capabilities uint16
	dependency, dependencies uint16
	detail, detailLength     uint32
}

var le = binary.LittleEndian

// encodeEntry returns the entry of m but for signature and generation.
func encodeEntry(m *Module, t tables) (e [entrySize]byte) {
	copy(e[16:48], m.ID)
	crc, fnv1a := hashes(m.ID)
	le.PutUint32(e[crcAt:], crc)
	le.PutUint32(e[fnvAt:], fnv1a)
	putVersion(e[56:], m.Version)
	e[stateAt] = byte(m.State)
	e[63] = bit(m.Resources.IOIntensive, 1) | bit(m.Resources.NetworkIntensive, 2)
	le.PutUint32(e[64:], m.Incarnation)
	le.PutUint16(e[68:], m.Instances)
	le.PutUint16(e[70:], m.Resources.CPUCores)
	le.PutUint16(e[72:], t.capability)
	le.PutUint16(e[74:], t.capabilities)
	le.PutUint16(e[76:], t.dependency)
	le.PutUint16(e[78:], t.dependencies)
	le.PutUint32(e[80:], t.detail)
	le.PutUint32(e[84:], t.detailLength)
	return e
}

// decodeTables returns where an entry's other records lie, checked against the
// areas and the bounds of a module.
func decodeTables(e *[entrySize]byte) (tables, error) {
	t := tables{
		capability: le.Uint16(e[72:]), capabilities: le.Uint16(e[74:]),
		dependency: le.Uint16(e[76:]), dependencies: le.Uint16(e[78:]),
		detail: le.Uint32(e[80:]), detailLength: le.Uint32(e[84:]),
	}
	if t.capabilities > MaxCapabilities || uint32(t.capability)+uint32(t.capabilities) > system.CapabilityEntries ||
		t.dependencies > MaxDependencies || uint32(t.dependency)+uint32(t.dependencies) > system.DependencyEntries ||
		t.detailLength < detailFixed || t.detailLength > detailMax || t.detail%detailUnit != 0 {
		return tables{}, fmt.Errorf("%w: its tables cannot be: %+v", ErrCorrupt, t)
	}
	return t, nil
}

// encodeCapabilities returns the capability records of m.
func encodeCapabilities(m *Module) []byte {
	b := make([]byte, len(m.Capabilities)*capabilitySize)
	for i, c := range m.Capabilities {
		r := b[i*capabilitySize:]
		copy(r[:32], c.Name)
		le.PutUint32(r[32:], uint32(c.Flags)|uint32(c.MinMemory>>20)<<8)
	}
	return b
}

// encodeDetail returns the detail of m and its dependency records, which point
// into it.
func encodeDetail(m *Module) (detail, dependencies []byte) {
	detail = make([]byte, detailFixed, detailFixed+len(m.Description))
	for i, v := range []uint64{
		m.Resources.Memory, m.Resources.Arena, m.Resources.GPUMemory, m.Cost.Base, m.Cost.PerMB, m.Cost.PerSecond,
	} {
		le.PutUint64(detail[8*i:], v)
	}
	le.PutUint16(detail[48:], uint16(len(m.Description)))
	detail[50] = byte(len(m.Resources.Exclusive))
	detail = append(detail, m.Description...)
	for _, e := range m.Resources.Exclusive {
		detail = appendText(detail, e)
	}
	dependencies = make([]byte, len(m.Dependencies)*dependencySize)
	for i, d := range m.Dependencies {
		r := dependencies[i*dependencySize:]
		le.PutUint16(r, uint16(len(detail)))
		r[2] = bit(d.Optional, 1)
		r[3] = byte(len(d.Module))
		putVersion(r[4:], d.Min)
		putVersion(r[10:], d.Max)
		detail = append(detail, d.Module...)
		detail = append(detail, byte(len(d.Alternatives)))
		for _, id := range d.Alternatives {
			detail = appendText(detail, id)
		}
	}
	return detail, dependencies
}

// decode puts a module together from the bytes of all its records, whoever wrote
// them. The result keeps none of them and passes Validate.
func decode(e *[entrySize]byte, capabilities, dependencies, detail []byte) (Module, error) {
	m := Module{
		ID:          padded(e[16:48]),
		Version:     version(e[56:]),
		Generation:  le.Uint64(e[generationAt:]),
		Incarnation: le.Uint32(e[64:]),
		State:       State(e[stateAt]),
		Instances:   le.Uint16(e[68:]),
	}
	if crc, fnv1a := hashes(m.ID); crc != le.Uint32(e[crcAt:]) || fnv1a != le.Uint32(e[fnvAt:]) {
		return Module{}, fmt.Errorf("%w: the hashes are not those of %q", ErrCorrupt, m.ID)
	}
	if len(capabilities) > MaxCapabilities*capabilitySize || len(dependencies) > MaxDependencies*dependencySize ||
		len(detail) < detailFixed || len(detail) > detailMax {
		return Module{}, fmt.Errorf("%w: %q has %d, %d and %d bytes of records",
			ErrCorrupt, m.ID, len(capabilities), len(dependencies), len(detail))
	}
	for ; len(capabilities) >= capabilitySize; capabilities = capabilities[capabilitySize:] {
		word := le.Uint32(capabilities[32:])
		m.Capabilities = append(m.Capabilities, Capability{
			Name: padded(capabilities[:32]), Flags: CapabilityFlags(word), MinMemory: uint64(word>>8) << 20,
		})
	}
	m.Resources = Resources{
		CPUCores: le.Uint16(e[70:]), IOIntensive: e[63]&1 != 0, NetworkIntensive: e[63]&2 != 0,
		Memory: le.Uint64(detail), Arena: le.Uint64(detail[8:]), GPUMemory: le.Uint64(detail[16:]),
	}
	m.Cost = Cost{Base: le.Uint64(detail[24:]), PerMB: le.Uint64(detail[32:]), PerSecond: le.Uint64(detail[40:])}
	texts := cursor{b: detail, at: detailFixed}
	m.Description = texts.take(int(le.Uint16(detail[48:])))
	for range min(detail[50], MaxExclusive+1) {
		m.Resources.Exclusive = append(m.Resources.Exclusive, texts.text())
	}
	for ; len(dependencies) >= dependencySize; dependencies = dependencies[dependencySize:] {
		texts.at = int(le.Uint16(dependencies))
		d := Dependency{
			Module: texts.take(int(dependencies[3])), Optional: dependencies[2]&1 != 0,
			Min: version(dependencies[4:]), Max: version(dependencies[10:]),
		}
		for range min(texts.byte(), MaxAlternatives+1) {
			d.Alternatives = append(d.Alternatives, texts.text())
		}
		m.Dependencies = append(m.Dependencies, d)
	}
	if texts.short {
		return Module{}, fmt.Errorf("%w: texts of %q end early", ErrCorrupt, m.ID)
	}
	if err := m.Validate(); err != nil {
		return Module{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return m, nil
}

// cursor reads texts, and remembers when one was not there.
type cursor struct {
	b     []byte
	at    int
	short bool
}

func (c *cursor) take(n int) string {
	if c.short || n > len(c.b)-c.at {
		c.short = true
		return ""
	}
	c.at += n
	return string(c.b[c.at-n : c.at])
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != "" {
		return b[0]
	}
	return 0
}

func (c *cursor) text() string { return c.take(int(c.byte())) }

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// padded returns the text before the first NUL. Bytes after it must be NUL too,
// or the text is kept whole and fails validation.
func padded(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

func putVersion(b []byte, v Version) {
	le.PutUint16(b, v.Major)
	le.PutUint16(b[2:], v.Minor)
	le.PutUint16(b[4:], v.Patch)
}

func version(b []byte) Version { return Version{le.Uint16(b), le.Uint16(b[2:]), le.Uint16(b[4:])} }

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}
