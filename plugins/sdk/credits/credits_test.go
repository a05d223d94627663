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

func TestRates(t *testing.T) {
	const max = math.MaxUint64
	for _, c := range []struct {
		name    string
		rates   Rates
		bytes   uint64
		elapsed time.Duration
		want    uint64
	}{
		{"nothing", Rates{}, 1 << 40, time.Hour, 0},
		{"base only", Rates{Base: 100}, 0, 0, 100},
		{"whole units", Rates{100, 10, 1000}, 3 << 20, 2 * time.Second, 100 + 30 + 2000},
		{"half units", Rates{100, 10, 1000}, 1 << 19, time.Second / 2, 100 + 5 + 500},
		{"shares round up", Rates{0, 1, 1}, 1, 1, 2},
		{"clock set back", Rates{5, 0, 1000}, 0, -time.Second, 5},
		{"by size saturates", Rates{0, max, 0}, 1 << 21, 0, max},
		{"by time saturates", Rates{0, 0, max}, 0, time.Hour, max},
		{"sum saturates", Rates{max - 1, 2, 0}, 1 << 20, 0, max},
		{"largest that fits", Rates{0, max, 0}, 1 << 20, 0, max},
	} {
		if got := c.rates.Of(c.bytes, c.elapsed); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestRatesAgreeWithExactArithmetic(t *testing.T) {
	up := func(n, rate, unit uint64) *big.Int {
		p := new(big.Int).Mul(new(big.Int).SetUint64(n), new(big.Int).SetUint64(rate))
		p.Add(p, new(big.Int).SetUint64(unit-1))
		return p.Div(p, new(big.Int).SetUint64(unit))
	}
	rapid.Check(t, func(t *rapid.T) {
		r := Rates{rapid.Uint64().Draw(t, "base"), rapid.Uint64().Draw(t, "per MiB"), rapid.Uint64().Draw(t, "per second")}
		n, d := rapid.Uint64().Draw(t, "bytes"), rapid.Int64Min(0).Draw(t, "ns")
		want := new(big.Int).SetUint64(r.Base)
		want.Add(want, up(n, r.PerMiB, 1<<20))
		want.Add(want, up(uint64(d), r.PerSecond, 1e9))
		if !want.IsUint64() {
			want.SetUint64(math.MaxUint64)
		}
		if got := r.Of(n, time.Duration(d)); got != want.Uint64() {
			t.Fatalf("%d, want %v", got, want)
		}
	})
}

func TestTrackerMeasuresByItsClock(t *testing.T) {
	now := time.Unix(1000, 0)
	tr := NewTracker(Rates{100, 10, 1000}, func() time.Time { return now })
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

func TestTrackerSurvivesAClockSetBack(t *testing.T) {
	now := time.Unix(1000, 0)
	tr := NewTracker(Rates{PerSecond: 1000}, func() time.Time { return now })
	now = now.Add(-time.Hour)
	if got := tr.Stop(); got != 0 {
		t.Fatalf("cost %d", got)
	}
}
