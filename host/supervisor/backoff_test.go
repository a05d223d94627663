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

func TestBackoffGrowsUntilItGivesUp(t *testing.T) {
	b := NewBackoff(BackoffOptions{Initial: time.Second, Max: 5 * time.Second, Jitter: -1, Limit: 6})
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
	if want := []time.Duration{1e9, 2e9, 4e9, 5e9, 5e9}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b.Reset()
	if wait, err := b.Died(now); wait != time.Second || err != nil || b.Deaths() != 1 {
		t.Errorf("after Reset: %v, %v, %d deaths", wait, err, b.Deaths())
	}
}

func TestBackoffForgetsOldDeaths(t *testing.T) {
	b := NewBackoff(BackoffOptions{Initial: time.Second, Jitter: -1, Limit: 3, Window: time.Minute})
	for i := range 50 {
		wait, err := b.Died(epoch.Add(time.Duration(i) * time.Minute))
		if err != nil || wait != time.Second {
			t.Fatalf("death %d: %v, %v", i, wait, err)
		}
	}
}

func TestBackoffJitterStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jitter := rapid.Float64Range(0.01, 0.9).Draw(t, "jitter")
		random := rapid.Float64Range(0, 0.999999).Draw(t, "random")
		b := NewBackoff(BackoffOptions{Initial: time.Second, Max: 8 * time.Second, Jitter: jitter, Limit: 100, Random: func() float64 { return random }})
		base := time.Second
		for range 6 {
			wait, err := b.Died(epoch)
			low, high := float64(base)*(1-jitter), float64(base)*(1+jitter)
			if err != nil || float64(wait) < low-1 || float64(wait) > high+1 {
				t.Fatalf("wait %v, %v; want between %v and %v", wait, err, low, high)
			}
			base = min(2*base, 8*time.Second)
		}
	})
}
