package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

// poison ends the plugin of this test, whoever asks for it.
const poison = "poison"

// ensemble is the processes of a module that end innocent jobs well and that poison
// ends.
type ensemble struct {
	*theatre
	manifest *wire.Manifest
	digest   string
	actors   []*actor
	hands    []map[uint64]string // what each has been given and has not ended
	deaths   int
}

func newEnsemble(h *theatre, processes int, concurrency uint32) *ensemble {
	e := &ensemble{theatre: h, manifest: manifest("test", concurrency, echo), digest: "v1"}
	for range processes {
		e.actors, e.hands = append(e.actors, h.version(e.digest, e.manifest)), append(e.hands, make(map[uint64]string))
	}
	return e
}

// listen has every process take in what it was given, and returns those with work.
func (e *ensemble) listen() (busy []int) {
	for n, a := range e.actors {
		var d ring.Descriptor
		for ok, _ := a.Submissions.Pop(&d); ok; ok, _ = a.Submissions.Pop(&d) {
			if d.Kind == system.DescriptorKind_submit {
				e.hands[n][d.Job] = string(a.Bytes(d.Ref))
			}
		}
		if len(e.hands[n]) > 0 {
			busy = append(busy, n)
		}
	}
	return busy
}

// act has one process end an innocent job, or be ended by the poison it has.
func (e *ensemble) act(n int, die bool) {
	var innocent []uint64
	poisoned := false
	for id, in := range e.hands[n] {
		if in == poison {
			poisoned = true
		} else {
			innocent = append(innocent, id)
		}
	}
	if poisoned && (die || len(innocent) == 0) {
		e.deaths++
		e.actors[n].die()
		e.actors[n], e.hands[n] = e.version(e.digest, e.manifest), make(map[uint64]string)
		return
	}
	id := slices.Min(innocent)
	delete(e.hands[n], id)
	e.actors[n].Done(id, compute.Status_success, arena.Ref{})
	e.actors[n].Sync()
}

// TestPoisonIsFoundAmongInnocents lets a job that ends its plugin run, many times at
// once and anew, among others. It ends three processes and no more, it alone is
// quarantined, and the others end well.
func TestPoisonIsFoundAmongInnocents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := open(t, Options{})
		e := newEnsemble(h, rapid.IntRange(1, 3).Draw(rt, "processes"), rapid.Uint32Range(1, 8).Draw(rt, "concurrency"))
		plan := rapid.SliceOfN(rapid.IntRange(0, 4), 1, 30).Draw(rt, "jobs")
		poisoned := false
		jobs := make(map[*Job]bool) // whether it is poison
		for step := 0; ; step++ {
			if step < len(plan) {
				in := fmt.Sprintf("job %02d", step%3*50+step) // some are as long as the poison
				if plan[step] == 0 {
					in, poisoned = poison, true
				}
				j, err := h.engine.Submit(h.Context(), Request{Capability: "test.echo", Input: inputOf([]byte(in))})
				switch {
				case err == nil:
					defer j.Close()
					jobs[j] = in == poison
				case in != poison || !errors.Is(err, wire.ErrQuarantined) || e.deaths < 3:
					rt.Fatalf("%s is refused: %v", in, err)
				}
				if plan[step] < 3 {
					continue // several at once
				}
			}
			busy := e.listen()
			if len(busy) == 0 {
				if step < len(plan) {
					continue
				}
				break
			}
			e.act(rapid.SampledFrom(busy).Draw(rt, "who"), rapid.Bool().Draw(rt, "dies"))
		}
		for j, bad := range jobs {
			o, err := j.Wait(within(t))
			if want := map[bool]compute.Status{true: compute.Status_quarantined, false: compute.Status_success}[bad]; err != nil || o.Status != want {
				rt.Errorf("poison %v ended as %s: %v, %v", bad, o.Status, o.Err, err)
			}
		}
		if want := map[bool]int{true: 3}[poisoned]; e.deaths != want {
			rt.Errorf("%d processes ended, not %d", e.deaths, want)
		}
		for _, a := range e.actors {
			a.die()
		}
	})
}

// convict has a job with some input end three processes of a binary.
func convict(h *theatre, digest string, m *wire.Manifest) *Job {
	h.Helper()
	j := h.ask("test.echo", []byte(poison))
	for range 3 {
		p := h.version(digest, m)
		p.Submit()
		p.die()
	}
	h.expect(j, compute.Status_quarantined)
	return j
}

func TestQuarantineIsForTheSameJobAndTheSameBinary(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 4, echo)
	h.version("v1", m).die()
	convict(h, "v1", m)
	p := h.version("v1", m)
	for name, in := range map[string]func([]byte) Input{"sized": inputOf, "unsized": unsized} {
		if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: in([]byte(poison))}); !errors.Is(err, wire.ErrQuarantined) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: in([]byte(poison)), Instance: p.inst.id}); !errors.Is(err, wire.ErrQuarantined) {
			t.Errorf("%s, for one instance: %v", name, err)
		}
	}
	other := h.ask("test.echo", []byte("poisoN")) // as long, but another
	p.serve()
	h.expect(other, compute.Status_success)
	p.Idle()

	next := h.audition("v2", m)
	if err := h.engine.Flip(next.inst); err != nil {
		t.Fatal(err)
	}
	again := h.ask("test.echo", []byte(poison))
	next.serve()
	h.expect(again, compute.Status_success)
	if q := h.engine.Quarantined(); len(q) != 1 || q[0].PluginDigest != "v1" || !q[0].Quarantined || q[0].Kills != 3 || q[0].Capability != "test.echo" {
		t.Errorf("quarantined: %+v", q)
	}
	if n := h.engine.Poisons("v1"); n != 1 {
		t.Errorf("%d poisons", n)
	}

	// Back to the old binary, which is still known to be ended by it, until somebody
	// says otherwise.
	if err := h.engine.Flip(p.inst); err != nil {
		t.Fatal(err)
	}
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: inputOf([]byte(poison))}); !errors.Is(err, wire.ErrQuarantined) {
		t.Errorf("after going back: %v", err)
	}
	if d := h.engine.Quarantined()[0].JobDigest; !h.engine.Forgive(d[:8]) || h.engine.Forgive(d) {
		t.Error("forgiven not once")
	}
	last := h.ask("test.echo", []byte(poison))
	p.serve()
	h.expect(last, compute.Status_success)
}

// A job that waits when another that is the same is found guilty does not start.
func TestCopiesThatWaitAreQuarantinedToo(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 1, echo)
	p := h.version("v1", m)
	jobs := many(3, func(int) *Job { return h.ask("test.echo", []byte(poison)) })
	for range 3 {
		p.Submit()
		p.die()
		p = h.version("v1", m)
	}
	for _, j := range jobs {
		h.expect(j, compute.Status_quarantined)
	}
	p.Idle()
	h.hostHolds(0)
}

// However many copies of a job were in flight, the death counts once.
func TestDeathCountsOncePerJobDigest(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 4, echo)
	p := h.version("v1", m)
	many(4, func(int) *Job { return h.ask("test.echo", []byte(poison)) })
	p.die()
	if q := h.engine.Quarantined(); len(q) != 1 || q[0].Kills != 1 {
		t.Errorf("held against it: %+v", q)
	}
}

// Suspects run one at a time in a process, also while they begin, beside any number
// of others, and hold up nobody.
func TestSuspectsRunOneAtATimeBesideOthers(t *testing.T) {
	for _, gated := range []bool{false, true} {
		t.Run(fmt.Sprintf("begin=%v", gated), func(t *testing.T) {
			h := open(t, Options{})
			m := manifest("test", 4, echo)
			p := h.version("v1", m)
			for n := range 3 {
				h.ask("test.echo", fmt.Appendf(nil, "%06d", n))
			}
			p.die()
			leave := make(chan struct{})
			r := Request{Capability: "test.echo", Input: inputOf([]byte("000000"))}
			if gated {
				r.Begin = func() error { <-leave; return nil }
				r.Priority = compute.Priority_emergency
			}
			h.submit(r)
			others := many(2, func(int) *Job { return h.ask("test.echo", []byte("innocent")) })
			p = h.version("v1", m)
			want := 3 // one suspect and the others
			if gated {
				want = 2
			}
			got := make(map[uint64]bool)
			for range want {
				d, _ := p.Submit()
				got[d.Job] = true
			}
			p.Sync()
			p.Idle()
			for _, j := range others {
				if !got[j.ID()] {
					t.Errorf("an innocent job waits: %+v", j.Info())
				}
			}
			close(leave)
			if gated {
				p.Submit()
				p.Sync()
				p.Idle()
			}
		})
	}
}

// A death while a suspect runs is the suspect's alone.
func TestDeathIsHeldAgainstTheSuspectAlone(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 4, echo)
	p := h.version("v1", m)
	guilty := h.ask("test.echo", []byte(poison))
	p.die()
	p = h.version("v1", m)
	many(3, func(n int) *Job { return h.ask("test.echo", []byte{byte(n)}) })
	p.die()
	p = h.version("v1", m)
	if q := h.engine.Quarantined(); len(q) != 1 || q[0].Kills != 2 {
		t.Errorf("held against: %+v", q)
	}
	p.Submit()
	p.Done(guilty.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	if q := h.engine.Quarantined(); len(q) != 0 {
		t.Errorf("a suspect that ended well is one still: %+v", q)
	}
}

// A process that is ended because a job ignores its cancellation is held against that
// job and no other, though it has its outcome already.
func TestJobThatWouldNotStopIsBlamedAlone(t *testing.T) {
	h := open(t, Options{CancelGrace: 1})
	m := manifest("test", 2, echo)
	p := h.version("v1", m)
	innocent := h.ask("test.echo", []byte("innocent"))
	for range 3 {
		p.Submit()
		hangs := h.ask("test.echo", []byte("hangs"))
		p.Submit()
		hangs.Cancel()
		<-p.condemned
		p.die()
		p = h.version("v1", m)
	}
	p.serve()
	h.expect(innocent, compute.Status_success)
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Input: inputOf([]byte("hangs"))}); !errors.Is(err, wire.ErrQuarantined) {
		t.Errorf("error: %v", err)
	}
	if q := h.engine.Quarantined(); len(q) != 1 {
		t.Errorf("held against: %+v", q)
	}
}

// Records are bounded, and many innocents do not drive out the guilty.
func TestWardIsBounded(t *testing.T) {
	var w ward
	for n := range 3 * maxRecords {
		r := &record{kind: kind{input: uint64(n)}, kills: 1}
		if n == 0 {
			r.kills = 3
		}
		w.add(suspicion{job: jobDigest{byte(n), byte(n >> 8)}}, r)
	}
	if len(w.records) != maxRecords || len(w.kinds) != maxRecords || w.count.Load() != maxRecords || w.records[suspicion{}] == nil {
		t.Errorf("%d records of %d kinds, counted as %d", len(w.records), len(w.kinds), w.count.Load())
	}
}
