package layout

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strings"

	"inos/protocols/system/v1"
)

// Area is a piece of a part. Offset and Size are bytes, the offset from the
// start of the part.
type Area struct {
	Name          string
	Offset, Size  uint64
	Owner, Writer string
}

// End returns the offset behind the area. It means something only in a table
// that passed Check.
func (a Area) End() uint64 { return a.Offset + a.Size }

// Table lists the areas of one part.
type Table []Area

// ErrLayout is what Check reports: the table is not one that memory can be
// divided by.
var ErrLayout = errors.New("layout: bad table")

// Find returns the area with the given name.
func (t Table) Find(name string) (Area, bool) {
	for _, a := range t {
		if a.Name == name {
			return a, true
		}
	}
	return Area{}, false
}

// Check reports every flaw of the table at once: an area that has no name or a
// name twice, is empty, does not start on a cache line, ends beyond 2^63, or
// shares a byte with another.
func (t Table) Check() error {
	var flaws []error
	flaw := func(format string, args ...any) {
		flaws = append(flaws, fmt.Errorf("%w: "+format, append([]any{ErrLayout}, args...)...))
	}
	names := make(map[string]bool, len(t))
	for _, a := range t {
		switch {
		case a.Name == "":
			flaw("an area at offset %d has no name", a.Offset)
		case names[a.Name]:
			flaw("two areas are called %s", a.Name)
		}
		names[a.Name] = true
		if a.Size == 0 {
			flaw("%s is empty", a.Name)
		}
		if a.Offset%uint64(system.CacheLine) != 0 {
			flaw("%s starts at %d, not on a line of %d bytes", a.Name, a.Offset, system.CacheLine)
		}
		if a.Offset > math.MaxInt64 || a.Size > math.MaxInt64-a.Offset {
			flaw("%s ends beyond what an offset can say", a.Name)
		}
	}
	if len(flaws) > 0 {
		return errors.Join(flaws...) // ends may wrap around, so overlap means nothing yet
	}
	sorted := slices.SortedFunc(slices.Values(t), func(a, b Area) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(sorted); i++ {
		if prev, next := sorted[i-1], sorted[i]; prev.End() > next.Offset {
			flaw("%s ends at %d, %s starts at %d", prev.Name, prev.End(), next.Name, next.Offset)
		}
	}
	return errors.Join(flaws...)
}

// Size returns the bytes that the whole part takes, in whole pages.
func (t Table) Size() uint64 {
	var end uint64
	for _, a := range t {
		end = max(end, a.End())
	}
	return roundUp(end, uint64(system.PageSize))
}

// String returns the table as text, one line for each area. It is what the hash
// is made of.
func (t Table) String() string {
	var b strings.Builder
	for _, a := range t {
		fmt.Fprintf(&b, "%s %d %d %s, written by %s\n", a.Name, a.Offset, a.Size, a.Owner, a.Writer)
	}
	return b.String()
}

// Hash identifies the table: FNV-1a (64 bits) over its text.
func (t Table) Hash() uint64 {
	h := fnv.New64a()
	io.WriteString(h, t.String())
	return h.Sum64()
}
