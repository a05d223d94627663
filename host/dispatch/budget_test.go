package dispatch

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/ring"
)

func TestBudgetBoundsWhatAJobMayCost(t *testing.T) {
	tests := []struct {
		name            string
		budget, charged uint64
		want            compute.Status
		cost            uint64
	}{
		{"no bound", 0, 1 << 40, compute.Status_success, 1<<40 + 5},
		{"within", 100, 94, compute.Status_success, 99},
		{"all of it", 100, 95, compute.Status_success, 100},
		{"one too many", 100, 96, compute.Status_budgetExceeded, 100},
		{"more than there is", 100, math.MaxUint64, compute.Status_budgetExceeded, 100},
		{"more than there is, without bound", 0, math.MaxUint64, compute.Status_success, math.MaxUint64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, Options{})
			m := manifest("test", 1, echo)
			m.Cost.Base = 5
			p := h.attach(m)
			j := h.submit(Request{Capability: "test.echo", Budget: tt.budget})
			if d, _ := p.Submit(); d.Args[1] != tt.budget {
				t.Errorf("the plugin was given a budget of %d", d.Args[1])
			}
			p.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: j.ID(), Ref: p.Put([]byte("x")), Args: [2]uint64{tt.charged, math.MaxUint64}})
			if o := h.expect(j, tt.want); o.Cost != tt.cost || o.Metrics.CPU != math.MaxInt64 {
				t.Errorf("outcome: %+v", o)
			}
			p.Sync()
			left := uint64(0)
			if tt.want == compute.Status_success {
				left = 1
			}
			h.hostHolds(left) // the output of a job that was not paid for is gone
		})
	}
}

func TestBudgetBelowThePriceRefusesTheJob(t *testing.T) {
	h := open(t, Options{})
	m := manifest("test", 1, echo)
	m.Cost = wire.CostModel{Base: 5, PerMB: 10}
	h.attach(m)
	_, err := h.engine.Submit(t.Context(), Request{Capability: "test.echo", Budget: 14, Input: inputOf([]byte("x"))})
	if !errors.Is(err, wire.ErrBudgetExceeded) || !strings.Contains(err.Error(), "15") {
		t.Errorf("error: %v", err)
	}
	h.hostHolds(0)
}

// nested is a job of one module that runs and calls another.
func nested(h *theatre, o Request) (caller, callee *actor, parent *Job) {
	caller, callee = h.attach(manifest("test", 4, echo)), h.attach(manifest("other", 4, wire.Capability{Name: "other.run"}))
	o.Capability = "test.echo"
	parent = h.submit(o)
	caller.Submit()
	return caller, callee, parent
}

func TestNestedJobsSpendTheBudgetOfTheirCaller(t *testing.T) {
	h := open(t, Options{})
	caller, callee, parent := nested(h, Request{Budget: 100})
	call := func(budget, given, charge uint64, want compute.Status) {
		t.Helper()
		j := h.submit(Request{Capability: "other.run", Parent: parent, Budget: budget})
		if d, head := callee.Submit(); d.Args[1] != given || head.Metadata.ParentJob != parent.ID() {
			t.Errorf("a budget of %d of job %x", d.Args[1], head.Metadata.ParentJob)
		}
		callee.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: j.ID(), Args: [2]uint64{charge}})
		h.expect(j, want)
	}
	call(10, 10, 10, compute.Status_success)
	call(0, 90, 50, compute.Status_success)
	call(1000, 40, 41, compute.Status_budgetExceeded) // and costs 40
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "other.run", Parent: parent}); !errors.Is(err, wire.ErrBudgetExceeded) {
		t.Errorf("the fourth: %v", err)
	}
	caller.Done(parent.ID(), compute.Status_success, arena.Ref{})
	if o := h.expect(parent, compute.Status_success); o.Cost != 100 {
		t.Errorf("cost: %d", o.Cost)
	}
}

// Jobs side by side have each a share of their caller's budget, which is theirs until
// they end. What they do not spend is there for the next.
func TestNestedJobsSideBySideDoNotOverspend(t *testing.T) {
	h := open(t, Options{})
	caller, callee, parent := nested(h, Request{Budget: 100})
	call := func(budget uint64) *Job {
		return h.submit(Request{Capability: "other.run", Parent: parent, Budget: budget})
	}
	refused := func(says string) {
		t.Helper()
		if _, err := h.engine.Submit(t.Context(), Request{Capability: "other.run", Parent: parent}); !errors.Is(err, wire.ErrBudgetExceeded) || !strings.Contains(err.Error(), says) {
			t.Errorf("error: %v", err)
		}
	}
	finish := func(j *Job, charge uint64, want compute.Status) {
		t.Helper()
		callee.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: j.ID(), Args: [2]uint64{charge}})
		h.expect(j, want)
	}
	a, b := call(60), call(60)
	for _, given := range []uint64{60, 40} {
		if d, _ := callee.Submit(); d.Args[1] != given {
			t.Errorf("a budget of %d, not %d", d.Args[1], given)
		}
	}
	refused("of its own")
	finish(a, 10, compute.Status_success) // and gives 50 back
	c := call(0)
	if d, _ := callee.Submit(); d.Args[1] != 50 {
		t.Errorf("the third has a budget of %d", d.Args[1])
	}
	finish(b, 1000, compute.Status_budgetExceeded)
	finish(c, 50, compute.Status_success)
	refused("nothing left")
	caller.Done(parent.ID(), compute.Status_success, arena.Ref{})
	if o := h.expect(parent, compute.Status_success); o.Cost != 100 {
		t.Errorf("cost: %d", o.Cost)
	}
}

// A job that is refused after its share was kept gives it back.
func TestRefusedJobGivesItsShareBack(t *testing.T) {
	h := open(t, Options{})
	_, _, parent := nested(h, Request{Budget: 100})
	for range 3 {
		broken := Input{Reader: iotest.ErrReader(errBroken), Size: 5}
		if _, err := h.engine.Submit(t.Context(), Request{Capability: "other.run", Parent: parent, Input: broken}); !errors.Is(err, wire.ErrCanceled) {
			t.Fatalf("error: %v", err)
		}
	}
	if parent.shared != 0 || parent.spent != 0 {
		t.Errorf("%d are kept, %d spent", parent.shared, parent.spent)
	}
}

func TestSharesOfABudgetNeverAddUpToMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &Job{budget: rapid.Uint64Min(1).Draw(t, "budget")}
		var shares []uint64
		t.Repeat(map[string]func(*rapid.T){
			"call": func(t *rapid.T) {
				want := rapid.Uint64().Draw(t, "wanted")
				given, share, err := p.reserve(want)
				if err == nil {
					shares = append(shares, share)
				}
				if err == nil && (given != share || given == 0 || want > 0 && given > want) {
					t.Fatalf("%d wanted, %d given, %d kept", want, given, share)
				}
			},
			"end": func(t *rapid.T) {
				if len(shares) == 0 {
					t.Skip()
				}
				n := rapid.IntRange(0, len(shares)-1).Draw(t, "which")
				p.spend(shares[n], rapid.Uint64Range(0, shares[n]).Draw(t, "cost"))
				shares = slices.Delete(shares, n, n+1)
			},
			"": func(t *rapid.T) {
				sum := uint64(0)
				for _, s := range shares {
					sum += s
				}
				if sum != p.shared || p.spent > p.budget || sum > p.budget-p.spent {
					t.Fatalf("of %d, %d are spent and %d kept, %d by count", p.budget, p.spent, p.shared, sum)
				}
			},
		})
	})
}

// Cancelling a job does not make what it had others do free of charge.
func TestCancelledJobStillCostsWhatItCaused(t *testing.T) {
	h := open(t, Options{})
	_, callee, parent := nested(h, Request{})
	for range 2 {
		j := h.submit(Request{Capability: "other.run", Parent: parent})
		callee.Submit()
		callee.Send(ring.Descriptor{Kind: system.DescriptorKind_done, Job: j.ID(), Args: [2]uint64{math.MaxUint64 - 1}})
		h.expect(j, compute.Status_success)
	}
	parent.Cancel()
	if o := h.expect(parent, compute.Status_canceled); o.Cost != math.MaxUint64 {
		t.Errorf("cost: %d", o.Cost)
	}
}

func TestNestedJobsInheritDeadlineAndUser(t *testing.T) {
	h := open(t, Options{})
	_, callee, parent := nested(h, Request{Deadline: time.Now().Add(time.Hour), Metadata: wire.Metadata{UserID: "u", DeviceID: "d", CreditLedgerID: "l", TraceParent: "t", ParentJob: 9}})
	forged := wire.Metadata{UserID: "root", DeviceID: "x", CreditLedgerID: "x", TraceParent: "t2", ParentJob: 77}
	h.submit(Request{Capability: "other.run", Parent: parent, Metadata: forged, Deadline: time.Now().Add(2 * time.Hour)})
	d, head := callee.Submit()
	if want := (wire.Metadata{UserID: "u", DeviceID: "d", CreditLedgerID: "l", TraceParent: "t2", ParentJob: parent.ID()}); head.Metadata != want {
		t.Errorf("metadata %+v", head.Metadata)
	}
	if int64(d.Args[0]) != parent.deadline {
		t.Errorf("deadline %d, its caller's is %d", d.Args[0], parent.deadline)
	}
	if i := parent.Info(); i.Parent != 0 {
		t.Errorf("a job of nobody's has the parent %x", i.Parent)
	}
}

func TestEndedJobCallsNoOther(t *testing.T) {
	h := open(t, Options{})
	_, _, parent := nested(h, Request{})
	parent.Cancel()
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "other.run", Parent: parent}); !errors.Is(err, wire.ErrCanceled) {
		t.Errorf("error: %v", err)
	}
}

func TestJobsCallJobsSoDeepAndNoDeeper(t *testing.T) {
	h := open(t, Options{MaxDepth: 2})
	_, callee, parent := nested(h, Request{})
	for range 2 {
		parent = h.submit(Request{Capability: "other.run", Parent: parent})
		callee.Submit()
	}
	if _, err := h.engine.Submit(t.Context(), Request{Capability: "other.run", Parent: parent}); !errors.Is(err, wire.ErrResourceExhausted) || !strings.Contains(err.Error(), "3 deep") {
		t.Errorf("error: %v", err)
	}
}
