package journal

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
)

// enable sets what a failpoint does until the function returned is called, or
// the test ends.
func enable(t *testing.T, point, terms string) (restore func()) {
	t.Helper()
	restore, err := failpoint.Enable(point, terms)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
	return restore
}

// fails demands that an error says which step failed.
func fails(t *testing.T, err error, point string) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), point) {
		t.Errorf("%v, which is not an error of %s", err, point)
	}
}

func TestInputThatCannotBeWrittenIsRefused(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(reply, again)
	j := h.open(dir)
	before := h.submit(j, ask(again, bytesOf(inlineLimit+1)))
	h.expect(j, before.ID, compute.Status_success)
	used := j.Stats().Bytes
	for point, terms := range map[string]string{
		"journal/spool/create": "1*error(x)", "journal/spool/write": "1*torn(5)", "journal/spool/sync": "1*error(x)",
		"journal/spool/folder": "1*error(x)", "journal/commit/before": "1*error(x)", "journal/commit/inside": "1*error(x)",
	} {
		t.Run(strings.ReplaceAll(point, "/", "-"), func(t *testing.T) {
			restore := enable(t, point, terms)
			r := ask(again, bytesOf(inlineLimit+2))
			r.Key = "k"
			_, err := j.Submit(within(t), r)
			fails(t, err, point)
			restore()
			if s := j.Stats(); s.Bytes != used || s.Ended != 1 || s.Err != nil {
				t.Errorf("something is left of it, or the journal does not go on: %+v", s)
			}
			holdsFiles(t, dir, 1)
			r = ask(again, bytesOf(10)) // the key is free
			r.Key = "k"
			id := h.submit(j, r).ID
			h.expect(j, id, compute.Status_success)
			if err := j.Discard(id); err != nil {
				t.Error(err)
			}
		})
	}
	if got := h.result(j, before.ID); len(got) != inlineLimit+1 {
		t.Errorf("the job before has a result of %d bytes", len(got))
	}
}

func TestResultThatCannotBeWrittenEndsItsJobOnly(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	h.attach(func(a *actor, k task) { a.Answer(k.id, bytesOf(len(k.input)*1000)) }, once)
	j := h.open(dir)
	for point, terms := range map[string]string{
		"journal/spool/create": "1*error(x)", "journal/spool/write": "1*torn(5)",
		"journal/spool/sync": "1*error(x)", "journal/spool/folder": "1*error(x)",
	} {
		t.Run(strings.ReplaceAll(point, "/", "-"), func(t *testing.T) {
			defer enable(t, point, terms)()
			job := h.expect(j, h.submit(j, ask(once, bytesOf(100))).ID, compute.Status_failed)
			fails(t, job.Outcome.Err, point)
			if got := h.result(j, job.ID); len(got) != 0 {
				t.Errorf("%d bytes of a result that is not whole", len(got))
			}
			holdsFiles(t, dir, 0)
			other := h.expect(j, h.submit(j, ask(once, bytesOf(100))).ID, compute.Status_success)
			if err := errors.Join(j.Discard(job.ID), j.Discard(other.ID)); err != nil {
				t.Error(err)
			}
			if s := j.Stats(); s.Bytes != 0 {
				t.Errorf("something is left: %+v", s)
			}
		})
	}
}

func TestStartThatCannotBeRecordedDoesNotHappen(t *testing.T) {
	h := newTheatre(t)
	played := 0
	h.attach(func(a *actor, k task) { played++; reply(a, k) }, once)
	j := h.open(t.TempDir())
	defer enable(t, "journal/start/before", "3*error(x)")()
	job := h.expect(j, h.submit(j, ask(once, nil)).ID, compute.Status_success)
	h.shut(j)
	if played != 1 || job.Outcome.Err != nil {
		t.Errorf("it was begun %d times: %+v", played, job)
	}
}

func TestEndIsTriedAgainUntilItIsOnDisk(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, once)
	j := h.open(t.TempDir())
	defer enable(t, "journal/end/before", "1*error(x)")()
	h.expect(j, h.submit(j, ask(once, nil)).ID, compute.Status_success)
}

func TestJobThatCannotBeForgottenStays(t *testing.T) {
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(t.TempDir())
	job := h.expect(j, h.submit(j, ask(again, bytesOf(9))).ID, compute.Status_success)
	defer enable(t, "journal/drop/before", "1*error(x)")()
	if err := j.Discard(job.ID); err == nil {
		t.Fatal("it says that it was discarded")
	}
	if got := h.result(j, job.ID); len(got) != 9 {
		t.Errorf("its result is %d bytes", len(got))
	}
	if err := j.Discard(job.ID); err != nil {
		t.Error(err)
	}
}

// TestJournalThatDoesNotKnowWhatIsOnDiskStops: an error after the database has
// moved on.
func TestJournalThatDoesNotKnowWhatIsOnDiskStops(t *testing.T) {
	h, dir := newTheatre(t), t.TempDir()
	a := h.attach(func(*actor, task) {}, once, again)
	j := h.open(dir)
	runs := h.submit(j, ask(once, nil))
	begun(t, j, runs.ID)
	restore := enable(t, "journal/commit/after", "1*error(x)")
	r := ask(again, bytesOf(inlineLimit+1))
	r.Key = "k"
	_, err := j.Submit(within(t), r)
	restore()
	fails(t, err, "journal/commit/after")
	for what, err := range map[string]error{
		"Submit": func() error { _, err := j.Submit(within(t), ask(again, nil)); return err }(),
		"Wait":   func() error { _, err := j.Wait(within(t), runs.ID); return err }(),
		"Cancel": j.Cancel(within(t), runs.ID),
		"Stats":  j.Stats().Err,
	} {
		if !errors.Is(err, wire.ErrUnavailable) || wire.AsError(err).Temporary {
			t.Errorf("%s says %v", what, err)
		}
	}
	h.crash(j)
	a.die()

	h.attach(reply, once, again)
	j = h.open(dir)
	h.expect(j, runs.ID, compute.Status_outcomeUnknown)
	r = ask(again, bytesOf(inlineLimit+1))
	r.Key = "k"
	if job := h.submit(j, r); len(j.List(0)) != 2 { // it was on disk, and whole
		t.Errorf("%+v of %d jobs", job, len(j.List(0)))
	} else {
		h.expect(j, job.ID, compute.Status_success)
	}
}

// fullDir names the folder for a child process that may write files up to a size
// only, which the kernel refuses as it does on a disk that is full.
const fullDir = "INOS_JOURNAL_FULL"

func TestFullDiskRefusesAndGoesOn(t *testing.T) {
	dir := os.Getenv(fullDir)
	if dir == "" {
		rerun(t, "TestFullDiskRefusesAndGoesOn", fullDir+"="+t.TempDir())
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	h := newTheatre(t)
	h.attach(reply, again)
	j := h.open(dir)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	limit(chunk)
	defer limit(was.Cur)
	for name, size := range map[string]int{"file": 2 * chunk, "store": inlineLimit} {
		var ids []uint64
		var err error
		for len(ids) < 1000 && err == nil {
			var job Job
			if job, err = j.Submit(within(t), ask(again, bytesOf(size))); err == nil {
				ids = append(ids, job.ID)
			}
		}
		if !errors.Is(err, wire.ErrResourceExhausted) || wire.AsError(err).Hint == "" || !strings.Contains(err.Error(), "full") {
			t.Fatalf("%s: a full disk says %v", name, err)
		}
		if s := j.Stats(); s.Err != nil {
			t.Fatalf("%s: the journal has stopped: %v", name, s.Err)
		}
		limit(was.Cur)
		for _, id := range append(ids, h.submit(j, ask(again, bytesOf(size))).ID) {
			job, err := j.Wait(within(t), id)
			switch {
			case err != nil:
				t.Fatal(err)
			case job.Outcome.Status != compute.Status_success && !errors.Is(job.Outcome.Err, wire.ErrResourceExhausted):
				t.Errorf("%s: %s: %v", name, job.State, job.Outcome.Err)
			case job.Outcome.Status == compute.Status_success && len(h.result(j, id)) != size:
				t.Errorf("%s: the result of a job is not whole", name)
			}
			if err := j.Discard(id); err != nil {
				t.Error(err)
			}
		}
		if s := j.Stats(); s.Bytes != 0 {
			t.Errorf("%s: something is left: %+v", name, s)
		}
		holdsFiles(t, filepath.Clean(dir), 0)
		limit(chunk)
	}
}
