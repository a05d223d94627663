package credits

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos/plugins/sdk/wire"
)

func TestRefusedChargeSpendsNothing(t *testing.T) {
	b := NewBudget(100)
	if err := b.Charge(60); err != nil {
		t.Fatal(err)
	}
	err := b.Charge(41)
	if !errors.Is(err, ErrBudgetExceeded) || !strings.Contains(err.Error(), "40 of 100 left") {
		t.Fatalf("got %v", err)
	}
	if err := b.Check(41); !errors.Is(err, ErrBudgetExceeded) {
		t.Fatalf("Check: %v", err)
	}
	if b.Spent() != 60 || b.Left() != 40 {
		t.Fatalf("spent %d, left %d", b.Spent(), b.Left())
	}
	if err := errors.Join(b.Check(40), b.Charge(40), b.Charge(0), b.Check(0)); err != nil {
		t.Fatalf("what fits exactly was refused: %v", err)
	}
	if err := b.Charge(1); !errors.Is(err, ErrBudgetExceeded) {
		t.Fatalf("a charge on an empty budget: %v", err)
	}
}

func TestChargeDoesNotOverflow(t *testing.T) {
	b := NewBudget(0)
	if err := b.Charge(math.MaxUint64 - 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Charge(math.MaxUint64); !errors.Is(err, ErrBudgetExceeded) {
		t.Fatalf("a sum beyond 64 bits: %v", err)
	}
	if b.Left() != 1 || b.Limit() != math.MaxUint64 {
		t.Fatalf("left %d of %d", b.Left(), b.Limit())
	}
}

func TestBudgetAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Uint64Min(1).Draw(t, "limit")
		b, spent := NewBudget(limit), new(big.Int)
		for _, n := range rapid.SliceOf(rapid.Uint64()).Draw(t, "charges") {
			sum := new(big.Int).Add(spent, new(big.Int).SetUint64(n))
			fits := sum.Cmp(new(big.Int).SetUint64(limit)) <= 0
			if err := b.Charge(n); (err == nil) != fits {
				t.Fatalf("charge %d with %v of %d spent: %v", n, spent, limit, err)
			}
			if fits {
				spent = sum
			}
			if spent.Cmp(new(big.Int).SetUint64(b.Spent())) != 0 {
				t.Fatalf("spent %d, want %v", b.Spent(), spent)
			}
		}
	})
}

func TestChargesAtOnceNeverExceedTheLimit(t *testing.T) {
	const limit, each, tries = 1000, 7, 50
	b := NewBudget(limit)
	var taken atomic.Uint64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range tries {
				if b.Charge(each) == nil {
					taken.Add(each)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != b.Spent() || b.Spent() != limit/each*each {
		t.Fatalf("charged %d, spent %d of %d", taken.Load(), b.Spent(), limit)
	}
}

// price is a base of 100, 10 for each MiB and 1000 for each second begun.
var price Price = wire.CostModel{Base: 100, PerMB: 10, PerSecond: 1000}

func TestTrackerMeasuresByItsClock(t *testing.T) {
	now := time.Unix(1000, 0)
	tr := NewTracker(price, func() time.Time { return now })
	tr.Add(1 << 20)
	now = now.Add(time.Second)
	if tr.Cost() != 1110 || tr.Elapsed() != time.Second {
		t.Fatalf("after a second: %d, %v", tr.Cost(), tr.Elapsed())
	}
	now = now.Add(time.Second)
	if got := tr.Stop(); got != 2110 {
		t.Fatalf("stopped at %d", got)
	}
	now = now.Add(time.Hour)
	tr.Add(1 << 30)
	if tr.Stop() != 2110 || tr.Cost() != 2110 || tr.Elapsed() != 2*time.Second || tr.Bytes() != 1<<20 {
		t.Fatalf("it went on after Stop: %d, %v, %d bytes", tr.Cost(), tr.Elapsed(), tr.Bytes())
	}
}

func TestTrackerDoesNotWrapAround(t *testing.T) {
	tr := NewTracker(price, func() time.Time { return time.Time{} })
	tr.Add(math.MaxUint64)
	tr.Add(5)
	if got, want := tr.Stop(), price.Of(math.MaxUint64, 0); got != want || tr.Bytes() != math.MaxUint64 {
		t.Fatalf("%d for %d bytes, want %d", got, tr.Bytes(), want)
	}
}

func TestTrackerSurvivesAClockSetBack(t *testing.T) {
	now := time.Unix(1000, 0)
	tr := NewTracker(price, func() time.Time { return now })
	now = now.Add(-time.Hour)
	if got := tr.Stop(); got != 100 {
		t.Fatalf("cost %d", got)
	}
}
