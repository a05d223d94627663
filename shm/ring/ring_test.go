package ring

import (
	"errors"
	"math"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"inos/shm/internal/mem"
	"inos/shm/internal/twin"
)

// newRing returns both ends of a ring whose memory ends where memory ends: a step
// behind it is a fault.
func newRing(t testing.TB, entries uint32) (*Producer, *Consumer, mem.Region) {
	t.Helper()
	const page = 4096
	n := int(Bytes(entries))
	whole := (n+page-1)/page*page + page
	b, err := unix.Mmap(-1, 0, whole, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	if err := unix.Mprotect(b[whole-page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	r := mem.Of(b[whole-page-n : whole-page])
	p, err := NewProducer(r, entries)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewConsumer(r, entries)
	if err != nil {
		t.Fatal(err)
	}
	return p, c, r
}

func TestRingRefusesSizes(t *testing.T) {
	for _, c := range []struct {
		entries uint32
		bytes   uint64
	}{{0, 128}, {3, Bytes(3)}, {16, Bytes(16) - 64}, {16, Bytes(16) + 64}, {1 << 17, Bytes(16)}, {math.MaxUint32, 0}} {
		m := mem.Of(make([]byte, c.bytes))
		if _, err := NewProducer(m, c.entries); err == nil {
			t.Errorf("a producer of %d entries in %d bytes", c.entries, c.bytes)
		}
		if _, err := NewConsumer(m, c.entries); err == nil {
			t.Errorf("a consumer of %d entries in %d bytes", c.entries, c.bytes)
		}
	}
}

// TestRingIsAQueue drives both ends at random beside a slice.
func TestRingIsAQueue(t *testing.T) {
	p, c, r := newRing(t, 16)
	rapid.Check(t, func(t *rapid.T) {
		var model []Descriptor
		// Somewhere in the life of the ring, often where 32 bits run out.
		start := rapid.OneOf(rapid.Uint64Range(0, 40), rapid.Uint64Range(1<<32-40, 1<<32+40), rapid.Uint64Range(1<<33, 1<<62)).Draw(t, "start")
		age(p, c, r, start)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				d := drawDescriptor(t)
				err := p.Push(&d)
				if full := len(model) == p.Entries(); full != errors.Is(err, ErrFull) || (!full && err != nil) {
					t.Fatalf("with %d in it: %v", len(model), err)
				}
				if err == nil {
					model = append(model, d)
				}
			},
			"pop": func(t *rapid.T) {
				if c.Ready() != (len(model) > 0) {
					t.Fatalf("ready %v with %d in it", c.Ready(), len(model))
				}
				var d Descriptor
				ok, err := c.Pop(&d)
				if err != nil || ok != (len(model) > 0) {
					t.Fatalf("with %d in it: %v, %v", len(model), ok, err)
				}
				if ok {
					if d != model[0] {
						t.Fatalf("got %+v, want %+v", d, model[0])
					}
					model = model[1:]
				}
			},
			"": func(t *rapid.T) {
				if p.Free() != p.Entries()-len(model) {
					t.Fatalf("%d free with %d in it", p.Free(), len(model))
				}
			},
		})
	})
}

// age makes the ring look as it does after n descriptors were sent and taken.
func age(p *Producer, c *Consumer, r mem.Region, n uint64) {
	clear(r.Bytes())
	for back := uint64(1); back <= uint64(p.Entries()) && back <= n; back++ {
		_, offset := p.line(n - back)
		r.Store32(offset, sequence(n-back))
	}
	p.tail, p.head, c.head = n, n, n
	r.Store64(consumerLine, n)
}

// push puts d into a ring that has room.
func push(t *testing.T, p *Producer, d *Descriptor) {
	t.Helper()
	if err := p.Push(d); err != nil {
		t.Fatal(err)
	}
}

// pop takes from a ring that holds something.
func pop(t *testing.T, c *Consumer, d *Descriptor) {
	t.Helper()
	if ok, err := c.Pop(d); !ok || err != nil {
		t.Fatalf("popped: %v, %v", ok, err)
	}
}

func TestRingRejectsForgedHead(t *testing.T) {
	for name, forged := range map[string]uint64{
		"back by one":    4,
		"back to zero":   0,
		"past the tail":  9,
		"far ahead":      1 << 40,
		"largest":        math.MaxUint64,
		"wrapped around": 1 << 63,
	} {
		t.Run(name, func(t *testing.T) {
			p, c, r := newRing(t, 16)
			var d Descriptor
			for range 5 {
				push(t, p, &d)
				pop(t, c, &d)
			}
			for range 3 {
				push(t, p, &d)
			}
			if free := p.Free(); free != 13 {
				t.Fatalf("%d free before the forgery", free)
			}
			r.Store64(consumerLine, forged)
			if free := p.Free(); free != 0 {
				t.Errorf("%d free", free)
			}
			if err := p.Push(&d); !errors.Is(err, ErrForged) {
				t.Errorf("pushed: %v", err)
			}
			r.Store64(consumerLine, 5)
			if err := p.Push(&d); !errors.Is(err, ErrForged) || p.Err() == nil {
				t.Errorf("the ring recovered: %v", err)
			}
		})
	}
}

func TestFullRingRejectsForgedHead(t *testing.T) {
	p, _, r := newRing(t, 16)
	var d Descriptor
	for range 16 {
		if err := p.Push(&d); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Push(&d); !errors.Is(err, ErrFull) {
		t.Fatalf("seventeenth of 16: %v", err)
	}
	r.Store64(consumerLine, 17)
	if err := p.Push(&d); !errors.Is(err, ErrForged) {
		t.Errorf("pushed: %v", err)
	}
}

func TestRingRejectsForgedSequence(t *testing.T) {
	for name, forged := range map[string]uint32{
		"one ahead": 20, "one lap ahead": 19 + 16, "two laps back": math.MaxUint32 - 12, "zero": 0, "largest": math.MaxUint32,
	} {
		t.Run(name, func(t *testing.T) {
			p, c, r := newRing(t, 16)
			age(p, c, r, 18)
			_, offset := c.line(18)
			r.Store32(offset, forged)
			if !c.Ready() {
				t.Error("a forged line looks like an empty one, nobody would ever see it")
			}
			var d Descriptor
			if ok, err := c.Pop(&d); ok || !errors.Is(err, ErrForged) {
				t.Errorf("popped: %v, %v", ok, err)
			}
			push(t, p, &d)
			if ok, err := c.Pop(&d); ok || !errors.Is(err, ErrForged) || c.Err() == nil || !c.Ready() {
				t.Errorf("the ring recovered: %v, %v", ok, err)
			}
		})
	}
}

// TestConsumerKeepsNothingInTheRing: what a producer writes after Pop does not
// reach the descriptor that was taken.
func TestConsumerKeepsNothingInTheRing(t *testing.T) {
	p, c, r := newRing(t, 16)
	push(t, p, &golden)
	var d Descriptor
	pop(t, c, &d)
	for i := range r.Bytes() {
		r.Bytes()[i] = 0xff
	}
	if d != golden {
		t.Errorf("the descriptor changed to %+v", d)
	}
}

func TestRingAllocatesNothing(t *testing.T) {
	p, c, _ := newRing(t, 16)
	var d Descriptor
	for name, f := range map[string]func(){
		"push and pop": func() { push(t, p, &golden); pop(t, c, &d) },
		"empty": func() {
			if ok, err := c.Pop(&d); ok || err != nil || c.Ready() || p.Free() != 16 {
				t.Fatalf("popped: %v, %v", ok, err)
			}
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	for p.Push(&d) == nil {
	}
	refused := func() {
		if err := p.Push(&d); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(1000, refused); n != 0 {
		t.Errorf("a full ring allocates %v times", n)
	}
}

func BenchmarkPushPop(b *testing.B) {
	p, c, _ := newRing(b, 1024)
	d := golden
	b.ReportAllocs()
	for b.Loop() {
		if p.Push(&d) != nil {
			b.Fatal("full")
		}
		if ok, _ := c.Pop(&d); !ok {
			b.Fatal("empty")
		}
	}
}

// BenchmarkPush and BenchmarkPop each time one end over rings that the other end
// filled or emptied.
func BenchmarkPush(b *testing.B) {
	p, c, _ := newRing(b, 1024)
	d := golden
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Push(&d); err != nil {
			if !errors.Is(err, ErrFull) {
				b.Fatal(err)
			}
			b.StopTimer()
			for ok := true; ok; {
				ok, _ = c.Pop(&d)
			}
			b.StartTimer()
		}
	}
}

func BenchmarkPop(b *testing.B) {
	p, c, _ := newRing(b, 1024)
	d := golden
	b.ReportAllocs()
	for b.Loop() {
		if ok, _ := c.Pop(&d); !ok {
			b.StopTimer()
			for p.Push(&d) == nil {
			}
			b.StartTimer()
		}
	}
}

func TestMain(m *testing.M) {
	twin.Main(m, map[string]twin.Role{"golden": writeAndCheckGolden, "echo": echo, "scribble": scribble})
}
