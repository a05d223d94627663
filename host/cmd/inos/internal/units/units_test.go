package units_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos/host/cmd/inos/internal/units"
)

func TestParseSizeReadsWhatPeopleWrite(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1, "67108864": 64 << 20, "64MiB": 64 << 20, "64M": 64 << 20, "64mb": 64 << 20, "64 MiB": 64 << 20, " 1GiB ": 1 << 30,
		"4KiB": 4096, "2TiB": 2 << 40, "100B": 100, "18446744073709551615": math.MaxUint64,
	} {
		if got, err := units.ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d and %v, want %d", text, got, err, want)
		}
	}
}

func TestParseSizeRefusesWhatIsNoSize(t *testing.T) {
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "64XB", "64MiBs", "1 2", "18446744073709551616", "99999999999999T", "16777216TiB", "0x10"} {
		if got, err := units.ParseSize(text); !errors.Is(err, units.ErrSize) {
			t.Errorf("%q: %d and %v, want ErrSize", text, got, err)
		}
	}
}

func TestSizesReadBackNearlyTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.IntRange(0, 4).Draw(t, "unit")
		n := rapid.Uint64Range(1, 1023).Draw(t, "n") << (10 * unit)
		got, err := units.ParseSize(units.Size(n))
		if err != nil || got != n {
			t.Fatalf("%d is written %q and read as %d, %v", n, units.Size(n), got, err)
		}
	})
}

func TestSizeIsShort(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.50 KiB", 10 << 10: "10 KiB", 12_700: "12.4 KiB", 1<<20 - 1: "1.00 MiB",
		64 << 20: "64 MiB", 1<<30 + 1<<29: "1.50 GiB", math.MaxUint64: "16 EiB",
	} {
		if got := units.Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestDurationIsShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 850: "850ns", 12_345: "12.3µs", 123_456: "123µs", 1_234_567: "1.23ms", 12_345_678: "12.3ms", 123_456_789: "123ms",
		1_234_567_890: "1.23s", 12_345_678_901: "12.3s", 61*time.Second + 400*time.Millisecond: "1m1s",
		3 * time.Hour: "3h0m", 2*time.Hour + 3*time.Minute + 4*time.Second: "2h3m", 50 * time.Hour: "50h",
	} {
		if got := units.Duration(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestRateNeedsTime(t *testing.T) {
	if got := units.Rate(1<<20, 0); got != "-" {
		t.Errorf("got %q, want a dash", got)
	}
	if got := units.Rate(1<<20, 500*time.Millisecond); got != "2 MiB/s" {
		t.Errorf("got %q, want 2 MiB/s", got)
	}
}
