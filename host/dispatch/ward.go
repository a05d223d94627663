package dispatch

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/blake3"

	"inos/plugins/sdk/wire"
)

// The ward finds the job that ends its plugin among those that are innocent. When a
// process dies, every job that ran in it is under suspicion, and suspects then run
// one at a time in a process, beside any number of others. A death while a suspect
// runs is held against it alone. So a job that ends its plugin is the only one that
// collects deaths, and at the third it is quarantined, by what it is and by the
// binary that it ends: the same request is refused then, whoever makes it, and a
// new version of the plugin gets a new chance.

// jobDigest tells jobs apart by what they ask for: capability, parameters, input.
type jobDigest [32]byte

// suspicion names a job and the binary that it is suspected of ending.
type suspicion struct {
	job    jobDigest
	plugin string
}

// record is what is held against a job.
type record struct {
	kind
	kills int
	since time.Time
	cause string
}

// maxRecords bounds the jobs that are remembered.
const maxRecords = 1024

// kind is what is cheap to know of a job.
type kind struct {
	plugin, capability string
	input              uint64 // bytes
}

// ward remembers the jobs under suspicion. The zero ward is empty. Its lock is taken
// after unit.mu.
type ward struct {
	count atomic.Int64 // records, for a look without the lock

	mu      sync.Mutex
	records map[suspicion]*record
	kinds   map[kind]int // records of each
}

// Quarantine describes a job that is under suspicion, or not started any more.
type Quarantine struct {
	Capability   string
	JobDigest    string // BLAKE3 of capability, parameters and input, hex
	PluginDigest string // of the binary that it ended, hex
	Kills        int
	Quarantined  bool
	Since        time.Time
	LastCause    string
}

// identify computes the digest of a job. The input of a stream is not kept, so such
// a job has none. The caller holds unit.mu, or nobody else has the job.
func (j *Job) identify() (jobDigest, bool) {
	if j.digest != (jobDigest{}) {
		return j.digest, true
	}
	if !j.in.replayable() {
		return jobDigest{}, false
	}
	h := blake3.New()
	field := func(b []byte) {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(b)))) // a hash takes everything
		_, _ = h.Write(b)
	}
	field([]byte(j.cap.spec.Name))
	params := slices.Clone(j.params)
	slices.SortFunc(params, func(a, b wire.Param) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range params {
		field([]byte(p.Name))
		field([]byte(fmt.Sprintf("%T %v", p.Value, p.Value)))
	}
	if !j.in.first.IsZero() {
		input, err := j.unit.arena.View(j.in.first)
		if err != nil {
			return jobDigest{}, false
		}
		field(input)
	}
	h.Sum(j.digest[:0])
	return j.digest, true
}

// inspect refuses a job that is quarantined before it is taken in.
func (w *ward) inspect(j *Job) error {
	if w.count.Load() == 0 {
		return nil
	}
	if r := w.look(j, j.unit.binary(j)); r.kills >= j.engine.opts.MaxKills {
		return quarantined(r.capability, r.kills, r.cause)
	}
	return nil
}

// look returns what is held against a job of a binary. Nothing is computed unless a
// job of the same kind is known. The caller holds unit.mu, or nobody else has the job.
func (w *ward) look(j *Job, plugin string) record {
	if w.count.Load() == 0 || !w.knows(j.kind(plugin)) {
		return record{}
	}
	digest, ok := j.identify()
	if !ok {
		return record{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.records[suspicion{digest, plugin}]; r != nil {
		return *r
	}
	return record{}
}

func (j *Job) kind(plugin string) kind { return kind{plugin, j.cap.spec.Name, j.inBytes.Load()} }

func (w *ward) knows(k kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kinds[k] > 0
}

// death is the end of one process. However many jobs in flight were the same, it
// counts once for them.
type death struct {
	cause   error
	plugin  string // digest of its binary
	charged map[jobDigest]bool
}

func (d *death) moved() bool { return errors.Is(d.cause, ErrMoved) }

// blame holds a death against a job and returns how many there are now. The caller
// holds unit.mu.
func (w *ward) blame(j *Job, d *death) int {
	digest, ok := j.identify()
	if !ok {
		return j.attempts // its input is not there to be told by, or nobody can run it again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := suspicion{digest, d.plugin}
	r := w.records[s]
	if r == nil {
		r = &record{kind: j.kind(d.plugin)}
		w.add(s, r)
	}
	if !d.charged[digest] {
		d.charged[digest] = true
		r.kills++
		r.since, r.cause = time.Now(), d.cause.Error()
	}
	return r.kills
}

// add takes up a record. The caller holds mu.
func (w *ward) add(s suspicion, r *record) {
	if w.records == nil {
		w.records, w.kinds = make(map[suspicion]*record), make(map[kind]int)
	}
	if len(w.records) >= maxRecords {
		w.forgetOldest()
	}
	w.records[s] = r
	w.kinds[r.kind]++
	w.count.Add(1)
}

// remove drops a record. The caller holds mu.
func (w *ward) remove(s suspicion) {
	r := w.records[s]
	delete(w.records, s)
	if w.kinds[r.kind]--; w.kinds[r.kind] == 0 {
		delete(w.kinds, r.kind)
	}
	w.count.Add(-1)
}

// forgetOldest makes room for another record: of those with the fewest deaths, so
// that many innocents do not drive out the guilty, the oldest goes. The caller holds
// mu.
func (w *ward) forgetOldest() {
	var oldest suspicion
	var least *record
	for s, r := range w.records {
		if least == nil || r.kills < least.kills || r.kills == least.kills && r.since.Before(least.since) {
			oldest, least = s, r
		}
	}
	w.remove(oldest)
}

// clear takes a job off the list that has come to its end in a process of that
// binary. The caller holds unit.mu.
func (w *ward) clear(j *Job, plugin string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := (suspicion{j.digest, plugin}); w.records[s] != nil {
		w.remove(s)
	}
}

// forgive forgets records, and reports whether there were any.
func (w *ward) forgive(which func(suspicion) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := false
	for s := range w.records {
		if which(s) {
			w.remove(s)
			found = true
		}
	}
	return found
}

// Quarantined lists the jobs that are under suspicion or not started any more, the
// last first.
func (e *Engine) Quarantined() []Quarantine {
	w := &e.ward
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Quarantine, 0, len(w.records))
	for s, r := range w.records {
		list = append(list, Quarantine{
			Capability: r.capability, JobDigest: hex.EncodeToString(s.job[:]), PluginDigest: s.plugin,
			Kills: r.kills, Quarantined: r.kills >= e.opts.MaxKills, Since: r.since, LastCause: r.cause,
		})
	}
	slices.SortFunc(list, func(a, b Quarantine) int { return b.Since.Compare(a.Since) })
	return list
}

// Poisons counts the jobs that are not started any more because of a binary.
func (e *Engine) Poisons(plugin string) int {
	n := 0
	for _, q := range e.Quarantined() {
		if q.Quarantined && q.PluginDigest == plugin {
			n++
		}
	}
	return n
}

// Forgive lets a job be started again whose digest begins so. It reports whether
// there was one.
func (e *Engine) Forgive(digest string) bool {
	digest = strings.ToLower(digest)
	return digest != "" && e.ward.forgive(func(s suspicion) bool { return strings.HasPrefix(hex.EncodeToString(s.job[:]), digest) })
}
