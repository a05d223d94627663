// Package units reads and writes sizes and durations the way people do. The
// command uses it for its flags and tables; nothing that is stored or sent goes
// through it.
package units

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// ErrSize says that a text is not a size.
var ErrSize = errors.New("not a size")

// factors of the units a size may be written in. KB and KiB are both 1024 bytes:
// sizes here are of memory.
var factors = map[string]uint64{
	"": 1, "B": 1,
	"K": 1 << 10, "KB": 1 << 10, "KIB": 1 << 10,
	"M": 1 << 20, "MB": 1 << 20, "MIB": 1 << 20,
	"G": 1 << 30, "GB": 1 << 30, "GIB": 1 << 30,
	"T": 1 << 40, "TB": 1 << 40, "TIB": 1 << 40,
}

// ParseSize reads a whole number of bytes, or of KiB, MiB, GiB or TiB: "64MiB",
// "64M", "67108864". Letters may be small.
func ParseSize(text string) (uint64, error) {
	s := strings.TrimSpace(text)
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseUint(s[:end], 10, 64)
	factor, known := factors[strings.ToUpper(strings.TrimSpace(s[end:]))]
	if !known || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%w: %q; write a whole number and a unit, as 64MiB", ErrSize, text)
	}
	high, size := bits.Mul64(n, factor)
	if err != nil || high != 0 {
		return 0, fmt.Errorf("%w: %q is more than %d bytes", ErrSize, text, uint64(math.MaxUint64))
	}
	return size, nil
}

// Size writes a number of bytes with three digits or so: "512 B", "1.50 GiB".
func Size(n uint64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	unit := (bits.Len64(n) - 1) / 10
	v := float64(n) / float64(uint64(1)<<(10*unit))
	if v >= 1023.5 && unit < 6 { // 1 MiB reads better than 1024 KiB
		unit, v = unit+1, v/1024
	}
	name := "KMGTPE"[unit-1 : unit]
	switch {
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f %siB", v, name)
	case v < 10:
		return fmt.Sprintf("%.2f %siB", v, name)
	case v < 100:
		return fmt.Sprintf("%.1f %siB", v, name)
	default:
		return fmt.Sprintf("%.0f %siB", v, name)
	}
}

// Duration writes a duration with three digits or so: "12.3ms", "2h3m".
func Duration(d time.Duration) string {
	for _, step := range []struct{ above, round time.Duration }{
		{24 * time.Hour, time.Hour}, {time.Hour, time.Minute}, {time.Minute, time.Second},
		{10 * time.Second, 100 * time.Millisecond}, {time.Second, 10 * time.Millisecond},
		{100 * time.Millisecond, time.Millisecond}, {10 * time.Millisecond, 100 * time.Microsecond}, {time.Millisecond, 10 * time.Microsecond},
		{100 * time.Microsecond, time.Microsecond}, {time.Microsecond, 100 * time.Nanosecond},
	} {
		if d >= step.above {
			d = d.Round(step.round)
			break
		}
	}
	s := d.String()
	if d >= time.Hour { // 3h0m0s: seconds say nothing here
		s = strings.TrimSuffix(s, "0s")
		if d >= 24*time.Hour {
			s = strings.TrimSuffix(s, "0m")
		}
	}
	return s
}

// Rate writes bytes per second.
func Rate(n uint64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return Size(uint64(float64(n)/d.Seconds())) + "/s"
}
