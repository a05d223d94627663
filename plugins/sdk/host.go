package sdk

import (
	"context"
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
type Host struct {
	conf    wire.Configuration
	kernel  wire.Kernel // nil without a node
	session *session
	log     hclog.Logger
	job     *Job // on whose behalf, nil for the plugin itself
	calls   *atomic.Uint64
}

// errNoNode answers host calls where there is no node, as under the test kit.
var errNoNode = wire.NewError(base.Code_notSupported, "run the plugin in a node", "there is no node to ask")

// forJob returns the host as seen from one job, so that what it asks is charged
// to that job.
func (h *Host) forJob(j *Job) *Host {
	c := *h
	c.job = j
	return &c
}

// NodeID returns the node's identity, which changes with every start.
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
func (h *Host) Log() hclog.Logger { return h.log }

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

// Block is memory of the arena in the hands of a plugin.
type Block struct {
	b       block
	length  uint64
	session *session // nil for a block that is only borrowed
}

// Bytes is a view of the block. It is valid until Release, or for the input of a
// job until the handler returns.
func (b *Block) Bytes() []byte { return b.b.bytes[:b.length:b.length] }

// Ref returns the reference of the block, for logs and tests.
func (b *Block) Ref() arena.Ref {
	r := b.b.ref
	r.Length = b.length
	return r
}

// Release gives the block back. Calling it again, or on a block that is only
// borrowed, does nothing.
func (b *Block) Release() {
	if b.session != nil {
		b.session.release(b.b)
	}
	b.session, b.b, b.length = nil, block{}, 0
}

// block turns a granted reference into a Block of the plugin's own.
func (h *Host) block(ref arena.Ref) (*Block, error) {
	mem, err := h.session.at.Arena.View(ref)
	if err != nil {
		return nil, fmt.Errorf("the host granted a bad block: %w", err)
	}
	return &Block{b: block{ref: ref, bytes: mem}, length: ref.Length, session: h.session}, nil
}

// Lease returns a block of n bytes to write to. No grant is needed.
func (h *Host) Lease(ctx context.Context, n int) (*Block, error) {
	if h.session == nil {
		return nil, errNoNode
	}
	if n < 0 {
		return nil, fmt.Errorf("a block of %d bytes", n)
	}
	b, err := h.session.lease(ctx, uint64(n))
	if err != nil {
		return nil, err
	}
	return &Block{b: b, length: uint64(n), session: h.session}, nil
}

// Call runs a job of another capability and returns its output, which the caller
// releases; nil for none. The input is a block of the caller's own, the input of
// the job it serves, or nil. Modules in the same arena pass both by reference.
// What it costs counts against the job that is being served. Needs MayHostCall.
func (h *Host) Call(ctx context.Context, capability string, params Params, input *Block) (*Block, error) {
	c := wire.HostCall{Capability: capability, Params: params}
	if input != nil {
		c.Input = input.Ref()
	}
	if d, ok := ctx.Deadline(); ok {
		c.Deadline = wire.MonotonicAt(d)
	}
	a, err := ask[wire.Called](ctx, h, c)
	if err != nil {
		return nil, err
	}
	if a.Output.IsZero() {
		return &Block{}, nil
	}
	return h.block(a.Output)
}

// StoreChunk keeps a block and returns its BLAKE3 hash and on how many nodes it
// lies. Needs MayStoreChunk.
func (h *Host) StoreChunk(ctx context.Context, data *Block) (hash [32]byte, replicas int, err error) {
	a, err := ask[wire.Stored](ctx, h, wire.StoreChunk{Data: data.Ref()})
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

// Spawn starts n more processes of the plugin and returns the number of the
// first. Needs MaySpawn.
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
// manifest must declare the name. Size is that of one half. What is in the block
// may be of another schema than asked for: see Block.Schema. One process at a time
// should write a block. Needs MayKeepState.
func (h *Host) State(ctx context.Context, name string, schema uint32, size int) (*state.Block, error) {
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

// InputBlock returns the whole input as a block that can be passed on to Host
// calls as it is. It is borrowed: it ends with the handler.
func (j *Job) InputBlock() (*Block, error) {
	in, err := j.Input()
	if err != nil {
		return nil, err
	}
	return &Block{b: block{ref: j.current.ref, bytes: in}, length: uint64(len(in))}, nil
}

// Give makes a block of the plugin's own the output of the job, without copying
// it. The block is the host's afterwards. It is for capabilities that do not
// stream.
func (j *Job) Give(b *Block) error {
	if j.spec.Streams {
		return fmt.Errorf("job %d: a stream is written with Output or Write", j.id)
	}
	if b.session == nil && b.length > 0 {
		return fmt.Errorf("job %d: the block is not the plugin's own", j.id)
	}
	if err := j.bound(b.length); err != nil {
		return err
	}
	j.drop()
	j.out, j.written = b.b, b.length
	b.session, b.b, b.length = nil, block{}, 0
	return nil
}
