package ring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos/shm/epoch"
	"inos/shm/internal/mem"
	"inos/shm/internal/twin"
)

// The memory that two processes share in these tests: two rings, then two bells.
const (
	shared  = 4 * 4096
	entries = 64
	there   = 0
	back    = 2 * 4096
	bellsAt = 3*4096 + 2048
	long    = 90 * time.Second
)

func region(b []byte, at int) mem.Region { return mem.Of(b).MustSub(uint64(at), Bytes(entries)) }

func mapShared(files []*os.File) ([]byte, error) {
	return twin.Map(files[0], shared, unix.PROT_READ|unix.PROT_WRITE)
}

// writeAndCheckGolden sends the golden descriptor so that it lands on its
// position in one ring, and compares what the first process put in the other.
func writeAndCheckGolden(files []*os.File) error {
	b, err := mapShared(files)
	if err != nil {
		return err
	}
	if got := goldenBytes(b, there); got != goldenLine {
		return fmt.Errorf("the first process wrote\n%s, want\n%s", got, goldenLine)
	}
	c, _ := NewConsumer(region(b, there), entries)
	var d Descriptor
	for range goldenPosition + 1 {
		if ok, err := c.Pop(&d); !ok || err != nil {
			return fmt.Errorf("%v, %w", ok, err)
		}
	}
	if d != golden {
		return fmt.Errorf("read %+v", d)
	}
	sendGolden(b, back)
	return nil
}

func sendGolden(b []byte, at int) {
	p, _ := NewProducer(region(b, at), entries)
	for range goldenPosition + 1 {
		_ = p.Push(&golden)
	}
}

func goldenBytes(b []byte, at int) string {
	line := b[at+int(firstLine)+goldenPosition*Size:]
	return hex.EncodeToString(line[:Size])
}

func TestGoldenBytesCrossProcesses(t *testing.T) {
	b, f := twin.Memory(t, shared)
	sendGolden(b, there)
	twin.Start(t, "golden", f).Wait(t)
	if got := goldenBytes(b, back); got != goldenLine {
		t.Errorf("the second process wrote\n%s, want\n%s", got, goldenLine)
	}
	if got := mem.Of(b).Load64(there + consumerLine); got != goldenPosition+1 {
		t.Errorf("the second process published position %d", got)
	}
}

const echoes = 20000

// ends are one side's view of two rings with their bells.
type ends struct {
	in      *Consumer
	out     *Producer
	myBell  *epoch.Bell
	hisBell *epoch.Bell
}

func newEnds(b []byte, in, out, mine, his int) ends {
	var e ends
	e.in, _ = NewConsumer(region(b, in), entries)
	e.out, _ = NewProducer(region(b, out), entries)
	e.myBell, _ = epoch.NewFutexBell(mem.Of(b).MustSub(uint64(bellsAt+mine*64), 64))
	e.hisBell, _ = epoch.NewFutexBell(mem.Of(b).MustSub(uint64(bellsAt+his*64), 64))
	return e
}

// pass sends back every descriptor with its job number doubled.
func (e ends) pass() error {
	deadline := time.Now().Add(long)
	var d Descriptor
	for n := 0; n < echoes; {
		if !e.myBell.Wait(e.in.Ready, deadline) {
			return fmt.Errorf("nothing came after %d descriptors", n)
		}
		for {
			ok, err := e.in.Pop(&d)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			d.Job *= 2
			for e.out.Push(&d) != nil {
				runtime.Gosched()
			}
			e.hisBell.Ring()
			n++
		}
	}
	return nil
}

// play keeps as many descriptors under way as fit and checks their order.
func (e ends) play(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(long)
	var d Descriptor
	sent, got := uint64(0), uint64(0)
	for got < echoes {
		for sent < echoes && sent-got < entries && e.out.Push(&Descriptor{Job: sent + 1, Aux: uint32(sent)}) == nil {
			sent++
		}
		e.hisBell.Ring()
		if !e.myBell.Wait(e.in.Ready, deadline) || time.Now().After(deadline) {
			t.Fatalf("a wake-up was lost: %d sent, %d came back", sent, got)
		}
		for {
			ok, err := e.in.Pop(&d)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if d.Job != 2*(got+1) || d.Aux != uint32(got) {
				t.Fatalf("descriptor %d is %+v", got, d)
			}
			got++
		}
	}
}

func echo(files []*os.File) error {
	b, err := mapShared(files)
	if err != nil {
		return err
	}
	return newEnds(b, there, back, 0, 1).pass()
}

func TestOrderIsKeptBetweenProcesses(t *testing.T) {
	b, f := twin.Memory(t, shared)
	child := twin.Start(t, "echo", f)
	newEnds(b, back, there, 1, 0).play(t)
	child.Wait(t)
}

func TestOrderIsKeptBetweenGoroutines(t *testing.T) {
	b, _ := twin.Memory(t, shared)
	var other sync.WaitGroup
	other.Go(func() {
		if err := newEnds(b, there, back, 0, 1).pass(); err != nil {
			t.Error(err)
		}
	})
	newEnds(b, back, there, 1, 0).play(t)
	other.Wait()
}

// scribble overwrites all the memory it can reach, again and again, until it is
// killed.
func scribble(files []*os.File) error {
	b, err := mapShared(files)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	end := time.Now().Add(long)
	for time.Now().Before(end) {
		for range 1 << 12 {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
	}
	return errors.New("nobody killed the scribbler")
}

// TestHostSurvivesAScribbler keeps pushing and popping, on fresh ends whenever a
// ring is found out, while another process writes rubbish over both rings.
func TestHostSurvivesAScribbler(t *testing.T) {
	b, f := twin.Memory(t, shared)
	twin.Start(t, "scribble", f)
	for b[bellsAt] == 0 && b[0] == 0 && b[shared-1] == 0 {
		runtime.Gosched() // until it has begun
	}
	var refused atomic.Int64
	for range 2000 {
		p, err := NewProducer(region(b, there), entries)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewConsumer(region(b, back), entries)
		if err != nil {
			t.Fatal(err)
		}
		d := golden
		for n := 0; n < 200 && p.Err() == nil && c.Err() == nil; n++ {
			_ = p.Push(&d)
			c.Ready()
			_, _ = c.Pop(&d)
		}
		if p.Err() != nil || c.Err() != nil {
			refused.Add(1)
		}
	}
	if refused.Load() == 0 {
		t.Error("no forgery was found")
	}
}
