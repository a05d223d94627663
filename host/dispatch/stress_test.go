package dispatch

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/shm/arena"
)

// seedVariable accepts back the seed that a failed run has printed. It fixes what
// everybody decides, not who is faster.
const seedVariable = "INOS_SEED"

func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Logf("%s=%d", seedVariable, s)
	return s
}

// sum is what the capabilities of this test compute.
func sum(b []byte) []byte {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum(nil)
}

// TestEngineUnderStress lets many callers submit, cancel and stream, while honest
// plugins answer, call each other and die, and hostile ones do what they can. Every
// job ends once, an honest plugin's answer is right and it is blamed for nothing,
// and in the end the arenas are empty.
func TestEngineUnderStress(t *testing.T) {
	s := seed(t)
	h := open(t, Options{QueueLimit: 64, CancelGrace: time.Minute, MaxOffences: 20})
	w := &world{theatre: h, seed: s, closing: make(chan struct{})}
	modules := []*troupe{
		{name: "near", arena: h.Commons()},
		{name: "far", arena: h.Private("far", 2<<20)},
		{name: "bad", arena: h.Private("bad", 1<<20), hostile: true},
	}
	for _, m := range modules {
		for range 2 {
			w.known.Add(1)
			w.plays.Go(func() { w.keepPlaying(m, sync.OnceFunc(w.known.Done)) })
		}
	}
	w.known.Wait()
	var callers sync.WaitGroup
	jobs := 150
	if testing.Short() {
		jobs = 40
	}
	for n := range 8 {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(s, 1000+uint64(n)))
			for range jobs {
				w.call(rng)
			}
		})
	}
	callers.Wait()
	close(w.closing)
	w.plays.Wait()

	stats := h.engine.Stats()
	var ended uint64
	for _, n := range stats.Ended {
		ended += n
	}
	if ended != stats.Submitted {
		t.Errorf("%d jobs were taken in and %d ended: %+v", stats.Submitted, ended, stats)
	}
	for _, i := range h.engine.Jobs() {
		if i.State == "waiting" || i.State == "running" {
			t.Errorf("left over: %+v", i)
		}
	}
	t.Logf("%d processes, %+v", w.attached.Load(), stats)
}

// world is what callers and players share.
type world struct {
	*theatre
	seed     uint64
	closing  chan struct{}
	plays    sync.WaitGroup
	known    sync.WaitGroup // until every module has been in service
	attached atomic.Uint32
	cast     sync.Mutex // around making links, since a puppet looks for its new one
}

// troupe is a module.
type troupe struct {
	name    string
	arena   *arena.Arena
	hostile bool
}

func (m *troupe) manifest() *wire.Manifest {
	return manifest(m.name, 4,
		wire.Capability{Name: m.name + ".sum", Idempotent: true},
		wire.Capability{Name: m.name + ".stream", Streams: true},
		wire.Capability{Name: m.name + ".relay"})
}

// call submits one job and does with it what callers do.
func (w *world) call(rng *rand.Rand) {
	module := []string{"near", "far", "bad"}[rng.IntN(3)]
	operation := []string{".sum", ".stream", ".relay"}[rng.IntN(3)]
	in := bytesOf(rng.IntN([]int{10, 5000, 600_000}[rng.IntN(3)]))
	r := Request{
		Capability: module + operation, Priority: urgency[rng.IntN(len(urgency))], Input: inputOf(in),
		Deadline: time.Now().Add(time.Duration(1+rng.IntN(400)) * time.Millisecond),
	}
	if rng.IntN(4) == 0 {
		r.Key = strconv.Itoa(rng.IntN(4))
	}
	if rng.IntN(3) == 0 {
		r.Input = unsized(in)
	}
	broken := rng.IntN(10) == 0
	if broken {
		r.Input = Input{Reader: io.MultiReader(bytes.NewReader(in), iotest.ErrReader(errBroken)), Size: -1}
	}
	j, err := w.engine.Submit(context.Background(), r)
	if err != nil {
		if e := (*wire.Error)(nil); !errors.As(err, &e) {
			w.Errorf("refused without a reason to act on: %v", err)
		}
		return
	}
	defer j.Close()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	switch rng.IntN(6) {
	case 0:
		j.Cancel()
	case 1:
		go j.Cancel()
	case 2:
		return // and closes it at once
	}
	var out []byte
	for {
		p, err := j.Next(ctx)
		if err != nil {
			break
		}
		out = append(out, p.Bytes()...)
		p.Release()
	}
	o, err := j.Wait(ctx)
	if err != nil {
		w.Errorf("no outcome: %v: %+v", err, j.Info())
		return
	}
	if o.Status == compute.Status_success && module != "bad" {
		if broken {
			w.Errorf("%s: success with an input that broke", r.Capability)
		}
		if want := sum(in); len(out) < len(want) || !bytes.Equal(out[len(out)-len(want):], want) {
			w.Errorf("%s: %d bytes of output, which end in %x and not %x", r.Capability, len(out), out[max(0, len(out)-8):], want)
		}
	}
}

// keepPlaying has a process of the module in service until the world closes.
func (w *world) keepPlaying(m *troupe, known func()) {
	for {
		w.cast.Lock()
		w.theatre.cast++
		id := w.theatre.cast
		p := w.Puppet(id, m.arena)
		w.cast.Unlock()
		a := newPlayer(w, m, p, rand.New(rand.NewPCG(w.seed, uint64(id))))
		i, err := w.engine.Attach(Attachment{ID: id, Manifest: m.manifest(), Link: p.Link, Arena: m.arena, OnOffence: func(err error) {
			if !m.hostile {
				w.Errorf("honest, and condemned: %v", err)
			}
			a.end.Store(true)
		}})
		if err != nil {
			w.Errorf("attach: %v", err)
			return
		}
		known()
		w.attached.Add(1)
		a.perform(i)
		i.Detach(errKilled)
		a.calls.Wait()
		p.Close()
		select {
		case <-w.closing:
			return
		default:
		}
	}
}
