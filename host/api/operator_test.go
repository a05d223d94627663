package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"inos/host/node"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// operator notes what it is asked to do.
type operator struct {
	mu     sync.Mutex
	asked  []string
	refuse error
	block  chan struct{} // when set, a drain waits for it or for its context
	ended  chan error    // what ended such a drain
	past   []node.Version
}

func (o *operator) do(what ...string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, what...)
	return o.refuse
}

func (o *operator) Swap(_ context.Context, name, version string) error {
	return o.do("swap " + name + " " + version)
}
func (o *operator) Rollback(_ context.Context, name string) error { return o.do("rollback " + name) }
func (o *operator) Pin(_ context.Context, name, version string) error {
	return o.do("pin " + name + " " + version)
}
func (o *operator) Unpin(_ context.Context, name string) error   { return o.do("unpin " + name) }
func (o *operator) Undrain(_ context.Context, name string) error { return o.do("undrain " + name) }
func (o *operator) Drain(ctx context.Context, name string) error {
	if err := o.do("drain " + name); err != nil || o.block == nil {
		return err
	}
	select {
	case <-o.block:
		return nil
	case <-ctx.Done():
		o.ended <- context.Cause(ctx)
		return context.Cause(ctx)
	}
}

func (o *operator) History(name string) ([]node.Version, error) {
	if name != "test" {
		return nil, wire.NewError(base.Code_notFound, "see inos plugin list", "no version of %s has ever served here", name)
	}
	return o.past, nil
}

func TestChangesReachTheNodeAndAnswerWithThePlugin(t *testing.T) {
	d := open(t, Options{})
	ctx, c := t.Context(), d.client
	for _, call := range []struct {
		want string
		do   func() (Plugin, error)
	}{
		{"swap test ", func() (Plugin, error) { return c.Swap(ctx, "test", "") }},
		{"swap test 1.2.3+x y", func() (Plugin, error) { return c.Swap(ctx, "test", "1.2.3+x y") }},
		{"rollback test", func() (Plugin, error) { return c.Rollback(ctx, "test") }},
		{"pin test abcdef", func() (Plugin, error) { return c.Pin(ctx, "test", "abcdef") }},
		{"unpin test", func() (Plugin, error) { return c.Unpin(ctx, "test") }},
		{"drain test", func() (Plugin, error) { return c.Drain(ctx, "test") }},
		{"undrain test", func() (Plugin, error) { return c.Undrain(ctx, "test") }},
	} {
		p, err := call.do()
		if err != nil || p.Name != "test" || p.Phase != "serving" {
			t.Errorf("%s: %+v, %v", call.want, p, err)
		}
		d.operator.mu.Lock()
		if got := d.operator.asked[len(d.operator.asked)-1]; got != call.want {
			t.Errorf("asked %q, want %q", got, call.want)
		}
		d.operator.mu.Unlock()
	}
	d.operator.refuse = wire.NewError(base.Code_unavailable, "mend it", "its self-test failed")
	if _, err := c.Swap(ctx, "test", ""); !errors.Is(err, wire.ErrUnavailable) || err.Error() != d.operator.refuse.Error() {
		t.Errorf("refusal became %v", err)
	}
	resp, err := c.http.Post("http://inos/v1/plugins/test/rollback?version=1", "", nil)
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a version for a change that knows none: %v, %v", resp, err)
	}
	resp.Body.Close()
	if resp, err = c.http.Get("http://inos/v1/plugins/test/swap"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a swap that is only asked about: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestHistoryListsVersions(t *testing.T) {
	d := open(t, Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d.operator.past = []node.Version{
		{Version: "1.2.0", Digest: "ab", File: "test-2", Publisher: "us", Size: 7, Admitted: at, Outcome: "served", Serving: true, Pinned: true, Stored: true},
		{Version: "1.1.0", Outcome: "rolled back", Reason: "it was slow"},
	}
	list, err := d.client.History(t.Context(), "test")
	want := []Version{
		{Version: "1.2.0", Digest: "ab", File: "test-2", Publisher: "us", Size: 7, Admitted: at, Outcome: "served", Serving: true, Pinned: true, Stored: true},
		{Version: "1.1.0", Outcome: "rolled back", Reason: "it was slow"},
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := d.client.History(t.Context(), "none"); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

func TestClientThatGoesAwayStopsAChange(t *testing.T) {
	d := open(t, Options{})
	d.operator.block, d.operator.ended = make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	done := make(chan error, 1)
	go func() { _, err := d.client.Drain(ctx, "test"); done <- err }()
	for asked := false; !asked; {
		d.operator.mu.Lock()
		asked = len(d.operator.asked) > 0
		d.operator.mu.Unlock()
	}
	cancel(enough)
	if err := <-done; !errors.Is(err, enough) {
		t.Errorf("the client says %v", err)
	}
	if err := <-d.operator.ended; err == nil {
		t.Error("the change went on")
	}
}

// However many jobs are held open and however many clients wait, an operator can
// look and act.
func TestEachKindOfRequestsHasPlacesOfItsOwn(t *testing.T) {
	d := open(t, Options{MaxRequests: 1, MaxQueries: 1, MaxChanges: 1, MaxWaits: 1})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 3)
	go func() { _, _ = d.client.Run(ctx, RunRequest{Capability: "test.hang"}); ended <- struct{}{} }()
	<-d.puppet.hanging
	go func() {
		_ = d.client.Follow(ctx, EventQuery{}, func(Event) error { ended <- struct{}{}; return nil })
		ended <- struct{}{}
	}()
	d.log.Append(newsOf("test"))
	<-ended // it follows
	d.operator.block, d.operator.ended = make(chan struct{}), make(chan error, 1)
	go func() { _, _ = d.client.Drain(ctx, "test"); ended <- struct{}{} }()
	for asked := false; !asked; {
		d.operator.mu.Lock()
		asked = len(d.operator.asked) > 0
		d.operator.mu.Unlock()
	}
	for what, err := range map[string]error{
		"a job":    second(d.client.Run(t.Context(), RunRequest{Capability: "test.size"})),
		"a change": second(d.client.Swap(t.Context(), "test", "")),
		"a wait":   second(d.client.Events(t.Context(), EventQuery{Wait: true})),
	} {
		if !errors.Is(err, wire.ErrResourceExhausted) {
			t.Errorf("one too many of %s: %v", what, err)
		}
	}
	if _, err := d.client.Node(t.Context()); err != nil {
		t.Errorf("an operator cannot look: %v", err)
	}
	if _, err := d.client.Undrain(t.Context(), "test"); err != nil {
		t.Errorf("an operator cannot act: %v", err)
	}
	if e, err := d.client.Events(t.Context(), EventQuery{}); err != nil || len(e.Events) != 1 {
		t.Errorf("an operator cannot see events: %+v, %v", e, err)
	}
	stop()
	for range 3 {
		<-ended
	}
}

func second[T any](_ T, err error) error { return err }

func TestForgiveTakesDigestsAlone(t *testing.T) {
	d := open(t, Options{})
	if q, err := d.client.Quarantine(t.Context()); err != nil || q == nil || len(q) != 0 {
		t.Errorf("quarantine %v, %v", q, err)
	}
	for digest, want := range map[string]error{
		"abcde": wire.ErrInvalidArgument, "not hex": wire.ErrInvalidArgument, "../../node": wire.ErrInvalidArgument, "abcdef": wire.ErrNotFound, "ABCDEF12": wire.ErrNotFound,
	} {
		if err := d.client.Forgive(t.Context(), digest); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", digest, err, want)
		}
	}
}

func FuzzSieve(f *testing.F) {
	f.Add("since=1&plugin=x&limit=3&wait=1")
	f.Add("since=-1")
	f.Add("limit=99999999999999999999")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		s, err := newSieve(q)
		if err != nil {
			if !errors.Is(err, wire.ErrInvalidArgument) {
				t.Errorf("%q: %v", query, err)
			}
			return
		}
		if s.limit < 0 || s.plugin != q.Get("plugin") {
			t.Errorf("%q became %+v", query, s)
		}
	})
}
