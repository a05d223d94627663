// Package syscalls answers what plugins ask of the host. Every call is checked
// against the grants of the plugin that made it, and every reference in it
// against the arena's private table. It runs jobs through the engine like any
// other caller; it starts no process and opens no file itself.
package syscalls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/go-hclog"

	"inos/host/dispatch"
	"inos/mesh"
	"inos/plugins/sdk/failpoint"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/state"
)

// Instances starts and stops further processes of a module.
type Instances interface {
	// Spawn starts n more and returns the number of the first.
	Spawn(ctx context.Context, module string, n int) (uint32, error)
	// StopInstance ends one, which must be of the module, when its jobs are done.
	StopInstance(ctx context.Context, module string, instance uint32) error
}

// Messenger delivers messages to peers.
type Messenger interface {
	Send(ctx context.Context, target string, payload []byte, priority uint8) (wire.Delivery, error)
}

// Services are what the calls are answered with, the same for all plugins.
type Services struct {
	Engine    *dispatch.Engine
	States    *state.Directory
	Instances Instances
	Messenger Messenger // nil while there is no mesh
	Metrics   *Metrics
}

// Caller is the plugin process that a Kernel answers.
type Caller struct {
	Instance uint32
	Arena    *arena.Arena
	Manifest *wire.Manifest
	Grants   []system.Grant
	Log      hclog.Logger
}

// Kernel answers the calls of one plugin process. It implements wire.Kernel and
// may be called from many goroutines.
type Kernel struct {
	services *Services
	caller   Caller
	serving  chan struct{} // closed when instance is set
	instance *dispatch.Instance
}

// New returns the kernel for one process.
func New(s *Services, c Caller) *Kernel {
	return &Kernel{services: s, caller: c, serving: make(chan struct{})}
}

// Serve names the instance whose jobs the process runs. It is called once, when
// that is attached. Before, the process is given no block, since nobody would
// take it back.
func (k *Kernel) Serve(i *dispatch.Instance) {
	k.instance = i
	close(k.serving)
}

var _ wire.Kernel = (*Kernel)(nil)

// Syscall implements wire.Kernel.
func (k *Kernel) Syscall(ctx context.Context, c wire.Syscall) (wire.Answer, error) {
	a := wire.Answer{CallID: c.CallID}
	if g, needs := c.Needs(); needs && !slices.Contains(k.caller.Grants, g) {
		return a, k.denied(g)
	}
	if c.Job != 0 {
		// The process can have been given a job a moment before Serve was called.
		select {
		case <-k.serving:
		case <-ctx.Done():
			return a, context.Cause(ctx)
		}
	}
	if err := atCall.Hit(); err != nil {
		return a, err
	}
	body, err := k.answer(ctx, c)
	if err == nil {
		err = k.leave(ctx, body)
	}
	if errors.Is(err, arena.ErrBadRef) {
		k.offend(fmt.Errorf("syscall: %w", err))
		err = wire.NewError(base.Code_invalidArgument, "pass only blocks that were granted to this plugin", "%w", err)
	}
	if err != nil {
		body = nil
	}
	a.Body = body
	return a, err
}

// Where a call of a plugin's can be made to fail or to take long.
var (
	atCall   = failpoint.New("syscalls/call")   // any of them, the grant being there
	atLease  = failpoint.New("syscalls/lease")  // before a block is lent
	atState  = failpoint.New("syscalls/state")  // before a state block is found
	atRun    = failpoint.New("syscalls/run")    // before a job is submitted for a plugin
	atAnswer = failpoint.New("syscalls/answer") // before an answer leaves
)

// denied says which side of the bargain a missing grant failed on.
func (k *Kernel) denied(g system.Grant) error {
	name := k.caller.Manifest.Name
	if slices.Contains(k.caller.Manifest.Needs, g) {
		return wire.NewError(base.Code_permissionDenied, fmt.Sprintf("allow the grant %s to %s in the node's policy.json", g, name),
			"the operator does not allow %s to call %s", name, g)
	}
	return wire.NewError(base.Code_permissionDenied, "ask for the grant in the manifest", "the manifest of %s does not ask for %s", name, g)
}

func (k *Kernel) offend(err error) {
	if i, no := k.unit(); no == nil {
		i.Offend(err)
	}
}

// unit returns the instance of the calling process, or an error while it is not
// in service.
func (k *Kernel) unit() (*dispatch.Instance, error) {
	select {
	case <-k.serving:
		return k.instance, nil
	default:
		return nil, wire.NewError(base.Code_unavailable, "make the call from a job", "%s is not in service yet", k.caller.Manifest.Name)
	}
}

// job finds the job on whose behalf a call is made: one that runs in the calling
// process, or none.
func (k *Kernel) job(id uint64) (*dispatch.Job, error) {
	if id == 0 {
		return nil, nil
	}
	i, err := k.unit()
	if err != nil {
		return nil, err
	}
	if j := i.Job(id); j != nil {
		return j, nil
	}
	return nil, wire.NewError(base.Code_invalidArgument, "make the call before the handler returns", "job %x does not run in the calling process", id)
}

// answer does what is asked, the grant being there.
func (k *Kernel) answer(ctx context.Context, c wire.Syscall) (wire.AnswerBody, error) {
	switch b := c.Body.(type) {
	case wire.Noop:
		return nil, nil
	case wire.Lease:
		return k.lease(b)
	case wire.Free:
		return nil, k.free(b)
	case wire.FetchChunk:
		return k.fetchChunk(ctx, c, b)
	case wire.StoreChunk:
		return k.storeChunk(ctx, c, b)
	case wire.SendMessage:
		if k.services.Messenger == nil {
			return nil, wire.NewError(base.Code_unavailable, "this node has no mesh", "message to %q: %w", b.Target, mesh.ErrNoMesh)
		}
		return k.services.Messenger.Send(ctx, b.Target, b.Payload, b.Priority)
	case wire.HostCall:
		return k.hostCall(ctx, c, b)
	case wire.Spawn:
		id, err := k.services.Instances.Spawn(ctx, k.caller.Manifest.Name, int(b.Count))
		return wire.Spawned{Instance: id}, err
	case wire.StopInstance:
		return nil, k.services.Instances.StopInstance(ctx, k.caller.Manifest.Name, b.Instance)
	case wire.LogRecord:
		k.log(c.Job, b)
		return nil, nil
	case wire.Progress:
		j, err := k.job(b.ID)
		if err != nil || j == nil {
			return nil, err
		}
		j.Report(b.Done, b.Total)
		return nil, nil
	case wire.Metric:
		return nil, k.services.Metrics.record(k.caller.Manifest.Name, b)
	case wire.OpenState:
		return k.openState(b)
	default:
		return nil, wire.NewError(base.Code_notSupported, "update the node", "the host knows no syscall %T", b)
	}
}

func (k *Kernel) lease(b wire.Lease) (wire.AnswerBody, error) {
	i, err := k.unit()
	if err != nil {
		return nil, err
	}
	if err := atLease.Hit(); err != nil {
		return nil, err
	}
	ref, err := i.Lease(b.Bytes)
	if err != nil {
		return nil, err
	}
	return wire.Granted{Ref: ref}, nil
}

// leave is the last step before an answer leaves. It takes a lent block back when
// the caller has given up, which never hears of it and could not return it. A caller
// that gives up with the answer under way keeps the block until its process ends.
func (k *Kernel) leave(ctx context.Context, body wire.AnswerBody) error {
	err := atAnswer.Hit()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var ref arena.Ref
	switch b := body.(type) {
	case wire.Granted:
		ref = b.Ref
	case wire.Called:
		ref = b.Output
	}
	if err == nil || ref.IsZero() {
		return err
	}
	return errors.Join(err, k.free(wire.Free{Ref: ref}))
}

func (k *Kernel) free(b wire.Free) error {
	i, err := k.unit()
	if err != nil {
		return err
	}
	return i.Free(b.Ref)
}

// openState finds or makes a state block that the manifest declares.
func (k *Kernel) openState(b wire.OpenState) (wire.AnswerBody, error) {
	if err := atState.Hit(); err != nil {
		return nil, err
	}
	m := k.caller.Manifest
	i := slices.IndexFunc(m.State, func(s wire.StateSpec) bool { return s.Name == b.Name })
	if i < 0 {
		return nil, wire.NewError(base.Code_permissionDenied, "declare it in the manifest", "%s declares no state block %q", m.Name, b.Name)
	}
	spec := m.State[i]
	if slices.Contains(spec.Adopts, b.Schema) { // what a predecessor left, or nothing
		ref, ok := k.services.States.Find(m.Name, b.Name, b.Schema)
		if !ok {
			return nil, wire.NewError(base.Code_notFound, "begin with an empty state", "%s has no state block %q in schema %d", m.Name, b.Name, b.Schema)
		}
		return wire.StateGrant{Block: ref, Schema: b.Schema}, nil
	}
	if b.Schema != spec.Schema {
		return nil, wire.NewError(base.Code_permissionDenied, "declare the schema in the manifest, as its own or under adopts",
			"%s keeps state %q in schema %d, not %d", m.Name, b.Name, spec.Schema, b.Schema)
	}
	if limit := spec.MaxBytes; b.Bytes > limit {
		return nil, wire.NewError(base.Code_invalidArgument, "raise MaxBytes in the manifest", "state %q: %d bytes wanted, %d declared", b.Name, b.Bytes, limit)
	}
	ref, fresh, err := k.services.States.Open(m.Name, b.Name, b.Schema, b.Bytes, k.caller.Arena)
	if err != nil {
		return nil, dispatch.ArenaError(err)
	}
	return wire.StateGrant{Block: ref, Schema: b.Schema, Fresh: fresh}, nil
}

// log writes a line of the plugin's into the node's log.
func (k *Kernel) log(job uint64, r wire.LogRecord) {
	var fields []any
	if job != 0 {
		fields = append(fields, "job", fmt.Sprintf("%x", job))
	}
	for _, f := range r.Fields {
		fields = append(fields, f.Key, f.Value)
	}
	level := [...]hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error}
	k.caller.Log.Log(level[min(int(r.Level), len(level)-1)], r.Message, fields...)
}
