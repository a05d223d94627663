package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"inos/plugins/sdk/wire"
)

// submit hands over a durable job.
func (d *door) submit(t *testing.T, r RunRequest) Job {
	t.Helper()
	j, err := d.client.Submit(t.Context(), r)
	if err != nil || !j.Durable || j.ID == "" {
		t.Fatalf("submit: %+v, %v", j, err)
	}
	return j
}

// ended waits for the end of a job.
func (d *door) ended(t *testing.T, id string) Job {
	t.Helper()
	j, err := d.client.WaitJob(t.Context(), id)
	if err != nil || !j.Over() || j.ID != id {
		t.Fatalf("wait: %+v, %v", j, err)
	}
	return j
}

func TestDurableJobGivesItsResultUntilItIsDiscarded(t *testing.T) {
	for name, input := range map[string][]byte{"empty": nil, "small": []byte("hello"), "large": noise(3 << 20)} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{})
			j := d.submit(t, RunRequest{
				Capability: "test.echo", Params: []string{"mode=slow"}, Input: bytes.NewReader(input), Size: int64(len(input)), Key: "k", Priority: "high",
			})
			if j.Capability != "test.echo" || j.Key != "k" || j.Priority != "high" || j.InBytes != uint64(len(input)) {
				t.Errorf("taken in as %+v", j)
			}
			j = d.ended(t, j.ID)
			if j.State != "success" || j.OutBytes != uint64(len(input)) || j.Expires.IsZero() || j.Error != nil {
				t.Errorf("ended as %+v", j)
			}
			for range 2 { // it stays
				var out bytes.Buffer
				res, err := d.client.Result(t.Context(), j.ID, &out)
				if err != nil || !bytes.Equal(out.Bytes(), input) || res.Status != "success" || res.Cost != 3 || res.Bytes != uint64(len(input)) {
					t.Fatalf("result %+v of %d bytes, %v", res, out.Len(), err)
				}
			}
			if err := d.client.Discard(t.Context(), j.ID); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"result":  second(d.client.Result(t.Context(), j.ID, nil)),
				"discard": d.client.Discard(t.Context(), j.ID),
			} {
				if !errors.Is(err, wire.ErrNotFound) {
					t.Errorf("%s after it was discarded: %v", what, err)
				}
			}
		})
	}
}

func TestDurableJobThatFailsSaysWhy(t *testing.T) {
	d := open(t, Options{})
	for _, capability := range []string{"test.fail", "test.part"} {
		j := d.ended(t, d.submit(t, RunRequest{Capability: capability}).ID)
		if j.State != "failed" || j.Error == nil || j.Error.Message != failure.Message || j.Error.Hint != failure.Hint {
			t.Errorf("%s ended as %+v", capability, j)
		}
		var out bytes.Buffer
		res, err := d.client.Result(t.Context(), j.ID, &out)
		if !errors.Is(err, wire.ErrDataLoss) || res.Status != "failed" || res.Error == nil || res.Error.Message != failure.Message || out.Len() != 0 {
			t.Errorf("%s: result %+v, %q, %v", capability, res, &out, err)
		}
	}
}

func TestKeyNamesADurableJob(t *testing.T) {
	d := open(t, Options{})
	r := RunRequest{Capability: "test.size", Key: "k"}
	first := d.submit(t, r)
	if again := d.submit(t, r); again.ID != first.ID {
		t.Errorf("the same again is job %s, want %s", again.ID, first.ID)
	}
	d.ended(t, first.ID)
	if again := d.submit(t, r); again.ID != first.ID || !again.Over() {
		t.Errorf("after its end it is %+v, want job %s", again, first.ID)
	}
	r.Input, r.Size = strings.NewReader("x"), 1
	if _, err := d.client.Submit(t.Context(), r); !errors.Is(err, wire.ErrAlreadyExists) {
		t.Errorf("another request with that key: %v, want ErrAlreadyExists", err)
	}
}

func TestDurableJobsAreListedOnceBesideOthers(t *testing.T) {
	d := open(t, Options{})
	plain, err := d.client.Run(t.Context(), RunRequest{Capability: "test.size"})
	if err != nil {
		t.Fatal(err)
	}
	kept := d.ended(t, d.submit(t, RunRequest{Capability: "test.size"}).ID)
	running := d.submit(t, RunRequest{Capability: "test.hang"})
	<-d.puppet.hanging
	jobs, err := d.client.Jobs(t.Context(), 10)
	if err != nil || len(jobs.Jobs) != 3 || jobs.Known != 3 {
		t.Fatalf("jobs %+v, %v", jobs, err)
	}
	for n, want := range []struct {
		id, state string
		durable   bool
	}{{running.ID, "running", true}, {kept.ID, "success", true}, {plain.Job, "success", false}} {
		if j := jobs.Jobs[n]; j.ID != want.id || j.State != want.state || j.Durable != want.durable || j.Over() != (want.state == "success") {
			t.Errorf("at %d: %+v, want %+v", n, j, want)
		}
	}
	if j, err := d.client.Job(t.Context(), running.ID); err != nil || j.Module != "test" || j.Instance != 1 || !j.Durable {
		t.Errorf("one that runs is %+v, %v", j, err)
	}
	like, err := d.client.JobsLike(t.Context(), kept.ID, 10)
	if err != nil || len(like.Jobs) != 1 || like.Jobs[0].ID != kept.ID {
		t.Errorf("those that begin with %s: %+v, %v", kept.ID, like, err)
	}
	for what, err := range map[string]error{
		"result":  second(d.client.Result(t.Context(), running.ID, nil)),
		"discard": d.client.Discard(t.Context(), running.ID),
	} {
		if !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("%s of one that runs: %v, want ErrUnavailable", what, err)
		}
	}
	if j, err := d.client.Cancel(t.Context(), running.ID); err != nil || j.State != "canceled" || !j.Over() {
		t.Errorf("canceled it is %+v, %v", j, err)
	}
	if _, err := d.client.Cancel(t.Context(), running.ID); !errors.Is(err, wire.ErrAlreadyExists) {
		t.Errorf("canceled again: %v, want ErrAlreadyExists", err)
	}
	if _, err := d.client.Result(t.Context(), plain.Job, nil); !errors.Is(err, wire.ErrNotFound) || !strings.Contains(err.Error(), "durable") {
		t.Errorf("result of a job that is not durable: %v", err)
	}
}

func TestWaitingForAJobThatSomebodyElseRuns(t *testing.T) {
	d := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	number := make(chan string, 1)
	go func() {
		defer close(gone)
		_, _ = d.client.Run(ctx, RunRequest{Capability: "test.hang", Started: func(id string) { number <- id }})
	}()
	id := <-number
	<-d.puppet.hanging
	ended := make(chan Job, 1)
	go func() { ended <- d.ended(t, id) }()
	cancel()
	if j := <-ended; j.State != "canceled" {
		t.Errorf("it ended as %+v", j)
	}
	<-gone
	if _, err := d.client.WaitJob(t.Context(), "abc"); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	hanging := d.submit(t, RunRequest{Capability: "test.hang"}).ID
	<-d.puppet.hanging
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := d.client.WaitJob(ctx, hanging); !errors.Is(err, context.Canceled) {
		t.Errorf("who no longer waits hears %v", err)
	}
	if _, err := d.client.Cancel(t.Context(), hanging); err != nil {
		t.Error(err)
	}
}

func TestDurableJobIsTakenInWithAllOfItsInputOrNotAtAll(t *testing.T) {
	d := open(t, Options{})
	broken := errors.New("broken")
	for _, size := range []int64{-1, 3 << 20} {
		in := io.MultiReader(bytes.NewReader(noise(1<<20)), iotest.ErrReader(broken))
		if _, err := d.client.Submit(t.Context(), RunRequest{Capability: "test.echo", Input: in, Size: size}); !errors.Is(err, broken) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := d.client.Submit(t.Context(), RunRequest{Capability: "test.size", Input: bytes.NewReader(noise(2 << 20)), Size: -1}); !errors.Is(err, wire.ErrInvalidArgument) {
		t.Errorf("more than it takes: %v", err)
	}
	for capability, want := range map[string]error{"no.such": wire.ErrNotFound, "test.need": wire.ErrInvalidArgument} {
		if _, err := d.client.Submit(t.Context(), RunRequest{Capability: capability}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", capability, err, want)
		}
	}
	if jobs, err := d.client.Jobs(t.Context(), 10); err != nil || jobs.Known != 0 {
		t.Errorf("left are %+v, %v", jobs, err)
	}
}

func TestResultIsDiscardedOnceTheClientHasReadIt(t *testing.T) {
	input := noise(2 << 20)
	for name, c := range map[string]struct {
		request RunRequest
		status  int
	}{
		"one that succeeded": {RunRequest{Capability: "test.echo", Input: bytes.NewReader(input), Size: int64(len(input))}, http.StatusOK},
		"one that failed":    {RunRequest{Capability: "test.fail"}, statusOf(failure.Code)},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{})
			j := d.ended(t, d.submit(t, c.request).ID)
			get := func() *http.Response {
				t.Helper()
				resp, err := d.client.http.Get("http://inos/v1/jobs/" + j.ID + "/result?discard=true")
				if err != nil || resp.StatusCode != c.status || resp.Header.Get(headerStatus) != j.State {
					t.Fatalf("%v, %v", resp, err)
				}
				return resp
			}
			if c.status == http.StatusOK {
				resp := get()
				if _, err := io.CopyN(io.Discard, resp.Body, 10); err != nil {
					t.Fatal(err)
				}
				resp.Body.Close() // and with it the connection: there was more to read
			}
			resp := get()
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || c.status == http.StatusOK && (!bytes.Equal(body, input) || resp.Trailer.Get(headerDiscarded) != "true") {
				t.Errorf("read %d bytes, %v, trailer %v", len(body), err, resp.Trailer)
			}
			if _, err := d.client.Result(t.Context(), j.ID, nil); !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("after it was read whole: %v, want ErrNotFound", err)
			}
		})
	}
}

func TestDamagedResultIsNotTakenForWhole(t *testing.T) {
	d := open(t, Options{})
	input := noise(3 << 20)
	j := d.ended(t, d.submit(t, RunRequest{Capability: "test.echo", Input: bytes.NewReader(input), Size: int64(len(input))}).ID)
	damaged := 0
	err := filepath.WalkDir(d.journalDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.Contains(path, "spool") {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		damaged++
		_, err = f.WriteAt([]byte("x"), 1<<20)
		return err
	})
	if err != nil || damaged == 0 {
		t.Fatalf("damaged %d files, %v", damaged, err)
	}
	var out bytes.Buffer
	if res, err := d.client.Result(t.Context(), j.ID, &out); !errors.Is(err, wire.ErrInternal) && !errors.Is(err, wire.ErrDataLoss) {
		t.Errorf("result %+v of %d bytes, %v", res, out.Len(), err)
	}
}

func TestSubmitThatBreaksOffIsInDoubt(t *testing.T) {
	d := open(t, Options{})
	r, w := io.Pipe()
	defer w.Close()
	done := make(chan error, 1)
	go func() {
		_, err := d.client.Submit(t.Context(), RunRequest{Capability: "test.echo", Input: r, Size: -1, Key: "k"})
		done <- err
	}()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	d.server.http.Close() // the node dies
	if err := <-done; !errors.Is(err, wire.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "same key") {
		t.Errorf("error %v, want ErrOutcomeUnknown and what to do", err)
	}
}

func TestWaitingForAJobEndsWithTheNode(t *testing.T) {
	d := open(t, Options{})
	id := d.submit(t, RunRequest{Capability: "test.hang"}).ID
	<-d.puppet.hanging
	waited := make(chan error, 1)
	go func() { _, err := d.client.WaitJob(t.Context(), id); waited <- err }()
	for len(d.server.classes.waits.places) == 0 {
		runtime.Gosched()
	}
	if err := d.server.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-waited; !errors.Is(err, wire.ErrUnavailable) && !errors.Is(err, ErrNotRunning) {
		t.Errorf("who waits hears %v", err)
	}
}
