package segment

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"inos/protocols/system/v1"
	"inos/shm/layout"
)

// Options says how to make a segment. The zero value means all defaults.
type Options struct {
	// Size is the whole budget in bytes: the control part, the commons, and every
	// link and private arena made later. At least 4 MiB; 256 MiB by default.
	Size uint64
	// Commons is the part of Size that the shared arena gets at once. Half by
	// default. What is left is for links and private arenas.
	Commons uint64
	// RingEntries is the number of descriptors in each of a link's three rings, a
	// power of two. By default 1024, and fewer where Size is below 64 MiB.
	RingEntries uint32
	// NodeID names the node in the header of the control part, where plugins read
	// it. Up to 32 bytes.
	NodeID []byte
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Size == 0 {
		o.Size = system.SegmentDefault
	}
	if o.Commons == 0 {
		o.Commons = o.Size / 2 &^ (page - 1)
	}
	if o.RingEntries == 0 {
		switch {
		case o.Size < 16<<20:
			o.RingEntries = 128
		case o.Size < 64<<20:
			o.RingEntries = 256
		default:
			o.RingEntries = system.RingEntriesDefault
		}
	}
}

// Validate reports all that is wrong at once, in errors that wrap ErrOptions.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrOptions}, args...)...))
	}
	if o.Size < system.SegmentMinimum {
		bad("a size of %s: use %s or more", amount(o.Size), amount(system.SegmentMinimum))
	}
	if o.Size > 1<<47 {
		bad("a size of %s: more than a process can map, use %s or less", amount(o.Size), amount(1<<47))
	}
	if o.Commons%page != 0 || o.Commons == 0 {
		bad("commons of %d bytes: use whole pages of %d", o.Commons, page)
	}
	link, err := layout.Link(o.RingEntries)
	if err != nil {
		bad("%w", err)
	} else if fixed := layout.Control().Size() + link.Size(); len(errs) == 0 && (o.Commons > o.Size || o.Size-o.Commons < fixed) {
		bad("commons of %s in a segment of %s leave too little: %s are needed beside them for the control part and one link",
			amount(o.Commons), amount(o.Size), amount(fixed))
	}
	if len(o.NodeID) > nodeIDBytes {
		bad("a node id of %d bytes: use %d or fewer", len(o.NodeID), nodeIDBytes)
	}
	return errors.Join(errs...)
}

const page = uint64(system.PageSize)

// pages rounds n up to whole pages. The caller has bounded n.
func pages(n uint64) uint64 { return (n + page - 1) &^ (page - 1) }

// amount is a number of bytes that prints for people.
type amount uint64

func (b amount) String() string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if b < 1024 {
		return fmt.Sprintf("%d B", uint64(b))
	}
	f, i := float64(b)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.4g %s", f, units[i])
}

// values returns the values of m in the order of their keys.
func values[K uint16 | uint32, V any](m map[K]V) []V {
	var all []V
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}
