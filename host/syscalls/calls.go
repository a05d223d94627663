package syscalls

import (
	"context"
	"errors"
	"fmt"
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

// run runs a job on behalf of a plugin. The input is a block that the plugin
// owns, or the input of the job that it serves.
func (k *Kernel) run(ctx context.Context, c wire.Syscall, r dispatch.Request, input arena.Ref) (*dispatch.Job, error) {
	parent, err := k.job(c.Job)
	if err != nil {
		return nil, err
	}
	r.Parent = parent
	r.Metadata = c.Metadata
	r.Metadata.ModuleID = k.caller.Manifest.Name
	if !input.IsZero() {
		r.Input = dispatch.Input{Ref: input, Owner: k.owner()}
		if parent != nil && parent.Reads(input) {
			r.Input.Owner = arena.Host
		}
	}
	return k.services.Engine.Submit(ctx, r)
}

// output waits for a job whose output is one block at most, and hands that to the
// plugin: the very block when both are in one arena.
func (k *Kernel) output(ctx context.Context, j *dispatch.Job) (arena.Ref, dispatch.Outcome, error) {
	p, err := j.Next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return arena.Ref{}, dispatch.Outcome{}, err
	}
	if p == nil {
		o, err := j.Wait(ctx)
		return arena.Ref{}, o, err
	}
	defer p.Release()
	if more, err := j.Next(ctx); err == nil {
		more.Release()
		return arena.Ref{}, dispatch.Outcome{}, wire.NewError(base.Code_resourceExhausted, "ask for a smaller output",
			"the output is a stream of several blocks, which a plugin cannot take as one")
	} else if !errors.Is(err, io.EOF) {
		return arena.Ref{}, dispatch.Outcome{}, err
	}
	o, err := j.Wait(ctx)
	if err != nil {
		return arena.Ref{}, o, err
	}
	ref, err := p.Hand(k.owner(), k.caller.Arena)
	return ref, o, err
}

func (k *Kernel) hostCall(ctx context.Context, c wire.Syscall, b wire.HostCall) (wire.AnswerBody, error) {
	r := dispatch.Request{Capability: b.Capability, Params: b.Params, Budget: b.Budget}
	if b.Deadline != 0 {
		r.Deadline = time.Now().Add(time.Duration(b.Deadline - wire.Monotonic()))
	}
	j, err := k.run(ctx, c, r, b.Input)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	ref, o, err := k.output(ctx, j)
	if err != nil {
		return nil, err
	}
	return wire.Called{Status: o.Status, Output: ref, Cost: o.Cost}, nil
}

func (k *Kernel) storeChunk(ctx context.Context, c wire.Syscall, b wire.StoreChunk) (wire.AnswerBody, error) {
	if b.TTLSeconds != 0 {
		return nil, wire.NewError(base.Code_notSupported, "store it without a time to live and delete it", "chunks that expire")
	}
	j, err := k.run(ctx, c, dispatch.Request{Capability: chunkPut}, b.Data)
	if err != nil {
		return nil, chunkError(err)
	}
	defer j.Close()
	p, err := j.Next(ctx)
	if err != nil {
		return nil, chunkError(err)
	}
	defer p.Release()
	if len(p.Bytes()) != 32 {
		return nil, fmt.Errorf("%s answered with %d bytes instead of a hash", chunkPut, len(p.Bytes()))
	}
	if o, err := j.Wait(ctx); err != nil || o.Err != nil {
		return nil, errors.Join(err, wire.AsError(o.Err))
	}
	return wire.Stored{Hash: [32]byte(p.Bytes()), Replicas: 1}, nil
}

// fetchChunk hands a chunk to the plugin. It is checked here against its hash, so
// that a plugin need not trust the module that kept it.
func (k *Kernel) fetchChunk(ctx context.Context, c wire.Syscall, b wire.FetchChunk) (wire.AnswerBody, error) {
	r := dispatch.Request{Capability: chunkGet, Params: wire.Params{{Name: "hash", Value: b.Hash[:]}}}
	j, err := k.run(ctx, c, r, arena.Ref{})
	if err != nil {
		return nil, chunkError(err)
	}
	defer j.Close()
	ref, _, err := k.output(ctx, j)
	if err != nil {
		return nil, err
	}
	if ref.IsZero() {
		if b.Hash != blake3.Sum256(nil) {
			return nil, wrongHash(b.Hash)
		}
		return wire.Granted{}, nil
	}
	v, err := k.caller.Arena.View(ref)
	if err == nil && blake3.Sum256(v) != b.Hash {
		err = wrongHash(b.Hash)
	}
	if err != nil {
		return nil, errors.Join(err, k.caller.Arena.Free(ref, k.owner()))
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
