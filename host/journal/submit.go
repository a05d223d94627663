package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/zeebo/blake3"

	"inos/host/dispatch"
	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

var (
	submitInput = failpoint.New("journal/submit/input")
	submitReply = failpoint.New("journal/submit/reply")
)

// Submit takes a job in. When it returns without an error the job is on disk, with
// its whole input, and will end in one way or another whatever happens to the
// node; it runs in the background. The input is read before Submit returns, and
// Close does not wait for a Reader that gives nothing; ctx is looked at between
// two reads.
//
// A request with the Key of a job that is remembered gives that job, running or
// ended, if it asks for the same: capability, parameters and input. Otherwise it
// is refused as already existing.
//
// ID and Begin of the request are the journal's to fill in. An input that lies in
// an arena, a parent and a chosen instance are refused: none of them outlives the
// node.
func (j *Journal) Submit(ctx context.Context, r dispatch.Request) (Job, error) {
	most, err := j.check(r)
	if err != nil {
		return Job{}, err
	}
	w := j.spool.create(j.newID(), inputSide)
	defer j.abandon(w)
	if err := j.readInput(ctx, w, r, most); err != nil {
		return Job{}, err
	}
	if err := j.enter(); err != nil {
		return Job{}, err
	}
	defer j.tasks.Done()
	defer w.abandon() // while it is a task
	blob, small, err := w.finish()
	if err != nil {
		return Job{}, err
	}
	q := request{accepted: j.opts.Now(), deadline: r.Deadline, input: blob, job: wire.Job{
		ID: w.id, Capability: r.Capability, Params: r.Params, Budget: r.Budget, Priority: r.Priority,
		IdempotencyKey: r.Key, InputBytes: blob.Size, Metadata: r.Metadata,
	}}
	record, err := q.encode()
	if err != nil {
		return Job{}, wire.NewError(base.Code_invalidArgument, "send less in parameters and more as input", "%s: %v", r.Capability, err)
	}
	if err := w.reserve(uint64(len(record))); err != nil {
		return Job{}, err
	}
	e := &entry{job: Job{ID: w.id}, record: uint64(len(record)), accepted: make(chan struct{}), done: make(chan struct{})}
	e.admit(q)
	if first, err := j.claim(ctx, e); err != nil || first.ID != w.id {
		return first, err
	}
	changes := []change{{requests, w.id, record}}
	if small != nil {
		changes = append(changes, change{inputs, w.id, small})
	}
	err = j.store.commit(changes...)
	if err != nil && j.store.failed.Load() == nil {
		return Job{}, j.disclaim(e, err)
	}
	w.keep() // the record may name it, even when nobody can tell
	if err != nil {
		return Job{}, j.disclaim(e, err)
	}
	if err := submitReply.Hit(); err != nil {
		j.log.Warn("a failpoint cannot take back what is on disk", "error", err)
	}
	return j.acknowledge(e), nil
}

// open says why no job can be taken in, before an input is read for nothing.
func (j *Journal) open(key string) error {
	if err := j.store.failed.Load(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return errClosing
	}
	if key != "" && j.keys[key] != nil {
		return nil // it may not need a place of its own
	}
	return j.crowded()
}

// crowded refuses a job that there is no place for. The caller holds mu.
func (j *Journal) crowded() error {
	if len(j.jobs) < j.opts.MaxJobs {
		return nil
	}
	return wire.NewError(base.Code_resourceExhausted, "fetch or discard results, or wait for jobs to end",
		"the journal holds %d jobs already", len(j.jobs))
}

// check refuses what cannot become a durable job, and returns the bound of its
// input in bytes.
func (j *Journal) check(r dispatch.Request) (most uint64, err error) {
	if err := j.open(r.Key); err != nil {
		return 0, err
	}
	if !r.Input.Ref.IsZero() || r.Parent != nil || r.Instance != 0 {
		return 0, wire.NewError(base.Code_notSupported, "submit it as an operator does, with its input as bytes",
			"%s: a durable job outlives the node, and a block, a calling job or an instance does not", r.Capability)
	}
	spec, served := j.capability(r.Capability)
	if !served {
		return 0, wire.NewError(base.Code_notFound, "see inos capability list", "no plugin serves %q", r.Capability)
	}
	if _, err := wire.CheckParams(spec.Params, r.Params); err != nil {
		return 0, wire.NewError(base.Code_invalidArgument, "see inos capability list", "%s: %v", r.Capability, err)
	}
	if !r.Deadline.IsZero() && !j.opts.Now().Before(r.Deadline) {
		return 0, wire.NewError(base.Code_deadlineExceeded, "give a deadline in the future", "%s: the deadline has passed", r.Capability)
	}
	return cmp.Or(spec.MaxInput, math.MaxInt64), nil
}

// capability finds what is served under a name.
func (j *Journal) capability(name string) (dispatch.Capability, bool) {
	list := j.engine.Capabilities()
	i := slices.IndexFunc(list, func(c dispatch.Capability) bool { return c.Name == name })
	if i < 0 {
		return dispatch.Capability{}, false
	}
	return list[i], true
}

// newID returns a number that no remembered job has: those of an earlier life of
// the node may come up again.
func (j *Journal) newID() uint64 {
	for {
		id := j.engine.NewID()
		j.mu.Lock()
		_, taken := j.jobs[id]
		j.mu.Unlock()
		if !taken {
			return id
		}
	}
}

// digest says what a job is asked to do, as far as its outcome depends on it.
func digest(q wire.Job, in blob) (d [32]byte) {
	h := blake3.New()
	part := func(b []byte) {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b)))) // never fails
		_, _ = h.Write(b)
	}
	part([]byte(q.Capability))
	for _, p := range slices.SortedFunc(slices.Values(q.Params), func(a, b wire.Param) int { return cmp.Compare(a.Name, b.Name) }) {
		part([]byte(p.Name))
		part(fmt.Appendf(nil, "%T %v", p.Value, p.Value))
	}
	part(binary.LittleEndian.AppendUint64(nil, in.Size))
	part(in.Sum[:])
	h.Sum(d[:0])
	return d
}

// claim gives e its number and its key, or returns the job that had the key
// before and asks for the same. It waits for one that is being accepted.
func (j *Journal) claim(ctx context.Context, e *entry) (Job, error) {
	for {
		j.mu.Lock()
		other := j.keys[e.job.Key]
		if e.job.Key == "" || other == nil {
			defer j.mu.Unlock()
			if err := j.crowded(); err != nil {
				return Job{}, err
			}
			j.jobs[e.job.ID] = e
			if e.job.Key != "" {
				j.keys[e.job.Key] = e
			}
			return e.job, nil
		}
		j.mu.Unlock()
		select {
		case <-other.accepted:
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		}
		j.mu.Lock()
		job, refused := other.job, other.refused
		j.mu.Unlock()
		switch {
		case refused != nil: // it has given the key back
		case other.asked != e.asked:
			return Job{}, wire.NewError(base.Code_alreadyExists, "use another key for another request",
				"durable job %x has the key %q and asks for something else", job.ID, job.Key)
		default:
			return job, nil
		}
	}
}

// disclaim takes back what claim gave, since e could not be accepted.
func (j *Journal) disclaim(e *entry, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forget(e)
	e.refused = err
	close(e.accepted)
	return err
}

// forget takes e out of the index. The caller holds mu.
func (j *Journal) forget(e *entry) {
	j.disarm(e)
	delete(j.jobs, e.job.ID)
	if k := e.job.Key; k != "" && j.keys[k] == e {
		delete(j.keys, k)
	}
}

// acknowledge lets e take its turn.
func (j *Journal) acknowledge(e *entry) Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(e.accepted)
	e.phase = waiting
	j.feed(j.enqueue(e))
	return e.job
}

// due is when a waiting job has waited for too long.
func (e *entry) due(patience time.Duration) time.Time {
	if e.job.Deadline.IsZero() {
		return e.job.Accepted.Add(patience)
	}
	return e.job.Deadline
}
