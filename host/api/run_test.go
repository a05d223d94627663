package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// noise is n bytes that differ from piece to piece.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// unknown hides how long a reader is, and gives it in small portions.
type unknown struct{ io.Reader }

func (u unknown) Read(p []byte) (int, error) { return u.Reader.Read(p[:min(len(p), 10_000)]) }

func TestStreamComesBackWhole(t *testing.T) {
	d := open(t, Options{})
	for _, size := range []int{0, 1, 100_000, 9 << 20} { // the last is larger than the arena
		for _, known := range []bool{true, false} {
			in, said := io.Reader(bytes.NewReader(noise(size))), int64(size)
			if !known {
				in, said = unknown{in}, -1
			}
			var out bytes.Buffer
			var started string
			res, err := d.client.Run(t.Context(), RunRequest{
				Capability: "test.echo", Params: []string{"mode=slow", "n=7"}, Input: in, Size: said, Output: &out,
				Started: func(id string) { started = id },
			})
			if err != nil {
				t.Fatalf("%d bytes, known %v: %v", size, known, err)
			}
			if !bytes.Equal(out.Bytes(), noise(size)) {
				t.Fatalf("%d bytes, known %v: %d others came back", size, known, out.Len())
			}
			if res.Status != "success" || res.Job == "" || res.Job != started || res.Attempts != 1 || res.Cost != 3 ||
				res.Bytes != uint64(size) || res.Metrics.InputBytes != uint64(size) || res.Metrics.OutputBytes != uint64(size) || res.Error != nil {
				t.Errorf("%d bytes, known %v: %+v, started %q", size, known, res, started)
			}
			j, err := d.client.Job(t.Context(), res.Job)
			if err != nil || j.State != "success" || j.Capability != "test.echo" || j.InBytes != uint64(size) {
				t.Errorf("the node remembers %+v, %v", j, err)
			}
		}
	}
}

func TestWholeInputLiesInOneBlock(t *testing.T) {
	d := open(t, Options{})
	for _, size := range []int{0, 5, 700_000} {
		for _, said := range []int64{int64(size), -1} {
			var out bytes.Buffer
			if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.size", Input: bytes.NewReader(noise(size)), Size: said, Output: &out}); err != nil {
				t.Fatalf("%d bytes, said %d: %v", size, said, err)
			}
			want := []byte{byte(size), byte(size >> 8), byte(size >> 16)}
			if size == 0 {
				want = nil
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%d bytes, said %d: the job saw %v", size, said, out.Bytes())
			}
		}
	}
}

func TestRefusedJobsSayWhy(t *testing.T) {
	d := open(t, Options{})
	for _, c := range []struct {
		name string
		r    RunRequest
		want error
		text string
	}{
		{"unknown capability", RunRequest{Capability: "test.none"}, wire.ErrNotFound, "test.echo"},
		{"no capability", RunRequest{}, wire.ErrInvalidArgument, "names no capability"},
		{"unknown parameter", RunRequest{Capability: "test.echo", Params: []string{"speed=1"}}, wire.ErrInvalidArgument, "mode=TEXT"},
		{"not among the choices", RunRequest{Capability: "test.echo", Params: []string{"mode=odd"}}, wire.ErrInvalidArgument, "slow"},
		{"missing parameter", RunRequest{Capability: "test.need"}, wire.ErrInvalidArgument, "x"},
		{"bad number", RunRequest{Capability: "test.need", Params: []string{"x=y"}}, wire.ErrInvalidArgument, "whole number"},
		{"bad priority", RunRequest{Capability: "test.echo", Priority: "urgent"}, wire.ErrInvalidArgument, "emergency"},
		{"budget below the base price", RunRequest{Capability: "test.echo", Budget: 2}, wire.ErrBudgetExceeded, "micro-credits"},
		{"input beyond the bound", RunRequest{Capability: "test.size", Input: bytes.NewReader(noise(1<<20 + 1)), Size: 1<<20 + 1}, wire.ErrInvalidArgument, "1048576"},
		{"input of unknown length beyond the bound", RunRequest{Capability: "test.size", Input: bytes.NewReader(noise(2 << 20)), Size: -1}, wire.ErrInvalidArgument, "1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := d.client.Run(t.Context(), c.r)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want %v and %q in it", err, c.want, c.text)
			}
			if res.Job != "" || res.Status != "rejected" || res.Error == nil {
				t.Errorf("result %+v of a job that was never taken in", res)
			}
		})
	}
}

func TestRefusedInputIsNotRead(t *testing.T) {
	d := open(t, Options{})
	in := &counter{Reader: bytes.NewReader(noise(1 << 20))}
	if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.none", Input: in, Size: 1 << 20}); !errors.Is(err, wire.ErrNotFound) {
		t.Fatal(err)
	}
	if in.n > 0 {
		t.Errorf("%d bytes of the input of a job that nobody serves were read", in.n)
	}
}

type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func TestFailureBeforeOutputIsAStatus(t *testing.T) {
	d := open(t, Options{})
	res, err := d.client.Run(t.Context(), RunRequest{Capability: "test.fail"})
	expectFailure(t, res, err)
	resp, err := d.client.http.Post("http://inos/v1/jobs?capability=test.fail", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusInternalServerError || resp.Header.Get(headerStatus) != "failed" || resp.Header.Get(headerJob) == "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
}

func TestFailureAfterOutputIsInTheTrailers(t *testing.T) {
	d := open(t, Options{})
	var out bytes.Buffer
	res, err := d.client.Run(t.Context(), RunRequest{Capability: "test.part", Output: &out})
	expectFailure(t, res, err)
	if out.String() != "the first part" || res.Bytes != uint64(out.Len()) {
		t.Errorf("output %q, result %+v", out.String(), res)
	}
}

// A job that fails after a little of its input must not break the client that
// still sends.
func TestFailureAmidInputReachesTheSender(t *testing.T) {
	d := open(t, Options{})
	for _, size := range []int64{-1, 64 << 20} {
		res, err := d.client.Run(t.Context(), RunRequest{Capability: "test.early", Input: io.LimitReader(zeros{}, 64<<20), Size: size})
		expectFailure(t, res, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func expectFailure(t *testing.T, res RunResult, err error) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != base.Code_dataLoss || e.Message != failure.Message || e.Hint != failure.Hint {
		t.Fatalf("error %#v, want %#v", err, failure)
	}
	if res.Status != "failed" || res.Job == "" || res.Error == nil || res.Cost != 3 {
		t.Errorf("result %+v", res)
	}
}

func TestDeadlineEndsAJob(t *testing.T) {
	d := open(t, Options{})
	res, err := d.client.Run(t.Context(), RunRequest{Capability: "test.hang", Deadline: 30 * time.Millisecond})
	if !errors.Is(err, wire.ErrDeadlineExceeded) || res.Status != "timeout" {
		t.Errorf("%+v, %v; want a timeout", res, err)
	}
	<-d.puppet.hanging
}

func TestDeadlineCoversAnInputThatDoesNotCome(t *testing.T) {
	d := open(t, Options{})
	r, w := io.Pipe()
	defer w.Close()
	_, err := d.client.Run(t.Context(), RunRequest{Capability: "test.echo", Input: r, Size: -1, Deadline: 30 * time.Millisecond})
	if !errors.Is(err, wire.ErrDeadlineExceeded) {
		t.Errorf("error %v, want ErrDeadlineExceeded", err)
	}
}

func TestSilentClientLosesItsJob(t *testing.T) {
	d := open(t, Options{Stall: 30 * time.Millisecond})
	r, w := io.Pipe()
	defer w.Close()
	if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.echo", Input: r, Size: -1}); err == nil {
		t.Error("a client that sent nothing got a result")
	}
	// One that sent everything may wait as long as its job takes.
	done := make(chan error, 1)
	go func() {
		_, err := d.client.Run(t.Context(), RunRequest{Capability: "test.hang", Deadline: 200 * time.Millisecond})
		done <- err
	}()
	if err := <-done; !errors.Is(err, wire.ErrDeadlineExceeded) {
		t.Errorf("error %v, want ErrDeadlineExceeded", err)
	}
}

func TestClientThatGoesAwayCancelsItsJob(t *testing.T) {
	d := open(t, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	ended := make(chan error, 1)
	go func() {
		_, err := d.client.Run(ctx, RunRequest{Capability: "test.hang"})
		ended <- err
	}()
	id := <-d.puppet.hanging
	job := d.engine.Find(id)
	cancel(gone)
	if err := <-ended; !errors.Is(err, gone) {
		t.Errorf("error %v, want the cause of the end", err)
	}
	o, err := job.Wait(t.Context())
	if err != nil || o.Err == nil || o.Err.Code != base.Code_canceled {
		t.Errorf("outcome %+v, %v; want it canceled", o, err)
	}
}

// While nobody reads the input, nothing on the way of reading it can notice.
func TestClientThatGoesAwayIsMissedThoughNobodyReads(t *testing.T) {
	d := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.client.Run(ctx, RunRequest{Capability: "test.hang", Input: zeros{}, Size: -1})
		ended <- err
	}()
	job := d.engine.Find(<-d.puppet.hanging)
	window := wire.StreamWindow * wire.PieceBytes(d.segment.Commons().Size())
	for job.Info().InBytes < window { // after that, nothing is read
		runtime.Gosched()
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	o, err := job.Wait(t.Context())
	if err != nil || o.Err == nil || o.Err.Code != base.Code_canceled {
		t.Errorf("outcome %+v, %v; want it canceled", o, err)
	}
}

func TestInputThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	d := open(t, Options{})
	broken := errors.New("disk on fire")
	for _, c := range []struct {
		name string
		in   io.Reader
		size int64
		text string
	}{
		{"cannot be read", io.MultiReader(bytes.NewReader(noise(100_000)), failing{broken}), -1, "disk on fire"},
		{"cannot be read, known length", io.MultiReader(bytes.NewReader(noise(100_000)), failing{broken}), 200_000, "disk on fire"},
		{"shorter than said", bytes.NewReader(noise(100_000)), 200_000, "after 100000 of 200000"},
	} {
		for _, capability := range []string{"test.echo", "test.size"} {
			t.Run(c.name+", "+capability, func(t *testing.T) {
				if s, ok := c.in.(io.Seeker); ok {
					_, _ = s.Seek(0, io.SeekStart)
				} else {
					c.in = io.MultiReader(bytes.NewReader(noise(100_000)), failing{broken})
				}
				_, err := d.client.Run(t.Context(), RunRequest{Capability: capability, Input: c.in, Size: c.size})
				if err == nil || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %v, want %q in it", err, c.text)
				}
			})
		}
	}
	jobs, err := d.client.Jobs(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs.Jobs {
		if j.State == "success" {
			t.Errorf("a job succeeded on a part of its input: %+v", j)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestOutputThatCannotBeWrittenIsTheClientsError(t *testing.T) {
	d := open(t, Options{})
	full := errors.New("disk full")
	_, err := d.client.Run(t.Context(), RunRequest{Capability: "test.echo", Input: bytes.NewReader(noise(9 << 20)), Size: 9 << 20, Output: refusing{full}})
	if !errors.Is(err, full) {
		t.Errorf("error %v, want the writer's", err)
	}
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

func TestSecondJobWithAKeyIsRefused(t *testing.T) {
	d := open(t, Options{})
	ended := make(chan error, 1)
	go func() {
		_, err := d.client.Run(t.Context(), RunRequest{Capability: "test.hang", Key: "k", Priority: "high"})
		ended <- err
	}()
	id := jobID(<-d.puppet.hanging)
	if _, err := d.client.Run(t.Context(), RunRequest{Capability: "test.hang", Key: "k"}); !errors.Is(err, wire.ErrAlreadyExists) {
		t.Errorf("error %v, want ErrAlreadyExists", err)
	}
	if j, err := d.client.Job(t.Context(), id); err != nil || j.State != "running" || j.Priority != "high" || j.Instance != 1 {
		t.Errorf("the first is %+v, %v", j, err)
	}
	if j, err := d.client.Cancel(t.Context(), id); err != nil || j.State != "canceled" {
		t.Errorf("canceled, it is %+v, %v", j, err)
	}
	if err := <-ended; !errors.Is(err, wire.ErrCanceled) {
		t.Errorf("its caller heard %v, want ErrCanceled", err)
	}
}

func TestHeaderTextSurvives(t *testing.T) {
	long := strings.Repeat("é", 3000)
	e := newError(wire.NewError(base.Code_internal, long, "%s", long)).short()
	text := inHeader(e)
	if len(text) > 16<<10 || strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		t.Errorf("%d bytes, or not printable ASCII: %.80q", len(text), text)
	}
	var res RunResult
	res.outcome(http.Header{headerError: {text}}, "x")
	if !strings.HasPrefix(res.Error.Message, "éé") || strings.ContainsRune(res.Error.Message, '\uFFFD') || res.Status != "x" {
		t.Errorf("%+v", res)
	}
}
