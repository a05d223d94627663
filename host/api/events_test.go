package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"inos/host/events"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

func newsOf(module string) events.Event { return events.Event{Module: module, Step: events.Flipped} }

func ids(list []Event) (ids []uint64) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestEventsAreListedAsTheyWere(t *testing.T) {
	d := open(t, Options{})
	d.log.Append(events.Event{Module: "test-1", Digest: "d1", Step: events.Admitted})
	d.log.Append(events.Event{
		Module: "test", Version: "1.2.3", Digest: "d1", Instance: 4, Step: events.Tested, Took: 3 * time.Millisecond,
		Err: wire.NewError(base.Code_deadlineExceeded, "wait", "too slow"), Detail: "é",
	})
	d.log.Append(newsOf("other"))
	for _, c := range []struct {
		query EventQuery
		want  []uint64
	}{
		{EventQuery{}, []uint64{1, 2, 3}},
		{EventQuery{Since: 1}, []uint64{2, 3}},
		{EventQuery{Limit: 2}, []uint64{2, 3}},
		{EventQuery{Plugin: "other"}, []uint64{3}},
		{EventQuery{Plugin: "test"}, []uint64{1, 2}}, // the file of the same digest too
		{EventQuery{Plugin: "test", Limit: 1}, []uint64{2}},
		{EventQuery{Since: 99}, []uint64{1, 2, 3}}, // of an earlier life of the node
		{EventQuery{Since: 3}, nil},
	} {
		e, err := d.client.Events(t.Context(), c.query)
		if err != nil || !reflect.DeepEqual(ids(e.Events), c.want) || e.Last != 3 {
			t.Errorf("%+v: %+v, %v; want %v", c.query, e, err, c.want)
		}
	}
	e, _ := d.client.Events(t.Context(), EventQuery{Since: 1, Limit: 1, Plugin: "test"})
	got := e.Events[0]
	got.Time = time.Time{}
	want := Event{
		ID: 2, Plugin: "test", Version: "1.2.3", Digest: "d1", Instance: 4, Step: "tested", TookNs: 3e6, Detail: "é",
		Error: &Error{Code: "deadlineExceeded", Message: "too slow", Hint: "wait"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestForgottenEventsAreCounted(t *testing.T) {
	d := open(t, Options{})
	for range 20 { // the log holds 16
		d.log.Append(newsOf("test"))
	}
	d.log.Append(newsOf("other"))
	e, err := d.client.Events(t.Context(), EventQuery{Since: 2, Plugin: "other"})
	if err != nil || len(e.Events) != 1 || e.Events[0].Missed != 3 {
		t.Errorf("%+v, %v; want one event after 3 that were missed", e, err)
	}
	if e, err = d.client.Events(t.Context(), EventQuery{}); err != nil || e.Events[0].Missed != 0 {
		t.Errorf("who knew none missed none: %+v, %v", e, err)
	}
}

func TestWaitingReturnsWithTheNextEventThatIsWanted(t *testing.T) {
	d := open(t, Options{})
	got := make(chan Events)
	go func() {
		e, err := d.client.Events(t.Context(), EventQuery{Plugin: "test", Wait: true})
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	d.log.Append(newsOf("other"))
	d.log.Append(newsOf("test"))
	if e := <-got; len(e.Events) != 1 || e.Events[0].ID != 2 || e.Last != 2 {
		t.Errorf("got %+v", e)
	}
}

func TestFollowerSeesEachEventOnceInOrder(t *testing.T) {
	d := open(t, Options{})
	for n := range 3 {
		d.log.Append(events.Event{Module: "test", Detail: fmt.Sprint(n + 1)})
	}
	enough := errors.New("enough")
	var got []uint64
	err := d.client.Follow(t.Context(), EventQuery{Limit: 2}, func(e Event) error {
		if got = append(got, e.ID); e.ID == 6 {
			return enough
		}
		d.log.Append(newsOf("test"))
		return nil
	})
	if !errors.Is(err, enough) || !reflect.DeepEqual(got, []uint64{2, 3, 4, 5, 6}) {
		t.Errorf("saw %v, %v", got, err)
	}
}

func TestFollowerHearsThatTheNodeStops(t *testing.T) {
	d := open(t, Options{})
	d.log.Append(newsOf("test"))
	closed := make(chan error, 1)
	err := d.client.Follow(t.Context(), EventQuery{}, func(Event) error {
		// It does not wait until the follower has seen enough: that would be never.
		go func() { closed <- d.server.Close(context.Background()) }()
		return nil
	})
	if !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestQueriesForEventsThatMakeNoSense(t *testing.T) {
	d := open(t, Options{})
	for _, query := range []string{"since=x", "since=-1", "limit=0", "limit=x", "follow=1&limit=-1"} {
		resp, err := d.client.http.Get("http://inos/v1/events?" + query)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v, %v", query, resp, err)
		}
		resp.Body.Close()
	}
}
