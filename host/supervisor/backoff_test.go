package supervisor

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// epoch is any time.
var epoch = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// longest draws the longest pause there is.
func longest() float64 { return 1 }

func TestBackoffGrowsUntilItGivesUp(t *testing.T) {
	b := NewBackoff(BackoffOptions{First: time.Millisecond, Initial: time.Second, Max: 5 * time.Second, Limit: 7, Random: longest})
	now := epoch
	var got []time.Duration
	for {
		wait, err := b.Died(now)
		if errors.Is(err, ErrCrashLoop) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, wait)
		now = now.Add(wait)
	}
	if want := []time.Duration{1e6, 1e9, 2e9, 4e9, 5e9, 5e9}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.Reset()
	if wait, err := b.Died(now); wait != time.Millisecond || err != nil || b.Deaths() != 1 {
		t.Errorf("after Reset: %v, %v, %d deaths", wait, err, b.Deaths())
	}
}

func TestBackoffForgetsOldDeaths(t *testing.T) {
	b := NewBackoff(BackoffOptions{Limit: 3, Window: time.Minute, Random: longest})
	for i := range 50 {
		wait, err := b.Died(epoch.Add(time.Duration(i) * time.Minute))
		if err != nil || wait != 50*time.Millisecond {
			t.Fatalf("death %d: %v, %v", i, wait, err)
		}
	}
}

func TestBackoffKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := BackoffOptions{
			Initial: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "initial")),
			Max:     time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "max")),
			Limit:   rapid.IntRange(1, 8).Draw(t, "limit"), Window: time.Minute,
			Random: func() float64 { return rapid.Float64Range(0, 0.999999).Draw(t, "random") },
		}
		b := NewBackoff(o)
		now := epoch
		var deaths []time.Time
		bound := o.Initial
		for range 20 {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Minute)).Draw(t, "lived")))
			deaths = slices.DeleteFunc(deaths, func(d time.Time) bool { return now.Sub(d) >= time.Minute })
			deaths = append(deaths, now)
			wait, err := b.Died(now)
			switch {
			case len(deaths) >= o.Limit:
				if !errors.Is(err, ErrCrashLoop) {
					t.Fatalf("%d deaths: %v, %v", len(deaths), wait, err)
				}
			case err != nil:
				t.Fatal(err)
			case len(deaths) == 1:
				if bound = o.Initial; wait < 0 || wait > min(50*time.Millisecond, o.Initial) {
					t.Fatalf("the first restart after %v", wait)
				}
			default:
				if wait < 0 || wait > bound {
					t.Fatalf("wait %v, want at most %v", wait, bound)
				}
				bound = min(2*bound, max(o.Max, o.Initial))
			}
		}
	})
}

func TestBackoffSpreadsThoseThatDiedTogether(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		wait, err := NewBackoff(BackoffOptions{}).Died(epoch)
		if err != nil || wait > 50*time.Millisecond {
			t.Fatalf("%v, %v", wait, err)
		}
		seen[wait] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 plugins come back at %d moments", len(seen))
	}
}
