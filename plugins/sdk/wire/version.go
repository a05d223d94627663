package wire

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"inos/protocols/system/v1"
)

// Version is a release of a module: major.minor.patch.
type Version struct{ Major, Minor, Patch uint16 }

// NewestVersion is not older than any other: as the upper end of a range it
// stands for no bound.
var NewestVersion = Version{math.MaxUint16, math.MaxUint16, math.MaxUint16}

// ParseVersion reads three numbers up to 65535 with dots between them, and
// nothing else, so that what it accepts is what String writes.
func ParseVersion(s string) (Version, error) {
	var v Version
	parts := strings.Split(s, ".")
	if len(parts) == 3 {
		for i, to := range []*uint16{&v.Major, &v.Minor, &v.Patch} {
			n, _ := strconv.ParseUint(parts[i], 10, 16) // what is no number differs below
			*to = uint16(n)
		}
	}
	if v.String() != s {
		return Version{}, fmt.Errorf("version %q: write three numbers up to 65535 with dots between them, as in 1.2.3", s)
	}
	return v, nil
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Compare returns a negative number if v is older than o, 0 if they are the
// same, and a positive number if v is newer.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Patch, o.Patch))
}

func writeVersion(_ *writer, s system.Version, v Version) {
	s.SetMajor(v.Major)
	s.SetMinor(v.Minor)
	s.SetPatch(v.Patch)
}

func readVersion(_ *reader, s system.Version) Version {
	return Version{s.Major(), s.Minor(), s.Patch()}
}
