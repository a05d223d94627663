package epoch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos/shm/internal/mem"
	"inos/shm/internal/twin"
)

// long is a deadline that only a lost wake-up reaches.
const long = 90 * time.Second

func TestMain(m *testing.M) {
	twin.Main(m, map[string]twin.Role{
		"epoch echo":      echoEpochs,
		"futex bell echo": echoOnFutexBell,
	})
}

func newTable(t testing.TB, rows int) *Table {
	t.Helper()
	b, _ := twin.Memory(t, rows*int(stride))
	table, err := NewTable(mem.Of(b))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTableRefusesPartsOfRows(t *testing.T) {
	for _, n := range []int{0, 1, 63, 65, 100} {
		if _, err := NewTable(mem.Of(make([]byte, n))); err == nil {
			t.Errorf("%d bytes were accepted", n)
		}
	}
}

func TestSignalMovesItsEpochAndAny(t *testing.T) {
	e := newTable(t, 4)
	e.Signal(2)
	e.Signal(2)
	e.Signal(3)
	e.Touch(1)
	for i, want := range []uint64{3, 1, 2, 1} {
		if got := e.Load(uint16(i)); got != want {
			t.Errorf("epoch %d is %d, want %d", i, got, want)
		}
	}
	e.Signal(anyEpoch)
	if got := e.Load(anyEpoch); got != 4 {
		t.Errorf("signalled alone, epoch 0 is %d, want 4", got)
	}
}

func TestWaitReturnsAtOnceWhenTheEpochHasMoved(t *testing.T) {
	e := newTable(t, 2)
	e.Signal(1)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := e.Wait(done, 1, 0); v != 1 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	e := newTable(t, 2)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go cancel(why)
	if _, err := e.Wait(ctx, 1, 0); !errors.Is(err, why) {
		t.Errorf("ended with %v", err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, err := e.Wait(ctx, 1, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

// TestEveryWaiterSeesEverySignal lets one signal and its answers alternate, so
// that a single lost wake-up stops the game.
func TestEveryWaiterSeesEverySignal(t *testing.T) {
	const rounds, waiters = 300, 4
	e := newTable(t, 2+waiters)
	ctx, stop := context.WithTimeout(t.Context(), long)
	defer stop()
	var all sync.WaitGroup
	for w := range uint16(waiters) {
		all.Go(func() {
			for n := range uint64(rounds) {
				if _, err := e.Wait(ctx, 1, n); err != nil {
					t.Error(err)
					return
				}
				e.Signal(2 + w)
			}
		})
	}
	for n := range uint64(rounds) {
		e.Signal(1)
		for w := range uint16(waiters) {
			if _, err := e.Wait(ctx, 2+w, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	all.Wait()
}

// echoEpochs answers every move of the first table, which it can only read, with
// a signal in the second.
func echoEpochs(files []*os.File) error {
	in, err := twin.Map(files[0], 2*int(stride), unix.PROT_READ)
	if err != nil {
		return err
	}
	out, err := twin.Map(files[1], 2*int(stride), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return err
	}
	asked, _ := NewReader(mem.Of(in))
	answer, _ := NewTable(mem.Of(out))
	ctx, stop := context.WithTimeout(context.Background(), long)
	defer stop()
	for n := range uint64(echoRounds) {
		if v, err := asked.Wait(ctx, 1, n); err != nil || v != n+1 {
			return fmt.Errorf("round %d: %d, %w", n, v, err)
		}
		answer.Signal(1)
	}
	return nil
}

const echoRounds = 300

func TestEpochsCrossProcesses(t *testing.T) {
	outward, f := twin.Memory(t, 2*int(stride))
	inward, g := twin.Memory(t, 2*int(stride))
	ask, _ := NewTable(mem.Of(outward))
	answered, _ := NewReader(mem.Of(inward))
	child := twin.Start(t, "epoch echo", f, g)
	ctx, stop := context.WithTimeout(t.Context(), long)
	defer stop()
	for n := range uint64(echoRounds) {
		ask.Signal(1)
		if _, err := answered.Wait(ctx, 1, n); err != nil {
			t.Fatal(err)
		}
	}
	child.Wait(t)
}

func TestReactorReportsEveryWatchedEpoch(t *testing.T) {
	e := newTable(t, 64)
	x := NewReactor(e.Reader)
	defer x.Close()
	type move struct {
		epoch uint16
		value uint64
	}
	moves := make(chan move, 256)
	for i := uint16(1); i < 64; i++ {
		x.Watch(i, func(v uint64) { moves <- move{i, v} })
	}
	for round := uint64(1); round <= 3; round++ {
		for i := uint16(1); i < 64; i += 2 {
			e.Signal(i)
		}
		for range 32 {
			select {
			case m := <-moves:
				if m.epoch%2 == 0 || m.value != round {
					t.Fatalf("epoch %d at %d in round %d", m.epoch, m.value, round)
				}
			case <-time.After(long):
				t.Fatal("a signal was lost")
			}
		}
	}
}

func TestReactorStopsWatching(t *testing.T) {
	e := newTable(t, 3)
	x := NewReactor(e.Reader)
	defer x.Close()
	calls := make(chan uint16, 16)
	stop := x.Watch(1, func(uint64) { calls <- 1 })
	x.Watch(2, func(uint64) { calls <- 2 })
	e.Signal(1)
	if got := <-calls; got != 1 {
		t.Fatalf("epoch %d was reported", got)
	}
	stop()
	stop()
	e.Signal(1)
	e.Signal(2)
	if got := <-calls; got != 2 {
		t.Errorf("epoch %d was reported after its watch was stopped", got)
	}
}

func TestReactorCallMayStopItself(t *testing.T) {
	e := newTable(t, 2)
	x := NewReactor(e.Reader)
	defer x.Close()
	calls, armed := make(chan uint64, 16), make(chan struct{})
	var stop func()
	stop = x.Watch(1, func(v uint64) {
		<-armed
		stop()
		calls <- v
	})
	close(armed)
	e.Signal(1)
	<-calls
	e.Signal(1)
	x.Close()
	if len(calls) != 0 {
		t.Error("called again after it had stopped itself")
	}
}

func TestReactorCloseEndsItsGoroutine(t *testing.T) {
	e := newTable(t, 2)
	for range 50 {
		x := NewReactor(e.Reader)
		x.Watch(1, func(uint64) {})
		x.Close()
		x.Close()
	}
}
