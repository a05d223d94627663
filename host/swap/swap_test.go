package swap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"inos/host/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage plays both generations: it notes what is asked of them, and fails where
// the test wants it to.
type stage struct {
	mu    sync.Mutex
	did   []string
	fail  string
	tally Tally
	ended chan struct{}
	sick  error
}

func newStage(fail string) *stage { return &stage{fail: fail, ended: make(chan struct{})} }

var errPlayed = errors.New("as the test wants it")

func (s *stage) do(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, what)
	if s.fail == what {
		return errPlayed
	}
	return nil
}

// older and newer are the two roles.
type older struct{ *stage }

func (o older) Freeze(context.Context) error  { return o.do("freeze") }
func (o older) Thaw(context.Context) error    { return o.do("thaw") }
func (o older) Quiesce(context.Context) error { return o.do("quiesce") }
func (o older) Revive(context.Context) error  { return o.do("revive") }
func (o older) Tally() Tally                  { return Tally{Succeeded: 100} }

type newer struct{ *stage }

func (n newer) Connect(context.Context) error { return n.do("connect") }
func (n newer) Adopt(context.Context) error   { return n.do("adopt") }
func (n newer) Start(context.Context) error   { return n.do("start") }
func (n newer) Test(context.Context) error    { return n.do("test") }
func (n newer) Canary(percent int)            { _ = n.do(fmt.Sprintf("canary %d", percent)) }
func (n newer) Expand(context.Context) error  { return n.do("expand") }
func (n newer) Flip(context.Context) error    { return n.do("flip") }
func (n newer) Discard(error)                 { _ = n.do("discard") }
func (n newer) Failed() <-chan struct{}       { return n.ended }
func (n newer) Cause() error                  { return errPlayed }
func (n newer) Health(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sick
}
func (n newer) Tally() Tally {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tally
}

func quick() Judge {
	return Judge{Every: time.Millisecond, AskEvery: time.Millisecond}
}

func TestRunTakesItsStepsInOrderAndUndoesThem(t *testing.T) {
	canary := Plan{CanaryPercent: 10, CanaryFor: time.Millisecond, Judge: quick()}
	for _, c := range []struct {
		name string
		plan Plan
		fail string
		did  []string
	}{
		{"plain", Plan{}, "", []string{"connect", "start", "test", "expand", "flip"}},
		{"canary", canary, "", []string{"connect", "start", "test", "canary 10", "canary 0", "expand", "flip"}},
		{"state", Plan{State: true}, "", []string{"connect", "freeze", "adopt", "start", "test", "expand", "flip"}},
		{"state has no canary", Plan{State: true, CanaryPercent: 10, CanaryFor: time.Hour}, "", []string{"connect", "freeze", "adopt", "start", "test", "expand", "flip"}},
		{"exclusive", Plan{Exclusive: true}, "", []string{"quiesce", "connect", "start", "test", "expand", "flip"}},
		{"exclusive state", Plan{Exclusive: true, State: true}, "", []string{"quiesce", "connect", "adopt", "start", "test", "expand", "flip"}},
		{"no memory", Plan{}, "connect", []string{"connect", "discard"}},
		{"does not start", Plan{}, "start", []string{"connect", "start", "discard"}},
		{"fails its test", Plan{State: true}, "test", []string{"connect", "freeze", "adopt", "start", "test", "discard", "thaw"}},
		{"does not freeze", Plan{State: true}, "freeze", []string{"connect", "freeze", "discard", "thaw"}},
		{"does not adopt", Plan{State: true}, "adopt", []string{"connect", "freeze", "adopt", "discard", "thaw"}},
		{"exclusive fails", Plan{Exclusive: true}, "start", []string{"quiesce", "connect", "start", "discard", "revive"}},
		{"does not let go", Plan{Exclusive: true}, "quiesce", []string{"quiesce", "discard", "revive"}},
		{"no flip", Plan{State: true}, "flip", []string{"connect", "freeze", "adopt", "start", "test", "expand", "flip", "discard", "thaw"}},
		{"too few processes", Plan{}, "expand", []string{"connect", "start", "test", "expand", "discard"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(c.fail)
			noted := make(map[events.Step]error)
			err := Run(t.Context(), c.plan, older{s}, newer{s}, func(step events.Step, _ time.Duration, err error) { noted[step] = err })
			if (err != nil) != (c.fail != "") || c.fail != "" && !errors.Is(err, errPlayed) {
				t.Errorf("it ended with %v", err)
			}
			if !slices.Equal(s.did, c.did) {
				t.Errorf("did  %v\nwant %v", s.did, c.did)
			}
			if c.fail == "" && (noted[events.Flipped] != nil || len(noted) < 4) {
				t.Errorf("noted %v", noted)
			}
		})
	}
}

func TestRunSaysWhenTheOldGenerationCannotGoOn(t *testing.T) {
	s := newStage("thaw")
	n := newer{newStage("test")}
	err := Run(t.Context(), Plan{State: true}, older{s}, n, func(events.Step, time.Duration, error) {})
	if err == nil || len(s.did) != 2 || s.did[1] != "thaw" {
		t.Errorf("%v after %v", err, s.did)
	}
}

func TestStepIsBounded(t *testing.T) {
	s := newStage("")
	hang := hanging{newer{s}}
	err := Run(t.Context(), Plan{Step: time.Millisecond}, older{s}, hang, func(events.Step, time.Duration, error) {})
	if err == nil || !slices.Contains(s.did, "discard") {
		t.Errorf("%v after %v", err, s.did)
	}
}

// hanging never starts.
type hanging struct{ newer }

func (hanging) Start(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestWatchSeesWhatIsWrong(t *testing.T) {
	before := Tally{Succeeded: 90, Failed: 10}
	for _, c := range []struct {
		name  string
		set   func(s *stage)
		wrong bool
	}{
		{"well", func(s *stage) { s.tally = Tally{Succeeded: 50, Failed: 5} }, false},
		{"idle", func(*stage) {}, false},
		{"few failures", func(s *stage) { s.tally = Tally{Failed: 3} }, false},
		{"as bad as before", func(s *stage) { s.tally = Tally{Succeeded: 70, Failed: 30} }, false},
		{"jump", func(s *stage) { s.tally = Tally{Succeeded: 60, Failed: 40} }, true},
		{"all fail", func(s *stage) { s.tally = Tally{Failed: 4} }, true},
		{"ended", func(s *stage) { close(s.ended) }, true},
		{"unwell", func(s *stage) { s.sick = errPlayed }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage("")
			looked := make(chan struct{})
			n := counting{newer{s}, sync.OnceFunc(func() { close(looked) })}
			go func() {
				<-looked
				s.mu.Lock()
				defer s.mu.Unlock()
				c.set(s)
			}()
			period := 50 * time.Millisecond
			if c.wrong {
				period = time.Hour // it must be seen before the end
			}
			if err := quick().Watch(t.Context(), period, before, n); (err != nil) != c.wrong {
				t.Errorf("%v", err)
			}
		})
	}
}

// counting tells when the judge has taken its first look.
type counting struct {
	newer
	looked func()
}

func (c counting) Tally() Tally {
	defer c.looked()
	return c.newer.Tally()
}

func TestWatchForgivesOneBadAnswer(t *testing.T) {
	j := Judge{Every: time.Hour, AskEvery: time.Millisecond}
	asked := 0
	n := answering{newer: newer{newStage("")}, health: func() error {
		if asked++; asked%2 == 1 {
			return errPlayed
		}
		return nil
	}}
	if err := j.Watch(t.Context(), 100*time.Millisecond, Tally{}, n); err != nil {
		t.Errorf("%v after %d questions", err, asked)
	}
}

type answering struct {
	newer
	health func() error
}

func (a answering) Health(context.Context) error { return a.health() }
