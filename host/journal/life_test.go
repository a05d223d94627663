package journal

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

func TestOneJournalPerFolder(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	j := h.open(dir)
	if _, err := Open(dir, Options{Engine: h.engine}); !errors.Is(err, wire.ErrUnavailable) || wire.AsError(err).Hint == "" {
		t.Errorf("a second one: %v", err)
	}
	h.shut(j)
	var opened atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			j, err := Open(dir, Options{Engine: h.engine})
			if err != nil {
				if !errors.Is(err, wire.ErrUnavailable) {
					t.Error(err)
				}
				return
			}
			if opened.Add(1) > 1 {
				t.Error("two are open at a time")
			}
			opened.Add(-1)
			h.shut(j)
		})
	}
	all.Wait()
}

// TestCloseAndOpenRace closes a journal under callers that use it, while the
// next one opens, several times. What was acknowledged is there in the end.
func TestCloseAndOpenRace(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(reply, again)
	var mu sync.Mutex
	acknowledged := map[uint64]bool{}
	for range 5 {
		j, err := Open(dir, Options{Engine: h.engine})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for n := 0; ; n++ {
					job, err := j.Submit(within(t), ask(again, bytesOf(n%2*inlineLimit+i)))
					if err != nil {
						if !errors.Is(err, wire.ErrUnavailable) {
							t.Error(err)
						}
						return
					}
					mu.Lock()
					acknowledged[job.ID] = true
					mu.Unlock()
					if n == 0 {
						_, _ = j.Wait(within(t), job.ID)
					}
					if n%3 == 0 {
						if r, _, err := j.Result(job.ID); err == nil {
							_ = r.Close()
						}
						mu.Lock()
						if j.Discard(job.ID) == nil {
							delete(acknowledged, job.ID)
						}
						mu.Unlock()
					}
				}
			})
		}
		var closing sync.WaitGroup
		for range 2 {
			closing.Go(func() { h.shut(j) })
		}
		next, err := Open(dir, Options{Engine: h.engine})
		if err == nil {
			h.shut(next)
		} else if !errors.Is(err, wire.ErrUnavailable) {
			t.Error(err)
		}
		closing.Wait()
		all.Wait()
		if _, _, err := j.Result(1); !errors.Is(err, wire.ErrNotFound) {
			t.Error(err)
		}
	}
	j := h.open(dir)
	for id := range acknowledged {
		h.expect(j, id, compute.Status_success)
		if err := j.Discard(id); err != nil {
			t.Error(err)
		}
	}
	for _, job := range j.List(0) { // refused by the end of the journal, yet on disk
		t.Errorf("%+v was not acknowledged", job)
	}
	holdsFiles(t, dir, 0)
}

func TestClosedJournalSaysSo(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir())
	id := h.submit(j, ask(again, bytesOf(5))).ID
	h.expect(j, id, compute.Status_success)
	h.shut(j)
	_, _, result := j.Result(id)
	_, submit := j.Submit(within(t), ask(again, nil))
	for what, err := range map[string]error{"Result": result, "Submit": submit, "Discard": j.Discard(id)} {
		if !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCloseDoesNotWaitForAnInput(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(reply, again)
	j := h.open(dir)
	from, to := io.Pipe()
	refused := make(chan error, 1)
	go func() {
		_, err := j.Submit(context.Background(), dispatch.Request{Capability: again.Name, Input: dispatch.Input{Reader: from, Size: -1}})
		refused <- err
	}()
	if _, err := to.Write(bytesOf(chunk + 1)); err != nil {
		t.Fatal(err)
	}
	h.shut(j)
	_ = to.Close()
	if err := <-refused; !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("it was not refused: %v", err)
	}
	h.open(dir)
	holdsFiles(t, dir, 0)
}

func TestSubmitEndsWithItsContext(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(reply, again)
	j := h.open(dir)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := j.Submit(ctx, ask(again, bytesOf(2*chunk))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	holdsFiles(t, dir, 0)
}

// TestJobsThatHaveGoneLeaveNothingInMemory: neither in the lane that they stood
// in nor among the alarms, however far away those were.
func TestJobsThatHaveGoneLeaveNothingInMemory(t *testing.T) {
	h := newTheatre(t)
	a := h.attach(func(*actor, task) {}, once)
	j := h.open(t.TempDir(), func(o *Options) { o.Parallel = 1 })
	held := h.submit(j, ask(once, nil))
	begun(t, j, held.ID)
	for i := range 50 {
		r := ask(once, nil)
		r.Priority, r.Key = compute.Priority(i%5), "k"
		if i%2 == 0 {
			r.Deadline = time.Now().Add(time.Duration(100-i) * time.Hour)
		}
		id := h.submit(j, r).ID
		if err := errors.Join(j.Cancel(within(t), id), j.Discard(id)); err != nil {
			t.Fatal(err)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.jobs) != 1 || len(j.keys) != 0 || len(j.alarms) > 1 || len(j.lanes) != 1 || j.lanes[once.Name].waiting.Len() != 0 {
		t.Errorf("%d jobs, %d keys, %d alarms, %d lanes", len(j.jobs), len(j.keys), len(j.alarms), len(j.lanes))
	}
	go a.die()
}

func TestResultIsNotCalledDamagedWhenItIsDiscarded(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir())
	for i := range 20 {
		id := h.submit(j, ask(again, bytesOf(1+i%2*inlineLimit))).ID
		h.expect(j, id, compute.Status_success)
		var reading sync.WaitGroup
		for range 2 {
			reading.Go(func() {
				for {
					r, _, err := j.Result(id)
					if err != nil {
						if !errors.Is(err, wire.ErrNotFound) {
							t.Error(err)
						}
						return
					}
					if _, err := io.ReadAll(r); err != nil {
						t.Error(err)
					}
					_ = r.Close()
				}
			})
		}
		if err := j.Discard(id); err != nil {
			t.Error(err)
		}
		reading.Wait()
	}
}

func TestFormatOfAnotherBuildIsNotCalledDamaged(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.shut(h.open(dir))
	tamper(t, dir, func(tx *bolt.Tx) error { return tx.Bucket([]byte(about)).Put(formatKey, []byte("inos journal 2")) })
	for range 2 { // the first leaves it as it was, and lets it go
		if _, err := Open(dir, Options{Engine: h.engine}); !errors.Is(err, wire.ErrNotSupported) {
			t.Error(err)
		}
	}
}

func TestFullJournalReadsNoInput(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir(), func(o *Options) { o.MaxJobs = 1 })
	r := ask(again, []byte("x"))
	r.Key = "k"
	first := h.submit(j, r)
	in := strings.NewReader("never read")
	if _, err := j.Submit(within(t), dispatch.Request{Capability: again.Name, Input: dispatch.Input{Reader: in, Size: -1}}); !errors.Is(err, wire.ErrResourceExhausted) || in.Len() != 10 {
		t.Errorf("%v, %d bytes are left", err, in.Len())
	}
	r.Input.Reader = strings.NewReader("x")
	if job := h.submit(j, r); job.ID != first.ID {
		t.Error("the key is not known any more")
	}
}

func TestRequestsCountAsBytes(t *testing.T) {
	h := newTheatre(t)
	long := again
	long.Name = "test.long"
	h.attach(reply, again)
	j := h.open(t.TempDir(), func(o *Options) { o.MaxBytes = 2000 })
	r := ask(again, nil)
	r.Metadata.UserID = string(make([]byte, 100))
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = j.Submit(within(t), r)
	}
	if !errors.Is(err, wire.ErrResourceExhausted) {
		t.Errorf("%d jobs without input: %v", n, err)
	}
}

func TestFolderIsMadeWithAllAboveIt(t *testing.T) {
	h := newTheatre(t)
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	h.open(dir)
	if _, err := os.Stat(filepath.Join(dir, "journal.db")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "file", "x"), Options{Engine: h.engine}); err == nil {
		t.Error("a folder was made in a file")
	}
}
