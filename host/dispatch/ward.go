package dispatch

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
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
	capability string
	input      uint64 // bytes
	kills      int
	since      time.Time
	cause      string
}

// maxRecords bounds the jobs that are remembered; the oldest goes first.
const maxRecords = 1024

// ward remembers the jobs under suspicion. The zero ward is empty.
type ward struct {
	count atomic.Int64 // records, for a look without the lock

	mu      sync.Mutex
	records map[suspicion]*record
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
// a job has none.
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

// inspect refuses a job that is quarantined, and puts one that is under suspicion
// among the suspects. Nothing is computed unless a job of the same capability and
// length is known.
func (w *ward) inspect(j *Job) error {
	if w.count.Load() == 0 || j.only != 0 {
		return nil
	}
	u := j.unit
	u.mu.Lock()
	plugin := u.digest
	u.mu.Unlock()
	if !w.resembles(plugin, j.cap.spec.Name, j.in.size()) {
		return nil
	}
	digest, ok := j.identify()
	if !ok {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[suspicion{digest, plugin}]
	switch {
	case r == nil:
	case r.kills >= j.engine.opts.MaxKills:
		return quarantined(r.capability, r.kills, r.cause)
	default:
		j.suspect = true
	}
	return nil
}

// resembles reports whether a job of that capability and length is known.
func (w *ward) resembles(plugin, capability string, input uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, r := range w.records {
		if s.plugin == plugin && r.capability == capability && r.input == input {
			return true
		}
	}
	return false
}

// death is the end of one process. However many jobs in flight were the same, it
// counts once for them.
type death struct {
	cause   error
	charged map[jobDigest]bool
}

// blame holds a death against a job and returns how many there are now. The caller
// holds unit.mu.
func (w *ward) blame(j *Job, d *death) int {
	digest, ok := j.identify()
	if !ok {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.records == nil {
		w.records = make(map[suspicion]*record)
	}
	s := suspicion{digest, j.unit.digest}
	r := w.records[s]
	if r == nil {
		if len(w.records) >= maxRecords {
			w.forgetOldest()
		}
		r = &record{capability: j.cap.spec.Name, input: j.in.size()}
		w.records[s] = r
		w.count.Add(1)
	}
	if !d.charged[digest] {
		d.charged[digest] = true
		r.kills++
		r.since, r.cause = time.Now(), d.cause.Error()
	}
	return r.kills
}

// forgetOldest makes room for another record. The caller holds mu.
func (w *ward) forgetOldest() {
	var oldest suspicion
	at := time.Unix(math.MaxInt32, 0)
	for s, r := range w.records {
		if r.since.Before(at) {
			oldest, at = s, r.since
		}
	}
	delete(w.records, oldest)
	w.count.Add(-1)
}

// clear takes a job off the list that has ended well.
func (w *ward) clear(j *Job) {
	if digest, ok := j.identified(); ok {
		w.forgive(func(s suspicion) bool { return s.job == digest })
	}
}

// identified returns the digest of a job that somebody had to know.
func (j *Job) identified() (jobDigest, bool) {
	j.unit.mu.Lock()
	defer j.unit.mu.Unlock()
	return j.digest, j.digest != (jobDigest{})
}

// forgive forgets records, and reports whether there were any.
func (w *ward) forgive(which func(suspicion) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	found := false
	for s := range w.records {
		if which(s) {
			delete(w.records, s)
			w.count.Add(-1)
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
