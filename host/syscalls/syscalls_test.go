package syscalls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/state"
)

// calls is one of each kind, with the grant that it needs.
var calls = []struct {
	body  wire.SyscallBody
	grant system.Grant
}{
	{wire.Lease{Bytes: 1}, system.Grant_lease}, {wire.Free{}, system.Grant_lease},
	{wire.FetchChunk{}, system.Grant_fetchChunk}, {wire.StoreChunk{}, system.Grant_storeChunk},
	{wire.SendMessage{}, system.Grant_sendMessage}, {wire.HostCall{}, system.Grant_hostCall},
	{wire.Spawn{Count: 1}, system.Grant_spawn}, {wire.StopInstance{}, system.Grant_spawn},
	{wire.LogRecord{}, system.Grant_log}, {wire.Progress{}, system.Grant_progress},
	{wire.Metric{}, system.Grant_metric}, {wire.OpenState{}, system.Grant_state},
}

func TestCallWithoutItsGrantIsDenied(t *testing.T) {
	s := open(t)
	for _, c := range calls {
		t.Run(fmt.Sprintf("%T", c.body), func(t *testing.T) {
			m := manifest("test")
			k := New(s.services, Caller{Manifest: m, Grants: slices.DeleteFunc(slices.Clone(every), func(g system.Grant) bool { return g == c.grant })})
			for _, tt := range []struct {
				needs      []system.Grant
				says, hint string
			}{
				{every, "the operator does not allow test", "policy.json"},
				{nil, "does not ask for", "manifest"},
			} {
				m.Needs = tt.needs
				_, err := k.Syscall(t.Context(), wire.Syscall{Body: c.body})
				if e := (*wire.Error)(nil); !errors.As(err, &e) || !errors.Is(err, wire.ErrPermissionDenied) ||
					!strings.Contains(e.Message, tt.says) || !strings.Contains(e.Message, c.grant.String()) || !strings.Contains(e.Hint, tt.hint) {
					t.Errorf("error: %v", err)
				}
			}
		})
	}
}

func TestNoopNeedsNothing(t *testing.T) {
	s := open(t)
	k := New(s.services, Caller{Manifest: manifest("test")})
	if a, err := k.Syscall(t.Context(), wire.Syscall{CallID: 3, Body: wire.Noop{}}); err != nil || a.Body != nil || a.CallID != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := k.Syscall(t.Context(), wire.Syscall{}); !errors.Is(err, wire.ErrNotSupported) {
		t.Errorf("no body: %v", err)
	}
}

func TestLeasedBlockIsThePluginsUntilItIsFreed(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	a, err := p.call(nil, wire.Lease{Bytes: 5000})
	if err != nil {
		t.Fatal(err)
	}
	ref := a.(wire.Granted).Ref
	if ref.Length != 5000 || !p.owns(ref) {
		t.Errorf("granted %+v", ref)
	}
	if _, err := p.call(nil, wire.Free{Ref: ref}); err != nil || p.owns(ref) {
		t.Errorf("free: %v", err)
	}
	p.blamed(0)
	if _, err := p.call(nil, wire.Free{Ref: ref}); !errors.Is(err, wire.ErrInvalidArgument) || !errors.Is(err, arena.ErrStale) {
		t.Errorf("free again: %v", err)
	}
	p.blamed(1)
	if _, err := p.call(nil, wire.Lease{Bytes: 1 << 40}); !errors.Is(err, wire.ErrResourceExhausted) || !strings.Contains(err.Error(), "--segment") {
		t.Errorf("too large: %v", err)
	}
	p.blamed(1)
}

// Before it is in service a process gets no block, since nobody would take that
// back from it.
func TestProcessGetsNothingBeforeItServes(t *testing.T) {
	s := open(t)
	s.attach(manifest("other", "other.run"))
	k := s.kernelFor(9, manifest("test"), s.Commons())
	for _, body := range []wire.SyscallBody{wire.Lease{Bytes: 1}, wire.Free{}, wire.HostCall{Capability: "other.run"}, wire.FetchChunk{}, wire.StoreChunk{}} {
		if _, err := k.Syscall(t.Context(), wire.Syscall{Body: body}); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("%T: %v", body, err)
		}
	}
	if _, err := k.Syscall(t.Context(), wire.Syscall{Body: wire.LogRecord{Message: "starting"}}); err != nil {
		t.Errorf("log: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if _, err := k.Syscall(ctx, wire.Syscall{Job: 1, Body: wire.Noop{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("for a job: %v", err)
	}
}

// A job can reach the plugin, and its first call the host, before the host has
// noted that the plugin serves.
func TestCallOfTheFirstJobWaitsUntilTheHostIsReady(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	k := s.kernelFor(p.Instance, manifest("test"), s.Commons())
	j := p.serving(dispatch.Request{Capability: "test.run"})
	ended := make(chan error, 1)
	ctx := awaited{context.Background(), make(chan struct{}, 1)}
	go func() {
		_, err := k.Syscall(ctx, wire.Syscall{Job: j.ID(), Body: wire.Lease{Bytes: 10}})
		ended <- err
	}()
	select {
	case <-ctx.waits:
	case err := <-ended:
		t.Fatalf("answered at once: %v", err)
	}
	k.Serve(p.inst)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// awaited is a context that tells when somebody begins to wait for its end.
type awaited struct {
	context.Context
	waits chan struct{}
}

func (a awaited) Done() <-chan struct{} {
	select {
	case a.waits <- struct{}{}:
	default:
	}
	return a.Context.Done()
}

func TestCallsSpeakForJobsOfTheirOwnProcessOnly(t *testing.T) {
	s := open(t)
	p, other := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run"))
	theirs := other.serving(dispatch.Request{Capability: "other.run"})
	ended := p.serving(dispatch.Request{Capability: "test.run"})
	p.Done(ended.ID(), compute.Status_success, arena.Ref{})
	p.Sync()
	for name, j := range map[string]*dispatch.Job{"another's": theirs, "one that has ended": ended} {
		if _, err := p.call(j, wire.HostCall{Capability: "other.run"}); !errors.Is(err, wire.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.call(nil, wire.Progress{ID: j.ID(), Done: 1}); !errors.Is(err, wire.ErrInvalidArgument) {
			t.Errorf("progress of %s: %v", name, err)
		}
	}
	mine := p.serving(dispatch.Request{Capability: "test.run"})
	if _, err := p.call(mine, wire.Progress{ID: mine.ID(), Done: 3, Total: 4}); err != nil || mine.Info().Done != 3 || mine.Info().Total != 4 {
		t.Errorf("progress: %+v, %v", mine.Info(), err)
	}
	if _, err := p.call(nil, wire.Progress{}); err != nil {
		t.Errorf("progress of nothing: %v", err)
	}
}

func TestMessagesNeedAMesh(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	if _, err := p.call(nil, wire.SendMessage{Target: "peer"}); !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "no mesh") {
		t.Errorf("error: %v", err)
	}
	m := &messenger{}
	s.services.Messenger = m
	if a, err := p.call(nil, wire.SendMessage{Target: "peer", Payload: []byte("hi"), Priority: 3}); err != nil || !a.(wire.Delivery).Delivered || m.sent != "peer hi 3" {
		t.Errorf("%+v, %v, sent %q", a, err, m.sent)
	}
}

type messenger struct{ sent string }

func (m *messenger) Send(_ context.Context, target string, payload []byte, priority uint8) (wire.Delivery, error) {
	m.sent = fmt.Sprint(target, " ", string(payload), " ", priority)
	return wire.Delivery{Delivered: true}, nil
}

func TestPluginSpawnsAndStopsItsOwnInstances(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	i := &instances{}
	s.services.Instances = i
	if a, err := p.call(nil, wire.Spawn{Count: 2}); err != nil || a.(wire.Spawned).Instance != 40 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := p.call(nil, wire.StopInstance{Instance: 40}); !errors.Is(err, errKilled) {
		t.Errorf("error: %v", err)
	}
	if want := []string{"spawn 2 of test", "stop 40 of test"}; !slices.Equal(i.asked, want) {
		t.Errorf("asked: %v", i.asked)
	}
}

type instances struct{ asked []string }

func (i *instances) Spawn(_ context.Context, module string, n int) (uint32, error) {
	i.asked = append(i.asked, fmt.Sprintf("spawn %d of %s", n, module))
	return 40, nil
}

func (i *instances) StopInstance(_ context.Context, module string, id uint32) error {
	i.asked = append(i.asked, fmt.Sprintf("stop %d of %s", id, module))
	return errKilled
}

func TestLogRecordsNameTheirJob(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	j := p.serving(dispatch.Request{Capability: "test.run"})
	for level, want := range []string{"[TRACE]", "[DEBUG]", "[INFO]", "[WARN]", "[ERROR]", "[ERROR]"} {
		s.log.Reset()
		if _, err := p.call(j, wire.LogRecord{Level: system.Level(level), Message: "hello", Fields: []wire.KeyValue{{Key: "k", Value: "v"}}}); err != nil {
			t.Error(err)
		}
		if got := s.log.String(); !strings.Contains(got, want) || !strings.Contains(got, "hello") || !strings.Contains(got, fmt.Sprintf("job=%x", j.ID())) || !strings.Contains(got, "k=v") {
			t.Errorf("level %d: %q", level, got)
		}
	}
}

func TestStateOutlivesTheProcess(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	a, err := p.call(nil, wire.OpenState{Name: "memory", Schema: 1, Bytes: 100})
	if err != nil {
		t.Fatal(err)
	}
	grant := a.(wire.StateGrant)
	if !grant.Fresh || grant.Schema != 1 {
		t.Errorf("granted %+v", grant)
	}
	b, err := state.Attach(p.Bytes(grant.Block))
	if err != nil {
		t.Fatal(err)
	}
	copy(b.Next(), "remember me")
	b.Commit()
	// It is the host's: a plugin can neither free nor hand it over.
	if _, err := p.call(nil, wire.Free{Ref: grant.Block}); !errors.Is(err, arena.ErrForeign) {
		t.Errorf("free: %v", err)
	}
	p.die()
	p = s.attach(manifest("test", "test.run"))
	if a, err = p.call(nil, wire.OpenState{Name: "memory", Schema: 1, Bytes: 100}); err != nil {
		t.Fatal(err)
	}
	again := a.(wire.StateGrant)
	if again.Fresh || again.Block != grant.Block {
		t.Errorf("granted %+v", again)
	}
	if b, err = state.Attach(p.Bytes(again.Block)); err != nil || !strings.HasPrefix(string(b.Current()), "remember me") {
		t.Errorf("state: %v", err)
	}
	if err := s.services.States.Drop("test"); err != nil {
		t.Error(err)
	}
}

func TestStateNeedsItsDeclaration(t *testing.T) {
	s := open(t)
	p := s.attach(manifest("test", "test.run"))
	for _, tt := range []struct {
		call wire.OpenState
		want error
	}{
		{wire.OpenState{Name: "other", Bytes: 1}, wire.ErrPermissionDenied},
		{wire.OpenState{Name: "memory", Schema: 4, Bytes: 1}, wire.ErrPermissionDenied},
		{wire.OpenState{Name: "memory", Schema: 1, Bytes: 1025}, wire.ErrInvalidArgument},
		{wire.OpenState{Name: "memory", Schema: 1, Bytes: math.MaxUint64}, wire.ErrInvalidArgument},
	} {
		if a, err := p.call(nil, tt.call); !errors.Is(err, tt.want) || a != nil {
			t.Errorf("%+v: %+v, %v", tt.call, a, err)
		}
	}
	if _, err := p.call(nil, wire.OpenState{Name: "memory", Schema: 1, Bytes: 64}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.call(nil, wire.OpenState{Name: "memory", Schema: 1, Bytes: 1000}); !errors.Is(err, state.ErrSize) {
		t.Errorf("grown: %v", err)
	}
	p.blamed(0)
	if err := s.services.States.Drop("test"); err != nil {
		t.Error(err)
	}
}

func TestMetricsSumCountersAndKeepGauges(t *testing.T) {
	s := open(t)
	p, other := s.attach(manifest("test", "test.run")), s.attach(manifest("other", "other.run"))
	counter, gauge := system.MetricKind_counter, system.MetricKind_gauge
	for _, m := range []wire.Metric{{Name: "b", Value: 2, Kind: counter}, {Name: "b", Value: 3, Kind: counter}, {Name: "a", Value: 2, Kind: gauge}, {Name: "a", Value: -3, Kind: gauge}} {
		if _, err := p.call(nil, m); err != nil {
			t.Error(err)
		}
	}
	if _, err := other.call(nil, wire.Metric{Name: "a", Value: 1, Kind: counter}); err != nil {
		t.Error(err)
	}
	for _, m := range []wire.Metric{
		{Name: "", Value: 1}, {Name: "n", Value: math.NaN(), Kind: gauge}, {Name: "n", Value: math.Inf(1), Kind: gauge},
		{Name: "n", Value: -1, Kind: counter}, {Name: "a", Value: 1, Kind: counter},
	} {
		if _, err := p.call(nil, m); !errors.Is(err, wire.ErrInvalidArgument) {
			t.Errorf("%+v: %v", m, err)
		}
	}
	want := []Series{{"other", "a", counter, 1}, {"test", "a", gauge, -3}, {"test", "b", counter, 5}}
	if got := s.services.Metrics.List(); !slices.Equal(got, want) {
		t.Errorf("metrics: %v", got)
	}
}

func TestMetricsOfOneModuleAreBounded(t *testing.T) {
	m := NewMetrics()
	for n := range maxSeries {
		if err := m.record("test", wire.Metric{Name: fmt.Sprint(n), Value: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.record("test", wire.Metric{Name: "one more", Value: 1}); !errors.Is(err, wire.ErrResourceExhausted) {
		t.Errorf("error: %v", err)
	}
	if err := errors.Join(m.record("test", wire.Metric{Name: "7", Value: 1}), m.record("other", wire.Metric{Name: "x"})); err != nil {
		t.Error(err)
	}
}
