package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/protocols/system/v1"
	"inos/shm/arena"
	"inos/shm/state"
)

// Host is the node, as a plugin sees it: what may be asked of it. Each call needs
// the grant that its comment names, asked for in the manifest and allowed by the
// operator; without it the error says so. Its methods may be called from any
// goroutine.
//
// The Host that Plugin.Start gets may be kept until Plugin.Stop has returned. The
// node hands out no block before Plugin.Start has returned.
type Host struct {
	conf    wire.Configuration
	kernel  wire.Kernel // nil without a node
	session *session
	log     hclog.Logger
	job     *Job // on whose behalf, nil for the plugin itself
	calls   *atomic.Uint64
	trial   *trialStates // instead of a node's, under the test kit
}

var (
	// errNoNode answers host calls where there is no node, as under the test kit.
	errNoNode = wire.NewError(base.Code_notSupported, "run the plugin in a node", "there is no node to ask")
	// errTooEarly answers calls for memory that the host would not hear.
	errTooEarly = wire.NewError(base.Code_unavailable, "ask for it when Start has returned", "the node lends no memory to a plugin that is not in service yet")
)

// forJob returns the host as seen from one job, so that what it asks is charged
// to that job.
func (h *Host) forJob(j *Job) *Host {
	c := *h
	c.job = j
	return &c
}

// NodeID returns the node's identity, which changes with every start. The caller
// must not change it.
func (h *Host) NodeID() []byte { return h.conf.NodeID }

// Instance returns the number of this process, unique for the life of the node.
func (h *Host) Instance() uint32 { return h.conf.Instance }

// Incarnation returns how often the module has been started, this time included.
func (h *Host) Incarnation() uint32 { return h.conf.Incarnation }

// DataDir returns a folder that belongs to the module. It outlives the process
// and the node.
func (h *Host) DataDir() string { return h.conf.DataDir }

// Setting returns what the operator's policy sets under the name, or nothing.
func (h *Host) Setting(name string) string { return h.conf.Settings[name] }

// Log returns the plugin's logger. What it writes goes into the node's log.
func (h *Host) Log() hclog.Logger {
	if h.log == nil { // the zero Host of a test
		return hclog.NewNullLogger()
	}
	return h.log
}

// call makes a syscall and unwraps its answer.
func (h *Host) call(ctx context.Context, body wire.SyscallBody) (wire.AnswerBody, error) {
	if h.kernel == nil {
		return nil, errNoNode
	}
	s := wire.Syscall{CallID: h.calls.Add(1), Body: body}
	if h.job != nil {
		s.Job = h.job.id
		s.Metadata = h.job.head.Metadata
	}
	a, err := h.kernel.Syscall(ctx, s)
	if err != nil {
		return nil, err
	}
	if a.CallID != s.CallID {
		return nil, fmt.Errorf("the host answered call %d instead of %d", a.CallID, s.CallID)
	}
	if a.Err != nil {
		return nil, a.Err
	}
	return a.Body, nil
}

// ask makes a syscall whose answer is an A.
func ask[A wire.AnswerBody](ctx context.Context, h *Host, body wire.SyscallBody) (A, error) {
	var none A
	b, err := h.call(ctx, body)
	if err != nil {
		return none, err
	}
	a, ok := b.(A)
	if !ok {
		return none, fmt.Errorf("the host answered a %T with a %T", body, b)
	}
	return a, nil
}

// block turns a granted reference into a Block of the plugin's own. No reference
// is an empty block.
func (h *Host) block(ref arena.Ref) (*Block, error) {
	if ref.IsZero() {
		return &Block{}, nil
	}
	mem, err := h.session.at.Arena.View(ref)
	if err != nil {
		return nil, fmt.Errorf("the host granted a bad block: %w", err)
	}
	return &Block{block: block{ref: ref, bytes: mem}, length: ref.Length, session: h.session}, nil
}

// Lease returns a block of n bytes to write to, whatever was in them before. The
// caller releases it. No grant is needed.
func (h *Host) Lease(ctx context.Context, n int) (*Block, error) {
	switch {
	case n < 0:
		return nil, wire.NewError(base.Code_invalidArgument, "tell the plugin's author", "a block of %d bytes", n)
	case h.session == nil:
		return nil, errNoNode
	case !h.session.serving.Load():
		return nil, errTooEarly
	}
	b, err := h.session.lease(ctx, uint64(n))
	if err != nil {
		return nil, err
	}
	return &Block{block: b, length: uint64(n), session: h.session}, nil
}

// Call runs a job of another capability and returns its output, which the caller
// releases; it is empty when there was none. The input is a block of the caller's
// own, the input of the job it serves, or nil. Modules in the same arena pass both
// by reference. What it costs counts against the job that is being served. Needs
// MayHostCall.
func (h *Host) Call(ctx context.Context, capability string, params Params, input *Block) (*Block, error) {
	c := wire.HostCall{Capability: capability, Params: params}
	var err error
	if c.Input, err = input.passed(); err != nil {
		return nil, err
	}
	if d, ok := ctx.Deadline(); ok {
		c.Deadline = wire.MonotonicAt(d)
	}
	a, err := ask[wire.Called](ctx, h, c)
	if err != nil {
		return nil, err
	}
	return h.block(a.Output)
}

// StoreChunk keeps a block and returns its BLAKE3 hash and on how many nodes it
// lies. Needs MayStoreChunk.
func (h *Host) StoreChunk(ctx context.Context, data *Block) (hash [32]byte, replicas int, err error) {
	ref, err := data.passed()
	if err != nil {
		return hash, 0, err
	}
	a, err := ask[wire.Stored](ctx, h, wire.StoreChunk{Data: ref})
	return a.Hash, int(a.Replicas), err
}

// FetchChunk finds a chunk by its BLAKE3 hash. What comes has that hash. The
// caller releases it. Needs MayFetchChunk.
func (h *Host) FetchChunk(ctx context.Context, hash [32]byte) (*Block, error) {
	a, err := ask[wire.Granted](ctx, h, wire.FetchChunk{Hash: hash})
	if err != nil {
		return nil, err
	}
	return h.block(a.Ref)
}

// Send delivers a message to a peer. Needs MaySendMessage.
func (h *Host) Send(ctx context.Context, peer string, payload []byte) error {
	a, err := ask[wire.Delivery](ctx, h, wire.SendMessage{Target: peer, Payload: payload})
	if err == nil && !a.Delivered {
		err = Errorf(Unavailable, "try again later", "the message did not reach %s", peer)
	}
	return err
}

// Spawn starts n more processes of the plugin, all or none, and returns the number
// of the first. Needs MaySpawn.
func (h *Host) Spawn(ctx context.Context, n int) (uint32, error) {
	a, err := ask[wire.Spawned](ctx, h, wire.Spawn{Count: uint32(max(0, min(n, 1<<16)))})
	return a.Instance, err
}

// StopInstance ends a process of the same plugin once its jobs are done. Needs
// MaySpawn.
func (h *Host) StopInstance(ctx context.Context, instance uint32) error {
	_, err := h.call(ctx, wire.StopInstance{Instance: instance})
	return err
}

// Count adds to a counter of the plugin's own in the node's metrics. Needs
// MayMetric.
func (h *Host) Count(ctx context.Context, name string, n float64) error {
	_, err := h.call(ctx, wire.Metric{Name: name, Value: n, Kind: system.MetricKind_counter})
	return err
}

// Gauge sets a gauge of the plugin's own in the node's metrics. Needs MayMetric.
func (h *Host) Gauge(ctx context.Context, name string, v float64) error {
	_, err := h.call(ctx, wire.Metric{Name: name, Value: v, Kind: system.MetricKind_gauge})
	return err
}

// State opens a block of memory that belongs to the module and outlives the
// process: what was last committed is there again after a crash or a swap. The
// manifest must declare the name with this schema. Size is that of one half. One
// process at a time should write a block. Needs MayKeepState.
func (h *Host) State(ctx context.Context, name string, schema uint32, size int) (*StateBlock, error) {
	b, err := h.openState(ctx, name, schema, size)
	if err != nil {
		return nil, err
	}
	if h.trial != nil {
		return &StateBlock{block: b, frozen: &h.trial.frozen}, nil
	}
	return &StateBlock{block: b, frozen: &h.session.frozen}, nil
}

// PriorState returns what an earlier version of the module committed in a schema
// that the manifest's StateSpec.Adopts names, for reading: its bytes are valid while
// Adopt runs. It is nil, without an error, where there is none. Needs MayKeepState.
func (h *Host) PriorState(ctx context.Context, name string, schema uint32) ([]byte, error) {
	b, err := h.openState(ctx, name, schema, 0)
	switch {
	case errors.Is(err, wire.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return b.Current(), nil
}

// openState asks for a state block and finds it in the arena.
func (h *Host) openState(ctx context.Context, name string, schema uint32, size int) (*state.Block, error) {
	if h.trial != nil {
		return h.trial.open(name, schema, size)
	}
	a, err := ask[wire.StateGrant](ctx, h, wire.OpenState{Name: name, Schema: schema, Bytes: uint64(max(size, 0))})
	if err != nil {
		return nil, err
	}
	mem, err := h.session.at.Arena.View(a.Block)
	if err != nil {
		return nil, fmt.Errorf("state %q: the host granted a bad block: %w", name, err)
	}
	b, err := state.Attach(mem)
	if err != nil {
		return nil, fmt.Errorf("state %q: %w", name, err)
	}
	return b, nil
}

// ErrFrozen says that the next generation of the plugin takes over, so that this
// one must not change its state any more.
var ErrFrozen = wire.NewError(base.Code_unavailable, "stop what works beside the jobs in Plugin.Freeze", "the plugin is frozen: another generation takes over its state")

// StateBlock is memory that outlives the process, in two halves: one holds what
// was committed last, the other is written meanwhile. One goroutine at a time may
// use it.
type StateBlock struct {
	block  *state.Block
	frozen *atomic.Bool // of the process
}

// Current returns the committed half, all zero before the first Commit. It stays as
// it is until the Commit after the next one; nobody should write it.
func (b *StateBlock) Current() []byte { return b.block.Current() }

// Next returns the half to write. What it holds at first is the state before the
// current one, or rubbish: write all of it, or copy Current there first.
func (b *StateBlock) Next() []byte { return b.block.Next() }

// Commit makes Next the current half. After Plugin.Freeze it returns ErrFrozen.
func (b *StateBlock) Commit() error {
	if b.frozen.Load() {
		return ErrFrozen
	}
	b.block.Commit()
	return nil
}

// Commits returns how many commits the block has seen.
func (b *StateBlock) Commits() uint64 { return b.block.Commits() }
