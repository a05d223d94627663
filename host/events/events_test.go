package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSinceGivesWhatIsRememberedInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 20).Draw(t, "limit")
		count := rapid.IntRange(0, 60).Draw(t, "count")
		from := rapid.Uint64Range(0, 70).Draw(t, "from")
		at := time.Unix(0, 0)
		l := New(Options{Limit: limit, Now: func() time.Time { at = at.Add(time.Second); return at }})
		for i := range count {
			if e := l.Append(Event{Detail: fmt.Sprint(i + 1)}); e.ID != uint64(i+1) || !e.Time.Equal(time.Unix(int64(i+1), 0)) {
				t.Fatalf("event %d became %+v", i+1, e)
			}
		}
		list, last := l.Since(from)
		if last != uint64(count) {
			t.Fatalf("last %d of %d", last, count)
		}
		first := max(int(from)+1, count-limit+1, 1)
		if len(list) != max(0, count-first+1) {
			t.Fatalf("%d events from %d of %d, limit %d", len(list), from, count, limit)
		}
		for i, e := range list {
			if e.ID != uint64(first+i) || e.Detail != fmt.Sprint(first+i) {
				t.Fatalf("at %d: %+v, want event %d", i, e, first+i)
			}
		}
	})
}

func TestWaitReturnsWithTheNextEvent(t *testing.T) {
	l := New(Options{})
	got := make(chan []Event)
	go func() {
		list, _ := l.Wait(context.Background(), 0)
		got <- list
	}()
	l.Append(Event{Step: Flipped})
	if list := <-got; len(list) != 1 || list[0].Step != Flipped {
		t.Errorf("got %+v", list)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	if _, err := l.Wait(ctx, 1); !errors.Is(err, why) {
		t.Errorf("wait ended with %v", err)
	}
}
