package wire

import (
	"cmp"
	"testing"

	"pgregory.net/rapid"
)

func TestVersionsParse(t *testing.T) {
	tests := []struct {
		in   string
		want Version
		ok   bool
	}{
		{"1.2.3", Version{1, 2, 3}, true},
		{"0.0.0", Version{}, true},
		{"65535.65535.65535", NewestVersion, true},
		{in: ""}, {in: "1"}, {in: "1.2"}, {in: "1.2.3.4"}, {in: "1.2."}, {in: "1.2.x"}, {in: "v1.2.3"}, {in: "1.2.3-rc1"},
		{in: "01.2.3"}, {in: "+1.2.3"}, {in: "-1.2.3"}, {in: " 1.2.3"}, {in: "1.2.65536"}, {in: "1.2.1_0"},
	}
	for _, tt := range tests {
		if got, err := ParseVersion(tt.in); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}

func TestVersionOrderIsThatOfItsNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Uint16Range(0, 3) // so that many are the same
		version := rapid.Custom(func(t *rapid.T) Version {
			return Version{number.Draw(t, "major"), number.Draw(t, "minor"), number.Draw(t, "patch")}
		})
		a, b := version.Draw(t, "a"), version.Draw(t, "b")
		rank := func(v Version) int { return int(v.Major)<<32 | int(v.Minor)<<16 | int(v.Patch) }
		if got := a.Compare(b); got != cmp.Compare(rank(a), rank(b)) {
			t.Fatalf("%v against %v: %d", a, b, got)
		}
		if again, err := ParseVersion(a.String()); err != nil || again != a {
			t.Fatalf("%v parses to %v, %v", a, again, err)
		}
	})
}
