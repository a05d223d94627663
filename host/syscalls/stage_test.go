package syscalls

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"inos/host/dispatch"
	"inos/host/dispatch/puppet"
	"inos/plugins/sdk/wire"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/state"
)

// TestMain makes a block that the engine cannot free the end of the test, since
// that is the one thing it only logs.
func TestMain(m *testing.M) {
	hclog.SetDefault(hclog.New(&hclog.LoggerOptions{Output: stern{}}))
	goleak.VerifyTestMain(m)
}

type stern struct{}

func (stern) Write(b []byte) (int, error) { panic(string(b)) }

// patience is a deadline that only a lost wake-up reaches.
const patience = 30 * time.Second

// every grant there is.
var every = func() (list []system.Grant) {
	for g := system.Grant_lease; g <= system.Grant_state; g++ {
		list = append(list, g)
	}
	return list
}()

// stage is an engine with puppets, each of which has a kernel to ask.
type stage struct {
	*puppet.Stage
	*testing.T
	engine   *dispatch.Engine
	services *Services
	log      bytes.Buffer
	cast     uint32
}

// plugin is a puppet in service, and its kernel.
type plugin struct {
	*puppet.Puppet
	stage  *stage
	inst   *dispatch.Instance
	kernel *Kernel
	arena  *arena.Arena
	gone   bool
}

func open(t *testing.T) *stage {
	t.Helper()
	s := &stage{Stage: puppet.NewStage(t, 0), T: t}
	s.engine = dispatch.New(dispatch.Options{Arena: s.Segment.Arena})
	s.services = &Services{Engine: s.engine, States: state.NewDirectory(), Metrics: NewMetrics()}
	t.Cleanup(s.engine.Close)
	return s
}

// manifest of a module with some capabilities, which wants every grant.
func manifest(name string, caps ...string) *wire.Manifest {
	m := &wire.Manifest{Name: name, Concurrency: 4, Needs: every, State: []wire.StateSpec{{Name: "memory", Schema: 1, MaxBytes: 1024}}}
	for _, c := range caps {
		m.Capabilities = append(m.Capabilities, wire.Capability{Name: c, Params: params[c], Streams: c == "other.stream"})
	}
	return m
}

// params of the capabilities that take any.
var params = map[string][]wire.ParamSpec{
	"chunk.get":  {{Name: "hash", Kind: system.ParamKind_data, Required: true}},
	"other.hard": {{Name: "n", Kind: system.ParamKind_uint, Required: true}},
}

// kernelFor returns a kernel that no instance is served with yet.
func (s *stage) kernelFor(id uint32, m *wire.Manifest, a *arena.Arena) *Kernel {
	return New(s.services, Caller{
		Instance: id, Arena: a, Manifest: m, Grants: every,
		Log: hclog.New(&hclog.LoggerOptions{Output: &s.log, Level: hclog.Trace, DisableTime: true}),
	})
}

// attach puts a puppet into service, in the commons.
func (s *stage) attach(m *wire.Manifest) *plugin { return s.attachIn(s.Commons(), m) }

func (s *stage) attachIn(a *arena.Arena, m *wire.Manifest) *plugin {
	s.Helper()
	s.cast++
	p := &plugin{Puppet: s.Puppet(s.cast, a), stage: s, kernel: s.kernelFor(s.cast, m, a), arena: a}
	var err error
	if p.inst, err = s.engine.Attach(dispatch.Attachment{ID: s.cast, Manifest: m, Link: p.Link, Arena: a}); err != nil {
		s.Fatal(err)
	}
	p.kernel.Serve(p.inst)
	s.Cleanup(p.die)
	return p
}

var errKilled = errors.New("killed by the test")

func (p *plugin) die() {
	if p.gone {
		return
	}
	p.gone = true
	p.inst.Detach(errKilled)
	p.Close()
}

// serving has the plugin run a job, on behalf of which it makes calls.
func (p *plugin) serving(r dispatch.Request) *dispatch.Job {
	s := p.stage
	s.Helper()
	j, err := s.engine.Submit(s.Context(), r)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(j.Close)
	p.Submit()
	return j
}

// call makes a syscall on behalf of a job, nil for none.
func (p *plugin) call(j *dispatch.Job, body wire.SyscallBody) (wire.AnswerBody, error) {
	return p.callWith(context.Background(), j, wire.Metadata{}, body)
}

func (p *plugin) callWith(ctx context.Context, j *dispatch.Job, m wire.Metadata, body wire.SyscallBody) (wire.AnswerBody, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	c := wire.Syscall{CallID: 7, Metadata: m, Body: body}
	if j != nil {
		c.Job = j.ID()
	}
	a, err := p.kernel.Syscall(ctx, c)
	if a.CallID != 7 {
		p.stage.Errorf("answer to call %d", a.CallID)
	}
	return a.Body, err
}

// meanwhile makes a call while the test plays the plugin that is called.
func (p *plugin) meanwhile(j *dispatch.Job, body wire.SyscallBody, play func()) (wire.AnswerBody, error) {
	type answer struct {
		body wire.AnswerBody
		err  error
	}
	c := make(chan answer)
	go func() {
		b, err := p.call(j, body)
		c <- answer{b, err}
	}()
	play()
	a := <-c
	return a.body, a.err
}

// owns reports whether the plugin owns the block.
func (p *plugin) owns(ref arena.Ref) bool {
	return p.arena.Verify(ref, arena.Owner(p.Instance)) == nil
}

// hostHolds demands how many blocks the host has in an arena.
func (s *stage) hostHolds(a *arena.Arena, want uint64) {
	s.Helper()
	var got uint64
	for _, o := range a.Stats().Owners {
		if o.Owner == arena.Host {
			got = o.Blocks
		}
	}
	if got != want {
		s.Errorf("the host holds %d blocks, not %d", got, want)
	}
}

// blamed demands how many promises a plugin has broken.
func (p *plugin) blamed(n int64) {
	p.stage.Helper()
	if got := p.inst.Offences(); got != n {
		p.stage.Errorf("%d offences of %d", got, n)
	}
}

// answer plays a plugin that takes one job and answers it.
func (p *plugin) answer(out []byte) func() {
	return func() { d, _ := p.Submit(); p.Answer(d.Job, out) }
}
