package registry

import (
	"hash/crc32"
	"hash/fnv"
	"iter"

	"inos/protocols/system/v1"
)

const (
	slots  = int(system.RegistrySlots)
	places = slots + int(system.OverflowPages*system.OverflowEntries)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hashes returns CRC-32C and FNV-1a of id. Together they find its place; both
// stand in the entry.
func hashes(id string) (crc, fnv1a uint32) {
	h := fnv.New32a()
	h.Write([]byte(id))
	return crc32.Checksum([]byte(id), castagnoli), h.Sum32()
}

// probe yields the places where a module may stand, the likeliest first: all
// in-line slots, from CRC-32C in steps of FNV-1a, then the overflow entries in
// order. The step is odd and the slots are a power of two, so each comes up once.
func probe(crc, fnv1a uint32) iter.Seq[int] {
	return func(yield func(int) bool) {
		first, step := crc%uint32(slots), fnv1a%(uint32(slots)-1)
		step |= 1
		for k := range uint32(slots) {
			if !yield(int((first + k*step) % uint32(slots))) {
				return
			}
		}
		for place := slots; place < places; place++ {
			if !yield(place) {
				return
			}
		}
	}
}
