package arena

import (
	"fmt"
	"testing"

	"inos/shm/internal/mem"
)

func BenchmarkAllocRelease(b *testing.B) {
	for _, size := range []uint64{64, 2048, 4096, 64 << 10, 1 << 20, 65 * pageSize} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			a := newSized(1, 256<<20)
			b.ReportAllocs()
			for b.Loop() {
				ref, err := a.Alloc(size, 7)
				if err != nil {
					b.Fatal(err)
				}
				if err := a.Release(ref); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkChurn frees and allocates in an arena that holds ten thousand other
// blocks of mixed sizes.
func BenchmarkChurn(b *testing.B) {
	a := newSized(1, 1<<30)
	refs := make([]Ref, 10_000)
	size := func(i int) uint64 { return uint64(i*7919%20_000) + 1 }
	for i := range refs {
		refs[i], _ = a.Alloc(size(i), Owner(i%50))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		j := i * 31 % len(refs)
		i++
		if err := a.Release(refs[j]); err != nil {
			b.Fatal(err)
		}
		var err error
		if refs[j], err = a.Alloc(size(j), Owner(j%50)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	a := newSized(1, 16<<20)
	ref, _ := a.Alloc(5000, 7)
	b.ReportAllocs()
	for b.Loop() {
		if a.Verify(ref, 7) != nil {
			b.Fatal("refused")
		}
	}
}

func BenchmarkView(b *testing.B) {
	a := New(1, mem.Of(make([]byte, 1<<20)))
	ref, _ := a.Alloc(5000, 7)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.View(ref); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReclaim100(b *testing.B) {
	a := newSized(1, 256<<20)
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			if _, err := a.Alloc(1000, 7); err != nil {
				b.Fatal(err)
			}
		}
		a.Reclaim(7)
	}
}
