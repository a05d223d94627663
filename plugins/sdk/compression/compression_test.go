package compression

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var algorithms = []Algorithm{None, Zstd, S2, Brotli}

func codec(t testing.TB, a Algorithm, l Level) Codec {
	t.Helper()
	c, err := New(a, l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eachCodec runs a test for every algorithm at every level.
func eachCodec(t *testing.T, run func(t *testing.T, c Codec)) {
	for _, a := range algorithms {
		for l := Default; l <= Best; l++ {
			t.Run(fmt.Sprintf("%s/%d", a, l), func(t *testing.T) { run(t, codec(t, a, l)) })
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(n int) []byte {
	return []byte(strings.Repeat("the quick brown fox jumps over the lazy dog; ", n/44+1)[:n])
}

func TestNumbersAreThoseOnDisk(t *testing.T) {
	for name, number := range map[string]Algorithm{"none": 0, "zstd": 1, "s2": 2, "brotli": 3} {
		a, err := Parse(name)
		if err != nil || a != number || a.String() != name {
			t.Errorf("%s: got %d (%v), %v", name, a, a, err)
		}
		if c := codec(t, number, Default); c.Algorithm() != number {
			t.Errorf("%s: the codec calls itself %v", name, c.Algorithm())
		}
	}
	if _, err := Parse("lz4"); !errors.Is(err, ErrAlgorithm) || !strings.Contains(err.Error(), "brotli") {
		t.Errorf("unknown name: %v", err)
	}
	if got := Names(); !slices.Equal(got, []string{"none", "zstd", "s2", "brotli"}) {
		t.Errorf("names: %v", got)
	}
}

func TestUnknownNumberOrLevelIsRefused(t *testing.T) {
	for _, c := range []struct {
		a Algorithm
		l Level
	}{{4, Default}, {255, Default}, {Zstd, Best + 1}} {
		if _, err := New(c.a, c.l); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("%v at %d: %v", c.a, c.l, err)
		}
	}
}

// Blocks put together by hand after the formats' specifications, which none of
// the encoders here would write in this way, must stay readable.
func TestBlocksOnDiskStayReadable(t *testing.T) {
	for _, c := range []struct {
		a      Algorithm
		packed string
		want   string
	}{
		{None, "abc", "abc"},
		{Zstd, "\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc", "abc"},
		{S2, "\x03\x08abc", "abc"},
		{Brotli, "\x0b\x01\x80abc\x03", "abc"},
	} {
		for limit := range len(c.want) {
			if _, err := codec(t, c.a, Default).Decompress(nil, []byte(c.packed), limit); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s %q with a bound of %d: %v", c.a, c.packed, limit, err)
			}
		}
		got, err := codec(t, c.a, Default).Decompress(nil, []byte(c.packed), len(c.want))
		if err != nil || string(got) != c.want {
			t.Errorf("%s %q: %q, %v", c.a, c.packed, got, err)
		}
	}
}

func TestRoundTripAppends(t *testing.T) {
	eachCodec(t, func(t *testing.T, c Codec) {
		for _, block := range [][]byte{nil, {0}, text(10), text(100_000), noise(100_000), make([]byte, 1<<20)} {
			packed, err := c.Compress([]byte("head"), block)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(packed, []byte("head")) {
				t.Fatal("Compress did not append")
			}
			for _, dst := range [][]byte{nil, []byte("before"), append(make([]byte, 0, 2<<20), "before"...)} {
				got, err := c.Decompress(dst, packed[4:], len(block))
				if err != nil {
					t.Fatalf("%d bytes: %v", len(block), err)
				}
				if !bytes.Equal(got, append(bytes.Clone(dst), block...)) {
					t.Fatalf("%d bytes came back changed", len(block))
				}
			}
		}
	})
}

func TestRoundTripOfAnyBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(algorithms).Draw(t, "algorithm")
		l := Level(rapid.IntRange(0, int(Best)).Draw(t, "level"))
		c, err := New(a, l)
		if err != nil {
			t.Fatal(err)
		}
		piece := rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(t, "piece")
		block := bytes.Repeat(piece, rapid.IntRange(0, 60).Draw(t, "times"))
		packed, err := c.Compress(nil, block)
		if err != nil {
			t.Fatal(err)
		}
		limit := len(block) + rapid.IntRange(0, 3).Draw(t, "slack")
		got, err := c.Decompress(nil, packed, limit)
		if err != nil || !bytes.Equal(got, block) {
			t.Fatalf("%d bytes: came back as %d, %v", len(block), len(got), err)
		}
		if len(block) > 0 {
			if _, err := c.Decompress(nil, packed, len(block)-1); !errors.Is(err, ErrTooLarge) {
				t.Fatalf("a bound one byte short: %v", err)
			}
		}
	})
}

func TestZstdFramesOfUnknownSizeAreRefused(t *testing.T) {
	for name, packed := range map[string]string{
		"no content size": "\x28\xb5\x2f\xfd\x00\x58\x19\x00\x00abc",
		"two frames":      "\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc\x28\xb5\x2f\xfd\x20\x14\xa1\x00\x00abcdefghijklmnopqrst",
		"skippable frame": "\x50\x2a\x4d\x18\x03\x00\x00\x00abc",
		"nothing":         "",
	} {
		if got, err := codec(t, Zstd, Default).Decompress(nil, []byte(packed), 1<<20); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLimitsOutOfRangeAreHarmless(t *testing.T) {
	eachCodec(t, func(t *testing.T, c Codec) {
		packed, err := c.Compress(nil, text(100))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Decompress(nil, packed, -1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a negative bound: %v", err)
		}
		if got, err := c.Decompress(nil, packed, math.MaxInt); err != nil || !bytes.Equal(got, text(100)) {
			t.Errorf("the largest bound: %d bytes, %v", len(got), err)
		}
	})
}

func TestTextGetsSmaller(t *testing.T) {
	for _, a := range algorithms[1:] {
		for l := Default; l <= Best; l++ {
			packed, err := codec(t, a, l).Compress(nil, text(1<<20))
			if err != nil || len(packed) > 1<<20/10 {
				t.Errorf("%s at %d: 1 MiB of repeated text takes %d bytes, %v", a, l, len(packed), err)
			}
		}
	}
}

func TestBombStopsAtItsBound(t *testing.T) {
	const bomb, limit = 32 << 20, 1 << 20
	zeros := make([]byte, bomb)
	for _, a := range algorithms[1:] {
		t.Run(a.String(), func(t *testing.T) {
			c := codec(t, a, Fastest)
			packed, err := c.Compress(nil, zeros)
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := c.Decompress(nil, packed, limit)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrTooLarge) || len(got) != 0 {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 12<<20 {
				t.Errorf("%d bytes were set aside for a bound of %d", used, limit)
			}
		})
	}
}

func TestTruncatedAndExtendedBlocksAreMalformed(t *testing.T) {
	block := append(text(3000), noise(500)...)
	for _, a := range algorithms[1:] {
		c := codec(t, a, Default)
		packed, err := c.Compress(nil, block)
		if err != nil {
			t.Fatal(err)
		}
		dst := []byte("kept")
		for cut := 0; cut < len(packed); cut++ {
			got, err := c.Decompress(dst, packed[:cut], len(block))
			if !errors.Is(err, ErrMalformed) || string(got) != "kept" {
				t.Fatalf("%s cut to %d of %d: %d bytes, %v", a, cut, len(packed), len(got), err)
			}
		}
		if got, err := c.Decompress(dst, append(bytes.Clone(packed), 0xff, 0xff, 0xff, 0xff), len(block)); !errors.Is(err, ErrMalformed) || string(got) != "kept" {
			t.Errorf("%s with bytes behind it: %v", a, err)
		}
	}
}

func TestManyGoroutinesShareOneCodec(t *testing.T) {
	for _, a := range algorithms {
		c := codec(t, a, Fastest)
		var wg sync.WaitGroup
		for i := range 4 * width {
			wg.Go(func() {
				block := bytes.Repeat([]byte{byte(i), byte(i + 1)}, 5000+i)
				packed, err := c.Compress(nil, block)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := c.Decompress(nil, packed, len(block))
				if err != nil || !bytes.Equal(got, block) {
					t.Errorf("%s: goroutine %d: %v", a, i, err)
				}
			})
		}
		wg.Wait()
	}
}

func FuzzDecompress(f *testing.F) {
	for _, a := range algorithms {
		for _, block := range [][]byte{nil, text(100), noise(50), make([]byte, 5000)} {
			packed, err := codec(f, a, Default).Compress(nil, block)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(a), packed, uint16(len(block)))
		}
	}
	f.Add(uint8(Zstd), []byte("\x28\xb5\x2f\xfd\x00\x58\x19\x00\x00abc"), uint16(10))
	f.Fuzz(func(t *testing.T, a uint8, packed []byte, limit uint16) {
		c, err := New(Algorithm(a%uint8(len(algorithms))), Default)
		if err != nil {
			t.Fatal(err)
		}
		dst := []byte("kept")
		got, err := c.Decompress(dst, packed, int(limit))
		switch {
		case err == nil && len(got)-len(dst) > int(limit):
			t.Fatalf("%d bytes over a bound of %d", len(got)-len(dst), limit)
		case err != nil && string(got) != "kept":
			t.Fatal("an error changed dst")
		case err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge):
			t.Fatalf("untyped error %v", err)
		case string(got[:4]) != "kept":
			t.Fatal("dst was overwritten")
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	block := append(text(512<<10), noise(512<<10)...)
	for _, a := range algorithms[1:] {
		b.Run(a.String(), func(b *testing.B) {
			c, dst := codec(b, a, Default), make([]byte, 0, 2<<20)
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Compress(dst, block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
