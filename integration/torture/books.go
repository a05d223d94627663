package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// books hold what was acknowledged and what came of it.
type books struct {
	log    *progress
	ledger string // the file that the victim writes runs into

	mu                   sync.Mutex
	jobs                 uint64 // that had their outcome
	refused              uint64 // that were never taken in, for a known reason
	cut                  uint64 // not durable, and under way when the node was killed
	unknown              uint64 // ended as outcome unknown, rightly
	repeated             uint64 // ended well, and not at the first attempt
	lost, doubled, wrong uint64
	open                 map[uint64]openJob
	runs                 map[string]expected // by key, of jobs that must not run twice
	numbers              map[int]map[uint64]string
	samples              []sample
	swaps                []time.Duration
	orphans              int
	// What was done so far.
	kills, swapped, hostKills, refusals int
}

// openJob is a job on its way.
type openJob struct {
	module string
	since  time.Time
}

// expected is what the ledger may say of a job that must not run twice.
type expected struct{ least, most int }

var (
	ranOnce  = expected{1, 1} // it ended well
	mayHave  = expected{0, 1} // nobody can tell
	neverRan = expected{0, 0} // it was refused
)

// sample is how long a small job took.
type sample struct {
	module string
	span
}

func newBooks(dir string, log *progress) (*books, error) {
	b := &books{
		log: log, ledger: filepath.Join(dir, "ledger"),
		open: make(map[uint64]openJob), runs: make(map[string]expected), numbers: make(map[int]map[uint64]string),
	}
	return b, os.WriteFile(b.ledger, nil, 0o600)
}

// begin notes that a job is about to be asked for.
func (b *books) begin(n uint64, module string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[n] = openJob{module, time.Now()}
}

// end notes that it is over, with an outcome or without.
func (b *books) end(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, n)
}

// oldest returns since when a module's oldest open job is open, false for none.
func (b *books) oldest(module string) (oldest time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range b.open {
		if j.module == module && (!ok || j.since.Before(oldest)) {
			oldest, ok = j.since, true
		}
	}
	return oldest, ok
}

// ended counts an outcome.
func (b *books) ended() { b.add(&b.jobs) }

// add counts.
func (b *books) add(what *uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*what++
}

// find counts what must not be, and says what it was.
func (b *books) find(what *uint64, name, format string, args ...any) {
	b.add(what)
	b.log.find(name+": "+format, args...)
}

func (b *books) isLost(format string, args ...any)    { b.find(&b.lost, "LOST", format, args...) }
func (b *books) isDoubled(format string, args ...any) { b.find(&b.doubled, "DOUBLED", format, args...) }
func (b *books) isWrong(format string, args ...any)   { b.find(&b.wrong, "WRONG", format, args...) }

// expect notes how often the job of a key may have run.
func (b *books) expect(key string, e expected) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs[key] = e
}

// took notes how long a small job took.
func (b *books) took(module string, from time.Time) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.samples = append(b.samples, sample{module, span{from, now}})
}

// number notes the number that a job of tally got in a life of the node: no two may
// get the same.
func (b *books) number(life int, n uint64, key string) {
	b.mu.Lock()
	given := b.numbers[life]
	if given == nil {
		given = make(map[uint64]string)
		b.numbers[life] = given
	}
	other, twice := given[n]
	given[n] = key
	b.mu.Unlock()
	if twice {
		b.isWrong("jobs %s and %s were both given number %d: state was lost in between", other, key, n)
	}
}

// settle compares the ledger with what was acknowledged.
func (b *books) settle() error {
	f, err := os.Open(b.ledger)
	if err != nil {
		return err
	}
	defer f.Close()
	ran := make(map[string]int)
	for s := bufio.NewScanner(f); s.Scan(); {
		ran[s.Text()]++
	}
	for key, n := range ran {
		e, known := b.runs[key]
		switch {
		case !known:
			b.isWrong("job %s ran %d times, and nobody asked for it", key, n)
		case n > e.most:
			b.isDoubled("job %s ran %d times, and at most %d were allowed", key, n, e.most)
		}
	}
	for key, e := range b.runs {
		if ran[key] < e.least {
			b.isWrong("job %s ended well and never ran", key)
		}
	}
	return nil
}

// percentile returns the value that so many of 100 are not above.
func percentile(list []time.Duration, p float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(float64(len(list))*p/100))]
}

// latency returns by how much longer than otherwise small jobs took while versions
// were exchanged, at the 99th percentile.
func (b *books) latency(t *timeline) (during, outside time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	harsh := make(map[string][]span)
	swaps := make(map[string][]span)
	faults := t.spans("", func(fault) bool { return true })
	var in, out []time.Duration
	each := make(map[string][]time.Duration)
	for _, s := range b.samples {
		if harsh[s.module] == nil {
			harsh[s.module] = t.spans("", func(f fault) bool { return f.kind != swapping || !f.clean })
			swaps[s.module] = t.spans(s.module, func(f fault) bool { return f.kind == swapping && f.clean })
		}
		switch took := s.to.Sub(s.from); {
		case !s.touches(faults):
			out = append(out, took)
		case s.touches(swaps[s.module]) && !s.touches(harsh[s.module]):
			in = append(in, took)
			each[s.module] = append(each[s.module], took)
		}
	}
	b.log.say("latency of small jobs: %d in swaps, p50 %s p99 %s; %d outside, p50 %s p99 %s", len(in), percentile(in, 50), percentile(in, 99),
		len(out), percentile(out, 50), percentile(out, 99))
	for _, m := range slices.Sorted(maps.Keys(each)) {
		b.log.say("  of %s in swaps: %d, p50 %s p99 %s", m, len(each[m]), percentile(each[m], 50), percentile(each[m], 99))
	}
	return percentile(in, 99), percentile(out, 99)
}

// verdict is the last line of a campaign.
type verdict struct {
	seed, jobs             uint64
	lost, doubled, wrong   uint64
	leakedBytes, leakedFDs int64
	orphans                int
	swap, added            time.Duration
}

func (v verdict) clean() bool {
	return v.lost == 0 && v.doubled == 0 && v.wrong == 0 && v.leakedBytes == 0 && v.leakedFDs == 0 && v.orphans == 0
}

// String is the line.
func (v verdict) String() string {
	return fmt.Sprintf("torture: seed=%d jobs=%d lost=%d duplicated=%d wrong=%d leaked_bytes=%d leaked_fds=%d orphans=%d swap_p99_ms=%d added_p99_ms=%d",
		v.seed, v.jobs, v.lost, v.doubled, v.wrong, v.leakedBytes, v.leakedFDs, v.orphans, v.swap.Milliseconds(), v.added.Milliseconds())
}
