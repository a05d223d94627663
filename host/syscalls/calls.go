package syscalls

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/zeebo/blake3"

	"inos/host/dispatch"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/arena"
)

// Capabilities that keep chunks. Whichever module serves them is asked.
const (
	chunkPut = "chunk.put"
	chunkGet = "chunk.get"
)

// run runs a job on behalf of a plugin and waits for its end. The input is a
// block that the plugin owns, or a part of the input of the job that it serves.
// The output, nil for none, is one block, which the caller releases or hands on.
func (k *Kernel) run(ctx context.Context, c wire.Syscall, r dispatch.Request, input arena.Ref) (*dispatch.Piece, dispatch.Outcome, error) {
	var none dispatch.Outcome
	if _, err := k.unit(); err != nil {
		return nil, none, err
	}
	parent, err := k.job(c.Job)
	if err != nil {
		return nil, none, err
	}
	r.Parent = parent
	// Who the user is, the engine knows from the job that is served: a plugin that
	// makes a call of its own accord speaks for nobody.
	r.Metadata = wire.Metadata{ModuleID: k.caller.Manifest.Name, TraceParent: c.Metadata.TraceParent, TraceState: c.Metadata.TraceState}
	if !input.IsZero() {
		r.Input = dispatch.Input{Ref: input, Owner: arena.Owner(k.caller.Instance)}
	}
	if err := atRun.Hit(); err != nil {
		return nil, none, err
	}
	j, err := k.services.Engine.Submit(ctx, r)
	if err != nil {
		return nil, none, err
	}
	defer j.Close()
	p, err := single(ctx, j)
	if err != nil {
		return nil, none, err
	}
	o, err := j.Wait(context.WithoutCancel(ctx)) // it has ended
	return p, o, err
}

// single waits for the end of a job that succeeds with one block at most.
func single(ctx context.Context, j *dispatch.Job) (*dispatch.Piece, error) {
	p, err := j.Next(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	more, err := j.Next(ctx)
	if errors.Is(err, io.EOF) {
		return p, nil
	}
	p.Release()
	if err == nil {
		more.Release()
		err = wire.NewError(base.Code_resourceExhausted, "ask for a smaller output",
			"the output is a stream of several blocks, which a plugin cannot take as one")
	}
	return nil, err
}

// hand gives a block to the plugin: the very block when it lies in its arena.
func (k *Kernel) hand(p *dispatch.Piece, check func([]byte) error) (arena.Ref, error) {
	i, err := k.unit()
	if err != nil {
		p.Release()
		return arena.Ref{}, err
	}
	return p.Hand(i, check)
}

func (k *Kernel) hostCall(ctx context.Context, c wire.Syscall, b wire.HostCall) (wire.AnswerBody, error) {
	r := dispatch.Request{Capability: b.Capability, Params: b.Params, Budget: b.Budget}
	if b.Deadline != 0 {
		r.Deadline = time.Now().Add(time.Duration(b.Deadline - wire.Monotonic()))
	}
	p, o, err := k.run(ctx, c, r, b.Input)
	if err != nil {
		return nil, err
	}
	a := wire.Called{Status: o.Status, Cost: o.Cost}
	if p != nil {
		a.Output, err = k.hand(p, nil)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (k *Kernel) storeChunk(ctx context.Context, c wire.Syscall, b wire.StoreChunk) (wire.AnswerBody, error) {
	if b.TTLSeconds != 0 {
		return nil, wire.NewError(base.Code_notSupported, "store it without a time to live and delete it", "chunks that expire")
	}
	p, _, err := k.run(ctx, c, dispatch.Request{Capability: chunkPut}, b.Data)
	if err != nil {
		return nil, chunkError(err)
	}
	var hash []byte
	if p != nil {
		defer p.Release()
		hash = p.Bytes()
	}
	if len(hash) != 32 {
		return nil, wire.NewError(base.Code_internal, "tell the author of the plugin that keeps chunks",
			"%s answered with %d bytes instead of a hash", chunkPut, len(hash))
	}
	return wire.Stored{Hash: [32]byte(hash), Replicas: 1}, nil
}

// fetchChunk hands a chunk to the plugin. It is checked here against its hash, so
// that a plugin need not trust the module that kept it.
func (k *Kernel) fetchChunk(ctx context.Context, c wire.Syscall, b wire.FetchChunk) (wire.AnswerBody, error) {
	r := dispatch.Request{Capability: chunkGet, Params: wire.Params{{Name: "hash", Value: b.Hash[:]}}}
	p, _, err := k.run(ctx, c, r, arena.Ref{})
	if err != nil {
		return nil, chunkError(err)
	}
	check := func(v []byte) error {
		if blake3.Sum256(v) != b.Hash {
			return wrongHash(b.Hash)
		}
		return nil
	}
	if p == nil { // the chunk of no bytes
		return wire.Granted{}, check(nil)
	}
	ref, err := k.hand(p, check)
	if err != nil {
		return nil, err
	}
	return wire.Granted{Ref: ref}, nil
}

func wrongHash(h [32]byte) error {
	return wire.NewError(base.Code_dataLoss, "restore the chunk from another copy", "what was kept as chunk %x is something else", h)
}

// chunkError explains that nobody keeps chunks, where that is the reason.
func chunkError(err error) error {
	if errors.Is(err, wire.ErrNotFound) {
		return wire.NewError(base.Code_unavailable, "put a plugin that serves chunk.put and chunk.get into the plugins folder", "%w", err)
	}
	return err
}
