package registry

import "testing"

func BenchmarkUpdate(b *testing.B) {
	w, _, _ := newTable(b)
	register(b, w, ml())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Update("ml", StateServing, 1, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	w, r, _ := newTable(b)
	for i := range 60 {
		register(b, w, small(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Lookup("module-42"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot60(b *testing.B) {
	w, r, _ := newTable(b)
	for i := range 60 {
		register(b, w, small(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Snapshot(); err != nil {
			b.Fatal(err)
		}
	}
}
