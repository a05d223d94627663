package epoch

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos/shm/internal/mem"
	"inos/shm/internal/twin"
)

// bells returns one bell of each kind.
func bells(t testing.TB) map[string]*Bell {
	t.Helper()
	b, _ := twin.Memory(t, 4096)
	r := mem.Of(b)
	event, err := NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFutexBell(r.MustSub(0, 64))
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEventBell(r.MustSub(64, 64), event)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); e.Close() })
	return map[string]*Bell{"futex": f, "event": e}
}

func never() bool { return false }

func eachBell(t *testing.T, f func(t *testing.T, b *Bell)) {
	for name, b := range bells(t) {
		t.Run(name, func(t *testing.T) { f(t, b) })
	}
}

func TestBellRefusesOtherSizes(t *testing.T) {
	if _, err := NewFutexBell(mem.Of(make([]byte, 32))); err == nil {
		t.Error("half a line was accepted")
	}
}

func TestEventBellRefusesFilesWithoutPoller(t *testing.T) {
	f, err := os.Open("bell_test.go")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := NewEventBell(mem.Of(make([]byte, 64)), f); err == nil {
		t.Error("a plain file was accepted")
	}
}

func TestWaitEndsAtItsDeadline(t *testing.T) {
	eachBell(t, func(t *testing.T, b *Bell) {
		if b.Wait(never, time.Now().Add(5*time.Millisecond)) || b.Wait(never, time.Time{}) {
			t.Error("ready without being ready")
		}
		if got := b.word.Load32(parked); got != 0 {
			t.Errorf("the flag is left at %d", got)
		}
	})
}

// TestNobodyCallsForAConsumerThatIsAwake counts the calls a ring makes.
func TestNobodyCallsForAConsumerThatIsAwake(t *testing.T) {
	eachBell(t, func(t *testing.T, b *Bell) {
		counting := &countingBed{bed: b.bed}
		b.bed = counting
		for range 100 {
			b.Ring()
		}
		if n := counting.wakes.Load(); n != 0 {
			t.Errorf("%d calls while nobody sleeps", n)
		}
		b.word.Store32(parked, 1)
		for range 100 {
			b.Ring()
		}
		if n := counting.wakes.Load(); n != 1 {
			t.Errorf("%d calls for one sleeper, want 1", n)
		}
	})
}

type countingBed struct {
	bed
	wakes atomic.Int32
}

func (c *countingBed) wake() { c.wakes.Add(1); c.bed.wake() }

// TestNoWakeUpIsLost lets several producers and a consumer alternate so that the
// consumer is about to park at every possible moment. A lost wake-up shows as a
// deadline reached.
func TestNoWakeUpIsLost(t *testing.T) {
	const each, producers = 3000, 3
	eachBell(t, func(t *testing.T, b *Bell) {
		var published atomic.Uint64
		var all sync.WaitGroup
		for p := range producers {
			all.Go(func() {
				for n := range each {
					// A pause that grows and shrinks sweeps over the ladder.
					for range (n*7 + p*13) % 41 {
						mem.Pause(20)
					}
					if n%16 == 0 {
						time.Sleep(time.Microsecond) // lets the consumer reach the kernel
					}
					published.Add(1)
					b.Ring()
				}
			})
		}
		deadline := time.Now().Add(long)
		for seen := uint64(0); seen < each*producers; seen = published.Load() {
			if !b.Wait(func() bool { return published.Load() > seen }, deadline) || time.Now().After(deadline) {
				t.Fatalf("a wake-up was lost after %d of %d", seen, each*producers)
			}
		}
		all.Wait()
	})
}

func TestInterruptEndsTheWaitUnderWay(t *testing.T) {
	eachBell(t, func(t *testing.T, b *Bell) {
		deadline := time.Now().Add(long)
		for range 300 {
			go b.Interrupt()
			b.Wait(never, deadline)
		}
		if time.Now().After(deadline) {
			t.Error("an interruption was lost")
		}
	})
}

func TestCloseEndsTheWaitAndWaitsForIt(t *testing.T) {
	for range 50 {
		for name, b := range bells(t) {
			var left atomic.Bool
			var waiter sync.WaitGroup
			waiter.Go(func() {
				b.Wait(never, time.Now().Add(long))
				left.Store(true)
			})
			for b.word.Load32(parked) == 0 {
				runtime.Gosched()
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			waiter.Wait()
			if err := b.Close(); err != nil {
				t.Errorf("%s: closed again: %v", name, err)
			}
			b.Ring()
			b.Interrupt()
			if b.Wait(func() bool { return true }, time.Now().Add(long)) {
				t.Errorf("%s: a closed bell looked at memory that may be gone", name)
			}
		}
	}
}

// TestPeerCannotHoldTheHost does to the doorbell what a hostile plugin can.
func TestPeerCannotHoldTheHost(t *testing.T) {
	b, _ := twin.Memory(t, 4096)
	event, err := NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	// The peer has the same open file, so its flags are the host's flags.
	peer, err := unix.Dup(int(eventFd(t, event)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	bell, err := NewEventBell(mem.Of(b).MustSub(0, 64), event)
	if err != nil {
		t.Fatal(err)
	}
	defer bell.Close()

	scribbler, stop := sync.WaitGroup{}, atomic.Bool{}
	scribbler.Go(func() {
		for n := uint32(0); !stop.Load(); n++ {
			bell.word.Store32(parked, n*0x9e3779b9)
		}
	})
	bell.Wait(never, time.Now().Add(20*time.Millisecond))
	stop.Store(true)
	scribbler.Wait()

	if err := unix.SetNonblock(peer, false); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(long)
	for name, counter := range map[string]uint64{"full": math.MaxUint64 - 1, "empty": 0} {
		drain(t, peer)
		if counter > 0 {
			writeEvent(t, peer, counter)
		}
		bell.Wait(never, time.Now().Add(5*time.Millisecond))
		go bell.Interrupt()
		bell.Wait(never, deadline)
		if time.Now().After(deadline) {
			t.Errorf("with the counter %s the host cannot be interrupted", name)
		}
	}
}

// drain empties the counter of an eventfd, whatever its mode.
func drain(t *testing.T, fd int) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n == 0 {
		return
	}
	if _, err := unix.Read(fd, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
}

func writeEvent(t *testing.T, fd int, v uint64) {
	t.Helper()
	b := make([]byte, 8)
	mem.Of(b).Store64(0, v)
	if _, err := unix.Write(fd, b); err != nil {
		t.Fatal(err)
	}
}

func eventFd(t testing.TB, f *os.File) (fd uintptr) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(n uintptr) { fd = n }); err != nil {
		t.Fatal(err)
	}
	return fd
}

// Offsets in the page that two processes share: two bells, two counters.
const (
	askBell, answerBell   = 0, 64
	askCount, answerCount = 128, 192
	bellRounds            = 2000
)

// echoOnFutexBell waits on a futex bell as a plugin does, and rings the event
// bell of the host.
func echoOnFutexBell(files []*os.File) error {
	b, err := twin.Map(files[0], 4096, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return err
	}
	fd, err := unix.Dup(int(files[1].Fd())) // starting a process made it blocking
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	event := os.NewFile(uintptr(fd), "doorbell")
	r := mem.Of(b)
	asked, _ := NewFutexBell(r.MustSub(askBell, 64))
	answer, err := NewEventBell(r.MustSub(answerBell, 64), event)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(long)
	for n := uint64(1); n <= bellRounds; n++ {
		if !asked.Wait(func() bool { return r.Load64(askCount) >= n }, deadline) || time.Now().After(deadline) {
			return fmt.Errorf("lost the wake-up of round %d", n)
		}
		r.Store64(answerCount, n)
		answer.Ring()
	}
	return nil
}

func TestNoWakeUpIsLostBetweenProcesses(t *testing.T) {
	b, f := twin.Memory(t, 4096)
	r := mem.Of(b)
	event, err := NewEvent()
	if err != nil {
		t.Fatal(err)
	}
	passed, err := unix.Dup(int(eventFd(t, event)))
	if err != nil {
		t.Fatal(err)
	}
	toChild := os.NewFile(uintptr(passed), "doorbell")
	ask, _ := NewFutexBell(r.MustSub(askBell, 64))
	answered, err := NewEventBell(r.MustSub(answerBell, 64), event)
	if err != nil {
		t.Fatal(err)
	}
	defer answered.Close()
	child := twin.Start(t, "futex bell echo", f, toChild)
	toChild.Close()
	deadline := time.Now().Add(long)
	for n := uint64(1); n <= bellRounds; n++ {
		r.Store64(askCount, n)
		ask.Ring()
		if !answered.Wait(func() bool { return r.Load64(answerCount) >= n }, deadline) || time.Now().After(deadline) {
			t.Fatalf("lost the wake-up of round %d", n)
		}
		if n%64 == 0 {
			time.Sleep(100 * time.Microsecond) // lets the other side reach the kernel
		}
	}
	child.Wait(t)
}

func TestBellsAllocateNothing(t *testing.T) {
	eachBell(t, func(t *testing.T, b *Bell) {
		ready := func() bool { return true }
		if n := testing.AllocsPerRun(100, func() { b.Ring() }); n != 0 {
			t.Errorf("Ring allocates %v times", n)
		}
		if n := testing.AllocsPerRun(100, func() { b.Wait(ready, time.Time{}) }); n != 0 {
			t.Errorf("Wait allocates %v times", n)
		}
		if n := testing.AllocsPerRun(20, func() { b.Wait(never, time.Now().Add(100*time.Microsecond)) }); n != 0 {
			t.Errorf("Wait allocates %v times when it parks", n)
		}
	})
}

func BenchmarkRingAwake(b *testing.B) {
	for name, bell := range bells(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bell.Ring()
			}
		})
	}
}

// BenchmarkRoundTrip sends a count to another goroutine and back, with a bell at
// each end.
func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range []string{"futex", "event"} {
		b.Run(kind, func(b *testing.B) {
			there, back := bells(b)[kind], bells(b)[kind]
			var asked, answered, stop atomic.Uint64
			go func() {
				for n := uint64(1); stop.Load() == 0; n++ {
					there.Wait(func() bool { return asked.Load() >= n || stop.Load() > 0 }, time.Now().Add(long))
					answered.Store(n)
					back.Ring()
				}
			}()
			b.ReportAllocs()
			n := uint64(0)
			ready := func() bool { return answered.Load() >= n }
			deadline := time.Now().Add(time.Hour)
			for b.Loop() {
				n++
				asked.Store(n)
				there.Ring()
				back.Wait(ready, deadline)
			}
			stop.Store(1)
			there.Interrupt()
		})
	}
}
